"""Reference networks: a few architectures spread over a space."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from effnas.errors import ConfigError, check_at_least
from effnas.space.feasible import MAX_ENUMERATED

if TYPE_CHECKING:
    from effnas.arch.architecture import Architecture
    from effnas.space.search_space import SearchSpace

#: Fewer networks give no meaningful ranking.
MIN_NETWORKS = 4
#: Architectures drawn to choose from.
_DRAWS = 512


def spread_networks(space: SearchSpace, count: int, seed: int) -> tuple[Architecture, ...]:
    """Choose distinct architectures that lie far apart in a space.

    The first is the one nearest to the middle of those drawn; each next one is the farthest from
    all chosen before (farthest-point sampling, Gonzalez 1985), measured in the logarithms of
    params, MACs and activations and in the number of layers, each scaled to variance 1. So the
    networks for a smaller `count` are the first of those for a larger one.

    Args:
        space: The architectures meet its constraints.
        count: Number of networks, 4 or more.
        seed: Draws the architectures to choose from.

    Returns:
        The architectures; fewer than `count` if the space has fewer.

    Raises:
        ConfigError: If `count` is below 4, or the space holds fewer than 4 architectures.
        SpaceError: If no architecture meets the constraints.
    """
    check_at_least(MIN_NETWORKS, networks=count)
    pool = _pool(space, count, seed)
    if len(pool) < MIN_NETWORKS:
        raise ConfigError(
            f"{space.name}: the space holds {len(pool)} architectures within its constraints; "
            f"{MIN_NETWORKS} or more are needed to see how well a proxy ranks them"
        )
    points = np.array([_describe(space, arch) for arch in pool])
    spread = points.std(axis=0)
    points = (points - points.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    chosen = [int(np.argmin(np.linalg.norm(points, axis=1)))]
    distance = np.full(len(pool), np.inf)
    while len(chosen) < min(count, len(pool)):
        distance = np.minimum(distance, np.linalg.norm(points - points[chosen[-1]], axis=1))
        distance[chosen] = -1.0  # others may lie at the same point, at distance 0
        chosen.append(int(np.argmax(distance)))
    return tuple(pool[n] for n in chosen)


def _pool(space: SearchSpace, count: int, seed: int) -> list[Architecture]:
    if space.size <= _DRAWS:
        return list(space.architectures())
    rng = np.random.default_rng(seed)
    drawn = {arch.id: arch for arch in (space.sample(rng) for _ in range(max(_DRAWS, count)))}
    if len(drawn) < count and space.size <= MAX_ENUMERATED:
        drawn |= {arch.id: arch for arch in space.architectures()}
    return list(drawn.values())


def _describe(space: SearchSpace, arch: Architecture) -> list[float]:
    counts = space.count(arch)
    logs = np.log1p([counts.params, counts.macs, counts.activations])
    return [*logs.tolist(), float(arch.layers)]
