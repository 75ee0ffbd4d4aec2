"""Augmentation of whole batches on the device: random resized crop and mirroring in one resampling.

Images are kept as uint8 and become normalised floats here.
"""

from __future__ import annotations

import math

import torch
from torch.nn.functional import affine_grid, grid_sample

#: Height over width of random crops, as in Szegedy et al. 2015.
_ASPECT = (3 / 4, 4 / 3)


def normalize(images: torch.Tensor) -> torch.Tensor:
    """Return uint8 images [N, 3, H, W] as floats in -1..1, as EfficientNet takes them."""
    return images.float().mul_(1 / 127.5).sub_(1.0)


def random_crop_and_flip(
    images: torch.Tensor,
    *,
    area_min: float,
    flip: bool,
    generator: torch.Generator,
) -> torch.Tensor:
    """Cut a random part out of every image, resize it to the whole, and mirror half of them.

    Args:
        images: Normalised float images [N, 3, H, W]; H equals W.
        area_min: Smallest area of the part, a share of the image's, above 0; 1 means no cropping.
        flip: Whether to mirror.
        generator: The source of randomness, on the CPU.

    Returns:
        Images of the same shape.
    """
    count = images.shape[0]
    sign = torch.ones(count)
    if flip:
        sign -= 2.0 * (torch.rand(count, generator=generator) < 0.5)
    if area_min == 1:
        mirrored = (sign < 0).to(images.device)
        return torch.where(mirrored[:, None, None, None], images.flip(-1), images)
    area = area_min + (1 - area_min) * torch.rand(count, generator=generator)
    spread = (math.log(_ASPECT[0]), math.log(_ASPECT[1]))
    aspect = torch.exp(spread[0] + (spread[1] - spread[0]) * torch.rand(count, generator=generator))
    aspect = aspect.clamp(min=area, max=1 / area)  # so that neither side is longer than the image
    height, width = (area * aspect).sqrt(), (area / aspect).sqrt()
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0] = sign * width
    theta[:, 1, 1] = height
    theta[:, 0, 2] = (1 - width) * (2 * torch.rand(count, generator=generator) - 1)
    theta[:, 1, 2] = (1 - height) * (2 * torch.rand(count, generator=generator) - 1)
    grid = affine_grid(theta.to(images.device), list(images.shape), align_corners=False)
    return grid_sample(
        images, grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )
