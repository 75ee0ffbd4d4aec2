"""The largest network of a family within limits, and the limits that bind."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effnas import SearchSpace, count
from effnas.errors import ConfigError
from effnas.scaling.budget import Limit, largest_within
from effnas.scaling.family import FamilyMember, between, scale
from effnas.scaling.rules import ScalingRules

RULES = ScalingRules.load("v2")
BASE = SearchSpace.load("v2").reference
CIFAR = SearchSpace.load("v2-cifar").reference
FAMILY = scale(BASE, RULES)


def counted(member: FamilyMember) -> Mapping[str, float]:
    counts = count(member.architecture, member.train_image_size)
    return {"params": counts.params, "macs": counts.macs}


def params(most: float) -> Limit:
    return Limit("params", most, f"--params {most:g}")


def test_a_member_fits_its_own_cost() -> None:
    for position, most in enumerate((21_458_488, 54_139_356, 118_515_272, 208_119_808)):
        fit = largest_within(FAMILY, [params(most)], counted)
        assert fit.costs["params"] == most
        assert fit.position == position
        assert bool(fit.binding) == (position < 3)
        one_less = largest_within(FAMILY, [params(most - 1)], counted) if position else None
        assert one_less is None or one_less.position < position


def test_a_limit_over_the_bases_is_that_many_times_its_cost() -> None:
    over = Limit("params_ratio", 2.0, "--params 2x")
    twice = params(2 * counted(FAMILY[0])["params"])
    found, same = (largest_within(FAMILY, [limit], counted) for limit in (over, twice))
    assert (found.position, found.costs, found.binding) == (same.position, same.costs, (over,))


@pytest.mark.slow
@settings(deadline=None, max_examples=8)
@given(st.sampled_from([BASE, CIFAR]), st.floats(1, 12), st.floats(1, 12))
def test_limits_are_kept_and_one_of_them_binds(base: object, first: float, second: float) -> None:
    arch = BASE if base is BASE else CIFAR
    size = 300 if base is BASE else 32
    start = count(arch, size)
    limits = [params(start.params * first), Limit("macs", start.macs * second, "--macs")]
    asked: list[FamilyMember] = []

    def costs(member: FamilyMember) -> Mapping[str, float]:
        asked.append(member)
        return counted(member)

    fit = largest_within(scale(arch, RULES, train_image_size=size), limits, costs)
    assert len(asked) <= 10  # few costs are asked for, since they may be measured
    assert all(fit.costs[limit.metric] <= limit.most for limit in limits)
    assert fit.costs == counted(fit.member)
    assert set(fit.binding) <= set(limits)
    assert bool(fit.binding) == (fit.position < 3)


def test_a_base_beyond_a_limit_names_it() -> None:
    limits = [params(20e6), Limit("macs", 1e12, "--macs 1e12")]
    with pytest.raises(ConfigError, match="params of 21,458,488, more than --params 2e") as error:
        largest_within(FAMILY, limits, counted)
    assert "macs" not in str(error.value)


def test_the_path_from_one_member_to_the_next_has_small_steps_only_upwards() -> None:
    costs = []
    for low, high in pairwise(FAMILY):
        path = [between(low, high, n / 32) for n in range(33)]
        assert path[0].architecture == low.architecture
        assert path[-1].architecture == high.architecture
        assert (path[0].image_size, path[-1].image_size) == (low.image_size, high.image_size)
        costs += [counted(member) for member in path]
    for name in ("params", "macs"):
        values = [cost[name] for cost in costs]
        assert values == sorted(values)
        assert max(b / a for a, b in pairwise(values)) < 1.7  # a layer of the added stage at once
