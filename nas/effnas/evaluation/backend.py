"""What a back end is: it runs evaluations somewhere and hands back their outcomes."""

from __future__ import annotations

import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, TypeVar

from effnas.errors import InfeasibleError, UserError
from effnas.evaluation.evaluator import Evaluator, Job
from effnas.trials.trial import Measurement

if TYPE_CHECKING:
    from effnas.config.recipe import Recipe

T = TypeVar("T")

#: Makes an evaluator where the work is done; takes the recipe of a job that has one.
MakeEvaluator = Callable[..., Evaluator]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of a job: a measurement, or one of the three that follow it.

    Attributes:
        trial: The job's trial.
        measurement: What was measured; of an infeasible architecture, what is known all the same.
        infeasible: Why the architecture cannot be built, timed or trained.
        failure: What went wrong although the architecture may be fine: a bug or a lost worker.
        user_error: A mistake of the user's that only a worker could find.
        duration_s: Wall-clock seconds of the worker.
    """

    trial: int
    measurement: Measurement | None = None
    infeasible: str | None = None
    failure: str | None = None
    user_error: UserError | None = None
    duration_s: float = 0.0


class Backend(Protocol):
    """Runs jobs; at most `capacity` of them are under way at once."""

    capacity: int

    def submit(self, job: Job) -> None:
        """Start a job."""

    def next_done(self) -> Outcome:
        """Wait for the next job to end, in whatever order they do."""

    def close(self) -> None:
        """Give up what is under way and release the workers."""


def run_job(evaluator: Evaluator, job: Job) -> Outcome:
    """Evaluate one job; nothing but an interrupt escapes."""
    started = time.perf_counter()
    found = Outcome(trial=job.trial)
    try:
        found = replace(found, measurement=evaluator(job))
    except InfeasibleError as error:
        measurement = Measurement(metrics=error.metrics)
        found = replace(found, measurement=measurement, infeasible=str(error))
    except UserError as error:
        found = replace(found, user_error=error)
    except Exception as error:  # noqa: BLE001  # whatever it is, the search must hear of it
        place = traceback.extract_tb(error.__traceback__)[-1]
        failure = f"{type(error).__name__}: {error} ({place.filename}:{place.lineno})"
        found = replace(found, failure=failure)
    return replace(found, duration_s=time.perf_counter() - started)


class Worker:
    """Runs jobs with one evaluator at a time, since each holds its images.

    Args:
        make: Makes the evaluator for the first job, and again for a job with another recipe.
    """

    def __init__(self, make: MakeEvaluator) -> None:
        self._make = make
        self._evaluator: Evaluator | None = None
        self._recipe: Recipe | None = None

    def run(self, job: Job) -> Outcome:
        """Run a job."""
        try:
            evaluator = self._warm(job.recipe)
        except UserError as error:
            return Outcome(trial=job.trial, user_error=error)
        return run_job(evaluator, job)

    def ask(self, question: Callable[[Evaluator], T], recipe: Recipe | None) -> T | UserError:
        """Return the answer of the evaluator for a recipe, or why there is none."""
        try:
            return question(self._warm(recipe))
        except UserError as error:
            return error

    def use(self, make: MakeEvaluator) -> None:
        """Make the evaluators that are yet to come in another way."""
        self._make = make

    def _warm(self, recipe: Recipe | None) -> Evaluator:
        if self._evaluator is None or recipe != self._recipe:
            self._evaluator = None  # its images make room for those of the next
            self._evaluator = self._make() if recipe is None else self._make(recipe)
            self._recipe = recipe
        return self._evaluator


class InlineBackend:
    """Runs one job at a time in this process, when its outcome is asked for.

    Args:
        evaluator: Runs the jobs; where they have recipes of their own, a worker does.
    """

    capacity = 1

    def __init__(self, evaluator: Evaluator | Worker) -> None:
        self._worker = evaluator if isinstance(evaluator, Worker) else Worker(lambda: evaluator)
        self._jobs: deque[Job] = deque()

    def submit(self, job: Job) -> None:
        """Queue a job."""
        self._jobs.append(job)

    def next_done(self) -> Outcome:
        """Run the next job."""
        return self._worker.run(self._jobs.popleft())

    def close(self) -> None:
        """Forget the queued jobs."""
        self._jobs.clear()
