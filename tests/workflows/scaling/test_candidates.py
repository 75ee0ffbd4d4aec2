"""Which networks are trained against each other to find out how a base is scaled."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from itertools import pairwise

import pytest

from effnas import Architecture, SearchSpace, count
from effnas.config.codec import from_plain, to_plain
from effnas.errors import ConfigError
from effnas.scaling.budget import Limit
from effnas.scaling.compound import CompoundScaling, coefficients_grid
from effnas.scaling.family import FamilyMember, scale
from effnas.scaling.rules import ScalingRules
from effnas.scaling.sizing import MemberCosts
from effnas.workflows.scaling.candidates import ScaledNetwork, compound_candidates, layer_candidates
from effnas.workflows.scaling.launch import LayerGrowth

B0 = Architecture.parse(
    "mbconv_r1_k3_s1_e1_c16_se0.25 mbconv_r2_k3_s2_e6_c24_se0.25 mbconv_r2_k5_s2_e6_c40_se0.25 "
    "mbconv_r3_k3_s2_e6_c80_se0.25 mbconv_r3_k5_s1_e6_c112_se0.25 mbconv_r4_k5_s2_e6_c192_se0.25 "
    "mbconv_r1_k3_s1_e6_c320_se0.25",
    stem=32,
    head=1280,
)
S = SearchSpace.load("v2").reference
SMALL = SearchSpace.load("v2-cifar").reference


class TimedByMacs(MemberCosts):
    """A device whose step takes as long as its MACs say, which is exact and takes no time."""

    def __init__(self, base: Architecture, image_size: int) -> None:
        super().__init__(None, batch_size=2, num_classes=10, epochs=1, images=1)
        self._base = count(base, image_size).macs

    def limited(self, member: FamilyMember, names: Collection[str]) -> dict[str, float]:
        found = super().limited(member, set(names) - {"step_time"})
        macs = count(member.architecture, member.train_image_size).macs
        return found | ({"step_time": macs / self._base} if "step_time" in names else {})


def grown(
    base: Architecture, grid: list[CompoundScaling], *limits: Limit, image_size: int = 224
) -> list[ScaledNetwork]:
    return compound_candidates(
        base,
        grid,
        image_size=image_size,
        limits=limits,
        round_limit=0.9,
        costs=TimedByMacs(base, image_size),
        progress=lambda what, done, total: None,
    )


def test_a_candidate_is_the_network_that_it_was_made_of() -> None:
    for base in (SMALL, replace(SMALL, stem_stride=1)):
        made = ScaledNetwork.of(base, name="a", image_size=8, costs={}, how={})
        assert made.architecture == base
        assert from_plain(to_plain(made), ScaledNetwork) == made


class TestCompound:
    def test_the_published_coefficients_stand_on_the_grid_and_give_b2(self) -> None:
        found = grown(B0, coefficients_grid(), Limit("macs_ratio", 3, "`macs` 3x"))
        published = next(one for one in found if one.name == "alpha 1.2, beta 1.1, gamma 1.15")
        assert count(published.architecture, 260).params == 9_109_994
        assert published.image_size == 256  # 257.6, as all sizes a multiple of 4
        assert published.how == {"alpha": 1.2, "beta": 1.1, "gamma": 1.15}

    def test_each_network_stands_once_and_within_the_limits(self) -> None:
        grid = coefficients_grid()
        limit = Limit("macs_ratio", 2.1, "`macs` 2.1x")
        found = grown(SMALL, grid, limit, image_size=32)
        keys = {(one.architecture, one.image_size) for one in found}
        assert len(keys) == len(found) < len(grid)  # rounding makes many of them the same
        own = count(SMALL, 32, 10).macs
        for one in found:
            assert count(one.architecture, one.image_size, 10).macs <= 2.1 * own
            assert one.architecture != SMALL or one.image_size > 32
        assert [one.image_size for one in found] == sorted(one.image_size for one in found)

    @pytest.mark.slow
    def test_memory_is_a_limit_of_its_own(self) -> None:
        grid = coefficients_grid(step=0.2, tolerance=0.3)
        macs = Limit("macs_ratio", 2.5, "`macs` 2.5x")
        free = grown(SMALL, grid, macs, image_size=32)
        tight = grown(
            SMALL, grid, macs, Limit("peak_memory_bytes", 15e6, "`memory` 15e6"), image_size=32
        )
        assert {one.name for one in tight} < {one.name for one in free}

    def test_where_none_fits_what_binds_is_said(self) -> None:
        with pytest.raises(ConfigError, match=r"0 of the \d+ networks .*binds: `macs` 1.01x \(\d"):
            grown(SMALL, coefficients_grid(step=0.2), Limit("macs_ratio", 1.01, "`macs` 1.01x"))


class TestLayers:
    rules = ScalingRules.load("v2")

    def found(self, base: Architecture = S, **changes: object) -> list[ScaledNetwork]:
        given: dict[str, object] = {"slopes": (0, 0.5, 1), "tolerance": 0.05, "image_size": 300}
        return layer_candidates(  # the types of `changes` are those of its parameters
            base,
            self.rules,
            self.rules.member("m"),
            costs=TimedByMacs(base, 300),
            **(given | changes),  # type: ignore[arg-type]
        )

    @pytest.mark.slow
    def test_all_take_as_long_and_differ_in_layers_alone(self) -> None:
        first, *others = self.found()
        m = scale(S, self.rules)[1]
        assert (first.name, first.architecture) == ("as v2's m", m.architecture)
        assert len(others) == 6
        assert len({one.architecture for one in (first, *others)}) == 7
        for one in others:
            assert one.costs["step_time"] == pytest.approx(first.costs["step_time"], rel=0.05)
            assert one.image_size == m.train_image_size
            last = m.architecture.stages[-1]
            pairs = zip(one.architecture.stages, (*m.architecture.stages[:-1], last), strict=False)
            assert all(a.c == b.c and a.op == b.op for a, b in pairs)
            assert one.how["last_stage"] == (len(one.architecture.stages) == 7)
        plain = [one for one in others if "," not in one.name]
        late = [one.how["layers"][5] / one.how["layers"][1] for one in plain]
        assert all(a < b for a, b in pairwise(late)), late  # steeper slopes give later stages more

    def test_too_few_that_take_as_long_is_an_error(self) -> None:
        with pytest.raises(ConfigError, match=r"within 0.1% of the step time of m: slope 0 \("):
            self.found(SMALL, slopes=(0,), tolerance=0.001, image_size=32)


def test_what_is_tried_comes_back_from_plain_data() -> None:
    for one in grown(SMALL, coefficients_grid(step=0.2, tolerance=0.3), image_size=32):
        assert from_plain(to_plain(one), ScaledNetwork) == one


@pytest.mark.parametrize(
    ("member", "slopes", "words"),
    [("s", (0.0,), "is the base itself"), ("m", (9.0,), "`slopes` are -1 to 3")],
)
def test_what_cannot_be_tried_is_refused(member: str, slopes: tuple[float], words: str) -> None:
    from effnas.timing.device_settings import DeviceSettings

    with pytest.raises(ConfigError, match=words):
        LayerGrowth(
            rules=ScalingRules.load("v2"),
            member=member,
            slopes=slopes,
            tolerance=0.1,
            device=DeviceSettings(),
        )
