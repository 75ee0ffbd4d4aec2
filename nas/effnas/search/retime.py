"""Step times of finished trials, found again: measured, or of another device."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, TypeAlias

from effnas.errors import InfeasibleError, SearchFailedError
from effnas.evaluation.backend import Outcome
from effnas.evaluation.evaluator import Job, Task
from effnas.evaluation.work import drain
from effnas.trials.trial import Measurement, Trial

if TYPE_CHECKING:
    from effnas.evaluation.backend import Backend
    from effnas.search.search import Search
    from effnas.timing.step_time import StepTimeSource

#: What a timing makes of a trial beside its step time: the trial and the outcome to be stored.
Settle: TypeAlias = Callable[[Trial, Outcome], tuple[Trial, Outcome]]

#: Trials whose predicted step times are measured at the end of a search.
FINALISTS = 5


def time_finalists(
    search: Search,
    backend: Backend,
    on_trial: Callable[[Trial], None] | None = None,
    *,
    count: int = FINALISTS,
    task: Task = Task.TIME,
    settle: Settle | None = None,
) -> None:
    """Measure step times that were predicted, until those of the best trials are measured.

    Args:
        search: The search.
        backend: Runs the timings.
        on_trial: Called with every trial whose step time was measured.
        count: This many of the best trials are timed, and the whole front.
        task: As of `retime`.
        settle: As of `retime`.

    Raises:
        SearchFailedError: If one cannot be timed though its network may be fine.
    """

    def next_predicted(under_way: Collection[int]) -> Trial | None:
        best = [*search.trials.ranked()[:count], *search.pareto_front]
        wanted = (t for t in best if t.measurement.step_time_source == "predicted")
        return next((t for t in wanted if t.number not in under_way), None)

    retime(search, backend, next_predicted, on_trial=on_trial, task=task, settle=settle)


def retime(
    search: Search,
    backend: Backend,
    choose: Callable[[Collection[int]], Trial | None],
    *,
    on_trial: Callable[[Trial], None] | None = None,
    task: Task = Task.TIME,
    settle: Settle | None = None,
) -> None:
    """Time trials that are complete (of this search or another one), and score them again.

    Args:
        search: The search that takes them.
        backend: Runs the timings.
        choose: Gives the next trial to time, or None; takes the numbers of those under way.
        on_trial: Called with every trial that was timed.
        task: What timing one is: `TIME` or `PLAN`.
        settle: What becomes of a trial that was timed; None changes its step time alone.

    Raises:
        SearchFailedError: If one cannot be timed though its network may be fine.
    """
    under_way: dict[int, Trial] = {}

    def next_job() -> Job | None:
        trial = choose(under_way)
        if trial is None:
            return None
        under_way[trial.number] = trial
        return Job(trial.number, trial.architecture, task)

    def take(outcome: Outcome) -> None:
        trial = _taken(search, under_way.pop(outcome.trial), outcome, settle)
        if on_trial:
            on_trial(trial)

    def failed(outcome: Outcome, is_last: bool) -> None:
        if is_last:
            raise SearchFailedError(
                f"trial {outcome.trial} cannot be timed: {outcome.failure}; all trials are stored"
            )

    drain(backend, next_job, take, failed)


def take_step_time(
    search: Search, trial: Trial, source: StepTimeSource, settle: Settle | None = None
) -> Trial:
    """Give a complete trial (of this search or another one) the step time of a source.

    Args:
        search: The search that takes it.
        trial: The trial.
        source: Of step times.
        settle: As of `retime`.
    """
    try:
        found = source(trial.architecture)
    except InfeasibleError as error:
        outcome = Outcome(trial=trial.number, infeasible=str(error))
    else:
        measurement = Measurement(
            metrics=found.metrics, hardware=found.hardware, step_time_source=found.source
        )
        outcome = Outcome(trial=trial.number, measurement=measurement)
    return _taken(search, trial, outcome, settle)


def _taken(search: Search, trial: Trial, outcome: Outcome, settle: Settle | None) -> Trial:
    return search.take_timing(*(settle(trial, outcome) if settle else (trial, outcome)))
