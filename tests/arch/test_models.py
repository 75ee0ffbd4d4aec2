"""The networks that are built are the published ones, and otherwise exactly what was asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import timm
import torch
from torch import nn

from effnas.arch.architecture import BATCH_NORM_EPS, Architecture
from effnas.arch.counts import stage_shapes
from effnas.arch.models import build
from effnas.errors import InfeasibleError

# Stem, stages and head; layers of the stages; parameters with 1,000 classes. The widths are those
# of the published coefficients after rounding, S to XL have their own.
EFFICIENTNET = {
    "b0": ([32, 16, 24, 40, 80, 112, 192, 320, 1280], [1, 2, 2, 3, 3, 4, 1], 5_288_548),
    "b4": ([48, 24, 32, 56, 112, 160, 272, 448, 1792], [2, 4, 4, 6, 6, 8, 2], 19_341_616),
    "b7": ([64, 32, 48, 80, 160, 224, 384, 640, 2560], [4, 7, 7, 10, 10, 13, 4], 66_347_960),
}
EFFICIENTNETV2 = {
    "b0": ([32, 16, 32, 48, 96, 112, 192, 1280], [1, 2, 2, 3, 5, 8], 7_139_704),
    "b3": ([40, 16, 40, 56, 112, 136, 232, 1536], [2, 3, 3, 5, 7, 12], 14_358_406),
    "s": ([24, 24, 48, 64, 128, 160, 256, 1280], [2, 4, 4, 6, 9, 15], 21_458_488),
    "xl": ([32, 32, 64, 96, 192, 256, 512, 640, 1280], [4, 8, 8, 16, 24, 32, 8], 208_119_808),
}
EFFICIENTNET_STAGES = [
    "mbconv_r{}_k3_s1_e1_c{}_se0.25",
    "mbconv_r{}_k3_s2_e6_c{}_se0.25",
    "mbconv_r{}_k5_s2_e6_c{}_se0.25",
    "mbconv_r{}_k3_s2_e6_c{}_se0.25",
    "mbconv_r{}_k5_s1_e6_c{}_se0.25",
    "mbconv_r{}_k5_s2_e6_c{}_se0.25",
    "mbconv_r{}_k3_s1_e6_c{}_se0.25",
]
EFFICIENTNETV2_STAGES = [
    "fused_r{}_k3_s1_e1_c{}",
    "fused_r{}_k3_s2_e4_c{}",
    "fused_r{}_k3_s2_e4_c{}",
    "mbconv_r{}_k3_s2_e4_c{}_se0.25",
    "mbconv_r{}_k3_s1_e6_c{}_se0.25",
    "mbconv_r{}_k3_s2_e6_c{}_se0.25",
    "mbconv_r{}_k3_s1_e6_c{}_se0.25",
]
# Parameters with batch norm's moving averages, as Google's tests of EfficientNetV2 assert them.
WITH_MOVING_AVERAGES = {
    "tf_efficientnetv2_b0": 7_200_312,
    "tf_efficientnetv2_b3": 14_467_622,
    "tf_efficientnetv2_s": 21_612_360,
    "tf_efficientnetv2_xl": 208_896_832,
}


@dataclass(frozen=True)
class Published:
    """A published network: ours, and how many parameters it has."""

    arch: Architecture
    params: int


def _published(template: list[str], widths: list[int], layers: list[int], params: int) -> Published:
    stem, *channels, head = widths
    stages = template[: len(layers)]
    blocks = [t.format(r, c) for t, r, c in zip(stages, layers, channels, strict=True)]
    return Published(Architecture.parse(blocks, stem=stem, head=head), params)


#: The published networks by the names that timm has for them.
PUBLISHED = {
    f"{prefix}_{name}": _published(template, *numbers)
    for prefix, template, table in (
        ("efficientnet", EFFICIENTNET_STAGES, EFFICIENTNET),
        ("tf_efficientnetv2", EFFICIENTNETV2_STAGES, EFFICIENTNETV2),
    )
    for name, numbers in table.items()
}
QUICK = ("efficientnet_b0", "tf_efficientnetv2_b3")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small images gain nothing from threads, and lose where others work on the machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def published_names() -> list[pytest.ParameterSet]:
    slow = pytest.mark.slow
    return [pytest.param(n, marks=() if n in QUICK else slow) for n in PUBLISHED]


def network(*blocks: str, stem: int = 8, head: int = 16, classes: int = 5) -> nn.Module:
    """Build a network without weights: its shapes are all there is."""
    arch = Architecture.parse(blocks, stem=stem, head=head)
    return build(arch, num_classes=classes, device="meta")


def convolutions(model: nn.Module) -> list[nn.Conv2d]:
    return [module for module in model.modules() if isinstance(module, nn.Conv2d)]


def shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in model.state_dict().items()}


def features(model: nn.Module, image_size: int) -> tuple[int, ...]:
    image = torch.zeros(1, 3, image_size, image_size, device="meta")
    return tuple(model.eval().forward_features(image).shape)  # type: ignore[operator]


@pytest.mark.slow
@pytest.mark.parametrize("name", published_names())
def test_a_published_network_has_the_tensors_of_timm(name: str) -> None:
    ours = build(PUBLISHED[name].arch, num_classes=1000, device="meta")
    with torch.device("meta"):
        theirs = timm.create_model(name)
    assert shapes(ours) == shapes(theirs)
    params = sum(parameter.numel() for parameter in ours.parameters())
    assert params == sum(parameter.numel() for parameter in theirs.parameters())
    assert params == PUBLISHED[name].params
    if name in WITH_MOVING_AVERAGES:
        averages = sum(b.numel() for n, b in ours.named_buffers() if ".running_" in n)
        assert params + averages == WITH_MOVING_AVERAGES[name]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("efficientnet_b0", "efficientnet_b0"),
        # timm's name for the same network without TensorFlow's padding
        pytest.param("tf_efficientnetv2_s", "efficientnetv2_s", marks=pytest.mark.slow),
    ],
)
def test_with_the_weights_of_timm_a_network_computes_the_same(name: str, variant: str) -> None:
    torch.manual_seed(0)
    theirs = timm.create_model(variant, num_classes=10).eval()
    ours = PUBLISHED[name].arch.build(num_classes=10).eval()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = BATCH_NORM_EPS
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, 65, 65)
    with torch.inference_mode():
        assert torch.allclose(ours(images), theirs(images), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("stages", [1, 4, 5, 7, 9])
def test_strides_multiply_and_never_become_dilation(stages: int) -> None:
    blocks = ["mbconv_r2_k3_s2_e2_c8", "fused_r1_k5_s2_e1_c8", "fused_r1_k3_s2_e4_c8"] * 3
    model = network(*blocks[:stages])
    assert {convolution.dilation for convolution in convolutions(model)} == {(1, 1)}
    assert features(model, 2048) == (1, 16, 2048 // 2 ** (stages + 1), 2048 // 2 ** (stages + 1))


@pytest.mark.parametrize(("stem_stride", "size"), [(1, 17), (2, 9)])
def test_a_stem_halves_the_image_or_leaves_it_as_it_is(stem_stride: int, size: int) -> None:
    arch = Architecture.parse("conv_r1_k3_s1_c8", stem=8, head=16, stem_stride=stem_stride)
    model = build(arch, num_classes=5, device="meta")
    assert features(model, 17) == (1, 16, size, size)
    assert stage_shapes(arch, 17)[-1] == (8, size)
    # The weights are the same: strides do not show in shapes.
    assert shapes(model) == shapes(network("conv_r1_k3_s1_c8"))


def test_fused_with_expansion_1_is_one_convolution_with_a_residual() -> None:
    one, conv = network("fused_r3_k5_s1_e1_c8"), network("conv_r3_k5_s1_c8")
    for model in (one, conv):  # stem, three layers, head
        assert [c.kernel_size for c in convolutions(model)[1:-1]] == [(5, 5)] * 3
    assert shapes(one) == shapes(conv)
    for model, residual in ((one, True), (conv, False)):
        model = model.to_empty(device="cpu").eval()
        for name, value in model.state_dict().items():
            value.fill_(1 if name.endswith(("running_var", ".weight")) and "bn" in name else 0)
        block = model.get_submodule("blocks.0.1")
        # All weights are zero: what comes out is what was added.
        assert block(torch.ones(1, 8, 4, 4)).any() == residual


def test_an_identity_adds_layers_only_where_something_changes() -> None:
    plain = network("conv_r1_k3_s1_c8", "conv_r1_k3_s1_c12")
    blocks = ["identity_s1_c8", "conv_r1_k3_s1_c8", "identity_s1_c8", "conv_r1_k3_s1_c12"]
    assert shapes(network(*blocks)) == shapes(plain)
    changing = network("identity_s2_c8", "identity_s1_c12", "identity_s1_c12")
    added = convolutions(changing)[1:-1]
    assert [(c.kernel_size, c.stride, c.out_channels) for c in added] == [
        ((1, 1), (2, 2), 8),
        ((1, 1), (1, 1), 12),
    ]
    assert features(changing, 32) == (1, 16, 8, 8)


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_what_cannot_be_built_is_infeasible_with_the_reason() -> None:
    with pytest.raises(InfeasibleError, match="no stage has a layer"):
        network("identity_s1_c8", "identity_s1_c8")
    with pytest.raises(InfeasibleError, match="cannot be built: "):
        network("mbconv_r1_k3_s1_e4_c8_se0.001")  # no channel is left in the squeeze


def test_classes_dropout_and_stochastic_depth_are_as_given() -> None:
    arch = Architecture.parse("mbconv_r4_k3_s1_e2_c8 conv_r1_k3_s1_c8", stem=8, head=16)
    model = arch.build(num_classes=3, drop_rate=0.3, drop_path_rate=0.5)
    assert model.get_submodule("classifier").out_features == 3
    assert model.drop_rate == 0.3
    rates = [getattr(m, "drop_prob", None) for m in model.modules()]
    given = [rate for rate in rates if rate is not None]
    assert given == sorted(given)
    assert 0 < given[0] < given[-1] <= 0.5
    assert not any(getattr(m, "drop_prob", None) for m in arch.build(num_classes=3).modules())
