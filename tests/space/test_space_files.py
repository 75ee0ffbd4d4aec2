"""Space files: found in order, read strictly with every error placed, and written back."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_stage_space import stage_spaces

from effnas.arch.architecture import Architecture
from effnas.config.expressions import Expression
from effnas.errors import SpaceError
from effnas.space.search_space import SearchSpace, Target

FULL = """\
format: 1
stem: 16
stages:
  - <fused|mbconv_se0.25>_r<1..3>_k<3|5>_s1_e<1|4>_c24
  - conv_r1_k3_s2_c48
head: 64
target: {image_size: 32, batch_size: 16, num_classes: 10}
reference:
  - fused_r1_k3_s1_e1_c24
  - conv_r1_k3_s2_c48
constraints:
  - params <= 30e6
  - stage1.op == 'fused' or stage1.k == 5
"""
STAGES = "stages: [conv_r<1|2>_k3_s1_c8]\n"
TWO = "stages: [conv_r<1|2>_k3_s1_c8, conv_r1_k3_s2_c8]\n"


def refusal(marked: str) -> str:
    """Read a text in which @ stands where the error has to point; return what it says."""
    before = marked[: marked.index("@")]
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    text = marked.replace("@", "")
    with pytest.raises(SpaceError) as raised:
        SearchSpace.parse(text, source="my.yaml")
    first, excerpt, caret = str(raised.value).split("\n")
    place = f"my.yaml:{line}:{column}: "
    assert first.startswith(place)
    assert excerpt == f"  {[*text.splitlines(), ''][line - 1]}"
    assert caret == " " * (column + 1) + "^"
    return first.removeprefix(place)


def test_a_file_says_everything_about_a_space() -> None:
    space = SearchSpace.parse(FULL)
    assert [str(stage) for stage in space.stages] == [
        "<fused|mbconv_se0.25>_r<1|2|3>_k<3|5>_s1_e<1|4>_c24",
        "conv_r1_k3_s2_c48",
    ]
    assert (space.stem, space.head) == (16, 64)
    assert space.target == Target(image_size=32, batch_size=16, num_classes=10)
    assert space.given_reference == Architecture.parse(
        "fused_r1_k3_s1_e1_c24 conv_r1_k3_s2_c48", stem=16, head=64
    )
    assert [constraint.text for constraint in space.constraints] == [
        "params <= 30e6",
        "stage1.op == 'fused' or stage1.k == 5",
    ]


@pytest.mark.parametrize(
    ("marked", "message"),
    [
        # keys
        (f"stem: 8\n{STAGES}@stem: 9\n", "the key 'stem' is there already, in line 1"),
        (f"{STAGES}@heads: 8\n", "unknown key 'heads'; did you mean 'head'?"),
        ("@stem: 8\n", "the key 'stages' is missing"),
        (f"{STAGES}stem_stride: @3\n", "stem_stride is 1 or 2, not 3"),
        (f"{STAGES}stem_stride: @0\n", "0 is too small; the least is 1"),
        # kinds
        (f"{STAGES}stem: @wide\n", "expected a whole number, found 'wide'"),
        (f"{STAGES}target: @224\n", "expected a mapping (key: value), found '224'"),
        ("stages: @conv_r1_k3_s1_c8\n", "expected a list, found 'conv_r1_k3_s1_c8'"),
        ("stages: @[]\n", "stages is empty: list at least one block"),
        (f"format: @2\n{STAGES}", "format 2 is not known to this version, which reads 1"),
        # blocks
        ("stages:\n  - mbconv_r1_k@4_s1_e4_c8\n", "k4: kernels are odd"),
        ("stages:\n  -@\n", "an operator is missing here, found the end"),
        # the reference
        (f"{STAGES}reference: [conv_r@<1|2>_k3_s1_c8]\n", "no choice sets here"),
        (f"{TWO}reference:\n  @- conv_r1_k3_s1_c8\n", "reference has 1 stage, the space 2"),
        (f"{TWO}reference:\n  - conv_r1_k3_s1_c8\n  - conv_r1_k@2_s2_c8\n", "k2: kernels are"),
        # constraints
        (f"{STAGES}constraints: [@param <= 3]\n", "unknown name 'param'; did you mean 'params'"),
        (
            f"{STAGES}constraints:\n  - params <= 30e6\n  - 'layers > 1 and @stage2.r > 1'\n",
            "unknown name 'stage2.r'; did you mean 'stage1.r'",
        ),
        (f"{STAGES}constraints: [@params]\n", "is a number where a condition is needed"),
        (f"{STAGES}constraints: [params < @3 % 2]\n", "'3 % 2' is not allowed"),
        # YAML
        ("stages: [conv_r1_k3_s1_c8\n@", "not valid YAML"),
        (f"{STAGES}stem: @&x 8\n", "anchors and aliases are not allowed"),
        ("@", "the file is empty"),
    ],
)
def test_an_error_says_what_is_wrong_and_points_at_it(marked: str, message: str) -> None:
    assert message in refusal(marked)


@pytest.mark.slow
@given(st.data())
def test_any_damage_to_a_file_is_a_space_error(data: st.DataObject) -> None:
    # Constraints have tests of their own.
    at = data.draw(st.integers(0, FULL.index("constraints")))
    cut = data.draw(st.integers(0, 8))
    put = data.draw(st.text("ab<|>.. _:#-'\"[]{}&*!\n\t19rkse", max_size=4))
    text, place = FULL[:at] + put + FULL[at + cut :], "my.yaml:"
    try:
        space = SearchSpace.parse(text, source="my.yaml")
    except SpaceError as error:
        place = str(error)
    else:
        assert SearchSpace.parse(space.to_text()) == space
    assert place.startswith("my.yaml:")


CONSTRAINTS = ["params <= 30e6", "stage1.r >= 1", "stage1.op == 'fused' or layers^2 < 99"]


@st.composite
def search_spaces(draw: st.DrawFn) -> SearchSpace:
    sizes = st.integers(1, 2000)
    constraints = sorted(draw(st.sets(st.sampled_from(CONSTRAINTS))))
    space = SearchSpace(
        stages=tuple(draw(st.lists(stage_spaces(), min_size=1, max_size=3))),
        stem=draw(sizes),
        head=draw(sizes),
        stem_stride=draw(st.sampled_from([1, 2])),
        target=Target(draw(sizes), draw(sizes), draw(st.none() | sizes)),
        constraints=tuple(map(Expression.parse, constraints)),
        name=draw(st.text(max_size=5)),
    )
    if draw(st.booleans()):
        return space
    return replace(space, given_reference=space.sample_unconstrained(np.random.default_rng(0)))


@pytest.mark.slow
@settings(max_examples=30)
@given(search_spaces())
@example(SearchSpace.parse(FULL))
def test_a_space_is_read_back_from_its_text(space: SearchSpace) -> None:
    again = SearchSpace.parse(space.to_text())
    assert again == space
    assert again.to_text() == space.to_text()
    assert again.id == space.id


def test_a_stem_of_stride_1_is_that_of_all_networks_and_of_the_reference() -> None:
    space = SearchSpace.parse(FULL)
    full = SearchSpace.parse("stem_stride: 1\n" + FULL)
    assert SearchSpace.parse("stem_stride: 2\n" + FULL).to_text() == space.to_text()
    assert "stem_stride" not in space.to_text()
    assert full.id != space.id
    assert SearchSpace.parse(full.to_text()) == full
    arch = full.sample(np.random.default_rng(0))
    assert {arch.stem_stride, full.reference.stem_stride} == {1}
    assert full.contains(arch)
    assert not full.contains(replace(arch, stem_stride=2))
    assert full.parse_blocks(str(arch)) == arch
    with pytest.raises(SpaceError, match="stem 16 and head 64; the space has 2, stem 16 of stride"):
        replace(full, given_reference=space.reference)


def test_a_constraint_over_two_lines_is_read_back() -> None:
    text = f"{STAGES}constraints:\n  - |\n    params <= 3e6\n    or layers < 2\n"
    space = SearchSpace.parse(text)
    assert SearchSpace.parse(space.to_text()) == space


@pytest.mark.parametrize(
    "text",
    [
        "# a comment\n" + FULL.replace("\n", "  # another\n"),
        "\n".join(reversed(re.split(r"\n(?=\S)", FULL.rstrip()))),
        FULL.replace("format: 1\n", ""),
        FULL.replace("r<1..3>", "r<1|2|3>").replace("_e<1|4>_c24", "_c24.0_e<1.0|4>"),
        FULL.replace("mbconv_se0.25>", "ir_se0.250>").replace("conv_r1_k3", "cn_k3_r1"),
        FULL.replace("\n", "\r\n"),
    ],
    ids=["comments", "keys", "format", "ranges", "aliases", "crlf"],
)
def test_the_id_does_not_depend_on_how_a_space_is_written(text: str) -> None:
    space = SearchSpace.parse(text, source="another name")
    assert space == SearchSpace.parse(FULL)
    assert space.id == SearchSpace.parse(FULL).id


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("stem: 16", "stem: 17"),
        (", num_classes: 10", ""),
        ("_k<3|5>", "_k<3|7>"),
        ("fused_r1_k3_s1_e1_c24", "fused_r2_k3_s1_e1_c24"),
        ("params <= 30e6", "params <= 31e6"),
        ("  - params <= 30e6\n", ""),
    ],
)
def test_the_id_depends_on_everything_that_matters(old: str, new: str) -> None:
    changed = FULL.replace(old, new)
    assert changed != FULL
    assert SearchSpace.parse(changed) != SearchSpace.parse(FULL)
    assert SearchSpace.parse(changed).id != SearchSpace.parse(FULL).id
