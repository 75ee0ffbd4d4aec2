"""Initial weights that a recipe asks for do what they are for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from timm.models import create_model
from torch import nn
from torch.nn.functional import avg_pool2d

from effnas.arch.architecture import Architecture
from effnas.config.recipe import Recipe
from effnas.data.images import ImageSet
from effnas.errors import ConfigError
from effnas.train.augment import normalize
from effnas.train.initialization import initialize
from effnas.train.network import make_network

ARCH = Architecture.parse(
    "fused_r2_k3_s1_e1_c24 fused_r2_k3_s2_e2_c32 mbconv_r2_k3_s2_e2_c48_se0.25", stem=24, head=64
)


@pytest.fixture(scope="module")
def images() -> ImageSet:
    """Smooth images, as real ones are: neighbours are alike, and so are channels."""
    torch.manual_seed(0)
    noise = torch.randn(200, 1, 36, 36) + 0.3 * torch.randn(200, 3, 36, 36)
    smooth = avg_pool2d(noise, 5, stride=1) + 0.1 * torch.randn(200, 3, 32, 32)
    pixels = (127 + 200 * smooth).clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    return ImageSet(images=pixels, labels=np.arange(200) % 10, classes=tuple("abcdefghij"))


def network(recipe: Recipe, images: ImageSet, seed: int = 0) -> nn.Module:
    torch.manual_seed(0)
    model = make_network(ARCH, "", recipe, num_classes=10)
    initialize(model, recipe, images, seed)
    return model


def test_by_default_nothing_changes(images: ImageSet) -> None:
    torch.manual_seed(0)
    plain = make_network(ARCH, "", Recipe(), num_classes=10).state_dict()
    found = network(Recipe(), images).state_dict()
    assert all(torch.equal(plain[name], found[name]) for name in plain)


def test_a_whitened_stem_does_not_correlate(images: ImageSet) -> None:
    whitened, plain = (network(Recipe(stem_init=init), images) for init in ("whitened", "default"))
    again = network(Recipe(stem_init="whitened"), images)
    stem = whitened.get_submodule("conv_stem")
    assert torch.equal(stem.weight, again.get_submodule("conv_stem").weight)
    shown = normalize(torch.from_numpy(images.images).permute(0, 3, 1, 2))

    def channels(model: nn.Module) -> torch.Tensor:
        found: torch.Tensor = model.get_submodule("conv_stem")(shown)[..., 1:-1, 1:-1]
        return found.detach().transpose(0, 1).flatten(1)

    found = channels(whitened)
    half = len(found) // 2
    assert torch.allclose(found[:half], -found[half:], atol=1e-4)  # each direction both ways
    moments = found[:half] @ found[:half].T / found.shape[1]
    assert ((moments.diag() > 0.5) & (moments.diag() < 1.5)).all()
    usual = torch.corrcoef(channels(plain)[:half]) - torch.eye(half)
    ours = moments - torch.diag(torch.diag(moments))
    assert ours.abs().mean() < 0.2 * usual.abs().mean()


def test_a_stem_of_more_filters_than_directions_keeps_the_others(images: ImageSet) -> None:
    model = create_model("resnet10t", num_classes=10)
    with torch.no_grad():
        wide = nn.Conv2d(3, 64, 3)
        model.conv1 = wide
    before = wide.weight.detach().clone()
    initialize(model, Recipe(stem_init="whitened"), images, 0)
    assert not torch.equal(wide.weight[:54], before[:54])
    assert torch.equal(wide.weight[54:], before[54:])


def test_a_classifier_may_begin_small(images: ImageSet) -> None:
    inputs = torch.randn(4, 3, 32, 32)
    whole, half, none = (
        network(Recipe(classifier_init=init), images).eval()(inputs) for init in (1.0, 0.5, 0.0)
    )
    assert torch.allclose(half, whole / 2, atol=1e-6)
    assert not none.any()


def test_a_network_that_does_not_begin_with_a_convolution_stays_as_it_is(images: ImageSet) -> None:
    model = nn.Linear(3, 2)
    before = model.weight.detach().clone()
    initialize(model, Recipe(stem_init="whitened"), images, 0)
    assert torch.equal(model.weight, before)


def test_filters_larger_than_the_images_are_refused(images: ImageSet) -> None:
    wide = nn.Conv2d(3, 4, 33)
    with pytest.raises(ConfigError, match="smaller than the first filters, 33×33; set `stem_init"):
        initialize(wide, Recipe(stem_init="whitened"), images, 0)
    with pytest.raises(ConfigError, match="stem_init is 'nothing'; known: default, whitened"):
        Recipe(stem_init="nothing")  # type: ignore[arg-type]
