"""Forecasts: between the sizes that were timed, and as a training goes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings

from effnas import Architecture
from effnas.arch.models import build
from effnas.config.regularization import Ramp
from effnas.config.settings import Execution
from effnas.config.training_recipe import TrainingRecipe
from effnas.data.images import ImageSet
from effnas.train.progress import EpochRow, Progress
from effnas.train.stages import stages_of
from effnas.train.training import Training
from effnas.workflows.train.forecast import Forecast, _between, forecast

patient = settings(deadline=None)  # the machine may be busy
STEPS_PER_EPOCH = 20
RECIPE = TrainingRecipe(epochs=4, image_size=(16, 32), stages=2)
STAGES = stages_of(RECIPE, steps_per_epoch=STEPS_PER_EPOCH)
EXPECTED = Forecast(
    step_times_s=(1.0, 3.0), stage_times_s=(40.0, 120.0), epoch_evaluation_s=2.0, epochs=4
)


def progress(steps: tuple[int, int], times_s: tuple[float, float]) -> Progress:
    """A training after some steps of each stage, in some seconds."""
    rows = [
        EpochRow(
            epoch=n + 1, step=(n + 1) * STEPS_PER_EPOCH, stage=1, image_size=16, dropout=0,
            randaugment=0, mixup=0, cutmix=0, drop_path=0, learning_rate=0.1, train_loss=1.0,
            accuracy=None, train_time_s=1.0,
        )
        for n in range(sum(steps) // STEPS_PER_EPOCH)
    ]  # fmt: skip
    return Progress(step=sum(steps), rows=rows, stage_times_s=list(times_s))


# -- the time that is left


def test_a_forecast_is_all_steps_and_all_measurements() -> None:
    assert EXPECTED.train_time_s == 160
    assert EXPECTED.total_s == 168
    assert EXPECTED.remaining_s(progress((0, 0), (0, 0)), STAGES) == 168


@pytest.mark.parametrize(
    ("steps", "times_s", "left_s"),
    [
        ((9, 0), (90.0, 0), 31 + 120 + 4 * 2),  # a few steps say nothing yet
        ((10, 0), (20.0, 0), 60 + 240 + 4 * 2),  # all take twice as long
        ((40, 5), (80.0, 30.0), 35 * 3 * 2 + 2 * 2),  # the stage has too few steps of its own
        ((40, 10), (40.0, 60.0), 30 * 6 + 2 * 2),
        ((40, 40), (40.0, 110.0), 0),
    ],
)
def test_what_is_left_follows_the_steps_so_far(
    steps: tuple[int, int], times_s: tuple[float, float], left_s: float
) -> None:
    assert EXPECTED.remaining_s(progress(steps, times_s), STAGES) == pytest.approx(left_s)


# -- step times


def test_step_times_between_two_sizes_grow_with_the_pixels() -> None:
    timed = {128: 1.0, 256: 4.0, 512: 10.0}
    assert [_between(timed, size) for size in timed] == pytest.approx([1, 4, 10])
    assert _between(timed, 192) == pytest.approx(1 + 3 * (192**2 - 128**2) / (256**2 - 128**2))
    middle = round(((256**2 + 512**2) / 2) ** 0.5)
    assert _between(timed, middle) == pytest.approx(7, rel=0.01)
    assert _between({64: 2.0}, 64) == 2


def images(count: int) -> ImageSet:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)
    return ImageSet(images=pixels, labels=np.arange(count) % 3, classes=("a", "b", "c"))


def training(recipe: TrainingRecipe, micro_batches: int = 1) -> Training:
    arch = Architecture.parse("fused_r1_k3_s2_e1_c8", stem=8, head=8)
    stages = stages_of(recipe, steps_per_epoch=40 // recipe.batch_size)
    with torch.random.fork_rng([]):
        model = build(arch, num_classes=3)
    return Training(
        model,
        images(40),
        None,
        recipe,
        stages,
        (micro_batches,) * len(stages),
        execution=Execution(),
        device=torch.device("cpu"),
        flip=False,
        seed=0,
    )


def forecast_of(
    minival: ImageSet | None = None, micro_batches: int = 1, **changes: Any
) -> Forecast:
    recipe = replace(RECIPE, batch_size=8, optimizer="momentum", mixup=Ramp(0, 0.2), **changes)
    return forecast(lambda: training(recipe, micro_batches), minival)


def test_a_forecast_of_real_steps_adds_up() -> None:
    state = torch.get_rng_state()
    found = forecast_of(images(30), micro_batches=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert found.epochs == 4
    assert len(found.step_times_s) == 2
    assert min(found.step_times_s) > 0
    assert found.epoch_evaluation_s > 0
    assert found.stage_times_s == pytest.approx([10 * each for each in found.step_times_s])


def test_of_many_sizes_some_are_timed_and_the_others_lie_between() -> None:
    found = forecast_of(stages=8, epochs=8)
    stages = stages_of(replace(RECIPE, stages=8, epochs=8), steps_per_epoch=5)
    pixels = [stage.image_size**2 for stage in stages]
    # The first, the last, and two between: places 0, 2, 5 and 7 of 0 to 7.
    timed = {stages[n].image_size: found.step_times_s[n] for n in (0, 2, 5, 7)}
    expected = np.interp(pixels, [size**2 for size in timed], list(timed.values()))
    assert found.step_times_s == pytest.approx(expected.tolist())
