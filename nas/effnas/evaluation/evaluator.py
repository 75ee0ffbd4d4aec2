"""What an evaluator is, the one around a user's function, and where step times come from."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

from effnas.arch.architecture import Architecture
from effnas.arch.models import TimmModel
from effnas.config.recipe import Recipe
from effnas.config.settings import StepTimeConfig, StepTimeMode
from effnas.errors import ConfigError, InfeasibleError
from effnas.timing.command import StepTimeCommand
from effnas.timing.profile import DeviceProfile
from effnas.timing.table import StepTimeTable
from effnas.trials.problem import FreeMetrics, no_free_metrics
from effnas.trials.trial import Measurement, StageTimes

if TYPE_CHECKING:
    from effnas.space.search_space import SearchSpace

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


#: What a worker can time and train.
Network: TypeAlias = Architecture | TimmModel


class Task(StrEnum):
    """What an evaluator does with an architecture.

    EVALUATE times and trains it, TIME and TRAIN do one of both. PLAN times it, and counts the steps
    of its training that fit into a training time here.
    """

    EVALUATE = "evaluate"
    TIME = "time"
    PLAN = "plan"
    TRAIN = "train"


@dataclass(frozen=True)
class Job:
    """One evaluation; plain data that can be sent anywhere.

    Attributes:
        trial: Number by which its outcome is recognized.
        architecture: What is evaluated.
        task: Timing, training, or both.
        repeat: Another number is another seed of the training.
        until: The training stops after this many of its epochs, or seconds where its recipe has a
            training time, and can be continued; None trains to the end.
        recipe: How to train, in place of the worker's own recipe.
        model: A model of timm's that is evaluated in place of the architecture.
        stages: Of an earlier training by time, which this one repeats or continues.
        limit_s: Seconds after which its worker is given up, if it is one of Ray; None waits.
    """

    trial: int
    architecture: Architecture
    task: Task = Task.EVALUATE
    repeat: int = 0
    until: int | None = None
    recipe: Recipe | None = None
    model: TimmModel | None = None
    stages: tuple[StageTimes, ...] = ()
    limit_s: float | None = None


#: Measures what a job asks for; raises `InfeasibleError` if that cannot be built, timed or trained.
Evaluator: TypeAlias = Callable[[Job], Measurement]


class FunctionEvaluator:
    """Measures with a user's function: an architecture in, metrics by name out.

    Where there are rungs, its parameter `epochs` receives after how many epochs to stop.
    """

    def __init__(self, function: Callable[..., Mapping[str, float]]) -> None:
        self._function = function

    def __call__(self, job: Job) -> Measurement:
        """Call the function; a metric that is no finite number makes the trial infeasible.

        Raises:
            ConfigError: If the job stops after some epochs, and the function takes none.
        """
        stop = {} if job.until is None else {"epochs": job.until}
        if stop and "epochs" not in inspect.signature(self._function).parameters:
            raise ConfigError(
                "rungs say after how many epochs to stop, and the function that evaluates has no "
                "parameter `epochs`; give it one"
            )
        found = self._function(job.architecture, **stop)
        metrics = {name: float(value) for name, value in found.items()}
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise InfeasibleError(f"{name} is {value}")
        return Measurement(metrics=metrics)


#: What gives step times without a measurement on the device.
NamedSource: TypeAlias = DeviceProfile | StepTimeTable | StepTimeCommand


def named_source(config: StepTimeConfig, space: SearchSpace) -> NamedSource | None:
    """Return the source of step times that a configuration names; None where they are measured.

    Raises:
        ConfigError: If its file or the command cannot be read, or is for another space.
    """
    if config.table is not None:
        return StepTimeTable.load(config.table, space)
    if config.command is not None:
        return StepTimeCommand(config.command, space, config.timeout_s)
    if config.profile is None:
        return None
    profile = DeviceProfile.load(config.profile)
    profile.check_space(space, config.profile)
    return profile


def step_time_metrics(source: NamedSource | None, space: SearchSpace) -> tuple[str, ...]:
    """Return the metrics that a source of step times, or measuring them, gives for a network."""
    if isinstance(source, StepTimeTable):
        return source.metrics
    if isinstance(source, DeviceProfile):
        return tuple(source(space.reference).metrics)
    return ("step_time", *(TIMING_METRICS if source is None else ("step_time_s",)))


def source_without_timing(
    source: NamedSource | None, mode: StepTimeMode
) -> DeviceProfile | StepTimeTable | None:
    """Return a source of step times if it knows them without taking time, else None.

    Args:
        source: The source.
        mode: With `auto`, the device is measured where a profile is not trusted.
    """
    if isinstance(source, DeviceProfile):
        return source if mode == "predicted" or source.is_trusted else None
    return source if isinstance(source, StepTimeTable) else None


def metrics_before_trial(source: DeviceProfile | StepTimeTable | None) -> FreeMetrics:
    """Return what gives the step times of architectures before they are tried."""
    if source is None:
        return no_free_metrics

    def known(archs: Sequence[Architecture]) -> list[dict[str, float]]:
        found: list[dict[str, float]] = []
        for arch in archs:
            try:
                found.append(dict(source(arch).metrics))
            except InfeasibleError:  # not in the table, or with a layer that was not measured
                found.append({})
        return found

    return known
