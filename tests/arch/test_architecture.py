"""An architecture is one value however it is spelt, and its id is the same everywhere."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from effnas.arch.architecture import Architecture
from effnas.arch.blocks import Stage
from effnas.errors import SpaceError
from effnas.scaling.growth import Growth, grow

EFFICIENTNETV2_S = [
    "fused_r2_k3_s1_e1_c24",
    "fused_r4_k3_s2_e4_c48",
    "fused_r4_k3_s2_e4_c64",
    "mbconv_r6_k3_s2_e4_c128_se0.25",
    "mbconv_r9_k3_s1_e6_c160_se0.25",
    "mbconv_r15_k3_s2_e6_c256_se0.25",
]


def test_the_id_of_a_network_never_changes() -> None:
    assert Architecture.parse(EFFICIENTNETV2_S, stem=24, head=1280).id == "463ef533bef80d38"


@pytest.mark.parametrize(
    "blocks",
    [
        " ".join(EFFICIENTNETV2_S),
        iter(EFFICIENTNETV2_S),
        [text.replace("fused", "er").replace("mbconv", "ir") for text in EFFICIENTNETV2_S[1:]],
        [text.replace("_e4", "_e4.0").replace("_e1_", "_e1.00_") for text in EFFICIENTNETV2_S],
        [text + "_se0" * ("se" not in text) for text in EFFICIENTNETV2_S],
    ],
    ids=["text", "iterator", "aliases", "e4.0", "se0"],
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


def test_an_architecture_travels_as_a_pickle() -> None:
    arch = Architecture.parse(EFFICIENTNETV2_S)
    identity = arch.id  # cached before
    hash(arch)  # the cached hash means nothing in another process
    assert b"_hash" not in pickle.dumps(arch)
    again = pickle.loads(pickle.dumps(arch))
    assert (again, again.id) == (arch, identity)


def test_a_stem_of_stride_1_makes_another_network() -> None:
    halving, full = (Architecture.parse("conv_r1_k3_s1_c8", stem_stride=n) for n in (2, 1))
    assert halving == Architecture.parse("conv_r1_k3_s1_c8")
    assert halving != full
    assert len({halving.id, full.id}) == len({hash(halving), hash(full)}) == 2
    assert (halving.ends, full.ends) == (
        {"stem": 32, "head": 1280},
        {"stem": 32, "head": 1280, "stem_stride": 1},
    )
    for arch in (halving, full):
        assert Architecture.parse(arch.blocks, **arch.ends) == arch
        assert pickle.loads(pickle.dumps(arch)) == arch


@pytest.mark.parametrize("value", [0, 3, 1.0, "1", True, None])
def test_the_stride_of_the_stem_is_1_or_2(value: Any) -> None:
    with pytest.raises(SpaceError, match=r"^stem_stride: .* must be 1 or 2$"):
        Architecture.parse(EFFICIENTNETV2_S, stem_stride=value)


@pytest.mark.parametrize("name", ["stem", "head"])
@pytest.mark.parametrize("value", [0, 32.0, "32", True])
def test_stem_and_head_are_numbers_of_channels(name: str, value: Any) -> None:
    with pytest.raises(SpaceError, match=f"^{name}: .*whole number of channels above 0"):
        Architecture.parse(EFFICIENTNETV2_S, **{name: value})
    assert getattr(Architecture.parse(EFFICIENTNETV2_S, **{name: 1}), name) == 1


@pytest.mark.parametrize(
    "blocks", ["mbconv_r1000000000_k3_s2_e4_c16", "fused_r1_k3_s2_e1_c1000000000",
               " ".join(["fused_r6000_k3_s1_e1_c8"] * 2)]
)  # fmt: skip
def test_what_nobody_could_build_is_refused(blocks: str) -> None:
    with pytest.raises(SpaceError, match=r"at most (10,000 layers|1,000,000 channels), and not"):
        Architecture.parse(blocks)
    with pytest.raises(SpaceError, match="at most 10,000 layers"):
        grow(Architecture.parse("fused_r2_k3_s2_e1_c8"), Growth(depth=(1e9,)))


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
        ("mbconv", {"e": 0.5}, "e0.5: expansions"),
        ("mbconv", {"e": float("nan")}, "finite"),
        ("mbconv", {"c": 8.0}, "channels are whole"),
        ("conv", {"e": 4}, "conv takes no field e; its fields: r, k, s, c"),
        ("identity", {"r": 2}, "no layers to repeat"),
        ("fused", {"e": 1, "se": 0.25}, "no place for squeeze-and-excitation"),
    ],
)
def test_a_stage_from_python_obeys_the_rules_of_the_notation(
    op: str, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpaceError, match=message):
        Stage(op, **fields)
