"""How long a training takes by its step times at its image sizes, and what fits into a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch

from effnas.errors import ConfigError, InfeasibleError
from effnas.train.stages import Stage, stages_of
from effnas.train.step import synchronize

if TYPE_CHECKING:
    from effnas.config.recipe import Recipe
    from effnas.data.images import TrainSet
    from effnas.train.progress import Progress
    from effnas.train.training import Training

#: The most image sizes that step times are measured at; others are interpolated.
_MAX_SIZES = 4
#: Timings of a size at least, and seconds after which no further one is started.
_TIMINGS, _LONG_ENOUGH_S = 3, 5.0
#: Seconds for which quick steps of a size are timed at least.
_ENOUGH_S = 1.0
#: Steps of a stage from which on their mean time replaces its forecast.
_ENOUGH_STEPS = 10
#: The fewest steps of a training by time: with fewer, not even the stages show.
MIN_STEPS = 8
#: A single step may take this many times as long as would fit before the network is given up; the
#: first one, which warms up, all of the training time.
_MOST_SLOWER = 2.0
#: No training has as many steps.
_MOST_STEPS = 1 << 40


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """How long a training is expected to take.

    Attributes:
        step_times_s: Seconds of a step in each stage.
        stage_times_s: Seconds of all steps of each stage.
        epoch_evaluation_s: Seconds of measuring accuracy after an epoch.
        epochs: Of the training.
    """

    step_times_s: tuple[float, ...]
    stage_times_s: tuple[float, ...]
    epoch_evaluation_s: float
    epochs: int

    @property
    def train_time_s(self) -> float:
        """Seconds of all steps."""
        return sum(self.stage_times_s)

    @property
    def total_s(self) -> float:
        """Seconds of all steps and measurements of accuracy."""
        return self.train_time_s + self.epochs * self.epoch_evaluation_s

    def remaining_s(self, progress: Progress, stages: Sequence[Stage]) -> float:
        """Return the seconds that are left.

        Steps of the current stage take as long as its steps so far; later stages differ from
        their forecast by the factor by which all steps so far did.

        Args:
            progress: Of the training.
            stages: Those of the forecast.
        """
        done = [min(max(progress.step - stage.first_step, 0), stage.steps) for stage in stages]
        expected = sum(n * each for n, each in zip(done, self.step_times_s, strict=True))
        ratio = progress.train_time_s / expected if sum(done) >= _ENOUGH_STEPS else 1.0
        left = 0.0
        for n, stage, spent, each in zip(
            done, stages, progress.stage_times_s, self.step_times_s, strict=True
        ):
            step_s = spent / n if n >= _ENOUGH_STEPS else each * ratio
            left += (stage.steps - n) * step_s
        return left + (self.epochs - len(progress.rows)) * self.epoch_evaluation_s


def forecast(make: Callable[[], Training], minival: TrainSet | None) -> Forecast:
    """Time steps of a training, which take as long as real ones: with real images and augmentation.

    A step is timed as its micro-batches and the update.

    Args:
        make: Makes a training that is thrown away.
        minival: What accuracy will be measured on; None measures none.
    """
    training = make()
    step_times = measure_step_times(training)
    per_stage = [step_times(stage.image_size) for stage in training.stages]
    return Forecast(
        step_times_s=tuple(per_stage),
        stage_times_s=tuple(
            stage.steps * each for stage, each in zip(training.stages, per_stage, strict=True)
        ),
        epoch_evaluation_s=_evaluation_s(training, minival) if minival else 0.0,
        epochs=ceil(training.stages[-1].end / training.order.steps_per_epoch),
    )


#: Seconds of a step at an image size in pixels.
StepTimes: TypeAlias = Callable[[int], float]


def proportional_step_times(
    step_s: float, *, of_batch_size: int, of_image_size: int, batch_size: int
) -> StepTimes:
    """Return step times in proportion to images and pixels.

    Args:
        step_s: Seconds of a step that is known.
        of_batch_size: Images in it.
        of_image_size: Their pixels.
        batch_size: Images in the steps of the training.
    """
    pixel_s = step_s / (of_batch_size * of_image_size**2)
    return lambda image_size: pixel_s * batch_size * image_size**2


def step_seconds_of(metrics: Mapping[str, float]) -> float:
    """Return the seconds of a step from the metrics of a source of step times.

    Raises:
        ConfigError: If there are none.
    """
    seconds = metrics.get("step_time_s")
    if seconds is None:
        raise ConfigError(
            "the step times give no `step_time_s`, so how many steps fit into a training time is "
            "not known; add them"
        )
    return seconds


def measure_step_times(training: Training, limit_s: float | None = None) -> StepTimes:
    """Time steps of a training, which is of no use afterwards.

    Between the sizes that are timed, step time is linear in the number of pixels.

    Args:
        training: At its start.
        limit_s: Seconds that the training may take; None: any.

    Raises:
        InfeasibleError: As soon as it is clear that fewer than `MIN_STEPS` steps fit into them.
    """
    sizes = {stage.image_size: number for number, stage in enumerate(training.stages)}
    ordered = sorted(sizes)
    places = np.linspace(0, len(ordered) - 1, min(_MAX_SIZES, len(ordered)))
    # Steps seed torch for their dropout.
    with torch.random.fork_rng([training.device] if training.device.type == "cuda" else []):
        timed: dict[int, float] = {}
        for size in dict.fromkeys(ordered[round(place)] for place in places):  # the smallest first
            timed[size] = _step_time_s(training, sizes[size], limit_s)
    return partial(_between, timed)


def steps_within(recipe: Recipe, step_times: StepTimes, *, steps_per_epoch: int, seed: int) -> int:
    """Return the most steps of a training by a recipe that fit into its `train_time_s`.

    Args:
        recipe: With `train_time_s` and image sizes.
        step_times: Of the network.
        steps_per_epoch: Steps of one pass over the images.
        seed: Of the training.

    Raises:
        InfeasibleError: If fewer than `MIN_STEPS` fit.
    """
    limit_s = recipe.train_time_s
    assert limit_s is not None

    def seconds(steps: int) -> float:
        lasting = recipe.lasting(steps / steps_per_epoch)
        stages = stages_of(lasting, steps_per_epoch=steps_per_epoch, seed=seed, steps=steps)
        return sum(stage.steps * step_times(stage.image_size) for stage in stages)

    if seconds(MIN_STEPS) > limit_s:
        raise _too_slow(seconds(MIN_STEPS) / MIN_STEPS, limit_s)
    low, high = MIN_STEPS, 2 * MIN_STEPS
    while high < _MOST_STEPS and seconds(high) <= limit_s:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if seconds(middle) <= limit_s else (low, middle)
    return low


def _too_slow(step_s: float, limit_s: float) -> InfeasibleError:
    return InfeasibleError(
        f"a training step takes {step_s:.2g} s, and of the train_time of {limit_s:g} s at least "
        f"{MIN_STEPS} are to fit in: give more time, or smaller batches, images or networks"
    )


def _step_time_s(training: Training, number: int, limit_s: float | None = None) -> float:
    """Return the seconds of a step of this process in a stage."""
    stage = training.stages[number]
    training.start_stage(stage)
    _, micro_batches = next(training.steps(stage.first_step))
    seconds: list[tuple[float, float]] = []  # of a micro-batch, and of the update
    begun = time.perf_counter()
    # The first one warms up; a few quick steps alone would say little.
    while len(seconds) <= _TIMINGS or time.perf_counter() - begun < _ENOUGH_S:
        pixels = training.pixels(stage.first_step)
        started = time.perf_counter()
        training.add_gradients(micro_batches[0], next(pixels), stage)
        synchronize(training.device)
        middle = time.perf_counter()
        training.update()
        synchronize(training.device)
        ended = time.perf_counter()
        pixels.close()
        seconds.append((middle - started, ended - middle))
        step_s = len(micro_batches) * (middle - started) + (ended - middle)
        most = MIN_STEPS / _MOST_SLOWER if len(seconds) > 1 else 1.0
        if limit_s is not None and most * step_s > limit_s:
            raise _too_slow(step_s, limit_s)
        if len(seconds) > 1 and ended - begun > _LONG_ENOUGH_S:
            break
    of_micro_batch, of_update = np.median(seconds[1:], axis=0)
    return float(len(micro_batches) * of_micro_batch + of_update)


def _between(timed: Mapping[int, float], size: int) -> float:
    sizes = sorted(timed)
    pixels = [float(each * each) for each in sizes]
    return float(np.interp(float(size * size), pixels, [timed[each] for each in sizes]))


def _evaluation_s(training: Training, minival: TrainSet) -> float:
    """Return the seconds of measuring accuracy, from some of the images."""
    count = min(training.eval_batch_size, len(minival))
    started = time.perf_counter()
    # After a few steps without a warm-up, outputs may not be finite; only their time counts.
    with suppress(InfeasibleError):
        training.measure(minival, count)
    return (time.perf_counter() - started) * len(minival) / count
