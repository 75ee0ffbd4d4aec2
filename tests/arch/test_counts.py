"""Counts are exact: held against timm and fvcore, the papers, and 5,138 published networks."""

from __future__ import annotations

import runpy
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from fvcore.nn.flop_count import conv_flop_jit, linear_flop_jit
from fvcore.nn.jit_analysis import JitModelAnalysis
from fvcore.nn.jit_handles import generic_activation_jit
from hypothesis import given, settings
from hypothesis import strategies as st
from test_models import PUBLISHED, one_thread  # noqa: F401  # a fixture
from torch import nn

from effnas.arch.architecture import Architecture
from effnas.arch.blocks import Stage
from effnas.arch.counts import Counts, count
from effnas.arch.models import build
from effnas.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]

Handle = Callable[[list[Any], list[Any]], Any]


def _both(flops: Handle) -> Handle:
    """Join fvcore's counters of one operator, so that the network is traced once."""
    activations = generic_activation_jit()

    def count_both(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
        macs = flops(inputs, outputs)
        macs = sum(macs.values()) if isinstance(macs, Counter) else macs
        return Counter(macs=macs, activations=activations(inputs, outputs))

    return count_both


def counted_by_fvcore(model: nn.Module, image_size: int, in_channels: int = 3) -> Counts:
    """Count a network with fvcore: its convolutions and linear layers, as it runs."""
    image = torch.zeros(1, in_channels, image_size, image_size)
    analysis = JitModelAnalysis(model.eval(), image)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    analysis.set_op_handle("aten::_convolution", _both(conv_flop_jit))
    analysis.set_op_handle("aten::linear", _both(linear_flop_jit))
    found = analysis.by_operator()
    params = sum(parameter.numel() for parameter in model.parameters())
    return Counts(params, int(found["macs"]), int(found["activations"]))


def assert_counts_are_exact(arch: Architecture, image_size: int, classes: int = 10) -> None:
    model = with_zeros(build(arch, num_classes=classes, device="meta"))
    assert count(arch, image_size, classes) == counted_by_fvcore(model, image_size), str(arch)


def with_zeros(model: nn.Module) -> nn.Module:
    """Give a network weights, which have no part in this: drawing them takes long."""
    model = model.to_empty(device="cpu")
    for value in model.state_dict().values():
        value.zero_()
    return model


PUBLISHED_MACS_G = {  # at 1,000 classes, by image size
    "efficientnet_b0": {224: 0.386},
    "efficientnet_b4": {380: 4.394},
    "efficientnet_b7": {600: 37.746},
    "tf_efficientnetv2_b0": {128: 0.236, 192: 0.528, 224: 0.718},
    "tf_efficientnetv2_b3": {240: 1.908, 300: 3.011},
    "tf_efficientnetv2_s": {128: 0.934, 192: 2.095, 224: 2.85, 300: 5.308, 380: 8.3, 384: 8.366},
    "tf_efficientnetv2_xl": {384: 52.529, 512: 93.353},
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_networks_have_their_published_sizes(name: str) -> None:
    for image_size, macs_g in PUBLISHED_MACS_G[name].items():
        counts = count(PUBLISHED[name].arch, image_size)
        assert counts.params == PUBLISHED[name].params
        assert round(counts.macs / 1e9, 3) == macs_g


@pytest.mark.slow
@pytest.mark.parametrize("name", ["efficientnet_b0", "efficientnet_b7", "tf_efficientnetv2_s"])
def test_fvcore_counts_the_network_of_timm_as_we_do(name: str) -> None:
    with torch.device("meta"):
        model = timm.create_model(name)
    assert count(PUBLISHED[name].arch, 64) == counted_by_fvcore(with_zeros(model), 64)


@pytest.mark.parametrize("image_size", [8, 9])
def test_fvcore_counts_a_stem_of_stride_1_as_we_do(image_size: int) -> None:
    blocks = ["fused_r2_k3_s1_e1_c12", "mbconv_r1_k5_s2_e3_c16_se0.25", "conv_r1_k3_s2_c20"]
    full = Architecture.parse(blocks, stem=8, head=24, stem_stride=1)
    assert_counts_are_exact(full, image_size)
    halving, whole = (count(a, image_size, 10) for a in (replace(full, stem_stride=2), full))
    assert whole.params == halving.params
    assert whole.macs > 3 * halving.macs


def test_table_3_of_efficientnetv2_is_met() -> None:
    rows = runpy.run_path(str(ROOT / "benchmarks" / "table3.py"))["rows"]()
    assert rows[0].arch == PUBLISHED["efficientnet_b4"].arch
    met, literal = [], []
    for row in rows:
        params_m, macs_g = row.counts.params / 1e6, row.counts.macs / 1e9
        if row.rule == "kernels kept, no SE":
            literal.append((row.stages, round(params_m, 3), round(macs_g, 3)))
            assert params_m == pytest.approx(row.params_m, rel=0.01)
            assert macs_g == pytest.approx(row.flops_g, rel=0.08)
        else:
            met.append(row.stages)
            assert round(params_m, 1) == row.params_m
            # The paper's profiler counts element-wise operations too.
            assert row.flops_g * 0.975 < macs_g < row.flops_g
    assert met == ["none", "1-3", "1-5", "1-7"]
    assert literal == [("1-5", 43.528, 22.995), ("1-7", 132.122, 36.045)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("blocks", "stem"),
    [
        (["mbconv_r2_k3_s2_e2.5_c20_se0.25", "fused_r2_k3_s1_e2.5_c12_se0.3"], 12),
        (["mbconv_r1_k5_s2_e1.1_c7", "fused_r2_k5_s2_e1.3_c9", "mbconv_r2_k7_s1_e3.3_c5"], 5),
        (["fused_r3_k3_s1_e1_c11", "mbconv_r2_k3_s2_e1_c13_se0.5", "conv_r2_k3_s2_c17"], 3),
        (["identity_s1_c8", "identity_s2_c8", "identity_s1_c15", "conv_r1_k1_s1_c15"], 8),
        (["conv_r1_k3_s2_c9", "identity_s1_c9", "fused_r1_k1_s1_e6_c9", "identity_s2_c31"], 8),
        (["mbconv_r1_k3_s1_e6_c8_se1", "mbconv_r1_k3_s1_e6_c8_se0.07"], 10),
    ],
    ids=["fractions", "odd", "single", "identity", "conv", "squeeze"],
)
@pytest.mark.parametrize("image_size", [1, 33])
def test_fvcore_counts_unusual_networks_as_we_do(
    blocks: list[str], stem: int, image_size: int
) -> None:
    assert_counts_are_exact(Architecture.parse(blocks, stem=stem, head=21), image_size, 3)


@pytest.mark.slow
@settings(max_examples=8)
@given(
    st.sampled_from(["fused", "mbconv"]),
    st.integers(3, 40),
    st.sampled_from([1, 1.25, 1.5, 2.5, 3, 4.75, 6]),
    st.sampled_from([0, 0.1, 0.25, 0.7]),
    st.integers(1, 40),
    st.integers(1, 2),
    st.integers(1, 40),
)
def test_fvcore_counts_any_block_as_we_do(
    op: str, stem: int, expansion: float, ratio: float, channels: int, stride: int, image_size: int
) -> None:
    ratio = 0 if op == "fused" and expansion == 1 else max(ratio, 0.7 * (ratio > 0 and stem < 9))
    stage = Stage(op, r=2, k=3, s=stride, e=expansion, c=max(channels, stem), se=ratio)
    assert_counts_are_exact(Architecture((stage,), stem=stem, head=8), image_size, 2)


def test_classes_and_channels_of_the_image_are_counted() -> None:
    arch = Architecture.parse("mbconv_r1_k3_s1_e4_c8", stem=8, head=16)
    ten, none, grey = count(arch, 32), count(arch, 32, 0), count(arch, 32, in_channels=1)
    assert (ten.params - none.params, ten.macs - none.macs) == (17 * 1000, 16 * 1000)
    assert ten.activations - none.activations == 1000
    assert (ten.params - grey.params, ten.macs - grey.macs) == (2 * 9 * 8, 2 * 9 * 8 * 256)
    assert ten.activations == grey.activations


@pytest.mark.parametrize(
    "sizes", [{"image_size": 0}, {"num_classes": -1}, {"in_channels": 0}, {"image_size": -224}]
)
def test_sizes_that_no_image_has_are_refused(sizes: dict[str, int]) -> None:
    arch = Architecture.parse("conv_r1_k3_s1_c8")
    with pytest.raises(ConfigError, match="cannot count at"):
        count(arch, **{"image_size": 32, **sizes})
