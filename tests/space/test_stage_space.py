"""A stage with choices is the finite set of stages that its text says, no more and no less."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from effnas.arch.architecture import parse_stage
from effnas.arch.blocks import FIELDS, OPERATORS, Number, Stage
from effnas.arch.notation import Alternative
from effnas.errors import SpaceError
from effnas.space.stage_space import StageSpace

patient = settings(max_examples=60)

VALUES: dict[str, list[Number]] = {
    "r": [1, 2, 3, 7],
    "k": [1, 3, 5, 7],
    "s": [1, 2],
    "e": [1, 1.5, 4, 6],
    "c": [8, 9, 24],
    "se": [0, 0.1, 0.25],
}
CONDITIONAL = {  # text -> number of stages
    "mbconv_r2_k3_s1_e4_c24": 1,
    "mbconv_r<1..3>_k<3|5>_s<1|2>_e<1|4|6>_c<8|16>_se<0|0.25>": 3 * 2 * 2 * 3 * 2 * 2,
    "<fused|mbconv_se0.25>_r<1..3>_k<3|5>_s1_e<1|4>_c24": 24,
    # Fused-MBConv with expansion 1 has no place for squeeze-and-excitation.
    "fused_r<1|2>_k3_s1_e<1|4|6>_c24_se<0|0.25>": 2 * (1 + 2 * 2),
    "<fused|mbconv>_r1_k3_s1_e<1|4>_c24_se<0|0.25|0.5>": (1 + 3) + 2 * 3,
    # An identity has no layers, kernels or expansions to choose, a convolution no expansion.
    "<identity|mbconv>_r<1|2>_k<3|5>_s1_e<1|4>_c24": 1 + 8,
    "<conv|identity>_r<1..3>_k<3|5>_s<1|2>_c<8|16>": 24 + 4,
    "<conv|mbconv|fused>_r<1|2>_k<3|5>_s1_e<1|4>_c24_se<0|0.25>": 4 + 16 + 4 * 3,
    # Whole blocks as alternatives.
    "<mbconv_k3_e3|mbconv_k5_e6>_r<1|2>_s1_c24": 4,
    "<mbconv_k3_e3|mbconv_k5_e6|identity|conv_k1>_r<1|2>_s1_c24": 2 + 2 + 1 + 2,
    "<fused_e1|fused_e4|mbconv_e4>_r1_k<3|5>_s1_c24_se<0|0.25>": 2 + 4 + 4,
    "<mbconv_c16|mbconv_c24>_r1_k3_s1_e<4|6>_se<0|0.25>": 8,
}

conditional_spaces = st.sampled_from([StageSpace.parse(text) for text in CONDITIONAL])


@st.composite
def stage_spaces(draw: st.DrawFn, operators: tuple[str, ...] = tuple(OPERATORS)) -> StageSpace:
    """Spaces of one stage, with up to three alternatives that carry fields of their own."""
    ops = draw(st.lists(st.sampled_from(operators), min_size=1, max_size=3))
    own = draw(st.sets(st.sampled_from(["k", "e", "c", "se"])))
    alternatives = []
    for op in ops:
        fields = []
        for name in FIELDS:
            if name in own and name in OPERATORS[op].fields:
                if name == "se" and op == "fused":
                    continue
                chosen = draw(st.sampled_from([v for v in VALUES[name] if name != "se" or v]))
                fields.append((name, chosen))
        alternative = Alternative(op, tuple(fields))
        if alternative not in alternatives:
            alternatives.append(alternative)
    taken = {name for op in ops for name in OPERATORS[op].fields} - own
    shared = []
    for name in FIELDS:
        if name in taken and (name != "se" or draw(st.booleans())):
            options = st.lists(st.sampled_from(VALUES[name]), min_size=1, max_size=3, unique=True)
            shared.append((name, tuple(draw(options))))
    if set(ops) == {"identity"}:
        shared = [(name, values) for name, values in shared if name != "r"]
    if len(alternatives) == 1 and ops[0] == "fused":
        only_1 = (dict(shared).get("e") or (dict(alternatives[0].fields).get("e"),)) == (1,)
        shared = [(name, values) for name, values in shared if not (only_1 and name == "se")]
    return StageSpace(tuple(alternatives), tuple(shared))


spaces = stage_spaces() | conditional_spaces


def decide(space: StageSpace, decisions: dict[str, Any]) -> Stage:
    def missing(name: str, options: object) -> Any:
        raise LookupError(name)

    return space.decide_by(missing, decisions)


@pytest.mark.parametrize("text", CONDITIONAL)
def test_the_size_is_the_number_of_different_stages(text: str) -> None:
    space = StageSpace.parse(text)
    stages = list(space.stages())
    assert len(stages) == len(set(stages)) == space.size == CONDITIONAL[text]


@pytest.mark.slow
@patient
@given(spaces, st.integers(0, 2**32))
def test_what_is_drawn_is_in_the_space_and_its_decisions_lead_back(
    space: StageSpace, seed: int
) -> None:
    stage = space.draw(np.random.default_rng(seed))
    assert stage in set(space.stages())
    decisions = space.decisions(stage)
    assert decisions is not None
    assert decide(space, decisions) == stage
    assert all(option in space.choices[name] for name, option in decisions.items())
    assert space.draw(np.random.default_rng(seed)) == stage


@pytest.mark.slow
@patient
@given(spaces, st.data())
def test_decisions_exist_for_the_stages_of_the_space_and_for_no_other(
    space: StageSpace, data: st.DataObject
) -> None:
    inside = set(space.stages())
    stage = data.draw(st.sampled_from(sorted(inside, key=str)))
    name = data.draw(st.sampled_from(sorted(OPERATORS[stage.op].fields)))
    values = {field: getattr(stage, field) for field in OPERATORS[stage.op].fields}
    values[name] = data.draw(st.sampled_from(VALUES[name]))
    assume(not (stage.op == "identity" and values["r"] > 1))
    assume(not (stage.op == "fused" and values["e"] == 1 and values["se"]))
    neighbour = Stage(stage.op, **values)
    assert (space.decisions(neighbour) is not None) == (neighbour in inside)


def test_a_decision_that_has_no_place_is_not_asked() -> None:
    space = StageSpace.parse("<identity|fused>_r<1|2>_k<3|5>_s1_e<1|4>_c24_se<0|0.25>")
    assert decide(space, {"op": "identity"}) == Stage("identity", c=24)
    plain = decide(space, {"op": "fused", "r": 1, "k": 3, "e": 1})
    assert plain == parse_stage("fused_r1_k3_s1_e1_c24")
    assert set(space.decisions(plain) or ()) == {"op", "r", "k", "e"}
    with pytest.raises(LookupError, match="se"):
        decide(space, {"op": "fused", "r": 1, "k": 3, "e": 4})


def test_unknown_options_are_refused() -> None:
    space = StageSpace.parse("<fused|mbconv>_r<1|2>_k3_s1_e4_c24")
    with pytest.raises(SpaceError, match=r"^r: 3 is none of 1, 2"):
        decide(space, {"op": "fused", "r": 3})
    with pytest.raises(SpaceError, match=r"^op: 'conv' is none of fused, mbconv"):
        decide(space, {"op": "conv", "r": 1})
