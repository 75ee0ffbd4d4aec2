"""When failures of trials end a search, and when those of before are not tried again."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from effnas.config.text import counted
from effnas.errors import SearchFailedError

#: A search gives up when, of this many trials that ended last, more than half failed, and this
#: number of them at least: a few networks that crash a worker do not end it.
_RECENT, _LEAST = 10, 3


class Failures:
    """The failures of a run of a search.

    Args:
        before: Numbers of the trials that failed in an earlier one. That they fail again says
            nothing new.
    """

    def __init__(self, before: Iterable[int] = ()) -> None:
        self._before = frozenset(before)
        self._again = 0
        self._recent: deque[bool] = deque(maxlen=_RECENT)

    @property
    def may_try_again(self) -> bool:
        """Whether trials of before are tried again: where some fail again, so will the others."""
        return self._again < _LEAST

    def succeeded(self) -> None:
        """A trial has ended with a result."""
        self._recent.append(False)

    def failed(self, number: int, reason: str | None) -> None:
        """A trial has failed for good in this run.

        Raises:
            SearchFailedError: If most of the last trials did.
        """
        if number in self._before:
            self._again += 1
            return
        self._recent.append(True)
        failures = sum(self._recent)
        if failures >= _LEAST and 2 * failures > len(self._recent):
            raise SearchFailedError(
                f"{failures} of the last {counted(len(self._recent), 'trial')} failed, the last "
                f"with: {reason}; all of them are stored, and the same command continues"
            )
