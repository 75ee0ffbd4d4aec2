"""Crops of uint8 images: geometry, resampling without aliasing, and what a result depends on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from effnas.train.augment import random_crop_and_flip, resize, resized_crop_and_flip


def noise(count: int, size: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, 3, size, size), generator=generator, dtype=torch.uint8)


def checkerboard(count: int, size: int) -> torch.Tensor:
    """Images of black and white pixels in turn: grey to anyone who steps back."""
    places = torch.arange(size)
    board = 255 * ((places[:, None] + places) % 2)
    return board.to(torch.uint8).expand(count, 3, size, size)


def crop(
    images: torch.Tensor, image_size: int, area_min: float, *, flip: bool = True, seed: int = 0
) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return resized_crop_and_flip(
        images, image_size=image_size, area_min=area_min, flip=flip, generator=generator
    )


@pytest.mark.parametrize(("size", "image_size"), [(12, 20), (40, 12), (9, 2)])
@pytest.mark.parametrize("area_min", [0.08, 1.0])
def test_a_crop_has_the_size_asked_for_and_repeats_itself(
    size: int, image_size: int, area_min: float
) -> None:
    images = noise(30, size)
    before = images.clone()
    global_state = torch.get_rng_state()
    found = crop(images, image_size, area_min)
    assert found.shape == (30, 3, image_size, image_size)
    assert found.dtype == torch.uint8
    assert torch.equal(images, before)
    assert torch.equal(crop(images, image_size, area_min), found)
    assert not torch.equal(crop(images, image_size, area_min, seed=1), found)
    assert torch.equal(torch.get_rng_state(), global_state)


@pytest.mark.parametrize("area_min", [0.2, 1.0])
def test_a_result_does_not_depend_on_other_images(area_min: float) -> None:
    images = noise(20, 24)
    others = images.clone()
    others[1:] = noise(19, 24, seed=1)
    assert torch.equal(crop(images, 16, area_min)[0], crop(others, 16, area_min)[0])


@pytest.mark.parametrize("area_min", [0.05, 1.0])
def test_parts_are_those_of_the_crop_of_floats(area_min: float) -> None:
    images = noise(50, 16)
    floats = random_crop_and_flip(
        images.float(), area_min=area_min, flip=True, generator=torch.Generator().manual_seed(0)
    )
    assert torch.equal(crop(images, 16, area_min), floats.round().to(torch.uint8))


@pytest.mark.parametrize("image_size", [5, 48])
def test_without_cropping_images_are_resized(image_size: int) -> None:
    images = noise(4, 24)
    found = crop(images, image_size, 1.0, flip=False)
    assert torch.equal(found, resize(images, image_size))
    for mine, image in zip(found, images, strict=True):
        picture = Image.fromarray(image.permute(1, 2, 0).numpy())
        # Pillow's filters grow with the factor by which they shrink.
        pillow = picture.resize((image_size, image_size), Image.Resampling.BILINEAR)
        expected = torch.from_numpy(np.array(pillow)).permute(2, 0, 1)
        assert int((mine.int() - expected.int()).abs().max()) <= 1


@pytest.mark.parametrize("area_min", [0.3, 1.0])
@pytest.mark.parametrize("size", [70, 160])
def test_what_is_shrunk_does_not_alias(size: int, area_min: float) -> None:
    # Image sizes of which 2 to 5 pixels of the board fall on one.
    found = crop(checkerboard(20, size), 32, area_min).float()
    inner = found[..., 2:-2, 2:-2]  # the border sees half a board
    assert float((inner - 127.5).abs().mean()) < 20
