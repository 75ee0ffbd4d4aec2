"""What an evaluator is, the one around a function of the user's, and what a worker prepares."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from effnas.config import Execution, Recipe
from effnas.errors import InfeasibleError
from effnas.trial import Measurement

if TYPE_CHECKING:
    from effnas.architecture import Architecture

#: The metrics of a trial on images, as the worker measures them.
IMAGE_METRICS = (
    "accuracy",
    "step_time",
    "step_time_low",
    "step_time_high",
    "step_time_s",
    "step_time_low_s",
    "step_time_high_s",
    "peak_memory_bytes",
    "train_time_s",
    "train_loss",
)


class Evaluator(Protocol):
    """Measures architectures."""

    def __call__(self, arch: Architecture) -> Measurement:
        """Measure one architecture.

        Raises:
            InfeasibleError: If it cannot be built, timed or trained.
        """
        ...


class FunctionEvaluator:
    """Measures with a function of the user's: an architecture in, metrics by name out."""

    def __init__(self, function: Callable[[Architecture], Mapping[str, float]]) -> None:
        self._function = function

    def __call__(self, arch: Architecture) -> Measurement:
        """Call the function; a metric that is no finite number makes the trial infeasible."""
        metrics = {name: float(value) for name, value in self._function(arch).items()}
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise InfeasibleError(f"{name} is {value}")
        return Measurement(metrics=metrics)


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """What a worker has found out before the first trial; plain data for the plan and the manifest.

    Attributes:
        hardware: Identity of the device.
        device: Facts about it by name.
        recipe: The recipe with all sizes settled.
        execution: Precision and memory format of timing and training.
        execution_seconds: Seconds per image of each way that was measured; empty if none was.
        timing_batch_size: Images in a timed step.
        num_classes: Classes of the data.
        train_images: Images trained on.
        holdout_images: Images that give A.
        data_fingerprint: Changes when the images, labels or classes do.
        skipped_images: Names of images that could not be decoded.
        timing_s: Estimated seconds to time the reference network once.
        training_s: Estimated seconds to train and test it once.
        peak_memory_bytes: Estimated memory of a worker in its largest step, with the images and,
            on a CPU, the process itself.
        target_memory_bytes: Estimated memory of its step at the target's own batch size.
        available_memory_bytes: Memory that the device had free.
    """

    hardware: str
    device: Mapping[str, str | int]
    recipe: Recipe
    execution: Execution
    execution_seconds: Mapping[str, float]
    timing_batch_size: int
    num_classes: int
    train_images: int
    holdout_images: int
    data_fingerprint: str
    skipped_images: tuple[str, ...]
    timing_s: float
    training_s: float
    peak_memory_bytes: int
    target_memory_bytes: int
    available_memory_bytes: int
