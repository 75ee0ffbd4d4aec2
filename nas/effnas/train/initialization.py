"""Initial weights that make short trainings quicker than timm's: choices of a recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn.functional import unfold

from effnas.errors import ConfigError
from effnas.train.augment import normalize
from effnas.train.network import classifier_tensors

if TYPE_CHECKING:
    from effnas.config.recipe import Recipe
    from effnas.data.images import TrainSet

#: Images that patches are cut from at most, and patches of a row and a column of each.
_IMAGES, _PATCHES = 500, 8
#: Added to the variance along a direction, as of the speed record for CIFAR-10.
_WHITENING_EPS = 5e-4


@torch.no_grad()
def initialize(model: nn.Module, recipe: Recipe, images: TrainSet, seed: int) -> None:
    """Change the weights of a network that has not been trained, as its recipe says.

    Args:
        model: On the CPU; float images [N, 3, H, W] in, logits out.
        recipe: Its `stem_init` and `classifier_init`.
        images: That it will be trained on.
        seed: Of the choice of images.

    Raises:
        ConfigError: If the images are smaller than the filters of the first convolution.
    """
    if recipe.stem_init == "whitened" and (stem := _stem(model)) is not None:
        _whiten(stem, images, seed)
    if recipe.classifier_init != 1:
        weights = dict(model.named_parameters())
        for name in classifier_tensors(model):
            weights[name].mul_(recipe.classifier_init)


def _stem(model: nn.Module) -> nn.Conv2d | None:
    """Return the first convolution, if it is one of images."""
    first = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    return first if first is not None and first.in_channels == 3 and first.groups == 1 else None


def _whiten(stem: nn.Conv2d, images: TrainSet, seed: int) -> None:
    """Let the first filters be the directions in which patches of images vary most, both ways.

    Each is divided by the standard deviation along it, so that the filters' outputs have the same
    scale and do not correlate. Of more filters than directions, the others stay as they are.
    """
    rng = np.random.default_rng((seed, 0))
    chosen = np.sort(rng.permutation(len(images))[:_IMAGES])
    (pixels,) = images.batches([chosen])
    shown = normalize(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    kernel = (stem.kernel_size[0], stem.kernel_size[1])
    size = shown.shape[-1]
    if size < max(kernel):
        raise ConfigError(
            f"recipe: stem_init is whitened, and images of {size} px are smaller than the first "
            f"filters, {kernel[0]}×{kernel[1]}; set `stem_init: default`"
        )
    stride = max(1, (size - max(kernel)) // _PATCHES)
    patches = unfold(shown, kernel, stride=stride).transpose(1, 2).flatten(0, 1)  # [P, 3*k*k]
    variances, directions = torch.linalg.eigh(patches.T @ patches / len(patches))
    filters = (directions / (variances.clamp_min(0) + _WHITENING_EPS).sqrt()).T.flip(0)
    count = min((stem.out_channels + 1) // 2, len(filters))
    both = torch.cat([filters[:count], -filters[:count]])[: stem.out_channels]
    stem.weight[: len(both)] = both.view(-1, *stem.weight.shape[1:])
