"""What a search has cost: the time of its workers, and how much of it is left."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from effnas.trials.baselines import Baseline
from effnas.trials.trial import TrialState


class _Ended(Protocol):
    """What counts of a trial."""

    @property
    def state(self) -> TrialState: ...
    @property
    def has_result(self) -> bool: ...
    @property
    def duration_s(self) -> float | None: ...


@dataclass(frozen=True, kw_only=True)
class WorkTime:
    """Seconds of workers, all together.

    Attributes:
        trials_s: Of trials that have ended or paused.
        baselines_s: Of the trainings of baselines.
        left_s: Of the trials that the budget leaves, at the same mean; None before the first one.
    """

    trials_s: float
    baselines_s: float
    left_s: float | None

    @property
    def total_s(self) -> float:
        """All that was spent."""
        return self.trials_s + self.baselines_s

    @classmethod
    def of(cls, trials: Iterable[_Ended], baselines: Iterable[Baseline], budget: int) -> WorkTime:
        """Return what a search with a budget of trials has cost so far."""
        ended = [trial for trial in trials if trial.has_result]
        seconds = [trial.duration_s for trial in ended if trial.duration_s is not None]
        left = max(budget - len(ended), 0)
        return cls(
            trials_s=float(sum(seconds)),
            baselines_s=float(sum(r.duration_s for each in baselines for r in each.results)),
            left_s=sum(seconds) / len(seconds) * left if seconds else None,
        )
