"""The back end that works in the driver's own process: for debugging and for quick functions."""

from __future__ import annotations

from collections import deque

from effnas.evaluation.backend import Job, Outcome, Worker
from effnas.evaluation.evaluator import Evaluator


class InlineBackend:
    """Runs one job at a time, when its outcome is asked for.

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
