"""Growing networks: the published EfficientNets, and what holds for any network."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effnas import Architecture, SearchSpace, count
from effnas.errors import ConfigError
from effnas.scaling.compound import CompoundScaling, coefficients_grid
from effnas.scaling.family import between, scale
from effnas.scaling.growth import Growth, LastStage, grow
from effnas.scaling.rules import ScalingRules

B0 = Architecture.parse(
    "mbconv_r1_k3_s1_e1_c16_se0.25 mbconv_r2_k3_s2_e6_c24_se0.25 mbconv_r2_k5_s2_e6_c40_se0.25 "
    "mbconv_r3_k3_s2_e6_c80_se0.25 mbconv_r3_k5_s1_e6_c112_se0.25 mbconv_r4_k5_s2_e6_c192_se0.25 "
    "mbconv_r1_k3_s1_e6_c320_se0.25",
    stem=32,
    head=1280,
)
S = SearchSpace.load("v2").reference
V2_B0 = SearchSpace.load("v2-b0").reference

#: [stem, stages, head] and layers of B1 to B8 (Tan & Le 2019; equal to timm's).
B = {
    "b0": ([32, 16, 24, 40, 80, 112, 192, 320, 1280], [1, 2, 2, 3, 3, 4, 1]),
    "b1": ([32, 16, 24, 40, 80, 112, 192, 320, 1280], [2, 3, 3, 4, 4, 5, 2]),
    "b2": ([32, 16, 24, 48, 88, 120, 208, 352, 1408], [2, 3, 3, 4, 4, 5, 2]),
    "b3": ([40, 24, 32, 48, 96, 136, 232, 384, 1536], [2, 3, 3, 5, 5, 6, 2]),
    "b4": ([48, 24, 32, 56, 112, 160, 272, 448, 1792], [2, 4, 4, 6, 6, 8, 2]),
    "b5": ([48, 24, 40, 64, 128, 176, 304, 512, 2048], [3, 5, 5, 7, 7, 9, 3]),
    "b6": ([56, 32, 40, 72, 144, 200, 344, 576, 2304], [3, 6, 6, 8, 8, 11, 3]),
    "b7": ([64, 32, 48, 80, 160, 224, 384, 640, 2560], [4, 7, 7, 10, 10, 13, 4]),
    "b8": ([72, 32, 56, 88, 176, 248, 424, 704, 2816], [4, 8, 8, 11, 11, 15, 4]),
}
#: Parameters as timm counts them, multiply-accumulates in units of 1e9, and pixels of these.
COSTS = {
    "v1": {
        "b0": (5_288_548, 0.386, 224), "b1": (7_794_184, 0.687, 240),
        "b2": (9_109_994, 0.994, 260), "b3": (12_233_232, 1.827, 300),
        "b4": (19_341_616, 4.394, 380), "b5": (30_389_784, 10.266, 456),
        "b6": (43_040_704, 19.068, 528), "b7": (66_347_960, 37.746, 600),
    },
    "v2": {
        "s": (21_458_488, 8.366, 384), "m": (54_139_356, 24.582, 480),
        "l": (118_515_272, 56.080, 480), "xl": (208_119_808, 93.353, 512),
    },
    "v2-b": {
        "b0": (7_139_704, 0.718, 224), "b1": (8_141_052, 1.197, 240),
        "b2": (10_096_086, 1.698, 260), "b3": (14_358_406, 3.011, 300),
    },
}  # fmt: skip
BASES = {"v1": B0, "v2": S, "v2-b": V2_B0}
#: EfficientNetV2-M, L and XL as released.
V2 = {
    "s": ([24, 24, 48, 64, 128, 160, 256, 1280], [2, 4, 4, 6, 9, 15]),
    "m": ([24, 24, 48, 80, 160, 176, 304, 512, 1280], [3, 5, 5, 7, 14, 18, 5]),
    "l": ([32, 32, 64, 96, 192, 224, 384, 640, 1280], [4, 7, 7, 10, 19, 25, 7]),
    "xl": ([32, 32, 64, 96, 192, 256, 512, 640, 1280], [4, 8, 8, 16, 24, 32, 8]),
}


def sizes(arch: Architecture) -> tuple[list[int], list[int]]:
    widths = [arch.stem, *(stage.c for stage in arch.stages), arch.head]
    return widths, [stage.r for stage in arch.stages]


@pytest.mark.parametrize(("family", "published"), [("v1", B), ("v2", V2)])
def test_a_published_family_grows_from_its_base(
    family: str, published: dict[str, tuple[list[int], list[int]]]
) -> None:
    members = scale(BASES[family], ScalingRules.load(family))
    assert {m.name: sizes(m.architecture) for m in members} == published


@pytest.mark.parametrize("family", COSTS)
def test_its_members_cost_what_timm_counts(family: str) -> None:
    members = scale(BASES[family], ScalingRules.load(family), max_image_size=1000)
    for member, (name, cost) in zip(members, COSTS[family].items(), strict=False):
        counted = count(member.architecture, member.image_size)
        params, giga_macs, image_size = cost
        assert (member.name, counted.params) == (name, params)
        assert member.image_size == image_size
        assert counted.macs == pytest.approx(giga_macs * 1e9, rel=1e-3)


@pytest.mark.parametrize("stages", [1, 5])
def test_factors_by_stage_suit_a_base_with_any_number_of_stages(stages: int) -> None:
    base = Architecture.parse(["mbconv_r6_k3_s1_e4_c64"] * stages)
    grown = grow(base, Growth(width=(1, 2, 3), depth=(1, 2, 1.5)), round_limit=0)
    layers = [stage.r for stage in grown.stages]
    widths = [stage.c for stage in grown.stages]
    assert len(layers) == stages
    assert widths == sorted(widths)
    if stages > 1:
        assert (layers[0], layers[-1]) == (6, 9)
        assert (widths[0], widths[-1]) == (64, 192)


def test_an_identity_of_the_base_stays_one() -> None:
    base = Architecture.parse("mbconv_r1_k3_s1_e4_c24 identity_s1_c24 mbconv_r1_k3_s2_e4_c48")
    grown = grow(base, Growth(width=(1, 2, 1)))
    assert [stage.c for stage in grown.stages] == [24, 24, 48]
    assert grown.to_timm() == base.to_timm()


def test_the_members_of_a_family_have_the_stride_of_the_base() -> None:
    base = replace(S, stem_stride=1)
    members = scale(base, ScalingRules.load("v2"))
    middle = between(members[0], members[1], 0.5)
    assert {m.architecture.stem_stride for m in (*members, middle)} == {1}


factors = st.floats(1, 4)
archs = st.sampled_from([B0, S, V2_B0, SearchSpace.load("v2-cifar").reference])


@settings(deadline=None)
@given(archs, factors, factors, st.sampled_from([0, 0.9]))
def test_a_grown_network_is_nowhere_smaller(
    base: Architecture, width: float, depth: float, limit: float
) -> None:
    grown = grow(base, Growth(width=(width,), depth=(depth,), stem=width), round_limit=limit)
    for old, new in zip(base.stages, grown.stages, strict=True):
        assert new.r >= old.r * depth - 1e-6
        assert abs(new.c - old.c * width) <= (8 if limit else 4)
        assert replace(new, r=old.r, c=old.c) == old
    assert grown.head == base.head


@pytest.mark.parametrize(
    ("growth", "words"),
    [
        ({"width": (0.9,)}, "width 0.9 shrinks"),
        ({"stem": float("nan")}, "stem nan"),
        ({"width": ()}, "width: a factor is missing"),
        ({"last_stage": LastStage(0, 1)}, "last_stage"),
    ],
)
def test_factors_that_shrink_are_refused(growth: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Growth(**growth)  # type: ignore[arg-type]


class TestCompoundScaling:
    def test_the_published_coefficients(self) -> None:
        published = CompoundScaling()
        assert published.growth == pytest.approx(1.9203, abs=1e-4)
        rules = published.rules([2, 1])
        assert [rule.name for rule in rules.members] == ["phi0", "phi1", "phi2"]
        one, two = (rule.growth for rule in rules.members[1:])
        assert (one.width[0], one.depth[0], one.head) == pytest.approx((1.1, 1.2, 1.1))
        assert (two.width[0], two.depth[0]) == pytest.approx((1.21, 1.44))
        assert [rule.image_size for rule in rules.members] == [224, 256, 296]
        assert sizes(scale(B0, rules)[1].architecture) == B["b2"]

    @settings(deadline=None, max_examples=20)
    @given(st.floats(1, 1.5), st.floats(1, 1.5), st.floats(1, 1.5), st.floats(0.1, 3))
    def test_macs_grow_about_as_the_product_says(
        self, alpha: float, beta: float, gamma: float, phi: float
    ) -> None:
        scaling = CompoundScaling(alpha, beta, gamma)
        base, grown = scale(B0, scaling.rules([phi]))
        ratio = (
            count(grown.architecture, grown.image_size).macs
            / count(base.architecture, base.image_size).macs
        )
        # Layers are rounded up, so that small factors give more than they say.
        assert 0.8 < ratio / scaling.growth**phi < 2.2

    def test_coefficients_that_shrink_and_empty_grids_are_refused(self) -> None:
        for values in ((0.9, 1, 1), (1, 1, float("nan"))):
            with pytest.raises(ConfigError, match="1 or more"):
                CompoundScaling(*values)
        with pytest.raises(ConfigError, match="larger tolerance"):
            coefficients_grid(step=0.3, tolerance=0)
