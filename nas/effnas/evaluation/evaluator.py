"""What an evaluator is, the one around a function of the user's, and what a worker prepares."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from effnas.config.settings import (
    EvaluationConfig,
    StepTimeConfig,
)
from effnas.data.loading import native_image_size
from effnas.errors import ConfigError, InfeasibleError
from effnas.timing.command import StepTimeCommand
from effnas.timing.profile import DeviceProfile
from effnas.timing.table import StepTimeTable
from effnas.trials.problem import FreeMetrics, no_free_metrics
from effnas.trials.trial import Measurement

if TYPE_CHECKING:
    from effnas.arch.architecture import Architecture
    from effnas.space.search_space import SearchSpace

#: The smallest image size that a recipe chooses by itself.
_SMALLEST_IMAGE = 32
#: What a timing measures, beside S itself.
TIMING_METRICS = (
    "step_time_low",
    "step_time_high",
    "step_time_s",
    "step_time_low_s",
    "step_time_high_s",
    "forward_time_s",
    "backward_time_s",
    "optimizer_time_s",
    "timed_steps",
    "step_time_settled",
    "peak_memory_bytes",
)
#: What a training measures.
TRAINING_METRICS = ("accuracy", "train_time_s", "train_loss")


class Task(StrEnum):
    """What is to be done with an architecture."""

    EVALUATE = "evaluate"
    TIME = "time"
    TRAIN = "train"


class Evaluator(Protocol):
    """Measures architectures."""

    def __call__(
        self,
        arch: Architecture,
        task: Task = Task.EVALUATE,
        repeat: int = 0,
        epochs: int | None = None,
    ) -> Measurement:
        """Measure one architecture.

        Args:
            arch: The architecture.
            task: Timing, training, or both.
            repeat: Another number is another seed of the training.
            epochs: The training stops after so many of its epochs, and can be gone on with; None
                trains to the end.

        Raises:
            InfeasibleError: If it cannot be built, timed or trained.
        """
        ...


class FunctionEvaluator:
    """Measures with a function of the user's: an architecture in, metrics by name out.

    One that has a parameter `epochs` is told after how many to stop, where there are rungs.
    """

    def __init__(self, function: Callable[..., Mapping[str, float]]) -> None:
        self._function = function

    def __call__(
        self,
        arch: Architecture,
        task: Task = Task.EVALUATE,
        repeat: int = 0,
        epochs: int | None = None,
    ) -> Measurement:
        """Call the function; a metric that is no finite number makes the trial infeasible.

        Raises:
            ConfigError: If it is to stop after some epochs, and takes no `epochs`.
        """
        del task, repeat  # a function does one thing
        told = {} if epochs is None else {"epochs": epochs}
        if told and "epochs" not in inspect.signature(self._function).parameters:
            raise ConfigError(
                "rungs say after how many epochs to stop, and the function that evaluates has no "
                "parameter `epochs`; give it one"
            )
        metrics = {name: float(value) for name, value in self._function(arch, **told).items()}
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise InfeasibleError(f"{name} is {value}")
        return Measurement(metrics=metrics)


def step_time_metrics(config: StepTimeConfig, space: SearchSpace) -> tuple[str, ...]:
    """Return the metrics that a source of step times gives for every network.

    Raises:
        ConfigError: If its file or the command cannot be read.
    """
    if config.table is not None:
        return StepTimeTable.load(config.table, space).metrics
    if config.profile is not None:
        profile = DeviceProfile.load(config.profile)
        profile.check_space(space, config.profile)
        return tuple(profile(space.reference).metrics)
    if config.command is not None:
        StepTimeCommand(config.command, space, config.timeout_s)  # it can be read
        return ("step_time", "step_time_s")
    return ("step_time", *TIMING_METRICS)


def source_without_timing(
    config: StepTimeConfig, space: SearchSpace
) -> DeviceProfile | StepTimeTable | None:
    """Return the source of step times, if it knows them all without taking time.

    Raises:
        ConfigError: If its file cannot be read, or is for another space.
    """
    if config.table is not None:
        return StepTimeTable.load(config.table, space)
    if config.profile is not None:
        profile = DeviceProfile.load(config.profile)
        profile.check_space(space, config.profile)
        return profile if config.mode == "predicted" or profile.is_trusted else None
    return None


def metrics_before_trial(config: StepTimeConfig, space: SearchSpace) -> FreeMetrics:
    """Return what tells the step times of architectures before they are tried.

    Raises:
        ConfigError: If the file of the source cannot be read, or is for another space.
    """
    source = source_without_timing(config, space)
    if source is None:
        return no_free_metrics

    def known(archs: Sequence[Architecture]) -> list[dict[str, float]]:
        found: list[dict[str, float]] = []
        for arch in archs:
            try:
                found.append(dict(source(arch).metrics))
            except InfeasibleError:  # not in the table, or with a part that was not measured
                found.append({})
        return found

    return known


def default_image_size(config: EvaluationConfig, space: SearchSpace) -> int:
    """Return the image size of trainings where the recipe names none: the data's own, in pixels.

    It is no larger than the target's, and 32 or more.

    Raises:
        DataError: If there are no such images.
    """
    assert config.data is not None
    native = native_image_size(config.data, Path(config.data_root) if config.data_root else None)
    return min(space.target.image_size, max(native, _SMALLEST_IMAGE))
