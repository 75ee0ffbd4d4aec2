"""A search space: what is in it, how it is drawn from, and what its constraints let through."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_stage_space import stage_spaces

import effnas
from effnas.arch.architecture import Architecture
from effnas.arch.counts import count
from effnas.arch.notation import Alternative
from effnas.config.catalog import names
from effnas.config.expressions import Expression
from effnas.errors import SpaceError
from effnas.space.search_space import SearchSpace, Target
from effnas.space.stage_space import StageSpace

patient = settings(deadline=None)  # the machine may be busy
PACKAGED = {name: SearchSpace.load(name) for name in names("search_spaces")}
SEEDS = st.integers(0, 2**32)

EFFICIENTNET_B0_IN_TIMM = [
    "ds_r1_k3_s1_e1_c16_se0.25",
    "ir_r2_k3_s2_e6_c24_se0.25",
    "ir_r2_k5_s2_e6_c40_se0.25",
    "ir_r3_k3_s2_e6_c80_se0.25",
    "ir_r3_k5_s1_e6_c112_se0.25",
    "ir_r4_k5_s2_e6_c192_se0.25",
    "ir_r1_k3_s1_e6_c320_se0.25",
]
EFFICIENTNETV2_S_IN_TIMM = [
    "cn_r2_k3_s1_c24_skip",
    "er_r4_k3_s2_e4_c48",
    "er_r4_k3_s2_e4_c64",
    "ir_r6_k3_s2_e4_c128_se0.25",
    "ir_r9_k3_s1_e6_c160_se0.25",
    "ir_r15_k3_s2_e6_c256_se0.25",
]


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


# -- what is in it


@pytest.mark.slow
@settings(deadline=None, max_examples=25)
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
    assert PACKAGED["tiny"].size == 16 * 36 * 36
    assert sum(1 for _ in PACKAGED["tiny"].architectures()) == 16 * 36 * 36


@pytest.mark.parametrize("space", PACKAGED.values(), ids=PACKAGED)
def test_a_packaged_space_contains_its_reference(space: SearchSpace) -> None:
    assert space.given_reference is not None
    assert space.reference == space.given_reference
    assert space.contains(space.reference)


def test_the_packaged_spaces_contain_the_published_networks() -> None:
    b0 = Architecture.parse(EFFICIENTNET_B0_IN_TIMM, stem=32, head=1280)
    assert PACKAGED["mnasnet"].reference == b0
    s = Architecture.parse(EFFICIENTNETV2_S_IN_TIMM, stem=24, head=1280)
    assert PACKAGED["v2"].reference == s
    assert not PACKAGED["v2"].contains(b0)


def test_what_differs_in_anything_is_not_in_the_space() -> None:
    space = PACKAGED["v2"]
    inside = list(space.reference.blocks)
    assert space.contains(Architecture.parse(inside, stem=24))
    assert not space.contains(Architecture.parse(inside, stem=32))
    assert not space.contains(Architecture.parse(inside, stem=24, head=1792))
    assert not space.contains(Architecture.parse(inside[:-1], stem=24))
    assert not space.contains(Architecture.parse([*inside, inside[-1]], stem=24))
    for old, new in (("r15", "r14"), ("k3", "k7"), ("e6", "e5"), ("c256", "c272"), ("_se0.25", "")):
        changed = [*inside[:-1], inside[-1].replace(old, new)]
        assert changed != inside
        assert not space.contains(Architecture.parse(changed, stem=24))


# -- decisions


@pytest.mark.slow
@patient
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
    assert Architecture.parse(str(arch), stem=space.stem, head=space.head) == arch


def test_choices_are_named_by_stage_and_field() -> None:
    choices = {choice.name: choice.options for choice in PACKAGED["v2"].choices}
    assert list(choices)[:5] == ["stage1.op", "stage1.r", "stage1.k", "stage1.e", "stage2.op"]
    assert choices["stage1.op"] == ("fused", "mbconv_se0.25")
    assert choices["stage6.r"] == (9, 12, 15, 18)
    assert len(choices) == 24
    assert PACKAGED["v2"].decisions(PACKAGED["v2"].reference) == {
        **{f"stage{n}.op": "fused" if n <= 3 else "mbconv_se0.25" for n in range(1, 7)},
        **{f"stage{n}.r": r for n, r in enumerate([2, 4, 4, 6, 9, 15], start=1)},
        **{f"stage{n}.k": 3 for n in range(1, 7)},
        **{f"stage{n}.e": e for n, e in enumerate([1, 4, 4, 4, 6, 6], start=1)},
    }


def test_the_tenth_stage_is_not_taken_for_the_first() -> None:
    space = space_of(*["conv_r<1|2>_k<3|5>_s1_c8"] * 12, stem=8)
    arch = space.sample(np.random.default_rng(0))
    decisions = space.decisions(arch) or {}
    assert len(decisions) == 24
    assert space.architecture(decisions) == arch
    assert space.architecture({**decisions, "stage1.r": 1}).stages[10] == arch.stages[10]


def test_a_missing_decision_and_an_unknown_option_are_refused() -> None:
    space = PACKAGED["tiny"]
    decisions = space.decisions(space.reference) or {}
    with pytest.raises(SpaceError, match="no decision for k; its options: 3, 5"):
        space.architecture({name: o for name, o in decisions.items() if name != "stage2.k"})
    with pytest.raises(SpaceError, match="k: 7 is none of 3, 5"):
        space.architecture({**decisions, "stage2.k": 7})


# -- drawing


def test_the_same_seed_draws_the_same() -> None:
    for space in PACKAGED.values():
        first, again, other = (
            [space.sample(np.random.default_rng((seed, n))) for n in range(3)] for seed in (1, 1, 2)
        )
        assert first == again != other


@pytest.mark.slow
@pytest.mark.parametrize("space", PACKAGED.values(), ids=PACKAGED)
def test_every_decision_is_drawn_uniformly(space: SearchSpace) -> None:
    rng, draws = np.random.default_rng(0), 600
    draw = space.sample_unconstrained if space.constraints else space.sample
    seen = Counter[Any](
        decision for _ in range(draws) for decision in (space.decisions(draw(rng)) or {}).items()
    )
    for choice in space.choices:
        share = draws / len(choice.options)
        # Six standard deviations of a binomial count.
        assert all(abs(seen[choice.name, o] - share) < 6 * share**0.5 for o in choice.options)


def test_drawing_long_enough_draws_everything() -> None:
    space = space_of("<conv|identity>_r<1|2>_k<3|5>_s<1|2>_c8", "<mbconv_e1|fused_e2>_r1_k3_s1_c8")
    rng = np.random.default_rng(0)
    assert {space.sample(rng) for _ in range(500)} == set(space.architectures())


@patient
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


def test_every_neighbour_is_reached_and_every_decision_as_often() -> None:
    space = space_of("<fused|mbconv>_r<1..9>_k3_s1_e4_c16", "mbconv_r1_k<3|5>_s1_e4_c16")
    rng = np.random.default_rng(0)
    arch = space.sample(rng)
    before = space.decisions(arch) or {}
    mutants = [space.mutate(arch, rng) for _ in range(900)]
    assert len(set(mutants)) == 1 + 8 + 1
    changed = Counter(
        name
        for mutant in mutants
        for name, option in (space.decisions(mutant) or {}).items()
        if option != before[name]
    )
    assert all(abs(changed[name] - 300) < 6 * 300**0.5 for name in before)


def test_a_mutation_keeps_to_the_constraints() -> None:
    space = space_of(
        *["mbconv_r<1..4>_k<3|5>_s2_e<1|4|6>_c16"] * 3,
        constraints=("layers <= 6", "stage1.k == stage2.k or stage1.r == 1"),
    )
    rng = np.random.default_rng(0)
    arch = space.sample(rng)
    for _ in range(100):
        arch = space.mutate(arch, rng)
        assert arch.layers <= 6
        assert space.contains(arch)


def test_where_nothing_else_is_near_a_mutation_returns_what_it_was_given() -> None:
    rng = np.random.default_rng(0)
    fixed = space_of("mbconv_r1_k3_s1_e4_c16")
    assert fixed.mutate(fixed.reference, rng) is fixed.reference
    tied = space_of(*["mbconv_r<1|2>_k3_s1_e4_c16"] * 2, constraints=("stage1.r == stage2.r",))
    arch = tied.sample(rng)
    assert tied.mutate(arch, rng) == arch
    with pytest.raises(SpaceError, match=r"the architecture mbconv_.* is not in the space"):
        fixed.mutate(Architecture.parse("mbconv_r2_k3_s1_e4_c16"), rng)


# -- constraints


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


def test_params_and_macs_of_constraints_are_those_at_the_target() -> None:
    stage, target = "mbconv_r<1|2>_k3_s1_e4_c16", Target(32, 8, 5)
    arch = Architecture.parse("mbconv_r1_k3_s1_e4_c16")
    counts = count(arch, 32, 5)
    for text in (f"params == {counts.params}", f"macs == {counts.macs}"):
        assert space_of(stage, constraints=(text,), target=target).contains(arch)
        assert not space_of(stage, constraints=(text,)).contains(arch)
    assert space_of(stage, target=target).count(arch) == counts


@pytest.mark.slow
def test_constraints_that_nothing_meets_are_named() -> None:
    space = space_of(
        "mbconv_r<1..4>_k3_s1_e4_c16", constraints=("layers >= 1", "params <= 1000", "layers <= 2")
    )
    with pytest.raises(SpaceError) as raised:
        space.sample(np.random.default_rng(0))
    least = min(space.count(arch).params for arch in SearchSpace(space.stages).architectures())
    assert str(raised.value) == (
        "space: no architecture meets 'params <= 1000' with the other constraints; the closest "
        f"that was found has params = {least:,}; loosen or remove a constraint"
    )


@pytest.mark.slow
def test_the_one_architecture_that_meets_the_constraints_is_found() -> None:
    only = "stage1.r == 400 and stage2.r == 7"
    space = space_of("conv_r<1..400>_k3_s1_c8", "conv_r<1..9>_k3_s1_c8", constraints=(only,))
    for seed in range(3):
        arch = space.sample(np.random.default_rng(seed))
        assert arch.blocks == ("conv_r400_k3_s1_c8", "conv_r7_k3_s1_c8")


def test_constraints_from_python_name_known_quantities_and_are_conditions() -> None:
    with pytest.raises(SpaceError, match=r"names the unknown 'stage2.r'; known: .*stage1.r"):
        space_of("conv_r1_k3_s1_c8", constraints=("stage2.r > 1",))


def test_a_constraint_from_python_is_a_condition() -> None:
    with pytest.raises(SpaceError):
        space_of("conv_r1_k3_s1_c8", constraints=("params",)).sample(np.random.default_rng(0))


# -- defaults


def test_what_is_not_said_has_a_default() -> None:
    space = SearchSpace.parse(
        "stages:\n  - mbconv_r<1|2>_k<3|5>_s<1|2>_e<1|4>_c<8|16>_se<0|0.25>\n"
    )
    assert (space.stem, space.head, space.constraints) == (32, 1280, ())
    assert space.target == Target(image_size=224, batch_size=128, num_classes=None)
    assert space.given_reference is None
    assert space.reference.blocks == ("mbconv_r2_k5_s1_e4_c16_se0.25",)


# What an identity costs depends on its neighbours.
without_identity = stage_spaces(("mbconv", "fused", "conv")).filter(
    lambda stage: stage.size <= 12 and "c" in dict(stage.fields)
)


@pytest.mark.slow
@settings(deadline=None, max_examples=25)
@given(st.lists(without_identity, min_size=1, max_size=2))
def test_the_default_reference_is_the_largest_network(stages: list[StageSpace]) -> None:
    space = SearchSpace(tuple(stages), stem=8, head=16)
    largest = max(count(arch, 32).params for arch in space.architectures())
    assert count(space.reference, 32).params == largest
    assert space.contains(space.reference)


def test_the_default_reference_has_layers_where_it_can() -> None:
    space = space_of("<identity|mbconv_k3_e4>_r<1|2>_s1_c16", "<mbconv_e6|fused_e4>_r1_k3_s1_c24")
    assert space.reference.blocks == ("mbconv_r2_k3_s1_e4_c16", "fused_r1_k3_s1_e4_c24")


@pytest.mark.parametrize("field", ["image_size", "batch_size", "num_classes"])
def test_a_target_is_of_positive_numbers(field: str) -> None:
    with pytest.raises(SpaceError, match=f"target: {field} is 0"):
        Target(**{field: 0})
    assert getattr(Target(**{field: 1}), field) == 1


def test_the_target_can_be_changed_in_parts() -> None:
    space = PACKAGED["v2"].with_target(batch_size=4, num_classes=10)
    assert space.target == Target(300, 4, 10)
    assert space.stages == PACKAGED["v2"].stages
    assert space.id != PACKAGED["v2"].id
    assert PACKAGED["v2"].with_target() == PACKAGED["v2"]


# -- a value


def test_a_space_from_python_is_the_one_from_text() -> None:
    text = """
    stem: 16
    stages:
      - <fused|mbconv_se0.25>_r<1..3>_k<3|5>_s1_e<1|4>_c24
      - identity_s2_c24
    head: 64
    target: {image_size: 32, batch_size: 16, num_classes: 10}
    reference: [fused_r1_k3_s1_e1_c24, identity_s2_c24]
    constraints: [stage1.r > 1 or params <= 1e5]
    """
    operators = (Alternative("fused"), Alternative("mbconv", (("se", 0.25),)))
    fields = (("r", (1, 2, 3)), ("k", (3, 5)), ("s", (1,)), ("e", (1, 4)), ("c", (24,)))
    made = SearchSpace(
        stages=(
            StageSpace(operators, fields),
            StageSpace((Alternative("identity"),), (("s", (2,)), ("c", (24,)))),
        ),
        stem=16,
        head=64,
        target=Target(image_size=32, batch_size=16, num_classes=10),
        given_reference=Architecture.parse(
            "fused_r1_k3_s1_e1_c24 identity_s2_c24", stem=16, head=64
        ),
        constraints=(Expression.parse("stage1.r > 1 or params <= 1e5"),),
        name="mine",
    )
    assert made == SearchSpace.parse(text)
    assert hash(made) == hash(SearchSpace.parse(text))
    assert made.id == SearchSpace.parse(text).id
    assert made.to_text() == SearchSpace.parse(text).to_text()


def test_stem_head_and_stages_from_python_are_checked() -> None:
    stage = StageSpace.parse("conv_r1_k3_s1_c8")
    for fields, message in (
        ({"stages": ()}, "a space has at least one stage"),
        ({"stages": (stage,), "stem": 0}, "stem: 0 must be a whole number"),
        ({"stages": (stage,), "head": 1.5}, "head: 1.5 must be a whole number"),
    ):
        with pytest.raises(SpaceError, match=message):
            SearchSpace(**fields)


@pytest.mark.parametrize(
    "reference", [{"stem": 8}, {"head": 8}, {"blocks": "conv_r1_k3_s1_c8 " * 2}]
)
def test_the_reference_has_the_stages_stem_and_head_of_the_space(reference: Any) -> None:
    arch = Architecture.parse(**{"blocks": "conv_r1_k3_s1_c8", **reference})
    with pytest.raises(SpaceError, match="reference"):
        space_of("conv_r<1|2>_k3_s1_c8", given_reference=arch)


def test_the_package_exports_it() -> None:
    assert effnas.SearchSpace is SearchSpace


# -- neighbours


CONDITIONAL = SearchSpace.parse(
    "stages: ['<fused|identity|mbconv_se0.25>_r<1..3>_k<3|5>_s2_e<1|4>_c8',"
    " 'fused_r<1|2>_k3_s1_e<1|4>_c8_se<0|0.25>']\n"
    "constraints: ['stage1.r >= stage2.r']\n"
)


def differences(space: SearchSpace, one: Architecture, other: Architecture) -> int:
    """The decisions that both have and that differ."""
    mine, theirs = space.decisions(one) or {}, space.decisions(other) or {}
    return sum(mine[name] != theirs[name] for name in mine.keys() & theirs.keys())


def test_neighbours_are_all_architectures_that_are_one_decision_away() -> None:
    everything = list(CONDITIONAL.architectures())
    for arch in everything:
        found = list(CONDITIONAL.neighbours(arch))
        assert len(set(found)) == len(found)
        assert set(found) == {a for a in everything if differences(CONDITIONAL, arch, a) == 1}


def test_a_mutant_is_a_neighbour() -> None:
    rng = np.random.default_rng(0)
    for space in (CONDITIONAL, SearchSpace.load("mnasnet")):
        for _ in range(40):
            arch = space.sample(rng)
            mutant = space.mutate(arch, rng)
            assert mutant == arch or mutant in set(space.neighbours(arch))


def test_the_architecture_of_answers_is_that_of_the_decisions() -> None:
    rng = np.random.default_rng(0)
    for _ in range(40):
        arch = CONDITIONAL.sample(rng)
        decisions = CONDITIONAL.decisions(arch) or {}
        asked = []

        def answer(name: str, options: tuple[object, ...]) -> object:
            asked.append(name)  # noqa: B023  # called before the next round
            assert decisions[name] in options  # noqa: B023
            return decisions[name]  # noqa: B023

        assert CONDITIONAL.architecture_by(answer) == arch  # type: ignore[arg-type]
        assert sorted(asked) == sorted(decisions)
