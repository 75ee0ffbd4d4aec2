"""Block strings: every rule of the notation, and every breach of it pointed at."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from effnas.arch.architecture import parse_stage
from effnas.arch.notation import Alternative, read
from effnas.errors import SpaceError
from effnas.space.stage_space import StageSpace

FIXED = "mbconv_r2_k3_s1_e4_c24"


def values(text: str, name: str) -> tuple[float, ...]:
    return dict(read(text).fields)[name]


def refusal(marked: str) -> str:
    """Read a text in which @ stands before the character that the error has to point at."""
    column = marked.index("@") + 1
    text = marked.replace("@", "")
    with pytest.raises(SpaceError) as raised:
        read(text)
    first, excerpt, caret = str(raised.value).split("\n")
    assert first.startswith(f"block:1:{column}: ")
    assert excerpt == f"  {text}"
    assert caret == " " * (column + 1) + "^"
    return first.removeprefix(f"block:1:{column}: ")


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ("r3", (3,)),
        ("r<3|1>", (3, 1)),
        ("r<1..3>", (1, 2, 3)),
        ("r<1..3|6>", (1, 2, 3, 6)),
        ("r<9..18:3>", (9, 12, 15, 18)),
        ("r<8|1..5:2>", (8, 1, 3, 5)),
    ],
)
def test_a_choice_set_holds_its_numbers_and_its_ranges_with_both_ends(
    item: str, expected: tuple[int, ...]
) -> None:
    found = values(f"mbconv_{item}_k3_s1_e4_c24", "r")
    assert found == expected
    assert all(type(value) is int for value in found)


def test_ranges_of_fractions_are_exact() -> None:
    assert values("mbconv_r1_k3_s1_e<1..2:0.1>_c24", "e") == (
        *(1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 1.9, 2),
    )
    assert values("mbconv_r1_k3_s1_e<1.5..4>_c24", "e") == (1.5, 2.5, 3.5)
    assert values(f"{FIXED}_se<0..0.3:0.1>", "se") == (0, 0.1, 0.2, 0.3)


def test_an_alternative_may_carry_its_own_fields_and_shares_the_others() -> None:
    syntax = read("<fused|mbconv_se0.25>_c24_e<1|4>_s1_k3_r2")
    assert syntax.alternatives == (Alternative("fused"), Alternative("mbconv", (("se", 0.25),)))
    assert syntax.fields == (("r", (2,)), ("k", (3,)), ("s", (1,)), ("e", (1, 4)), ("c", (24,)))
    coupled = read("<mbconv_k3_e3|mbconv_e6_k5>_r1_s1_c8")
    assert coupled.alternatives == (
        Alternative("mbconv", (("k", 3), ("e", 3))),
        Alternative("mbconv", (("k", 5), ("e", 6))),
    )
    mixed = read("<identity|conv_k3|fused_k3_e4>_r<1|2>_s1_c8")
    assert [alternative.op for alternative in mixed.alternatives] == ["identity", "conv", "fused"]
    assert mixed.fields == (("r", (1, 2)), ("s", (1,)), ("c", (8,)))


@pytest.mark.parametrize(
    ("timm", "ours"),
    [
        ("ir_r2_k3_s1_e4_c24_se0.25", "mbconv_r2_k3_s1_e4_c24_se0.25"),
        ("er_r2_k3_s1_e4_c24", "fused_r2_k3_s1_e4_c24"),
        ("ds_r2_k3_s1_c24_se0.25", "mbconv_r2_k3_s1_e1_c24_se0.25"),
        ("cn_r2_k3_s1_c24", "conv_r2_k3_s1_c24"),
        ("cn_r2_k3_s1_c24_skip", "fused_r2_k3_s1_e1_c24"),
        ("<ds|ir_e6>_r2_k3_s1_c24", "<mbconv_e1|mbconv_e6>_r2_k3_s1_c24"),
        ("<cn_skip|cn>_r2_k3_s1_c24", "<fused_e1|conv>_r2_k3_s1_c24"),
    ],
)
def test_the_codes_of_timm_are_read_as_ours(timm: str, ours: str) -> None:
    assert StageSpace.parse(timm) == StageSpace.parse(ours)


REFUSED = """
@ -> an operator is missing here, found the end
@mbconf_r2_k3_s1_e4_c24 -> unknown operator 'mbconf'; did you mean 'mbconv'
<fused|@mbcon>_r2_k3_s1_e4_c24 -> unknown operator 'mbcon'; did you mean 'mbconv'
<@>_r2_k3_s1_e4_c24 -> the set of operators is empty
mbconv_r2_k3_s1_e4_c24_@q3 -> mbconv has an unknown field 'q'; its fields: r, k, s, e, c, se
<fused|mbconv>_r2_k3_s1_e4_@n8 -> fused or mbconv has an unknown field 'n'
conv_r1_k3_s1_@e4_c8 -> conv takes no field 'e'; its fields: r, k, s, c
identity_@r2_s1_c8 -> identity has no layers to repeat
@mbconv_r2_e4 -> mbconv lacks the fields k (kernel size, odd), s (
<@fused|mbconv_c8>_r2_k3_s1_e4 -> fused lacks the field c (output channels)
mbconv_r2_k3_@k5_s1_e4_c24 -> field k is given twice
<mbconv_k3|fused>_r1_s1_e4_c24_@k5 -> here and by the alternative mbconv
<mbconv_e4_k3|@mbconv_k3_e4.0>_r2_s1_c24 -> alternative mbconv_k3_e4 is given twice
mbconv_r<2|@1..3>_k3_s1_e4_c24 -> r2 is in the choice set twice
cn_r2_k3_s1_c24_skip_@skip -> the flag skip is given twice
mbconv_r@0_k3_s1_e4_c24 -> r0: a stage has 1 layer or more
mbconv_r2_k<@3..7>_s1_e4_c24 -> k4: kernels are odd
mbconv_r2_k3_s@3_e4_c24 -> s3: strides are 1 or 2
mbconv_r2_k3_s1_e@0.5_c24 -> e0.5: expansions are 1 or more
mbconv_r2_k3_s1_e4_c@2.5 -> c2.5: channels are whole numbers
mbconv_r2_k3_s1_e4_c24_se@1.5 -> se1.5: squeeze-and-excitation ratios are 0 to 1
mbconv_r2_k3_s1_e4_c@ -> field c (output channels) needs a number here, not the end
mbconv_r@٣_k3_s1_e4_c24 -> needs a number here
mbconv_r2_k3_s1_e4_c24_se0.25@.1 -> expected '_', found '.'
mbconv_r2_k<@>_s1_e4_c24 -> the choice set of k (kernel size, odd) is empty
mbconv_r2_k<3@,5>_s1_e4_c24 -> expected |, .. or >, found ','
<fused@,mbconv>_r2_k3_s1_e4_c24 -> expected | or >, found ','
mbconv_r<@3..1>_k3_s1_e4_c24 -> the range 3..1 is empty: write the smaller number
mbconv_r<@1..3:0>_k3_s1_e4_c24 -> the step of a range is above 0
mbconv_r<@1..10001>_k3_s1_e4_c24 -> has 10,001 values; 10,000 are the most
mbconv_r2_k3_s1_e<@1..2:0.00001>_c24 -> values; 10,000 are the most
@er_r2_k3_s1_e<1|4>_c24 -> write fused_..._e1
ds_r2_k3_s1_@e6_c24 -> ds has no expansion
<cn|er_e4>_r2_k3_s1_c24_@skip -> skip is a flag of timm's cn alone
<er_e4_@skip|cn>_r2_k3_s1_c24 -> has an unknown field 'skip'
fused_r2_k3_s1_@se<0|0.25>_e1_c24 -> no place for squeeze-and-excitation
"""


@pytest.mark.parametrize("case", REFUSED.strip().split("\n"))
def test_every_breach_of_the_rules_is_pointed_at(case: str) -> None:
    marked, message = case.split("-> ")
    assert message in refusal(marked.removesuffix(" "))


def test_squeeze_and_excitation_beside_fused_is_refused_only_where_it_has_no_place() -> None:
    assert str(parse_stage("fused_r2_k3_s1_e1_c24_se0")) == "fused_r2_k3_s1_e1_c24"
    assert parse_stage("fused_r2_k3_s1_e4_c24_se0.25").se == 0.25
    open_expansion = StageSpace.parse("fused_r2_k3_s1_e<1|4>_c24_se0.25")
    assert [(stage.e, stage.se) for stage in open_expansion.stages()] == [(1, 0), (4, 0.25)]
    beside_mbconv = StageSpace.parse("<fused|mbconv>_r2_k3_s1_e1_c24_se0.25")
    assert [(stage.op, stage.se) for stage in beside_mbconv.stages()] == [
        ("fused", 0),
        ("mbconv", 0.25),
    ]


def test_an_architecture_leaves_no_choice_open() -> None:
    for text in ("mbconv_r2_k<3|5>_s1_e4_c24", "<fused|mbconv>_r2_k3_s1_e4_c24"):
        with pytest.raises(SpaceError, match="no choice sets here") as raised:
            parse_stage(text)
        assert str(raised.value).startswith(f"block:1:{text.index('<') + 1}: ")
    assert parse_stage("mbconv_r<2>_k<3..3>_s1_e4_c24") == parse_stage(FIXED)


TOKENS = ["mbconv", "fused", "conv", "identity", "ir", "er", "ds", "cn", "skip", "se", "_", "<"]
TOKENS += ["r1", "k3", "s1", "e4", "c8", "e1", "se0.25", "se0", ">", "|", "..", ":", "0", "1.5"]
TOKENS += [".", "-", " ", "é", "\n", "_r<1..3>", "_k<3|5>", "_s2", "_e<1|4>", "_c16", "_skip"]

any_text = st.text(max_size=30) | st.lists(st.sampled_from(TOKENS), max_size=16).map("".join)
ops = st.sampled_from(["mbconv", "fused", "conv", "identity", "ir", "er", "ds", "cn"])
field_texts = [
    ["", "_r1", "_r2", "_r3.0", "_r0", "_r<1..3>"],
    ["", "_k3", "_k5", "_k1", "_k4", "_k<3|5>"],
    ["_s1", "_s2", "_s3"],
    ["", "_e1", "_e4", "_e4.0", "_e2.5", "_e1.0", "_e0.5", "_e<1|4>", "_e10000.25"],
    ["_c8", "_c9", "_c160", "_c0", "_c123456789"],
    ["", "_se0", "_se0.25", "_se1", "_se0.0625", "_se0.001", "_se2"],
]
written_fields = st.permutations(field_texts).flatmap(
    lambda texts: st.tuples(*map(st.sampled_from, texts))
)
almost_blocks = st.builds(lambda op, fields: op + "".join(fields), ops, written_fields)


@pytest.mark.slow
@given(any_text | almost_blocks)
@example("mbconv_r1_k3_s1_e4_c8_")
@example("<cn_skip|ds_skip>_skip")
def test_any_text_is_a_block_or_a_space_error(text: str) -> None:
    for parse in (StageSpace.parse, parse_stage):
        block, said = None, ""
        try:
            block = parse(text)
        except SpaceError as error:
            said = str(error)
        if block is None:
            assert re.match(r"block:1:[1-9]\d*: .", said)
        else:
            # What was read is read back, and its text is canonical.
            assert parse(str(block)) == block
            assert str(parse(str(block))) == str(block)


@pytest.mark.parametrize(
    "text",
    [
        f"mbconv_r2_k3_s1_e4_c{'9' * 5000}",
        f"mbconv_r<1..{'9' * 5000}>_k3_s1_e4_c24",
        f"mbconv_r2_k3_s1_e{'9' * 400}.5_c24",
    ],
    ids=["channels", "range", "fraction"],
)
def test_an_absurd_number_is_a_space_error(text: str) -> None:
    with pytest.raises(SpaceError):
        str(parse_stage(text))
