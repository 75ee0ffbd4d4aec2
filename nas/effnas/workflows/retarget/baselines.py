"""Baselines of a finished run on another device: the same accuracies, other step times."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from effnas.arch.models import TimmModel
from effnas.errors import InfeasibleError, SpaceError
from effnas.evaluation.backend import Backend, InlineBackend, Outcome
from effnas.evaluation.evaluator import TIMING_METRICS, Job, Network, Task
from effnas.evaluation.work import drain
from effnas.trials.baselines import Baseline, BaselineResult
from effnas.trials.manifest import utc_now
from effnas.trials.trial import Measurement

if TYPE_CHECKING:
    from effnas.space.search_space import SearchSpace
    from effnas.timing.step_time import StepTimeSource


def retime_baselines(
    baselines: Iterable[Baseline],
    stored: Iterable[Baseline],
    space: SearchSpace,
    backend: Backend,
    ended: Callable[[BaselineResult], None],
) -> None:
    """Take the results of a finished run over, with step times of the back end's device.

    Args:
        baselines: Of the finished run.
        stored: What is taken over already.
        space: Of the run.
        backend: Times the networks.
        ended: Receives every result, and stores it.
    """
    done = {(r.baseline, r.repeat) for each in stored for r in each.results if not r.failed}
    left = [r for each in baselines for r in each.results if (r.baseline, r.repeat) not in done]
    under_way: dict[int, BaselineResult] = {}

    def next_job() -> Job | None:
        while left:
            result = left.pop(0)
            network = _network(result, space)
            if result.repeat > 0 or "accuracy" not in result.metrics or network is None:
                ended(_elsewhere(result, Outcome(trial=0)))
                continue
            number = max(under_way, default=-1) + 1
            under_way[number] = result
            if isinstance(network, TimmModel):
                return Job(number, space.reference, Task.TIME, model=network)
            return Job(number, network, Task.TIME)
        return None

    def take(outcome: Outcome) -> None:
        ended(_elsewhere(under_way.pop(outcome.trial), outcome))

    drain(backend, next_job, take, lambda outcome, is_last: take(outcome) if is_last else None)


def looking_up(source: StepTimeSource) -> Backend:
    """Return a back end that takes step times from a source; those of timm's are not known."""

    def look_up(job: Job) -> Measurement:
        if job.model:
            raise InfeasibleError("its step time is not known: it is no network of the space")
        found = source(job.architecture)
        return Measurement(
            metrics=found.metrics, hardware=found.hardware, step_time_source=found.source
        )

    return InlineBackend(look_up)


def _network(result: BaselineResult, space: SearchSpace) -> Network | None:
    """Return the network of a result; None if its stem or head is another than the space's."""
    try:
        arch = space.parse_blocks(result.network)
    except SpaceError:
        return TimmModel(result.network)
    counts = space.count(arch)
    known = result.metrics.get("params"), result.metrics.get("macs")
    return arch if known == (counts.params, counts.macs) else None


def _elsewhere(result: BaselineResult, outcome: Outcome) -> BaselineResult:
    """Return a result with the step time of a timing, or without one."""
    found = outcome.measurement or Measurement(metrics={})
    kept = {n: v for n, v in result.metrics.items() if n not in ("step_time", *TIMING_METRICS)}
    reason = outcome.infeasible or outcome.failure
    if reason is None and "accuracy" not in result.metrics:
        reason = result.reason
    elif reason is None and result.repeat == 0 and "step_time" not in found.metrics:
        reason = "its step time is not known: its stem or head is not the space's"
    return replace(
        result,
        metrics={**kept, **found.metrics},
        reason=reason,
        failed=outcome.failure is not None,
        hardware=found.hardware,
        step_time_source=found.step_time_source,
        duration_s=outcome.duration_s,
        ended=utc_now(),
    )
