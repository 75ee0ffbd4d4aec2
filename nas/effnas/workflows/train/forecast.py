"""How long a training will take, from its step time at the image sizes of its stages."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from effnas.errors import InfeasibleError
from effnas.train.stages import Stage
from effnas.train.step import synchronize

if TYPE_CHECKING:
    from effnas.data.images import TrainSet
    from effnas.train.progress import Progress
    from effnas.train.training import Training

#: Image sizes that step times are measured at; others lie between them.
_MAX_SIZES = 4
#: Timings of a size, and seconds after which no further one is begun.
_TIMINGS, _LONG_ENOUGH_S = 3, 5.0
#: Steps after which what was measured of a stage says more than the forecast.
_ENOUGH_STEPS = 10


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a training is expected to take.

    Attributes:
        step_times_s: Seconds of a step in each stage.
        stage_times_s: Seconds of all its steps.
        epoch_evaluation_s: Seconds of measuring accuracy behind an epoch.
        epochs: How many there are.
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
        """Return the seconds that are left, as the training goes.

        A stage under way takes as long as its steps have taken so far; those to come differ from
        their forecast as much as the steps so far did from theirs.

        Args:
            progress: How far it has come.
            stages: As they were forecast.
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
    """Time steps of a training at its image sizes, with all that belongs to them.

    A step is timed as the parts of the batch that a device takes at once, and the update. Between
    the sizes that are timed, step time grows with the number of pixels.

    Args:
        make: Makes a training that may be spoilt.
        minival: What accuracy will be measured on, if it will be.
    """
    training = make()
    sizes = {stage.image_size: number for number, stage in enumerate(training.stages)}
    ordered = sorted(sizes)
    places = np.linspace(0, len(ordered) - 1, min(_MAX_SIZES, len(ordered)))
    timed = {ordered[round(place)]: 0.0 for place in places}
    # Steps seed torch for their dropout.
    with torch.random.fork_rng([training.device] if training.device.type == "cuda" else []):
        for size in timed:
            timed[size] = _step_time_s(training, sizes[size])
    step_times = [_between(timed, stage.image_size) for stage in training.stages]
    steps_per_epoch = training.order.steps_per_epoch
    return Forecast(
        step_times_s=tuple(step_times),
        stage_times_s=tuple(
            stage.steps * each for stage, each in zip(training.stages, step_times, strict=True)
        ),
        epoch_evaluation_s=_evaluation_s(training, minival) if minival else 0.0,
        epochs=training.stages[-1].end // steps_per_epoch,
    )


def _step_time_s(training: Training, number: int) -> float:
    """Return the seconds of a step in a stage of this process."""
    stage = training.stages[number]
    training.start_stage(stage)
    _, chunks = next(training.steps(stage.first_step))
    of_chunk: list[float] = []
    of_update: list[float] = []
    begun = time.perf_counter()
    while len(of_chunk) <= _TIMINGS:  # the first one warms up
        pixels = training.pixels(stage.first_step)
        started = time.perf_counter()
        training.add_gradients(chunks[0], next(pixels), stage)
        synchronize(training.device)
        middle = time.perf_counter()
        training.update()
        synchronize(training.device)
        ended = time.perf_counter()
        pixels.close()
        of_chunk.append(middle - started)
        of_update.append(ended - middle)
        if len(of_chunk) > 1 and ended - begun > _LONG_ENOUGH_S:
            break
    median = statistics.median
    return len(chunks) * median(of_chunk[1:]) + median(of_update[1:])


def _between(timed: Mapping[int, float], size: int) -> float:
    sizes = sorted(timed)
    pixels = [float(each * each) for each in sizes]
    return float(np.interp(float(size * size), pixels, [timed[each] for each in sizes]))


def _evaluation_s(training: Training, minival: TrainSet) -> float:
    """Return the seconds of measuring accuracy, from a part of the images."""
    count = min(training.measured_at_once, len(minival))
    started = time.perf_counter()
    # After so few steps without a warm-up, outputs may well not be finite; only their time counts.
    with suppress(InfeasibleError):
        training.measure(minival, count)
    return (time.perf_counter() - started) * len(minival) / count
