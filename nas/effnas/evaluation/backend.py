"""What a back end is: it runs evaluations somewhere and hands back their outcomes."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from effnas.arch.architecture import Architecture
from effnas.errors import InfeasibleError, UserError
from effnas.evaluation.evaluator import Evaluator, Task
from effnas.trials.trial import Measurement

#: Makes an evaluator where the work is done.
MakeEvaluator = Callable[[], Evaluator]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One evaluation to be done: strings and numbers only, so that it can go anywhere."""

    trial: int
    blocks: tuple[str, ...]
    stem: int
    head: int
    task: Task = Task.EVALUATE
    repeat: int = 0
    epochs: int | None = None

    @classmethod
    def of(
        cls,
        number: int,
        arch: Architecture,
        task: Task = Task.EVALUATE,
        repeat: int = 0,
        epochs: int | None = None,
    ) -> Job:
        """Return the job of a trial; arguments as for an `Evaluator`."""
        return cls(
            trial=number,
            blocks=arch.blocks,
            stem=arch.stem,
            head=arch.head,
            task=task,
            repeat=repeat,
            epochs=epochs,
        )

    @property
    def architecture(self) -> Architecture:
        """The architecture to evaluate."""
        return Architecture.parse(self.blocks, stem=self.stem, head=self.head)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a job: a measurement, or one of the three that follow it.

    Attributes:
        trial: The job's trial.
        measurement: What was measured; of an infeasible architecture, what is known all the same.
        infeasible: Why the architecture cannot be built, timed or trained.
        failure: What went wrong although the architecture may be fine: a bug or a lost worker.
        user_error: A mistake of the user's that only showed in the worker.
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
        ...

    def next_done(self) -> Outcome:
        """Wait for the next job to end, in whatever order they do."""
        ...

    def close(self) -> None:
        """Give up what is under way and release the workers."""
        ...


def run_job(evaluator: Evaluator, job: Job) -> Outcome:
    """Evaluate one job; nothing but an interrupt escapes."""
    started = time.perf_counter()
    measurement, infeasible, failure, user_error = None, None, None, None
    try:
        measurement = evaluator(job.architecture, job.task, job.repeat, job.epochs)
    except InfeasibleError as error:
        infeasible = str(error)
        measurement = Measurement(metrics=error.metrics)
    except UserError as error:
        user_error = error
    except Exception as error:  # noqa: BLE001  # whatever it is, the search must hear of it
        place = traceback.extract_tb(error.__traceback__)[-1]
        failure = f"{type(error).__name__}: {error} ({place.filename}:{place.lineno})"
    return Outcome(
        trial=job.trial,
        measurement=measurement,
        infeasible=infeasible,
        failure=failure,
        user_error=user_error,
        duration_s=time.perf_counter() - started,
    )
