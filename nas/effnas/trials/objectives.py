"""Several objectives: what they are, which points none dominates, and how much those cover."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from effnas.config.expressions import LISTER
from effnas.errors import ConfigError, closest
from effnas.trials.reward import METRICS, SYMBOLS
from effnas.trials.trial import Trial, TrialState

#: Share of the sum beside the maximum in `scalarise`, as published.
_RHO = 0.05
_EXAMPLE = "accuracy:max,step_time:min"


@dataclass(frozen=True)
class Objective:
    """A metric to maximize or to minimize.

    Attributes:
        metric: Its name, mostly one of `effnas.trials.reward.METRICS`.
        maximize: Whether larger is better.
    """

    metric: str
    maximize: bool

    def __str__(self) -> str:
        return f"{self.metric}:{'max' if self.maximize else 'min'}"


class Objectives(tuple[Objective, ...]):
    """Objectives that are pursued together, in the order in which they were given."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Objectives:
        """Read objectives such as `accuracy:max,step_time:min`.

        Args:
            text: Two or more metrics of `effnas.trials.reward.METRICS`, or the symbols A, S and P,
                each once and with `:max` or `:min`, between commas.

        Raises:
            ConfigError: If it is anything else.
        """
        found = [_objective(part.strip()) for part in text.split(",")]
        if len(found) < 2:
            raise ConfigError(
                f"`objectives` {text}: that is one; give two or more, such as {_EXAMPLE}, or make "
                "it the `reward`"
            )
        metrics = [objective.metric for objective in found]
        for metric in metrics:
            if metrics.count(metric) > 1:
                raise ConfigError(f"`objectives` {text}: {metric} is there twice; give it once")
        return cls(found)

    def __str__(self) -> str:
        return ",".join(map(str, self))

    def values(self, metrics: Mapping[str, float]) -> tuple[float, ...]:
        """Return the M values of a trial, by its metrics, all turned so that larger is better.

        Raises:
            ConfigError: If one of them is missing.
        """
        missing = [each.metric for each in self if each.metric not in metrics]
        if missing:
            raise ConfigError(
                f"the objectives {self} need {', '.join(missing)}, and the trial has only "
                f"{', '.join(sorted(metrics)) or 'no metrics'}; choose other objectives, or give "
                "the metric"
            )
        return tuple(metrics[o.metric] if o.maximize else -metrics[o.metric] for o in self)

    def vectorized(self, metrics: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        """Return the values of N trials, larger is better, [N, M], from metrics of [N] each."""
        return np.stack([metrics[o.metric] * (1 if o.maximize else -1) for o in self], axis=-1)

    def of(self, trial: Trial) -> tuple[float, ...] | None:
        """Return the values of a trial, or None if it is not COMPLETE or lacks one of them."""
        if trial.state is not TrialState.COMPLETE:
            return None
        if any(objective.metric not in trial.metrics for objective in self):
            return None
        return self.values(trial.metrics)

    def draw_weights(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Draw weights for `scalarise`, [M], uniformly from all that are 0 or more and sum to 1."""
        return rng.dirichlet(np.ones(len(self)))


def scalarise(
    values: ArrayLike, weights: ArrayLike, worst: ArrayLike, best: ArrayLike
) -> NDArray[np.float64]:
    """Return one figure for M objectives: the augmented Tchebycheff function of ParEGO.

    Any point that none dominates has the largest figure for some weights, wherever the front is
    concave or convex. Costs are normalised to 0 (as good as the best seen) to 1 (as bad as the
    worst), and the figure is minus equation 2 of Knowles 2006, with rho = 0.05.

    Args:
        values: N points to judge, larger is better, [N, M].
        weights: How much each objective counts, [M]; 0 or more with the sum 1.
        worst: The worst value seen of each objective, [M].
        best: The best value seen of each, [M]; where it equals the worst, costs are not scaled.

    Returns:
        [N]: 0 where all values are the best ones, about -1 at the worst; larger is better.
    """
    worst, best = np.asarray(worst, dtype=np.float64), np.asarray(best, dtype=np.float64)
    costs = (best - np.asarray(values)) / np.where(best > worst, best - worst, 1.0)
    weighted = np.asarray(weights) * costs
    return np.asarray(-(weighted.max(axis=-1) + _RHO * weighted.sum(axis=-1)))


def non_dominated(values: ArrayLike) -> NDArray[np.int64]:
    """Return the indices of the points that none dominates, in rising order; duplicates stay.

    A point dominates another one if it is as good in all objectives and better in one.

    Args:
        values: N points of M objectives, larger is better, [N, M].
    """
    points = np.asarray(values, dtype=np.float64)
    if len(points) == 0:
        return np.zeros(0, dtype=np.int64)
    # Best first by the first objective, then the second, ...: none is dominated by a later one.
    left = np.lexsort(-points.T[::-1])
    at = 0
    while at < len(left):
        point, others = points[left[at]], points[left]
        is_dominated = (others <= point).all(axis=1) & (others < point).any(axis=1)
        left = left[~is_dominated]
        at += 1
    return np.sort(left).astype(np.int64)


def hypervolume(values: ArrayLike, reference: ArrayLike) -> float:
    """Return the volume of all that N points dominate and that is better than a reference.

    It is exact for any M. Each point adds what those that are better in the first objective do not
    cover, which is a hypervolume in the other M - 1 objectives (While et al. 2012, "A fast way of
    calculating exact hypervolumes").

    Args:
        values: N points of M objectives, larger is better, [N, M].
        reference: The point that volumes start at, [M]; points that are not better in every
            objective add nothing.

    Returns:
        The volume, in the product of the units of the objectives; 0 or more.
    """
    points = np.asarray(values, dtype=np.float64)
    start = np.asarray(reference, dtype=np.float64)
    sides = points.reshape(-1, len(start)) - start
    return _volume(sides[(sides > 0).all(axis=1)])


def _volume(sides: NDArray[np.float64]) -> float:
    """Return the volume of the union of boxes from 0 to each of N points, [N, M]."""
    if len(sides) == 0:
        return 0.0
    if sides.shape[1] == 1:
        return float(sides.max())
    front = np.unique(sides[non_dominated(sides)], axis=0)  # rising in the first objective
    if front.shape[1] == 2:
        widths = np.diff(front[:, 0], prepend=0.0)
        return float(widths @ front[:, 1])  # the heights fall
    total = 0.0
    for n, (depth, *face) in enumerate(front):
        covered = np.minimum(front[n + 1 :, 1:], face)
        total += float(depth) * (float(np.prod(face)) - _volume(covered))
    return total


def _objective(text: str) -> Objective:
    name, _, direction = (part.strip() for part in text.partition(":"))
    metric = SYMBOLS.get(name, name)
    if not name:
        raise ConfigError(f"`objectives`: {text!r} names no metric; give such as accuracy:max")
    if metric not in METRICS:
        raise ConfigError(
            f"`objectives`: no metric is called {name!r}; "
            f"{closest(name, {*METRICS, *SYMBOLS}, LISTER)}"
        )
    if direction not in ("max", "min"):
        raise ConfigError(
            f"`objectives`: {text!r} does not say what is better; give {name}:max or {name}:min"
        )
    return Objective(metric, direction == "max")
