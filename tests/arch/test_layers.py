"""Parts: together they are the network, and a space has all those of its networks."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from effnas import Architecture, SearchSpace, count
from effnas.arch.layers import Layer, layers_of
from effnas.space.layers import layers_of_space
from effnas.timing.network_run import build_layer

CATALOG = ["tiny", "v2", "v2-b0", "v2-cifar", "mnasnet"]
#: Few networks, with stages that may vanish, change channels, and repeat.
MIXED = SearchSpace.parse(
    "stem: 8\n"
    "head: 24\n"
    "target: {image_size: 15, batch_size: 4}\n"
    "stages:\n"
    "  - <fused|mbconv>_r<1..3>_k3_s1_e<1|4>_c<8|12>\n"
    "  - <conv|identity>_r<1|2>_k3_s1_c12\n"
    "  - mbconv_se0.25_r<1..2>_k5_s2_e2_c<16|24>\n"
)
FULL = replace(MIXED, stem_stride=1)


def parts_in(space: SearchSpace, arch: Architecture, num_classes: int = 10) -> Counter[Layer]:
    return layers_of(arch, image_size=space.target.image_size, num_classes=num_classes)


def numbers_of(part: Layer) -> tuple[int, int]:
    """Parameters and multiply-accumulates of the layer that timm builds, by looking at it."""
    macs = 0

    def look(module: nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal macs
        if isinstance(module, nn.Conv2d):
            macs += output.numel() * module.weight[0].numel()
        elif isinstance(module, nn.Linear):
            macs += module.weight.numel()

    with torch.device("meta"):
        model = build_layer(part).eval()
        for module in model.modules():
            module.register_forward_hook(look)
        model(torch.empty(1, part.channels, part.size, part.size))
    return sum(parameter.numel() for parameter in model.parameters()), macs


@pytest.mark.slow
@pytest.mark.parametrize("space", [*CATALOG, MIXED, FULL])
def test_the_parts_have_together_what_the_network_has(space: str | SearchSpace) -> None:
    space = SearchSpace.load(space) if isinstance(space, str) else space
    rng = np.random.default_rng(0)
    known: dict[Layer, tuple[int, int]] = {}
    for arch in [space.sample(rng) for _ in range(3)]:
        counts = count(arch, space.target.image_size, 10)
        params = macs = 0
        for part, times in parts_in(space, arch).items():
            known[part] = known.get(part) or numbers_of(part)
            params += times * known[part][0]
            macs += times * known[part][1]
        assert (params, macs) == (counts.params, counts.macs)


def test_parts_know_what_comes_into_them() -> None:
    arch = Architecture.parse(
        ["fused_r3_k3_s1_e1_c16", "mbconv_r2_k5_s2_e4_c24_se0.25", "identity_s1_c24"],
        stem=8,
        head=64,
    )
    assert layers_of(arch, image_size=33, num_classes=7) == {
        Layer("stem_c8", 3, 33): 1,
        Layer("fused_r1_k3_s1_e1_c16", 8, 17): 1,
        Layer("fused_r1_k3_s1_e1_c16", 16, 17): 2,
        Layer("mbconv_r1_k5_s2_e4_c24_se0.25", 16, 17): 1,
        Layer("mbconv_r1_k5_s1_e4_c24_se0.25", 24, 9): 1,
        Layer("head_c64_n7", 24, 9): 1,
    }
    assert str(Layer("stem_c8", 3, 33)) == "stem_c8 on 3x33x33"


def test_a_stem_of_stride_1_is_another_layer() -> None:
    arch = Architecture.parse("conv_r1_k3_s1_c8", stem=8, head=64, stem_stride=1)
    assert layers_of(arch, image_size=33, num_classes=7) == {
        Layer("stem_s1_c8", 3, 33): 1,
        Layer("conv_r1_k3_s1_c8", 8, 33): 1,
        Layer("head_c64_n7", 8, 33): 1,
    }
    with torch.device("meta"):
        for block, size in (("stem_s1_c8", 33), ("stem_c8", 17)):
            output = build_layer(Layer(block, 3, 33))(torch.empty(2, 3, 33, 33))
            assert output.shape == (2, 8, size, size)


@pytest.mark.parametrize("space", [MIXED, FULL])
def test_a_space_has_no_part_but_those_of_its_networks(space: SearchSpace) -> None:
    archs = list(space.architectures())
    assert len(archs) == space.size > 100
    found = layers_of_space(space, num_classes=10)
    assert set(found) == set().union(*(parts_in(space, arch) for arch in archs))
    assert len(found) == len(set(found)) < space.size
