"""A search space: what is in it, how it is drawn from, and what its constraints let through."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_stage_space import stage_spaces

from effnas.arch.architecture import Architecture
from effnas.arch.counts import count, stage_shapes
from effnas.config.catalog import names
from effnas.config.expressions import Expression
from effnas.errors import SpaceError
from effnas.space.search_space import SearchSpace
from effnas.space.stage_space import StageSpace

PACKAGED = {name: SearchSpace.load(name) for name in names("search_spaces")}
SEEDS = st.integers(0, 2**32)


def space_of(*stages: str, constraints: tuple[str, ...] = (), **rest: Any) -> SearchSpace:
    return SearchSpace(
        tuple(StageSpace.parse(stage) for stage in stages),
        constraints=tuple(Expression.parse(text) for text in constraints),
        **rest,
    )


CONDITIONAL = space_of(
    "<identity|conv|mbconv>_r<1|2>_k<3|5>_s1_e<1|4>_c16",
    "<fused_k3|mbconv_k7>_r1_s2_e<1|4>_c24_se<0|0.25>",
    "<mbconv_k3_e3|mbconv_k5_e6>_r<1|2>_s1_c24",
    stem=8,
)
spaces = st.sampled_from([*PACKAGED.values(), CONDITIONAL])
small_spaces = st.lists(stage_spaces().filter(lambda s: s.size <= 12), min_size=1, max_size=3).map(
    lambda stages: SearchSpace(tuple(stages), stem=8, head=16)
)


@pytest.mark.slow
@settings(max_examples=25)
@given(small_spaces)
def test_the_size_is_the_number_of_different_architectures(space: SearchSpace) -> None:
    architectures = list(space.architectures())
    assert len(set(architectures)) == len(architectures) == space.size
    assert all(space.contains(arch) for arch in architectures)
    assert len({arch.id for arch in architectures}) == space.size


def test_the_sizes_of_the_packaged_spaces_are_known() -> None:
    assert PACKAGED["mnasnet"].size == 36**6 * 48 == 104_485_552_128
    assert PACKAGED["v2"].size == 36 * 60 * 60 * 84 * 84 * 48
    assert PACKAGED["v2-b0"].size == 24 * 36**3 * 60 * 72
    assert PACKAGED["v2-cifar"].size == 24 * 36**4
    # `identity` ignores all but its channels and stride; `conv` has no expansion.
    conv, other = 4 * 2, 4 * 2 * 3
    first = 2 * 5 * (4 * 2 + 4 * 2 + 1)
    small = first * 6 * (conv + 2 * other) * 6 * (conv + 2 * other)
    assert PACKAGED["small"].size == small * 14 * (conv + 2 * other) * 7 * (conv + 2 * other + 1)
    assert PACKAGED["tiny"].size == 16 * 36 * 36
    assert sum(1 for _ in PACKAGED["tiny"].architectures()) == 16 * 36 * 36


def test_the_packaged_spaces_contain_the_published_networks() -> None:
    b0, v2_s = PACKAGED["mnasnet"].reference, PACKAGED["v2"].reference
    assert (b0.id, v2_s.id) == ("114c86356495992f", "463ef533bef80d38")
    assert PACKAGED["mnasnet"].contains(b0)
    assert PACKAGED["v2"].contains(v2_s)
    assert not PACKAGED["v2"].contains(b0)


@pytest.mark.parametrize(
    "blocks",
    [
        # Nine layers, two of them residual: 64, 128, 256 and 512 channels.
        "conv_r1_k3_s1_c64 fused_r3_k3_s2_e1_c128 conv_r1_k3_s2_c256 fused_r3_k3_s2_e1_c512 "
        "identity_s1_c512",
        # Two convolutions each of 64, 256 and 256 channels after the stem.
        "identity_s1_c24 conv_r2_k3_s2_c64 conv_r2_k3_s2_c256 conv_r2_k3_s2_c256 identity_s1_c256",
        # ResNet-18: four stages of four convolutions.
        "fused_r4_k3_s1_e1_c64 fused_r4_k3_s2_e1_c128 fused_r4_k3_s2_e1_c256 "
        "fused_r4_k3_s2_e1_c512 identity_s1_c512",
        # With fewer multiply-accumulates than the reference of v2-cifar.
        "conv_r1_k3_s2_c16 fused_r1_k3_s2_e2_c24 fused_r1_k3_s2_e2_c48 "
        "mbconv_r1_k3_s2_e4_c96_se0.25 identity_s1_c96",
    ],
    ids=["nine layers", "speed record", "resnet18", "quick"],
)
def test_small_contains_the_networks_of_small_images(blocks: str) -> None:
    small = PACKAGED["small"]
    arch = small.parse_blocks(blocks)
    assert arch.stem_stride == 1
    assert small.contains(arch)
    assert small.contains(small.reference)
    if small.count(arch).params < 1e6:
        cifar = PACKAGED["v2-cifar"]
        assert small.count(arch).macs < cifar.count(cifar.reference).macs


def test_networks_of_small_end_with_2_to_8_pixels() -> None:
    small, rng = PACKAGED["small"].with_target(num_classes=10), np.random.default_rng(0)
    archs = [small.sample(rng) for _ in range(200)]
    assert {stage_shapes(arch, 32)[-1][1] for arch in archs} == {2, 4, 8}
    assert all(0.1e6 < small.count(arch).params <= 12e6 for arch in archs)


@pytest.mark.slow
@given(spaces, SEEDS)
def test_what_is_drawn_is_in_the_space_and_its_decisions_lead_back(
    space: SearchSpace, seed: int
) -> None:
    arch = space.sample(np.random.default_rng(seed))
    assert space.contains(arch)
    decisions = space.decisions(arch)
    assert decisions is not None
    assert space.architecture(decisions) == arch
    options = {choice.name: choice.options for choice in space.choices}
    assert decisions.keys() <= options.keys()
    assert all(option in options[name] for name, option in decisions.items())
    assert space.parse_blocks(str(arch)) == arch


def test_the_tenth_stage_is_not_taken_for_the_first() -> None:
    space = space_of(*["conv_r<1|2>_k<3|5>_s1_c8"] * 12, stem=8)
    arch = space.sample(np.random.default_rng(0))
    decisions = space.decisions(arch) or {}
    assert len(decisions) == 24
    assert space.architecture(decisions) == arch
    assert space.architecture({**decisions, "stage1.r": 1}).stages[10] == arch.stages[10]


@given(spaces, SEEDS)
def test_a_mutation_changes_one_decision_and_what_it_opens(space: SearchSpace, seed: int) -> None:
    rng = np.random.default_rng(seed)
    arch = space.sample(rng)
    mutant = space.mutate(arch, rng)
    assert mutant != arch
    assert space.contains(mutant)
    before, after = space.decisions(arch) or {}, space.decisions(mutant) or {}
    (changed,) = [name for name in before.keys() & after.keys() if before[name] != after[name]]
    opened_or_closed = before.keys() ^ after.keys()
    if opened_or_closed:
        stage, field = changed.split(".")
        assert field in ("op", "e")
        assert {name.split(".")[0] for name in opened_or_closed} == {stage}
    changed_stages = [a != b for a, b in zip(arch.stages, mutant.stages, strict=True)]
    assert sum(changed_stages) == 1


def test_where_nothing_else_is_near_a_mutation_returns_what_it_was_given() -> None:
    rng = np.random.default_rng(0)
    fixed = space_of("mbconv_r1_k3_s1_e4_c16")
    assert fixed.mutate(fixed.reference, rng) is fixed.reference
    tied = space_of(*["mbconv_r<1|2>_k3_s1_e4_c16"] * 2, constraints=("stage1.r == stage2.r",))
    arch = tied.sample(rng)
    assert tied.mutate(arch, rng) == arch
    with pytest.raises(SpaceError, match=r"the architecture mbconv_.* is not in the space"):
        fixed.mutate(Architecture.parse("mbconv_r2_k3_s1_e4_c16"), rng)


@pytest.mark.parametrize(
    "constraint",
    [
        "stage1.r + stage2.r == 3",
        "stage2.op == 'mbconv'",
        "stage1.op != stage2.op",
        "layers <= 3",
        "params <= 1.34e6 and macs > 1e8",
        "activations < 1.5e6 or stage1.se > 0",
        "stage1.k * stage1.e <= 12",
        "stage1.c == 16 and stage1.s == 1 and stage2.s / stage2.k < 1 < stage2.r",
    ],
)
def test_constraints_let_through_what_meets_them(constraint: str) -> None:
    stages = (
        "<fused|mbconv_se0.25>_r<1..3>_k<3|5>_s1_e<1|4>_c16",
        "<conv|mbconv>_r<1|2>_k3_s2_e2_c24",
    )
    space, free = space_of(*stages, constraints=(constraint,), stem=16), space_of(*stages, stem=16)
    met = set()
    for arch in free.architectures():
        one, two = arch.stages
        counts = count(arch, 224, 1000)
        quantities = {"params": counts.params, "macs": counts.macs, "layers": one.r + two.r}
        quantities["activations"] = counts.activations
        text = constraint.replace("stage1", "one").replace("stage2", "two")
        if eval(text, {"one": one, "two": two, **quantities}):
            met.add(arch)
        assert bool(space.violated(arch)) == (arch not in met)
    rng = np.random.default_rng(0)
    assert set(space.architectures()) == met
    assert all(space.sample(rng) in met for _ in range(20))
    assert 0 < len(met) < free.size


def test_the_default_reference_has_layers_where_it_can() -> None:
    space = space_of("<identity|mbconv_k3_e4>_r<1|2>_s1_c16", "<mbconv_e6|fused_e4>_r1_k3_s1_c24")
    assert space.reference.blocks == ("mbconv_r2_k3_s1_e4_c16", "fused_r1_k3_s1_e4_c24")


@pytest.mark.parametrize(
    "reference", [{"stem": 8}, {"head": 8}, {"blocks": "conv_r1_k3_s1_c8 " * 2}]
)
def test_the_reference_has_the_stages_stem_and_head_of_the_space(reference: Any) -> None:
    arch = Architecture.parse(**{"blocks": "conv_r1_k3_s1_c8", **reference})
    with pytest.raises(SpaceError, match="reference"):
        space_of("conv_r<1|2>_k3_s1_c8", given_reference=arch)


CONDITIONAL = SearchSpace.parse(
    "stages: ['<fused|identity|mbconv_se0.25>_r<1..3>_k<3|5>_s2_e<1|4>_c8',"
    " 'fused_r<1|2>_k3_s1_e<1|4>_c8_se<0|0.25>']\n"
    "constraints: ['stage1.r >= stage2.r']\n"
)


def differences(space: SearchSpace, one: Architecture, other: Architecture) -> int:
    """The decisions that both have and that differ."""
    mine, theirs = space.decisions(one) or {}, space.decisions(other) or {}
    return sum(mine[name] != theirs[name] for name in mine.keys() & theirs.keys())


@pytest.mark.slow
def test_neighbours_are_all_architectures_that_are_one_decision_away() -> None:
    everything = list(CONDITIONAL.architectures())
    for arch in everything:
        found = list(CONDITIONAL.neighbours(arch))
        assert len(set(found)) == len(found)
        assert set(found) == {a for a in everything if differences(CONDITIONAL, arch, a) == 1}
