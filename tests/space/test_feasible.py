"""Tight constraints: what meets them is found where drawing finds none, and walked among."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from effnas import Architecture, SearchSpace
from effnas.config.expressions import Expression
from effnas.errors import SpaceError
from effnas.space.feasible import find_feasible, wander
from effnas.space.search_space import RestrictedSpace
from effnas.space.summary import feasible_share

TINY = SearchSpace.load("tiny")
MNASNET = SearchSpace.load("mnasnet")  # 1e11 architectures
#: 2 % above the fewest params that a network of the space has.
TIGHT = MNASNET.constrained(["params <= 1.834e6"])
#: The same with decisions that are tied together.
TIED = TIGHT.constrained(["stage2.r == stage3.r and stage4.k == stage5.k"])


def drawn(space: SearchSpace, seeds: int) -> list[Architecture]:
    return [space.sample(np.random.default_rng(seed)) for seed in range(seeds)]


@pytest.mark.slow
@pytest.mark.parametrize("space", [TIGHT, TIED], ids=["tight", "tied"])
def test_what_drawing_does_not_find_is_found_and_differs(space: SearchSpace) -> None:
    assert feasible_share(space, samples=2000) < 0.01
    archs = drawn(space, 60)
    assert all(space.contains(arch) for arch in archs)
    assert len(set(archs)) > 30


@pytest.mark.slow
def test_a_walk_reaches_all_that_meets_the_constraints_and_nothing_else() -> None:
    space = TINY.constrained(["stage1.op == 'fused' and stage2.op == 'fused'", "layers == 8"])
    space = space.constrained(["stage2.k == stage3.k", "stage1.k == 3", "stage3.e == 6"])
    feasible = set(space.architectures())
    assert 20 < len(feasible) < TINY.size / 500
    rng = np.random.default_rng(0)
    arch, visited = find_feasible(space)[0], set()
    for _ in range(150):
        arch = wander(space, arch, rng)
        visited.add(arch)
    assert visited == feasible


@pytest.mark.slow
def test_what_comes_closest_to_what_nothing_meets_is_told() -> None:
    with pytest.raises(SpaceError) as raised:
        MNASNET.constrained(["params <= 1e4"]).sample(np.random.default_rng(0))
    least = 1_798_072  # every choice at its smallest
    # It was not gone through whole, so that this is no proof.
    assert str(raised.value) == (
        "mnasnet: found no architecture that meets 'params <= 1e4'; the closest that was found has "
        f"params = {least:,}; loosen or remove a constraint"
    )


def test_a_constrained_space_is_one_of_its_own_and_keeps_what_it_had() -> None:
    once = TINY.constrained(["params <= 2e5"])
    twice = once.constrained(["P <= 1.2", "stage1.op == 'fused'", "params <= 2e5"])
    assert len({TINY.id, once.id, twice.id}) == 3
    assert [c.text for c in twice.constraints] == [
        "params <= 2e5",
        "P <= 1.2",
        "stage1.op == 'fused'",
    ]
    assert SearchSpace.parse(twice.to_text()) == twice
    rng = np.random.default_rng(0)
    for arch in [twice.sample(rng) for _ in range(50)]:
        assert twice.count(arch).params <= 2e5
        assert twice.counted_metrics(arch)["params_ratio"] <= 1.2
        assert arch.stages[0].op == "fused"


@pytest.mark.slow
def test_a_restricted_space_never_gives_what_is_known_to_break_it() -> None:
    asked: list[Architecture] = []

    def known(arch: Architecture) -> Mapping[str, float]:
        asked.append(arch)
        return {"step_time": arch.layers / 4} if arch.stages[0].op == "fused" else {}

    limit = Expression.parse("step_time + params_ratio <= 2.5")
    space = RestrictedSpace.of(TINY, (limit,), known)
    assert (space.id, space.to_text()) == (TINY.id, TINY.to_text())

    def breaks(arch: Architecture) -> bool:
        ratio = TINY.counted_metrics(arch)["params_ratio"]
        return arch.stages[0].op == "fused" and arch.layers / 4 + ratio > 2.5

    allowed = {arch for arch in TINY.architectures() if not breaks(arch)}
    assert 0 < len(allowed) < TINY.size
    assert set(space.architectures()) == allowed
    assert len(asked) == len(set(asked)) == TINY.size  # each is looked up once
    rng = np.random.default_rng(0)
    arch = space.sample(rng)
    for _ in range(100):
        arch = space.mutate(arch, rng)
        assert arch in allowed
    assert {*space.neighbours(arch)} == {*TINY.neighbours(arch)} & allowed
    assert not space.contains(next(a for a in TINY.architectures() if a not in allowed))
    assert isinstance(space.with_target(num_classes=7), RestrictedSpace)
