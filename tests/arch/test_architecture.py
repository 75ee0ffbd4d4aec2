"""An architecture is one value however it is spelt, and its id is the same everywhere."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effnas.arch.architecture import Architecture
from effnas.arch.blocks import OPERATORS, Stage
from effnas.errors import SpaceError

patient = settings(deadline=None, max_examples=50)  # the machine may be busy

EFFICIENTNETV2_S = [
    "fused_r2_k3_s1_e1_c24",
    "fused_r4_k3_s2_e4_c48",
    "fused_r4_k3_s2_e4_c64",
    "mbconv_r6_k3_s2_e4_c128_se0.25",
    "mbconv_r9_k3_s1_e6_c160_se0.25",
    "mbconv_r15_k3_s2_e6_c256_se0.25",
]


@st.composite
def fixed_stages(draw: st.DrawFn, ops: tuple[str, ...] = tuple(OPERATORS)) -> Stage:
    op = draw(st.sampled_from(ops))
    values: dict[str, Any] = {
        "r": draw(st.integers(1, 6)),
        "k": draw(st.sampled_from([1, 3, 5, 7])),
        "s": draw(st.integers(1, 2)),
        "e": draw(st.sampled_from([1, 1.5, 2.5, 4, 6])),
        "c": draw(st.integers(1, 400)),
        "se": draw(st.sampled_from([0, 0.1, 0.25, 1])),
    }
    if op == "fused" and values["e"] == 1:
        del values["se"]
    if op == "identity":
        del values["r"]
    return Stage(op, **{k: v for k, v in values.items() if k in OPERATORS[op].fields})


def architectures(
    ops: tuple[str, ...] = tuple(OPERATORS),
) -> st.SearchStrategy[Architecture]:
    stages = st.lists(fixed_stages(ops), min_size=1, max_size=7).map(tuple)
    return st.builds(Architecture, stages, stem=st.integers(1, 64), head=st.integers(1, 2000))


# -- identity


def test_the_id_of_a_network_never_changes() -> None:
    assert Architecture.parse(EFFICIENTNETV2_S, stem=24, head=1280).id == "463ef533bef80d38"


@pytest.mark.parametrize(
    "blocks",
    [
        " ".join(EFFICIENTNETV2_S),
        "\n".join(EFFICIENTNETV2_S) + "\n",
        tuple(EFFICIENTNETV2_S),
        iter(EFFICIENTNETV2_S),
        [text.replace("fused", "er").replace("mbconv", "ir") for text in EFFICIENTNETV2_S[1:]],
        [text.replace("_e4", "_e4.0").replace("_e1_", "_e1.00_") for text in EFFICIENTNETV2_S],
        ["_".join([t.split("_")[0], *reversed(t.split("_")[1:])]) for t in EFFICIENTNETV2_S],
        [text + "_se0" * ("se" not in text) for text in EFFICIENTNETV2_S],
        [text.replace("k3", "k<3>") for text in EFFICIENTNETV2_S],
    ],
    ids=["text", "lines", "tuple", "iterator", "aliases", "e4.0", "order", "se0", "set-of-one"],
)
def test_spelling_does_not_matter(blocks: Any) -> None:
    if isinstance(blocks, list) and len(blocks) == 5:  # the first stage, in the words of timm
        blocks = ["cn_r2_k3_s1_c24_skip", *blocks]
    arch = Architecture.parse(blocks, stem=24, head=1280)
    canonical = Architecture.parse(EFFICIENTNETV2_S, stem=24, head=1280)
    assert arch == canonical
    assert hash(arch) == hash(canonical)
    assert arch.blocks == canonical.blocks == tuple(EFFICIENTNETV2_S)
    assert arch.id == canonical.id


@patient
@given(architectures(), architectures())
def test_ids_are_equal_where_the_networks_are(one: Architecture, other: Architecture) -> None:
    assert (one.id == other.id) == (one == other)
    assert len(one.id) == 16
    assert int(one.id, 16) >= 0


# -- text and back


@patient
@given(architectures())
def test_blocks_are_texts_that_are_read_back(arch: Architecture) -> None:
    assert isinstance(arch.blocks, tuple)
    assert all(type(block) is str for block in arch.blocks)
    assert len(arch.blocks) == len(arch.stages)
    assert str(arch) == " ".join(arch.blocks)
    for blocks in (arch.blocks, str(arch)):
        assert Architecture.parse(blocks, stem=arch.stem, head=arch.head) == arch


@pytest.mark.slow
@patient
@given(architectures(("mbconv", "fused", "conv")))
def test_what_timm_is_given_is_read_back(arch: Architecture) -> None:
    texts = [block for stage in arch.to_timm() for block in stage]
    assert len(texts) == len(arch.stages)
    assert {text.split("_")[0] for text in texts} <= {"ir", "er", "ds", "cn"}
    assert Architecture.parse(texts, stem=arch.stem, head=arch.head) == arch


def test_the_codes_of_timm_are_those_of_the_published_networks() -> None:
    assert Architecture.parse(EFFICIENTNETV2_S, stem=24).to_timm() == [
        ["cn_r2_k3_s1_c24_skip"],
        ["er_r4_k3_s2_e4_c48"],
        ["er_r4_k3_s2_e4_c64"],
        ["ir_r6_k3_s2_e4_c128_se0.25"],
        ["ir_r9_k3_s1_e6_c160_se0.25"],
        ["ir_r15_k3_s2_e6_c256_se0.25"],
    ]
    others = ["mbconv_r1_k3_s1_e1_c16_se0.25", "conv_r2_k5_s2_c32", "fused_r1_k3_s1_e2_c8_se0.5"]
    assert Architecture.parse(others).to_timm() == [
        ["ds_r1_k3_s1_c16_se0.25"],
        ["cn_r2_k5_s2_c32"],
        ["er_r1_k3_s1_e2_c8_se0.5"],
    ]


def test_a_stage_that_changes_nothing_is_left_out_for_timm() -> None:
    blocks = ["identity_s1_c16", "identity_s1_c24", "identity_s1_c24", "identity_s2_c24"]
    assert Architecture.parse(blocks, stem=16).to_timm() == [
        ["cn_r1_k1_s1_c24"],
        ["cn_r1_k1_s2_c24"],
    ]
    assert Architecture.parse(blocks[:1], stem=16).to_timm() == []


@patient
@given(architectures())
def test_an_architecture_travels_as_a_pickle(arch: Architecture) -> None:
    identity = arch.id  # cached before
    hash(arch)  # what is remembered of it means nothing elsewhere
    assert b"_hash" not in pickle.dumps(arch)
    again = pickle.loads(pickle.dumps(arch))
    assert again == arch
    assert again.id == identity


# -- what is refused


@pytest.mark.parametrize("name", ["stem", "head"])
@pytest.mark.parametrize("value", [0, -8, 32.0, "32", True, None, float("nan")])
def test_stem_and_head_are_numbers_of_channels(name: str, value: Any) -> None:
    with pytest.raises(SpaceError, match=f"^{name}: .*whole number of channels above 0"):
        Architecture.parse(EFFICIENTNETV2_S, **{name: value})
    assert getattr(Architecture.parse(EFFICIENTNETV2_S, **{name: 1}), name) == 1


@pytest.mark.parametrize("blocks", ["", " \n", []])
def test_an_architecture_has_at_least_one_stage(blocks: Any) -> None:
    with pytest.raises(SpaceError, match="at least one stage"):
        Architecture.parse(blocks)


def test_an_error_names_the_stage_and_the_column() -> None:
    with pytest.raises(SpaceError) as raised:
        Architecture.parse(["conv_r1_k3_s1_c8", "conv_r1_k4_s1_c8"])
    assert str(raised.value).split("\n") == [
        "stage 2:1:10: k4: kernels are odd whole numbers (1, 3, 5, ...)",
        "  conv_r1_k4_s1_c8",
        "  " + " " * 9 + "^",
    ]
    with pytest.raises(SpaceError, match=r"^stage 1:1:7: an architecture is fixed"):
        Architecture.parse("conv_r<1|2>_k3_s1_c8")


@pytest.mark.parametrize(
    ("op", "fields", "message"),
    [
        ("mbcon", {}, "unknown operator 'mbcon'"),
        ("mbconv", {"r": 0}, "r0: a stage has 1 layer"),
        ("mbconv", {"k": 4}, "k4: kernels are odd"),
        ("mbconv", {"s": 3}, "s3: strides"),
        ("mbconv", {"e": 0.5}, "e0.5: expansions"),
        ("mbconv", {"e": float("nan")}, "finite"),
        ("mbconv", {"c": 8.0}, "channels are whole"),
        ("mbconv", {"se": 2}, "se2: squeeze"),
        ("conv", {"e": 4}, "conv takes no field e; its fields: r, k, s, c"),
        ("conv", {"se": 0.25}, "conv takes no field se"),
        ("identity", {"k": 3}, "identity takes no field k"),
        ("identity", {"r": 2}, "no layers to repeat"),
        ("fused", {"e": 1, "se": 0.25}, "no place for squeeze-and-excitation"),
    ],
)
def test_a_stage_from_python_obeys_the_rules_of_the_notation(
    op: str, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpaceError, match=message):
        Stage(op, **fields)
