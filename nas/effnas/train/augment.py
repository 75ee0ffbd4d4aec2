"""Augmentation of whole batches on the device: random resized crop and mirroring, sampled once.

Images are stored as uint8. The proxy normalizes them before it crops; a training whose image size
changes crops uint8, since further augmentation needs pixel values.
"""

from __future__ import annotations

import math

import torch
from torch.nn.functional import affine_grid, grid_sample, interpolate

#: Height over width of random crops, as in Szegedy et al. 2015.
_ASPECT = (3 / 4, 4 / 3)
#: Bilinear sampling reads 2 x 2 pixels: it skips none where sides shrink by no more than this.
_SHRINK_MAX = 2


def normalize(images: torch.Tensor) -> torch.Tensor:
    """Return uint8 images [N, 3, H, W] as floats in -1..1, as EfficientNet takes them."""
    return images.float().mul_(1 / 127.5).sub_(1.0)


def random_crop_and_flip(
    images: torch.Tensor, *, area_min: float, flip: bool, generator: torch.Generator
) -> torch.Tensor:
    """Crop and mirror as `resized_crop_and_flip` does, but normalized float images of one size.

    They are [N, 3, S, S], and so are the results.
    """
    signs = _signs(len(images), flip, generator)
    if area_min == 1:
        return _mirrored(images, signs)
    return _sampled(images, _parts(signs, area_min, generator), images.shape[-1])


def resized_crop_and_flip(
    images: torch.Tensor,
    *,
    image_size: int,
    area_min: float,
    flip: bool,
    generator: torch.Generator,
) -> torch.Tensor:
    """Cut a random part out of every image, resize it to `image_size`, and mirror half of them.

    Parts are sampled once, bilinearly. Images of more than
    twice `image_size` are first shrunk to that, so that no pixel is skipped; without cropping
    images are only resized. An image's result depends on its pixels, its place in the batch, the
    generator and the size of the batch, but not on other images.

    Args:
        images: uint8 images [N, 3, S, S] on any device.
        image_size: Height and width D of the results in pixels, 2 or more.
        area_min: Smallest area of the part, a share of the image's, above 0; 1 means no cropping.
        flip: Whether to mirror.
        generator: The source of randomness, on the CPU.

    Returns:
        uint8 images [N, 3, D, D].
    """
    signs = _signs(len(images), flip, generator)
    if area_min == 1:
        return _mirrored(resize(images, image_size), signs)
    images = resize(images, min(images.shape[-1], _SHRINK_MAX * image_size))
    parts = _parts(signs, area_min, generator)
    return _sampled(images.float(), parts, image_size).round_().to(torch.uint8)


def resize(images: torch.Tensor, image_size: int) -> torch.Tensor:
    """Resize whole images, bilinearly and with antialiasing.

    Args:
        images: uint8 images [N, 3, S, S] on any device.
        image_size: Height and width D of the results in pixels, 2 or more.

    Returns:
        uint8 images [N, 3, D, D]; the given ones where S equals D. Devices may round differently.
    """
    if images.shape[-1] == image_size:
        return images
    size = (image_size, image_size)
    if images.device.type == "cpu":
        return interpolate(images, size, mode="bilinear", antialias=True)
    resized = interpolate(images.float(), size, mode="bilinear", antialias=True)
    return resized.round_().clamp_(0, 255).to(torch.uint8)


def _signs(count: int, flip: bool, generator: torch.Generator) -> torch.Tensor:
    """Return -1 for images that are mirrored and 1 for others."""
    signs = torch.ones(count)
    if flip:
        signs -= 2.0 * (torch.rand(count, generator=generator) < 0.5)
    return signs


def _mirrored(images: torch.Tensor, signs: torch.Tensor) -> torch.Tensor:
    mirrored = (signs < 0).to(images.device, non_blocking=True)
    return torch.where(mirrored[:, None, None, None], images.flip(-1), images)


def _parts(signs: torch.Tensor, area_min: float, generator: torch.Generator) -> torch.Tensor:
    """Draw a part of every image, as the affine map [N, 2, 3] from the result to the image."""
    count = len(signs)
    area = area_min + (1 - area_min) * torch.rand(count, generator=generator)
    spread = (math.log(_ASPECT[0]), math.log(_ASPECT[1]))
    aspect = torch.exp(spread[0] + (spread[1] - spread[0]) * torch.rand(count, generator=generator))
    aspect = aspect.clamp(min=area, max=1 / area)  # so that neither side is longer than the image
    height, width = (area * aspect).sqrt(), (area / aspect).sqrt()
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0] = signs * width
    theta[:, 1, 1] = height
    theta[:, 0, 2] = (1 - width) * (2 * torch.rand(count, generator=generator) - 1)
    theta[:, 1, 2] = (1 - height) * (2 * torch.rand(count, generator=generator) - 1)
    return theta


def _sampled(images: torch.Tensor, parts: torch.Tensor, image_size: int) -> torch.Tensor:
    """Return the parts of float images, resized to `image_size`."""
    shape = [*images.shape[:2], image_size, image_size]
    grid = affine_grid(parts.to(images.device, non_blocking=True), shape, align_corners=False)
    return grid_sample(
        images, grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )
