"""The back end that works in the driver's own process: for debugging and for quick functions."""

from __future__ import annotations

from collections import deque

from effnas.evaluation.backend import Job, Outcome, run_job
from effnas.evaluation.evaluator import Evaluator


class InlineBackend:
    """Runs one job at a time, when its outcome is asked for."""

    capacity = 1

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator
        self._jobs: deque[Job] = deque()

    def submit(self, job: Job) -> None:
        """Put a job in line."""
        self._jobs.append(job)

    def next_done(self) -> Outcome:
        """Run the next job."""
        return run_job(self._evaluator, self._jobs.popleft())

    def close(self) -> None:
        """Forget the jobs in line."""
        self._jobs.clear()
