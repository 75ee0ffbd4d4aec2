"""Whole networks, measured on a device: step times beside a reference network, and peak memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, asdict, dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import nn

from effnas.arch.models import TimmModel, build
from effnas.errors import InfeasibleError
from effnas.timing.clock import clock_of
from effnas.timing.device import describe_device, hardware_id
from effnas.timing.lock import Waiting, timing
from effnas.timing.memory import estimate_peak_memory, largest_batch_size
from effnas.timing.network_run import NetworkRun, fixed_random_state
from effnas.timing.setup import MeasurementSetup
from effnas.timing.step_time import StepTime
from effnas.timing.timer import PRECISION, StepTiming, time_in_turn

if TYPE_CHECKING:
    from effnas.arch.architecture import Architecture

#: Seconds that one timing of a search may take beyond its warm-up and its fewest rounds.
SEARCH_TIME_LIMIT_S = 4.0


@dataclass(frozen=True)
class MeasuredStepTimes:
    """Times architectures beside the reference network.

    Attributes:
        reference: S is relative to it.
        setup: Device, sizes and execution.
        time_limit_s: Seconds after which no further round is started.
    """

    reference: Architecture
    setup: MeasurementSetup
    _: KW_ONLY
    time_limit_s: float = SEARCH_TIME_LIMIT_S

    @property
    def description(self) -> str:
        """`measured`."""
        return "measured"

    def __call__(self, arch: Architecture | TimmModel) -> StepTime:
        """Time one network.

        Raises:
            InfeasibleError: If it cannot be built or does not fit the device's memory.
        """
        setup = self.setup
        _, found = time_networks(
            [maker(network, setup.num_classes) for network in (self.reference, arch)],
            setup,
            time_limit_s=self.time_limit_s,
        )
        if isinstance(found, InfeasibleError):
            raise found
        hardware = hardware_id(describe_device(setup.device))
        return StepTime(metrics=found, source="measured", hardware=hardware)


def maker(arch: Architecture | TimmModel, num_classes: int) -> Callable[[], nn.Module]:
    """Return a function that makes a network."""
    return lambda: build(arch, num_classes=num_classes)


def time_networks(
    makes: Sequence[Callable[[], nn.Module]],
    setup: MeasurementSetup,
    *,
    precision: float = PRECISION,
    time_limit_s: float,
    waiting: Waiting = lambda _: None,
) -> list[dict[str, float] | InfeasibleError]:
    """Time networks in turn, with exclusive use of the device and no side effects.

    Args:
        makes: Make the networks; the first is the reference of all ratios.
        setup: Device, sizes and execution.
        precision: Wanted half-width of each ratio's 95 % interval, a share of the ratio.
        time_limit_s: Seconds after which no further round is started.
        waiting: As of `effnas.timing.lock.timing`.

    Returns:
        Metrics of each network, by the names of `effnas.trials.reward.METRICS`; or the error if it
        cannot be built or does not fit the device's memory.

    Raises:
        InfeasibleError: If the reference cannot be built or does not fit.
    """
    device = setup.device
    found: dict[int, dict[str, float] | InfeasibleError] = {}
    with timing(device, waiting), fixed_random_state(device):
        runs: dict[int, NetworkRun] = {}
        peaks: dict[int, int] = {}
        for n, make in enumerate(makes):
            try:
                runs[n], peaks[n] = first_steps(make(), setup)
            except InfeasibleError as error:
                if n == 0:
                    raise
                found[n] = error
        timings = time_in_turn(
            list(runs.values()), clock_of(device), precision=precision, time_limit_s=time_limit_s
        )
    for n, timed in zip(runs, timings, strict=True):
        found[n] = step_metrics(timed) | {"peak_memory_bytes": float(peaks[n])}
    return [found[n] for n in range(len(makes))]


def step_metrics(found: StepTiming) -> dict[str, float]:
    """Return a timing by the names of `effnas.trials.reward.METRICS`."""
    metrics = {name: float(value) for name, value in asdict(found).items()}
    del metrics["warm_up_steps"]
    metrics["step_time_settled"] = metrics.pop("settled")
    return metrics


def first_steps(model: nn.Module, setup: MeasurementSetup) -> tuple[NetworkRun, int]:
    """Return a network that is ready for its steps, and its peak memory in bytes.

    The caller holds the device's lock.

    Raises:
        InfeasibleError: If it does not fit; its metrics have the largest batch that does.
    """
    if setup.device.type != "cuda":

        def peak_of(batch_size: int) -> int:
            size = setup.image_size
            return estimate_peak_memory(model, setup.recipe, image_size=size, batch_size=batch_size)

        peak, limit = peak_of(setup.batch_size), setup.available_bytes
        if limit is not None and peak > limit:
            # The system would end this process instead of raising an error.
            raise _out_of_memory(
                f"a training step needs {peak / 1e9:.1f} GB, {limit / 1e9:.1f} GB are free",
                lambda size: peak_of(size) <= limit,
                setup,
            )
        return NetworkRun(model, setup), peak
    try:
        return _run_on_cuda(model, setup)
    except torch.OutOfMemoryError as error:
        message = str(error).splitlines()[0]
    # Outside of the handler, whose traceback holds the tensors of the failed step.
    raise _out_of_memory(message, lambda size: _runs_on_cuda(model, setup, size), setup)


def _run_on_cuda(model: nn.Module, setup: MeasurementSetup) -> tuple[NetworkRun, int]:
    device = setup.device
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    run = NetworkRun(model, setup)
    for _ in range(2):  # the first step makes the optimizer's states
        run()
    return run, torch.cuda.max_memory_allocated(device) - before


def _runs_on_cuda(model: nn.Module, setup: MeasurementSetup, batch_size: int) -> bool:
    torch.cuda.empty_cache()
    try:
        _run_on_cuda(model, replace(setup, batch_size=batch_size))
    except (torch.OutOfMemoryError, ValueError):  # ValueError: batch norm
        return False
    return True


def _out_of_memory(
    message: str, fits: Callable[[int], bool], setup: MeasurementSetup
) -> InfeasibleError:
    largest = largest_batch_size(fits, below=setup.batch_size)
    return InfeasibleError(
        f"out of memory at batch {setup.batch_size} and {setup.image_size} px: "
        f"{message}; the largest batch that fits is {largest}",
        metrics={"largest_batch_size": float(largest)},
    )
