"""RandAugment (Cubuk et al. 2019) of whole batches on their device, with magnitudes past 10.

The images of a batch are sorted by their operation, so that each operation works in place on
adjacent images, and operations of one family share their steps.
"""

from __future__ import annotations

import math

import torch
from torch.nn.functional import affine_grid, grid_sample

#: Operations by family; the functions of the families know the order.
_VALUES = ("AutoContrast", "Equalize", "Invert", "Posterize", "Solarize", "SolarizeAdd")
_ENHANCEMENTS = ("Color", "Contrast", "Brightness", "Sharpness")
_WARPS = ("Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY")

#: The operations of EfficientNet's RandAugment.
OPERATIONS = (*_VALUES, *_ENHANCEMENTS, *_WARPS, "Cutout")

#: What fills places without a pixel of the image.
_GREY = 128

# Parameters at magnitude 10. Lengths are shares of the side; TensorFlow's are pixels at 224.
_POSTERIZE_BITS = 4.0
_SOLARIZE_ADD = 110.0
_ENHANCE = 0.9
_ROTATE = math.radians(30)
_SHEAR = 0.3
_TRANSLATE = 0.45
_CUTOUT_SIDE = 0.36

#: An enhancement leaves some of the image, and a translation does not push it out.
_ENHANCE_MIN = 0.1
_TRANSLATE_MAX = 0.9


def rand_augment(
    images: torch.Tensor, magnitude: float, generator: torch.Generator, *, layers: int = 2
) -> torch.Tensor:
    """Apply to every image operations that are drawn uniformly, with replacement.

    An image's result depends on its pixels, the magnitude, and its own row of what is drawn; the
    pixels of other images do not matter.

    Args:
        images: uint8 images [N, 3, H, W] on any device; H and W are 3 or more.
        magnitude: Strength, 0 or more; see `apply_operations`.
        generator: The source of randomness, on the CPU.
        layers: Operations for each image.

    Returns:
        uint8 images [N, 3, H, W].
    """
    chance = torch.rand(len(images), layers, 4, generator=generator)
    operations = (chance[..., 0] * len(OPERATIONS)).long()
    for layer in range(layers):
        images = apply_operations(images, operations[:, layer], chance[:, layer, 1:], magnitude)
    return images


def apply_operations(
    images: torch.Tensor, operations: torch.Tensor, chance: torch.Tensor, magnitude: float
) -> torch.Tensor:
    """Apply one operation to every image.

    Parameters are proportional to the magnitude, also above 10, up to a limit.
    Every operation that has a strength does nothing at 0 and grows. This is where we differ from
    TensorFlow's RandAugment, whose Posterize and Solarize are strongest at 0 and whose enhancements
    go from weakening through nothing to strengthening. At magnitude 10, with the limit in brackets:

    * Posterize leaves 4 of 8 bits, to the nearest whole one (1 is left).
    * Solarize inverts all 256 values; at less, only the highest (256).
    * SolarizeAdd adds 110 to values below 128 (255; sums stop at 255).
    * Color, Contrast, Brightness and Sharpness have the factor 1 ± 0.9 (0.1 or more).
    * Rotate turns by ± 30 degrees about the centre.
    * ShearX and ShearY shear by ± 0.3 about the centre.
    * TranslateX and TranslateY shift by ± 0.45 of the side (0.9).
    * Cutout fills a square with grey: its side is 0.36 of the image's shorter one (1), and its
      centre is anywhere, so that the border may clip it.

    AutoContrast, Equalize and Invert have no strength. Rotate, Shear and Translate take the nearest
    pixel; what comes from outside of the image is grey.

    Args:
        images: uint8 images [N, 3, H, W] on any device; H and W are 3 or more.
        operations: Places in `OPERATIONS`, int64 [N] on the CPU.
        chance: Uniform numbers in 0..1, float32 [N, 3] on the CPU: the sign, and the centre of
            Cutout's square as shares of height and width.
        magnitude: Strength, 0 or more.

    Returns:
        uint8 images [N, 3, H, W].
    """
    order = operations.argsort(stable=True)
    counts = torch.bincount(operations, minlength=len(OPERATIONS)).tolist()
    result = images.index_select(0, order.to(images.device, non_blocking=True))
    start = 0
    for family, change in _FAMILIES:
        sizes = [counts[OPERATIONS.index(name)] for name in family]
        stop = start + sum(sizes)
        if stop > start:
            change(result[start:stop], sizes, chance[order[start:stop]], magnitude / 10)
        start = stop
    return result.index_select(0, order.argsort().to(images.device, non_blocking=True))


# Each function below changes images that are sorted by operation, `sizes` of each, in place.


def _change_values(
    images: torch.Tensor, sizes: list[int], chance: torch.Tensor, strength: float
) -> None:
    """Change every value by itself, or by its image's histogram."""
    from torchvision.transforms.v2.functional import autocontrast, equalize

    stretched, equalized, inverted, posterized, solarized, added = torch.split(images, sizes)
    stretched.copy_(autocontrast(stretched))
    equalized.copy_(equalize(equalized))
    inverted.bitwise_not_()
    bits = max(1, round(8 - _POSTERIZE_BITS * strength))
    posterized.bitwise_and_(256 - 2 ** (8 - bits))
    # In bytes throughout, which is several times faster than `where`; ~x is 255 - x.
    if values := min(256, round(256 * strength)):
        high = solarized.bitwise_not() <= values - 1
        solarized.bitwise_xor_(high.to(torch.uint8).neg_())
    addition = added.bitwise_not().clamp_(max=min(255, round(_SOLARIZE_ADD * strength)))
    added.add_(addition.mul_(added < 128))


def _enhance(images: torch.Tensor, sizes: list[int], chance: torch.Tensor, strength: float) -> None:
    """Blend images with, or away from, what lacks their color, contrast, light or sharpness."""
    pixels = images.float()
    lacking = torch.zeros_like(pixels)
    colorless, flat, _, blurred = torch.split(lacking, sizes)
    colorless.copy_(_grey_values(pixels[: sizes[0]]))
    grey = _grey_values(pixels[sizes[0] : sizes[0] + sizes[1]])
    flat.copy_(grey.mean((1, 2, 3), keepdim=True).round_())
    sharp = pixels[sum(sizes[:3]) :]
    blurred.copy_(sharp)
    # Pillow's SMOOTH: every pixel counts once but the middle one, which counts 5 times.
    three = sharp[..., :-2, :] + sharp[..., 1:-1, :] + sharp[..., 2:, :]
    nine = three[..., :-2] + three[..., 1:-1] + three[..., 2:]
    inner = (..., slice(1, -1), slice(1, -1))
    blurred[inner] = nine.add_(sharp[inner], alpha=4).div_(13).round_()
    weaker, stronger = max(_ENHANCE_MIN, 1 - _ENHANCE * strength), 1 + _ENHANCE * strength
    factors = torch.where(_positive(chance), stronger, weaker)
    factors = factors[:, None, None, None].to(images.device, non_blocking=True)
    images.copy_(lacking.lerp_(pixels, factors).round_().clamp_(0, 255))


def _warp(images: torch.Tensor, sizes: list[int], chance: torch.Tensor, strength: float) -> None:
    """Move pixels by affine maps about the centre."""
    height, width = images.shape[-2:]
    maps = torch.tensor([_maps(sign * strength, height / width) for sign in (-1, 1)])
    places = torch.arange(len(_WARPS)).repeat_interleave(torch.tensor(sizes))
    theta = maps[_positive(chance).long(), places].view(-1, 2, 3)
    theta = theta.to(images.device, non_blocking=True)
    grid = affine_grid(theta, list(images.shape), align_corners=False)
    pixels = images.float().sub_(_GREY)  # zeros, which come from outside, become grey
    moved = grid_sample(pixels, grid, mode="nearest", padding_mode="zeros", align_corners=False)
    images.copy_(moved.add_(_GREY))


def _maps(amount: float, aspect: float) -> list[tuple[float, ...]]:
    """Return the map of each of `_WARPS` by rows, from places in the result to those in the image.

    Places are in -1..1 along either side; `aspect` is height over width.
    """
    cos, sin = math.cos(_ROTATE * amount), math.sin(_ROTATE * amount)
    shear = _SHEAR * amount
    shift = 2 * max(-_TRANSLATE_MAX, min(_TRANSLATE_MAX, _TRANSLATE * amount))
    return [
        (cos, -sin * aspect, 0, sin / aspect, cos, 0),
        (1, shear * aspect, 0, 0, 1, 0),
        (1, 0, 0, shear / aspect, 1, 0),
        (1, 0, shift, 0, 1, 0),
        (1, 0, 0, 0, 1, shift),
    ]


def _cut_out(images: torch.Tensor, sizes: list[int], chance: torch.Tensor, strength: float) -> None:
    """Fill squares with grey; the border clips them."""
    height, width = images.shape[-2:]
    half = min(1.0, _CUTOUT_SIDE * strength) * min(height, width) / 2
    rows = (torch.arange(height) + 0.5 - chance[:, 1:2] * height).abs() < half
    columns = (torch.arange(width) + 0.5 - chance[:, 2:3] * width).abs() < half
    rows = rows[:, None, :, None].to(images.device, non_blocking=True)
    columns = columns[:, None, None, :].to(images.device, non_blocking=True)
    images.masked_fill_(rows & columns, _GREY)


_FAMILIES = (
    (_VALUES, _change_values),
    (_ENHANCEMENTS, _enhance),
    (_WARPS, _warp),
    (("Cutout",), _cut_out),
)


def _positive(chance: torch.Tensor) -> torch.Tensor:
    """Return whether an operation that has a sign gets the positive one, bool [N]."""
    return chance[:, 0] >= 0.5


def _grey_values(pixels: torch.Tensor) -> torch.Tensor:
    """Return the luma [N, 1, H, W] of float images, as Pillow has it."""
    red, green, blue = pixels.unbind(1)
    luma = (red * 0.299).add_(green, alpha=0.587).add_(blue, alpha=0.114)
    return luma.round_().unsqueeze(1)


def cutout(images: torch.Tensor, side: float, generator: torch.Generator) -> torch.Tensor:
    """Fill a square of every image with grey (DeVries & Taylor 2017).

    Args:
        images: uint8 images [N, 3, H, W] on any device.
        side: Of the square, a share of the image's shorter side, 0 to 1; the border may clip it.
        generator: The source of randomness, on the CPU.

    Returns:
        uint8 images [N, 3, H, W].
    """
    operations = torch.full((len(images),), OPERATIONS.index("Cutout"))
    chance = torch.rand(len(images), 3, generator=generator)
    return apply_operations(images, operations, chance, 10 * side / _CUTOUT_SIDE)
