"""A batch is split into micro-batches that fit, and one that cannot be is refused."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from math import ceil
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from effnas.config.recipe import Recipe
from effnas.errors import ConfigError
from effnas.timing.memory import estimate_peak_memory
from effnas.train.stages import stages_of
from effnas.workflows.train.fitting import MIN_IMAGES, _fewest, _limited, fit_micro_batches

patient = settings(deadline=None)  # the machine may be busy
MODEL = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                      nn.Linear(4, 5))  # fmt: skip
RECIPE = Recipe(optimizer="momentum", image_size=(16, 32), regime="progressive", stages=2, epochs=4)
MB = 10**6


@cache
def needed(images: int, size: int = 32, model: nn.Module = MODEL) -> int:
    return estimate_peak_memory(model, RECIPE, image_size=size, batch_size=images)


def room_for(images: int, size: int = 32, model: nn.Module = MODEL) -> int:
    """The memory of a device in which this number of images fits, and no more."""
    return ceil(needed(images, size, model) / 0.8)


def fit(
    available_bytes: int,
    *,
    batch_size: int = 64,
    processes: int = 1,
    recipe: Recipe = RECIPE,
    model: nn.Module = MODEL,
    **options: Any,
) -> tuple[int, ...]:
    return fit_micro_batches(
        model,
        recipe,
        stages_of(recipe, steps_per_epoch=10),
        batch_size=batch_size,
        processes=processes,
        available_bytes=available_bytes,
        **options,
    )


def test_a_batch_that_fits_is_taken_at_once() -> None:
    assert fit(room_for(64)) == (1, 1)


@pytest.mark.slow
def test_larger_images_are_split_into_more_micro_batches() -> None:
    assert fit(room_for(64) - 2) == (1, 2)
    assert fit(room_for(16)) == (1, 4)
    assert fit(room_for(8)) == (2, 8)


@patient
@given(st.integers(1, 300), st.integers(1, 8), st.integers(0, 300), st.none() | st.integers(1, 300))
def test_all_micro_batches_fit_and_none_is_empty(
    batch_size: int, processes: int, fitting: int, asked: int | None
) -> None:
    assume(batch_size // processes >= min(MIN_IMAGES, batch_size))
    limit = 32 * 32 * fitting
    settled = (32, batch_size, processes)

    def takes(size: int, images: int) -> int:
        return size * size * images

    try:
        count = (
            _limited(*settled, asked, limit, takes) if asked else _fewest(*settled, limit, takes)
        )
    except ConfigError as error:
        message = str(error)
    else:
        images = ceil(batch_size / count)
        assert count % processes == 0
        assert count <= batch_size
        assert images <= fitting
        if asked:
            assert images <= asked
        else:
            assert batch_size // count >= min(MIN_IMAGES, batch_size)
        return
    told = re.search(r"(\d+) images? at 32 px", message)
    assert int(told[1]) > fitting if told else "cannot be split" in message


def test_the_average_of_weights_takes_its_memory() -> None:
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 10_000))
    weights = sum(t.nbytes for t in model.state_dict().values())
    averaged = replace(RECIPE, ema_decay=0.9)
    alone = room_for(64, model=model)
    assert fit(alone, model=model) == (1, 1)
    assert fit(alone, model=model, recipe=averaged) > (1, 1)
    assert fit(alone + ceil(weights / 0.8), model=model, recipe=averaged) == (1, 1)


def test_many_sizes_are_split_as_the_largest() -> None:
    recipe = replace(RECIPE, stages=12, epochs=12)
    assert fit(room_for(16), recipe=recipe) == (4,) * 12


# -- the most images that are asked for


@pytest.mark.slow
def test_too_many_images_for_a_device_are_refused_with_the_most_that_fit() -> None:
    with pytest.raises(ConfigError) as raised:
        fit(room_for(21), device_batch_size=40, batch_size=80)
    message = str(raised.value)
    assert message.startswith("`device_batch_size` 40: 40 images at 32 px take ")
    assert message.endswith("; the most that fit are 21")
    with pytest.raises(ConfigError, match=r"; not even one fits$"):
        fit(1000, device_batch_size=40)


def test_single_images_that_cannot_be_split_are_refused() -> None:
    assert fit(room_for(64), batch_size=15, processes=3, device_batch_size=1) == (15, 15)
    with pytest.raises(ConfigError, match=r"_size` 1: a batch of 16 cannot be split .* 3 workers"):
        fit(room_for(64), batch_size=16, processes=3, device_batch_size=1)


# -- what does not fit


@pytest.mark.parametrize(("batch_size", "least"), [(64, 4), (9, 5)])
def test_a_batch_whose_smallest_micro_batch_does_not_fit_is_refused(
    batch_size: int, least: int
) -> None:
    assert max(fit(room_for(least), batch_size=batch_size)) == max(1, batch_size // 4)
    room = room_for(least) - 2
    with pytest.raises(ConfigError) as raised:
        fit(room, batch_size=batch_size)
    assert str(raised.value).startswith(
        f"the batch does not fit: even {least} images at 32 px take "
    )
    assert "lower `image_size`, take a smaller network, or free some memory" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_batch_that_is_too_small_for_its_workers_is_refused() -> None:
    assert fit(MB * 100, batch_size=16, processes=4) == (4, 4)
    with pytest.raises(ConfigError, match="a batch of 15 gives each of 4 workers fewer than 4 ima"):
        fit(MB * 100, batch_size=15, processes=4)
    assert fit(MB * 100, batch_size=1) == (1, 1)


def test_a_network_that_cannot_be_trained_at_a_size_is_named_with_the_size() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 20), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(ConfigError, match=r"^at 16 px, the network cannot be trained: ") as raised:
        fit(room_for(8, model=model), model=model)
    assert "\n" not in str(raised.value)


class OneSize(nn.Module):
    """Takes images of 32 px alone, as models of timm's may."""

    def __init__(self) -> None:
        super().__init__()
        self.rest = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 5))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert images.shape[-1] == 32, f"input height {images.shape[-1]} is not 32"
        return self.rest(images)  # type: ignore[no-any-return]


HALVES = nn.Sequential(nn.Conv2d(3, 4, 3, 16, 1), nn.BatchNorm2d(4), *MODEL[2:])


@pytest.mark.parametrize(
    ("model", "batch_size", "said"),
    [(OneSize(), 8, "input height 16 is not 32"), (HALVES, 1, "Expected more than 1 value")],
)
def test_what_cannot_be_trained_at_every_size_is_said_before_the_first_step(
    model: nn.Module, batch_size: int, said: str
) -> None:
    with pytest.raises(ConfigError, match=f"^at 16 px, the network cannot be trained: {said}"):
        fit(10 * MB, model=model, batch_size=batch_size)
