"""RandAugment: operations do what Pillow's do, and grow from nothing with the magnitude."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch.nn.functional import interpolate

from effnas.train.randaugment import OPERATIONS, apply_operations, rand_augment

UNGRADED = {"AutoContrast", "Equalize", "Invert"}
GRADED = [name for name in OPERATIONS if name not in UNGRADED]


def pictures(
    count: int, height: int = 32, width: int = 32, *, seed: int = 0, patches: int = 5
) -> torch.Tensor:
    """Smooth coloured patches with some noise, in part of the range of values."""
    generator = torch.Generator().manual_seed(seed)
    colours = torch.rand(count, 3, patches, patches, generator=generator) * 200 + 20
    smooth = interpolate(colours, (height, width), mode="bicubic")
    noise = torch.randn(count, 3, height, width, generator=generator) * 4
    return (smooth + noise).clamp(10, 240).to(torch.uint8)


def apply(
    name: str,
    images: torch.Tensor,
    magnitude: float,
    *,
    sign: int = 1,
    centre: tuple[float, float] = (0.5, 0.5),
) -> torch.Tensor:
    operations = torch.full((len(images),), OPERATIONS.index(name))
    chance = torch.tensor([0.75 if sign > 0 else 0.25, *centre]).expand(len(images), 3)
    return apply_operations(images, operations, chance, magnitude)


def augment(
    images: torch.Tensor, magnitude: float, *, seed: int = 0, layers: int = 2
) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return rand_augment(images, magnitude, generator, layers=layers)


def distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a.int() - b.int()).abs()


# -- batches


@pytest.mark.parametrize("magnitude", [0.0, 8.33, 1000])
@pytest.mark.parametrize("shape", [(24, 40), (3, 5)])
def test_shape_and_type_stay_and_the_generator_decides(
    magnitude: float, shape: tuple[int, int]
) -> None:
    images = pictures(100, *shape)
    before = images.clone()
    global_state = torch.get_rng_state()
    found = augment(images, magnitude)
    assert found.shape == images.shape
    assert found.dtype == torch.uint8
    assert torch.equal(images, before)
    assert torch.equal(augment(images, magnitude), found)
    assert not torch.equal(augment(images, magnitude, seed=1), found)
    assert torch.equal(torch.get_rng_state(), global_state)


def test_a_result_does_not_depend_on_the_pixels_of_other_images() -> None:
    images, others = pictures(64), pictures(64, seed=1)
    for kept in (0, 17, 63):
        mixed = others.clone()
        mixed[kept] = images[kept]
        assert torch.equal(augment(mixed, 12)[kept], augment(images, 12)[kept])


def test_operations_are_drawn_uniformly() -> None:
    images = pictures(1, 16, 16).expand(3200, 3, 16, 16)
    found = augment(images, 5, layers=1)
    for name in UNGRADED:
        drawn = int((found == apply(name, images[:1], 5)).flatten(1).all(1).sum())
        assert abs(drawn - 200) < 5 * (200 * 15 / 16) ** 0.5
    # Two layers: a second operation follows on every image.
    twice = augment(images, 5, layers=2)
    inverted = int((twice == apply("Invert", images[:1], 5)).flatten(1).all(1).sum())
    assert inverted < 100


# -- strength


@pytest.mark.parametrize("name", GRADED)
def test_magnitude_0_does_nothing(name: str) -> None:
    images = pictures(8, 24, 40)
    for sign in (-1, 1):
        assert torch.equal(apply(name, images, 0, sign=sign), images)


@pytest.mark.slow
@pytest.mark.parametrize("name", GRADED)
def test_strength_grows_with_the_magnitude(name: str) -> None:
    # Large patches: of small ones, all that are moved away are equally unlike.
    images = pictures(60, patches=2)

    def strength(magnitude: float) -> float:
        found = [apply(name, images, magnitude, sign=sign) for sign in (-1, 1)]
        return sum(float(distance(one, images).float().mean()) for one in found) / 2

    strengths = [strength(magnitude) for magnitude in (1, 2.5, 5, 7.5, 10, 12.5, 15, 20, 25)]
    # Of an image that is pushed out little but grey is left, which is less unlike than its pixels.
    least = 0.9 if name.startswith("Translate") else 1
    assert all(after >= least * before for before, after in pairwise(strengths))
    assert strengths[0] < strengths[2] < strengths[4]
    assert strengths[4] > 0.5


def test_parameters_end_where_they_would_lose_their_meaning() -> None:
    images = pictures(8)
    assert torch.equal(apply("Posterize", images, 100), images & 128)
    assert torch.equal(apply("Solarize", images, 100), ~images)
    assert bool((apply("Cutout", images, 100) == 128).all())
    assert torch.equal(apply("Color", images, 100, sign=-1), apply("Color", images, 10, sign=-1))
    for name in ("TranslateX", "TranslateY"):
        assert not bool((apply(name, images, 100) == 128).flatten(1).all(1).any())


# -- operations


def affine(*rows: float) -> Callable[[Image.Image], Image.Image]:
    """Move pixels by a map about the centre, from places in the result to those in the image."""

    def moved(picture: Image.Image) -> Image.Image:
        x, y = picture.width / 2, picture.height / 2
        a, b, c, d, e, f = rows
        shifted = (a, b, x - a * x - b * y + c, d, e, y - d * x - e * y + f)
        grey = (128, 128, 128)
        return picture.transform(
            picture.size, Image.Transform.AFFINE, shifted, Image.Resampling.NEAREST, fillcolor=grey
        )

    return moved


def solarize_add(picture: Image.Image) -> Image.Image:
    return picture.point(
        [min(255, value + 55) if value < 128 else value for value in range(256)] * 3
    )


# What Pillow does for magnitude 5 and the positive sign, and by how much values may differ: Pillow
# cuts off the decimals of enhancements, and has its own stretching.
PILLOW: dict[str, tuple[Callable[[Image.Image], Image.Image], int]] = {
    "AutoContrast": (ImageOps.autocontrast, 1),
    "Equalize": (ImageOps.equalize, 0),
    "Invert": (ImageOps.invert, 0),
    "Posterize": (lambda picture: ImageOps.posterize(picture, 6), 0),
    "Solarize": (lambda picture: ImageOps.solarize(picture, 128), 0),
    "SolarizeAdd": (solarize_add, 0),
    "Color": (lambda picture: ImageEnhance.Color(picture).enhance(1.45), 1),
    "Contrast": (lambda picture: ImageEnhance.Contrast(picture).enhance(1.45), 1),
    "Brightness": (lambda picture: ImageEnhance.Brightness(picture).enhance(1.45), 1),
    "Sharpness": (lambda picture: ImageEnhance.Sharpness(picture).enhance(1.45), 1),
    "Rotate": (lambda picture: picture.rotate(15, fillcolor=(128, 128, 128)), 0),
    "ShearX": (affine(1, 0.15, 0, 0, 1, 0), 0),
    "ShearY": (affine(1, 0, 0, 0.15, 1, 0), 0),
    "TranslateX": (affine(1, 0, 9, 0, 1, 0), 0),
    "TranslateY": (affine(1, 0, 0, 0, 1, 9), 0),
}


@pytest.mark.parametrize("name", PILLOW)
def test_operations_agree_with_pillow(name: str) -> None:
    operation, tolerance = PILLOW[name]
    images = pictures(12, 40, 40)
    found = apply(name, images, 5)
    for mine, image in zip(found, images, strict=True):
        pillow = operation(Image.fromarray(image.permute(1, 2, 0).numpy()))
        expected = torch.from_numpy(np.array(pillow)).permute(2, 0, 1)
        alike = (distance(mine, expected) <= tolerance).float().mean()
        assert float(alike) > (0.99 if name in ("Rotate", "ShearX", "ShearY") else 0.9999)


def test_shapes_stay_upright_in_images_that_are_not_square() -> None:
    images = torch.zeros(1, 3, 30, 60, dtype=torch.uint8)
    images[..., 15, :] = 255  # a horizontal line, which a quarter turn makes vertical
    turned = apply("Rotate", images, 30)
    assert float((turned[0, 0] == 255).sum()) >= 29
    assert int((turned[0, 0] == 255).any(0).sum()) <= 2


def test_cutout_fills_a_square_that_the_border_clips() -> None:
    images = torch.zeros(1, 3, 50, 100, dtype=torch.uint8)

    def filled(centre: tuple[float, float]) -> torch.Tensor:
        cut = apply("Cutout", images, 10, centre=centre)[0]
        assert set(cut.unique().tolist()) == {0, 128}
        return torch.nonzero(cut[0])

    middle = filled((0.5, 0.5))
    assert middle.amin(0).tolist() == [16, 41]
    assert middle.amax(0).tolist() == [33, 58]
    assert len(middle) == 18 * 18
    assert len(filled((0.0, 0.0))) == 9 * 9
    assert filled((1.0, 0.5)).amax(0).tolist() == [49, 58]
