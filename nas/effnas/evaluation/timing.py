"""How a worker finds step times: what it times under, and the source that it asks."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from effnas.arch.models import TimmModel, build
from effnas.config.settings import Execution, StepTimeConfig
from effnas.errors import ConfigError, InfeasibleError
from effnas.evaluation.evaluator import named_source
from effnas.timing import lock
from effnas.timing.clock import clock_of
from effnas.timing.device import available_memory_bytes, describe_device, hardware_id
from effnas.timing.execution import choose_execution
from effnas.timing.memory import estimate_peak_memory
from effnas.timing.network_run import NetworkRun
from effnas.timing.networks import MeasuredStepTimes
from effnas.timing.profile import DeviceProfile, PredictedOrMeasured
from effnas.timing.setup import MeasurementSetup
from effnas.timing.timer import MIN_ROUNDS, timed
from effnas.timing.training_time import proportional_step_times, step_seconds_of

if TYPE_CHECKING:
    from effnas.arch.architecture import Architecture
    from effnas.config.recipe import Recipe
    from effnas.config.settings import EvaluationConfig
    from effnas.evaluation.evaluator import NamedSource, Network
    from effnas.space.search_space import SearchSpace
    from effnas.timing.step_time import StepTime, StepTimeSource
    from effnas.timing.training_time import StepTimes

#: Share of the free memory that the reference network's step may take when the batch is chosen:
#: other networks of the space may need more.
_REFERENCE_MEMORY_SHARE = 0.5
#: Seconds; a step as quick as this is timed for real when the cost of a trial is estimated.
_QUICK_STEP_S = 0.5


@dataclass(frozen=True, kw_only=True)
class WorkerTiming:
    """Step times as a worker finds them.

    Attributes:
        reference: The network that step times are relative to.
        setup: What networks are timed under.
        execution_seconds: Seconds per image of each execution that was tried; empty if none was.
        available_bytes: Memory that the device had free.
        source: Gives the step times of a search.
        retimed: Gives those of a task that asks for no more: measured where the device can.
        measured: Gives those of models of timm's, where this device is the one that the others
            belong to; None where it is not.
        takes_time: Whether asking the source takes time.
    """

    reference: Architecture
    setup: MeasurementSetup
    execution_seconds: Mapping[str, float]
    available_bytes: int
    source: StepTimeSource
    retimed: StepTimeSource
    measured: MeasuredStepTimes | None
    takes_time: bool
    _timed: dict[tuple[Architecture, bool], StepTime] = field(default_factory=dict)

    @classmethod
    def settle(
        cls, config: EvaluationConfig, space: SearchSpace, recipe: Recipe, device: torch.device
    ) -> WorkerTiming:
        """Settle how networks are timed; what the configuration leaves open is measured.

        Args:
            config: Says where step times come from.
            space: With all classes known.
            recipe: With all that follows from the images settled.
            device: Where networks are run; the images are there already.

        Raises:
            ConfigError: If the source cannot be read, or is for something else.
        """
        step_times = config.step_times or StepTimeConfig()
        available_bytes = available_memory_bytes(device)
        named = named_source(step_times, space)
        if isinstance(named, DeviceProfile) and step_times.mode == "auto":
            _check_hardware(named, step_times, device)
        setup = MeasurementSetup(
            device=device,
            recipe=recipe,
            execution=Execution(),
            batch_size=config.timing_batch_size or space.target.batch_size,
            image_size=space.target.image_size,
            num_classes=space.target.num_classes or 1000,
            available_bytes=None if device.type == "cuda" else available_bytes,
        )
        if not config.timing_batch_size and step_times.mode in ("measured", "auto"):
            setup = _fitting(space.reference, setup, _REFERENCE_MEMORY_SHARE * available_bytes)
        execution, execution_seconds = _choose_execution(
            config, space.reference, recipe, setup, named
        )
        setup = replace(setup, execution=execution)
        measured = MeasuredStepTimes(space.reference, setup)
        source: StepTimeSource = named or measured
        if isinstance(named, DeviceProfile) and step_times.mode == "auto":
            source = PredictedOrMeasured(named, measured)
        here = hardware_id(describe_device(device))
        is_ours = named is None or (isinstance(named, DeviceProfile) and named.hardware == here)
        known = isinstance(named, DeviceProfile) and (
            step_times.mode == "predicted" or named.is_trusted
        )
        return cls(
            reference=space.reference,
            setup=setup,
            execution_seconds=execution_seconds,
            available_bytes=available_bytes,
            source=source,
            retimed=measured if step_times.mode == "auto" else source,
            measured=measured if is_ours else None,
            takes_time=config.step_times is not None and step_times.mode != "table" and not known,
        )

    def step_time(self, network: Network, *, again: bool) -> StepTime:
        """Return the step time of a network.

        Args:
            network: The network.
            again: Whether it is asked for apart from a trial: then it is measured where the device
                can, and not predicted.

        Raises:
            InfeasibleError: If it is not known, or the network cannot be built or does not fit.
        """
        if not isinstance(network, TimmModel):
            source = self.retimed if again else self.source
            if not network.recipe:
                return source(network)
            key = network.network, again  # of its recipe, the step time knows nothing
            if key not in self._timed:
                self._timed[key] = source(network.network)
            return self._timed[key]
        if self.measured is None:
            raise InfeasibleError(
                "its step time is not known: those of the search are not measured here "
                f"({self.source.description})"
            )
        return self.measured(network)

    @property
    def measures_steps(self) -> bool:
        """Whether a training time is that of this device, and its steps are measured here."""
        return isinstance(self.source, MeasuredStepTimes | PredictedOrMeasured)

    def training_step_times(self, network: Network, batch_size: int) -> StepTimes | None:
        """Return the seconds of training steps where the source of step times tells them.

        A training time is then that of the source's device. Its step times are for the target's
        batch and image size: they are taken to be in proportion to the batch and to the pixels.

        Args:
            network: The network.
            batch_size: Images in a step of the training.

        Returns:
            None where steps are measured on this device.

        Raises:
            InfeasibleError: If the source does not know the network.
            ConfigError: If it gives no seconds.
        """
        if self.measures_steps:
            return None
        if isinstance(network, TimmModel):
            raise InfeasibleError(
                "its step time is not known where training time is counted: "
                f"{self.source.description}"
            )
        return proportional_step_times(
            step_seconds_of(self.source(network.network).metrics),
            of_batch_size=self.setup.batch_size,
            of_image_size=self.setup.image_size,
            batch_size=batch_size,
        )

    def sure_memory(self, arch: Architecture) -> dict[str, float]:
        """Return the peak memory of a network where a timing would only repeat its estimate.

        On CUDA, and where nothing or another source is timed, the result is empty.
        """
        if self.setup.device.type == "cuda" or not isinstance(self.source, MeasuredStepTimes):
            return {}
        return {"peak_memory_bytes": float(step_bytes(arch, self.setup))}

    def estimate_seconds(self) -> float:
        """Return about how many seconds the step time of a network takes."""
        if not self.takes_time:
            return 0.0
        if isinstance(self.source, MeasuredStepTimes | PredictedOrMeasured):
            step_s = self.step_seconds(self.setup.image_size, self.setup.batch_size)
            if step_s >= _QUICK_STEP_S:
                # Two networks, three steps to warm up, and the fewest rounds that give an interval.
                return 2 * (3 + MIN_ROUNDS) * step_s
        started = time.perf_counter()
        self.source(self.reference)
        return time.perf_counter() - started

    def step_seconds(
        self, image_size: int, batch_size: int, network: Network | None = None
    ) -> float:
        """Return the seconds of a step of a network, by default of the reference.

        It is that of a small batch, scaled up, if the step takes long.
        """
        model = build(network or self.reference, num_classes=self.setup.num_classes)
        clock = clock_of(self.setup.device)
        size = min(4, batch_size)
        with lock.timing(self.setup.device):
            while True:
                run = NetworkRun(model, replace(self.setup, batch_size=size, image_size=image_size))
                timed(run, clock)
                seconds = timed(run, clock)
                if size >= batch_size or seconds > _QUICK_STEP_S:
                    return seconds * batch_size / size
                size = min(4 * size, batch_size)


def step_bytes(arch: Network, setup: MeasurementSetup) -> int:
    """Return the estimated peak memory of a training step of a network, in bytes."""
    with torch.random.fork_rng([]):  # weights draw numbers even where there are none
        model = build(arch, num_classes=setup.num_classes, device="meta")
    return estimate_peak_memory(
        model, setup.recipe, image_size=setup.image_size, batch_size=setup.batch_size
    )


def _check_hardware(
    profile: DeviceProfile, step_times: StepTimeConfig, device: torch.device
) -> None:
    here = hardware_id(describe_device(device))
    if here != profile.hardware:
        raise ConfigError(
            f"{step_times.profile}: the profile is of {profile.hardware}, and this device is "
            f"{here}; measured and predicted times would not compare. `step_time` predicted "
            "relies on the profile alone; `effnas profile` makes one of this device"
        )


def _fitting(arch: Architecture, setup: MeasurementSetup, limit: float) -> MeasurementSetup:
    """Return the setup with the largest power of two that fits, if its own batch does not."""
    while setup.batch_size > 1 and step_bytes(arch, setup) > limit:
        setup = replace(setup, batch_size=1 << (setup.batch_size - 1).bit_length() - 1)
    return setup


def _choose_execution(
    config: EvaluationConfig,
    reference: Architecture,
    recipe: Recipe,
    setup: MeasurementSetup,
    named: NamedSource | None,
) -> tuple[Execution, dict[str, float]]:
    """Return how networks are run, and the seconds per image of the ways that were measured."""
    step_times = config.step_times
    if config.execution:
        return config.execution, {}
    if isinstance(named, DeviceProfile) and step_times and step_times.mode == "auto":
        try:
            return Execution(**named.execution), {}  # type: ignore[arg-type]
        except TypeError as error:
            raise ConfigError(f"{step_times.profile}: execution: {error}") from None
    with lock.timing(setup.device):
        chosen, seconds = choose_execution(
            lambda: build(reference, num_classes=setup.num_classes),
            replace(
                setup,
                batch_size=recipe.batch_size,
                image_size=recipe.image_size[1] if recipe.image_size else setup.image_size,
                available_bytes=None,
            ),
        )
    return chosen, {str(way): value for way, value in seconds.items()}
