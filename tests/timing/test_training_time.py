"""How long trainings take, as they go, and how many steps fit into a time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from effnas import Architecture
from effnas.arch.models import build
from effnas.config.recipe import Recipe
from effnas.config.regularization import Ramp
from effnas.config.settings import Execution
from effnas.data.images import ImageSet
from effnas.errors import InfeasibleError
from effnas.timing.training_time import (
    Forecast,
    _between,
    forecast,
    measure_step_times,
    steps_within,
)
from effnas.train.progress import EpochRow, Progress
from effnas.train.stages import stages_of
from effnas.train.training import Training

patient = settings(deadline=None)  # the machine may be busy
STEPS_PER_EPOCH = 20
RECIPE = Recipe(epochs=4, image_size=(16, 32), stages=2)
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


def training(recipe: Recipe, micro_batches: int = 1) -> Training:
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


# -- steps that fit into a time


def step_s(size: int) -> float:
    """Step times that grow with the pixels: 0.1 s at 32 px."""
    return 0.02 + 0.08 * size**2 / 32**2


def by_time(seconds: float, regime: str, **changes: Any) -> Recipe:
    return replace(RECIPE, train_time_s=seconds, regime=regime, stages=4, **changes)


def seconds_of_steps(recipe: Recipe, steps: int) -> float:
    """Seconds of a training of so many steps by a recipe."""
    lasting = recipe.lasting(steps / STEPS_PER_EPOCH)
    stages = stages_of(lasting, steps_per_epoch=STEPS_PER_EPOCH, seed=3, steps=steps)
    assert stages[-1].end == steps
    return sum(stage.steps * step_s(stage.image_size) for stage in stages)


REGIMES = ["fixed", "progressive", "progressive-adaptive", "random-size", "random-size-adaptive"]


@pytest.mark.parametrize("regime", REGIMES)
@patient
@given(st.floats(2, 200))
def test_as_many_steps_as_fit_are_trained_and_no_more(regime: str, seconds: float) -> None:
    recipe = by_time(seconds, regime)
    steps = steps_within(recipe, step_s, steps_per_epoch=STEPS_PER_EPOCH, seed=3)
    assert seconds_of_steps(recipe, steps) <= seconds < seconds_of_steps(recipe, steps + 1)


@pytest.mark.parametrize("regime", REGIMES[:3])
@patient
@given(st.floats(2, 100), st.floats(1, 3))
def test_more_time_is_never_fewer_steps(regime: str, seconds: float, factor: float) -> None:
    few, many = (
        steps_within(by_time(each, regime), step_s, steps_per_epoch=STEPS_PER_EPOCH, seed=3)
        for each in (seconds, factor * seconds)
    )
    assert few <= many


def test_a_slower_network_has_fewer_steps() -> None:
    recipe = by_time(60, "fixed")
    assert steps_within(recipe, step_s, steps_per_epoch=STEPS_PER_EPOCH, seed=3) == 600
    twice = steps_within(
        recipe, lambda size: 2 * step_s(size), steps_per_epoch=STEPS_PER_EPOCH, seed=3
    )
    assert twice == 300


@pytest.mark.parametrize("regime", REGIMES)
def test_a_step_that_takes_longer_than_the_time_is_infeasible_in_one_line(regime: str) -> None:
    recipe = by_time(0.01, regime)
    with pytest.raises(
        InfeasibleError, match=r"a training step takes .* train_time of 0.01 s at least 8"
    ) as e:
        steps_within(recipe, step_s, steps_per_epoch=STEPS_PER_EPOCH, seed=3)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("first_s", "step_s", "fits"), [(60, 1, True), (200, 1, False), (1, 30, False)]
)
def test_a_first_step_may_be_slow_and_others_may_not(
    monkeypatch: pytest.MonkeyPatch, first_s: float, step_s: float, fits: bool
) -> None:
    """Of 100 s, at least 8 steps are to fit in; the clock goes on by what a step is to take."""
    clock, steps = [0.0], iter([first_s])
    monkeypatch.setattr("effnas.timing.training_time.time.perf_counter", lambda: clock[0])
    tried = training(replace(RECIPE, batch_size=8, optimizer="momentum"))
    add = tried.add_gradients

    def slow(*given: Any) -> None:
        clock[0] += next(steps, step_s)
        add(*given)

    monkeypatch.setattr(tried, "add_gradients", slow)
    if fits:
        assert measure_step_times(tried, 100)(16) == step_s
    else:
        with pytest.raises(InfeasibleError, match="a training step takes"):
            measure_step_times(tried, 100)
