"""Which trials of a search go to the finals."""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from effnas.config.text import counted
from effnas.errors import ConfigError, check_at_least
from effnas.trials.learning_curve import best_after
from effnas.trials.objectives import Objectives, non_dominated

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from effnas.trials.run import Run
    from effnas.trials.trial import Trial

#: Why a trial goes to the finals.
Reason: TypeAlias = Literal["reward", "curve", "front"]
#: What a run without objectives of its own is compared by.
_COMPARED = ("accuracy:max", "step_time:min", "params:min")


@dataclass(frozen=True)
class Finalist:
    """A trial that goes to the finals.

    Attributes:
        trial: A complete trial of the search.
        reason: `reward` for one of the best, `curve` for what learning curves predict to be the
            best after a training as long as the finals', `front` for one that no other dominates.
    """

    trial: Trial
    reason: Reason


def choose_finalists(run: Run, top: int, train_time_s: float | None = None) -> list[Finalist]:
    """Return the best trials by reward, and members of the front that differ from them.

    Of a search by time, what is likely to be the best after the finals stands between these, unless
    it is one of the best anyway.

    The front is that of the run's objectives, else of accuracy, step time and params. Of its
    members, those are taken in turn that are farthest from all taken before, by the logarithms of
    their metrics; as many as `top` at most.

    Args:
        run: A run with complete trials.
        top: Trials by reward, 1 or more.
        train_time_s: Seconds of a final; None where they are not by time.

    Raises:
        ConfigError: If `top` is below 1, or no trial is complete.
    """
    check_at_least(1, top=top)
    ranked = run.trials.ranked()
    if not ranked:
        raise ConfigError(
            f"{run.path}: of {counted(len(run.trials), 'trial')}, none is complete, so there is "
            "nothing to promote; let the search continue first"
        )
    chosen = [Finalist(trial, "reward") for trial in ranked[:top]]
    after = best_after(run, train_time_s) if train_time_s else None
    if after and after.chosen.trial not in ranked[:top]:
        chosen.append(Finalist(after.chosen.trial, "curve"))
    objectives = run.objectives or _objectives(ranked)
    compared = [trial for trial in ranked if objectives and objectives.of(trial) is not None]
    if objectives is None or not compared:
        return chosen
    values = [objectives.values(trial.metrics) for trial in compared]
    front = [compared[n] for n in non_dominated(values)]
    points = {t.number: _point(t, objectives) for t in (*front, *(f.trial for f in chosen))}
    most = len(chosen) + top
    while len(chosen) < most:
        taken = np.array([points[f.trial.number] for f in chosen])
        numbers = {f.trial.number for f in chosen}
        distances = {
            t.number: float(np.abs(taken - points[t.number]).max(axis=1).min())
            for t in front
            if t.number not in numbers
        }
        if not distances or max(distances.values()) <= 0:
            break
        farthest = max(distances, key=lambda number: (distances[number], -number))
        chosen.append(Finalist(next(t for t in front if t.number == farthest), "front"))
    return chosen


def _objectives(trials: list[Trial]) -> Objectives | None:
    """Return the objectives of which all trials have the metric; None for fewer than two."""
    names = [one for one in _COMPARED if all(one.split(":")[0] in t.metrics for t in trials)]
    return Objectives.parse(",".join(names)) if len(names) > 1 else None


def _point(trial: Trial, objectives: Objectives) -> NDArray[np.float64]:
    """Return a trial's objectives as logarithms, so that shares are compared."""
    values = [abs(value) for value in objectives.values(trial.metrics)]
    return np.array([log(value) if value > 0 else -20.0 for value in values])
