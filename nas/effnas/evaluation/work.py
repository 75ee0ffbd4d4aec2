"""The work loop: keep a back end busy until no job is left."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from effnas.errors import SearchFailedError

if TYPE_CHECKING:
    from effnas.evaluation.backend import Backend, Outcome
    from effnas.evaluation.evaluator import Job

#: Attempts at a job whose worker is lost or meets a bug.
MAX_ATTEMPTS = 2


def give_up(outcome: Outcome, is_last: bool) -> None:
    """Raise SearchFailedError if a training failed for the last time."""
    if is_last:
        raise SearchFailedError(
            f"a training failed {MAX_ATTEMPTS} times, the last with: {outcome.failure}; all that "
            "ended is stored, and the same command continues"
        )


def drain(
    backend: Backend,
    next_job: Callable[[], Job | None],
    take: Callable[[Outcome], None],
    failed: Callable[[Outcome, bool], None] = give_up,
) -> None:
    """Run jobs, as many at once as the back end has room for, until there are none left.

    A job whose worker is lost or meets a bug is run again at once.

    Args:
        backend: Runs the jobs; the caller closes it.
        next_job: Returns a job, its number not that of another one under way, or None while there
            is none; called again after every outcome.
        take: Receives each measurement and each reason for having none.
        failed: Receives each failure, and whether it was the last attempt; it may raise.

    Raises:
        UserError: As soon as a worker meets a mistake of the user's.
    """
    under_way: dict[int, tuple[Job, int]] = {}

    def start(job: Job, attempt: int) -> None:
        backend.submit(job)
        under_way[job.trial] = job, attempt

    while True:
        while len(under_way) < backend.capacity and (job := next_job()):
            start(job, 1)
        if not under_way:
            return
        outcome = backend.next_done()
        job, attempt = under_way.pop(outcome.trial)
        if outcome.user_error is not None:
            raise outcome.user_error
        if outcome.failure is None:
            take(outcome)
            continue
        failed(outcome, attempt == MAX_ATTEMPTS)
        if attempt < MAX_ATTEMPTS:
            start(job, attempt + 1)
