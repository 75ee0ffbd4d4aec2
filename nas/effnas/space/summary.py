"""Statistics of a space: what its networks cost, and how many meet its constraints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from effnas.space.search_space import SearchSpace


@dataclass(frozen=True, kw_only=True)
class SpaceSummary:
    """Statistics of architectures drawn from a space.

    Attributes:
        size: Architectures before constraints.
        samples: Architectures drawn, whatever the constraints say.
        feasible_share: Share of them that meets the constraints.
        quantiles: For params, macs and activations of those that do: minimum, median, maximum.
        reference: The same quantities of the reference network.
        reference_inside: Whether the reference network is in the space.
    """

    size: int
    samples: int
    feasible_share: float
    quantiles: Mapping[str, tuple[float, float, float]]
    reference: Mapping[str, int]
    reference_inside: bool


def feasible_share(space: SearchSpace, *, samples: int = 1000, seed: int = 0) -> float:
    """Return the share of random architectures that meets the constraints, 0 to 1."""
    rng = np.random.default_rng(seed)
    drawn = (space.sample_unconstrained(rng) for _ in range(samples))
    return sum(not space.violated(arch) for arch in drawn) / samples


def summarize(space: SearchSpace, *, samples: int, seed: int) -> SpaceSummary:
    """Draw architectures and count them at the space's target.

    Raises:
        SpaceError: If no architecture meets the constraints.
    """
    rng = np.random.default_rng(seed)
    space.check_satisfiable()
    drawn = [space.sample_unconstrained(rng) for _ in range(samples)]
    feasible = [arch for arch in drawn if not space.violated(arch)]
    shown = [space.count(arch) for arch in feasible or [space.sample(rng)]]
    reference = space.count(space.reference)
    names = ("params", "macs", "activations")
    columns = {name: [getattr(counts, name) for counts in shown] for name in names}
    return SpaceSummary(
        size=space.size,
        samples=samples,
        feasible_share=len(feasible) / samples,
        quantiles={
            name: (float(min(values)), float(np.median(values)), float(max(values)))
            for name, values in columns.items()
        },
        reference={name: getattr(reference, name) for name in names},
        reference_inside=space.contains(space.reference),
    )
