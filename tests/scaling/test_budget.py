"""What fits limits is the largest network of the family that does, and names what binds."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effnas import SearchSpace, count
from effnas.errors import ConfigError
from effnas.scaling import FamilyMember, Limit, ScalingRules, largest_within

RULES = ScalingRules.load("v2")
BASE = SearchSpace.load("v2").reference
CIFAR = SearchSpace.load("v2-cifar").reference


def counted(member: FamilyMember) -> Mapping[str, float]:
    counts = count(member.architecture, member.train_image_size)
    return {"params": counts.params, "macs": counts.macs}


def params(most: float) -> Limit:
    return Limit("params", most, f"--params {most:g}")


def test_a_member_fits_its_own_cost() -> None:
    for position, most in enumerate((21_458_488, 54_139_356, 118_515_272, 208_119_808)):
        fit = largest_within(BASE, RULES, [params(most)], counted)
        assert fit.costs["params"] == most
        assert fit.position == position
        one_less = largest_within(BASE, RULES, [params(most - 1)], counted) if position else None
        assert one_less is None or one_less.position < position


@settings(deadline=None, max_examples=25)
@given(st.sampled_from([BASE, CIFAR]), st.floats(1, 12), st.floats(1, 12))
def test_limits_are_kept_and_one_of_them_binds(base: object, first: float, second: float) -> None:
    arch = BASE if base is BASE else CIFAR
    size = 300 if base is BASE else 32
    start = count(arch, size)
    limits = [
        params(start.params * first),
        Limit("macs", start.macs * second, "--macs"),
    ]
    asked: list[FamilyMember] = []

    def costs(member: FamilyMember) -> Mapping[str, float]:
        asked.append(member)
        return counted(member)

    fit = largest_within(arch, RULES, limits, costs, train_image_size=size)
    assert len(asked) <= 10  # few costs are asked for, since they may be measured
    assert all(fit.costs[limit.metric] <= limit.most for limit in limits)
    assert fit.costs == counted(fit.member)
    assert set(fit.binding) <= set(limits)
    assert bool(fit.binding) == (fit.position < 3)


def test_the_largest_member_is_the_end() -> None:
    fit = largest_within(BASE, RULES, [params(1e12)], counted)
    assert (fit.position, fit.binding) == (3, ())
    assert fit.costs["params"] == 208_119_808


def test_a_base_beyond_a_limit_names_it() -> None:
    limits = [params(20e6), Limit("macs", 1e12, "--macs 1e12")]
    with pytest.raises(ConfigError, match=r"params\), more than --params 2e\+07, and") as error:
        largest_within(BASE, RULES, limits, counted)
    assert "macs" not in str(error.value)
