"""Architectures as numbers: what the models of controllers are regressions over."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from math import log, sqrt

import numpy as np
from numpy.typing import NDArray

from effnas.arch.architecture import Architecture
from effnas.arch.blocks import Stage
from effnas.arch.counts import count_stage, downsampled, stage_shapes
from effnas.config.recipe_choice import recipe_value
from effnas.space.search_space import SearchSpace

#: Architectures drawn to find the scale of each column.
_DRAWS = 256


class Encoding:
    """Describes the architectures of one space by numbers, in three or four groups of columns.

    `network`: logarithms of params, MACs and activations, and the numbers of layers, by operator,
    squeeze-and-excitation, kernel and expansion. `decisions`: every stage's open fields, and its
    operator one-hot. `counts`: logarithms of every stage's params, MACs and activations. `recipe`,
    where choices of the recipe are open: numbers, or their logarithms where these are evenly
    spaced, and texts one-hot; the two ends of image sizes are logarithms. Columns
    have mean 0 over random architectures of the space, and the variance of each group is 1 in sum,
    so that one length scale suits them all.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        operators = [{a.op for a in stage.alternatives} for stage in space.stages]
        self._operators = [sorted(ops) if len(ops) > 1 else [] for ops in operators]
        kinds = set().union(*operators)
        self._kinds = sorted(kinds) if len(kinds) > 1 else []
        rng = np.random.default_rng(0)
        draws = [space.sample_unconstrained(rng) for _ in range(_DRAWS)]
        raw = self._raw(draws)
        self._scales = [_scale(group) for group in raw]
        ends = np.cumsum([0, *(int(varying.sum()) for varying, _, _ in self._scales)]).tolist()
        #: Where the columns of each group are.
        self.groups = tuple(slice(*pair) for pair in pairwise(ends))

    def matrix(self, archs: Sequence[Architecture]) -> NDArray[np.float64]:
        """Return the columns of N networks, [N, D]."""
        if not archs:
            return np.zeros((0, self.groups[-1].stop))
        return np.hstack(
            [
                (values[:, varying] - middle) * factor
                for values, (varying, middle, factor) in zip(
                    self._raw(archs), self._scales, strict=True
                )
            ]
        )

    def _raw(self, archs: Sequence[Architecture]) -> list[NDArray[np.float64]]:
        rows = [(self._network(arch), *self._stages(arch)) for arch in archs]
        groups = [np.array(group, dtype=np.float64) for group in zip(*rows, strict=True)]
        # A group without columns, as of a space without stages, has one that says nothing.
        groups = [group if group.shape[1] else np.zeros((len(archs), 1)) for group in groups]
        if self.space.recipe:
            groups.append(np.array([self._recipe(arch) for arch in archs], dtype=np.float64))
        return groups

    def _recipe(self, arch: Architecture) -> list[float]:
        decided = dict(arch.recipe)
        found: list[float] = []
        for choice in self.space.recipe:
            option = decided.get(choice.name, choice.options[0])
            if choice.name == "image_size":
                first, last = recipe_value(choice.name, option)
                found += [log(first), log(last)]
            elif isinstance(option, str):
                found += [float(option == each) for each in choice.options]
            else:
                found.append(log(option) if choice.is_log else float(option))
        return found

    def _network(self, arch: Architecture) -> list[float]:
        counts = self.space.count(arch)
        stages = arch.stages
        sums = [
            arch.layers,
            sum(s.r for s in stages if s.se),
            sum(s.r * s.k for s in stages),
            sum(s.r * s.e for s in stages),
        ]
        by_operator = [sum(s.r for s in stages if s.op == kind) for kind in self._kinds]
        logs = [log(1 + n) for n in (counts.params, counts.macs, counts.activations)]
        return [*logs, *sums, *by_operator]

    def _stages(self, arch: Architecture) -> tuple[list[float], list[float]]:
        decisions: list[float] = []
        counts: list[float] = []
        shapes = stage_shapes(arch, self.space.target.image_size) if arch.stages else []
        for stage, operators, (channels, size) in zip(
            arch.stages, self._operators, shapes, strict=False
        ):
            decisions += [stage.op == operator for operator in operators]
            decisions += [stage.r, stage.k, stage.s, stage.e, log(stage.c), stage.se]
            counts += _log_counts(stage, channels, size)
        return decisions, counts


def _scale(
    values: NDArray[np.float64],
) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64]]:
    """Return which columns vary, their means, and factors that make their variances 1 in sum."""
    spread = values.std(axis=0)
    varying = spread > 1e-9
    if not varying.any():  # a regression wants a column, if only of zeros
        varying[0], spread[0] = True, 1.0
    width = max(int(varying.sum()), 1)
    return varying, values.mean(axis=0)[varying], 1 / (spread[varying] * sqrt(width))


@lru_cache(maxsize=1 << 16)
def _log_counts(stage: Stage, channels: int, size: int) -> tuple[float, ...]:
    """Return log(1 + params, MACs, activations) that a stage adds to a network.

    The network has a head of one channel, whose own counts follow from the output of the stage.
    """
    counts, size_out = count_stage(stage, channels, size), downsampled(size, stage.s)
    added = [
        counts.params + stage.c - channels,
        counts.macs + stage.c * size_out**2 - channels * size**2,
        counts.activations + size_out**2 - size**2,
    ]
    return tuple(np.log1p(np.maximum(added, 0)).tolist())
