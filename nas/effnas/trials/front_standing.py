"""How a Pareto front stands against guessing, and against the baselines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from effnas.trials.objectives import Objective, Objectives
from effnas.trials.reward import Reward
from effnas.trials.trial import Trial, Trials
from effnas.trials.uncertainty import CLEARLY, LEVEL, Ranking, rank_trials

if TYPE_CHECKING:
    from effnas.trials.baselines import Baseline
    from effnas.trials.run import Run

_ACCURACY = "accuracy"


@dataclass(frozen=True, kw_only=True)
class Against:
    """How a Pareto front stands against a baseline.

    Attributes:
        name: Of the baseline.
        dominated_by: Numbers of trials of the front that are measured to be as good in all
            objectives, and better in one.
        clearly_by: Those of them that are so by more than what measuring leaves open: accuracy
            with `CLEARLY`, step times by their 95 % intervals.
        dominates: Numbers of trials of the front that it dominates, as measured.
        lacks: Metrics of the objectives that it lacks; then nothing is known of it.
    """

    name: str
    dominated_by: tuple[int, ...] = ()
    clearly_by: tuple[int, ...] = ()
    dominates: tuple[int, ...] = ()
    lacks: tuple[str, ...] = ()


@dataclass(frozen=True)
class FrontStanding:
    """What is known of the Pareto front of a run that pursues objectives."""

    run: Run
    objectives: Objectives

    @cached_property
    def front(self) -> list[Trial]:
        """The trials that none dominates, the best of the first objective first."""
        return self.run.pareto_front

    @property
    def complete(self) -> int:
        """Trials that have all objectives."""
        return sum(self.objectives.of(trial) is not None for trial in self.run.trials)

    @cached_property
    def above_guessing(self) -> tuple[int, ...] | None:
        """Numbers of the trials of the front that guess no longer, with `LEVEL`; None: not known.

        The luck in accuracies is taken off.
        """
        guessing, known = self.run.manifest.data.guessing, self._accuracies
        if guessing.best is None or known is None:
            return None
        found = tuple(
            trial.number
            for trial in self.front
            if (known.above(trial, guessing.best) or 0.0) >= LEVEL
        )
        # Above chance may still be the largest class.
        return found if guessing.largest is not None or not found else None

    @property
    def learned_nothing(self) -> bool:
        """Whether no trial of the front is clearly more accurate than guessing."""
        return bool(self.front) and self.above_guessing == ()

    @cached_property
    def against(self) -> tuple[Against, ...]:
        """How it stands against each baseline that could be measured."""
        return tuple(self._against(each) for each in self.run.baselines if not each.reason)

    @cached_property
    def _accuracies(self) -> Ranking | None:
        """What is known of true accuracies, whatever the reward; None where that is nothing."""
        measured = Trials(
            replace(trial, reward=trial.metrics[_ACCURACY])
            for trial in self.run.trials.ranked()
            if _ACCURACY in trial.metrics
        )
        found = rank_trials(measured, Reward.load(_ACCURACY), self.run.noise)
        numbers = {each.trial.number for each in found}
        is_whole = all(trial.number in numbers for trial in self.front)
        return found if found.is_known and is_whole else None

    def _against(self, baseline: Baseline) -> Against:
        metrics = baseline.metrics
        lacking = tuple(each.metric for each in self.objectives if each.metric not in metrics)
        if lacking:
            return Against(name=baseline.name, lacks=lacking)
        theirs = self.objectives.values(metrics)
        values = {trial.number: self.objectives.values(trial.metrics) for trial in self.front}
        better = [t for t in self.front if _dominates(values[t.number], theirs)]
        return Against(
            name=baseline.name,
            dominated_by=tuple(trial.number for trial in better),
            clearly_by=tuple(t.number for t in better if all(self._clear(t, baseline))),
            dominates=tuple(n for n, mine in values.items() if _dominates(theirs, mine)),
        )

    def _clear(self, trial: Trial, baseline: Baseline) -> Iterator[bool]:
        """Yield for each objective whether measuring leaves no doubt that a trial is as good."""
        mine, theirs = trial.metrics, baseline.metrics
        for each in self.objectives:
            if each.metric == _ACCURACY:
                known = self._accuracies
                found = known.compare(trial, baseline, "accuracy") if known else None
                chance = found.probability if found else 0.0
                yield (chance if each.maximize else 1 - chance) >= CLEARLY
            else:
                worst, best = _end(each, mine, best=False), _end(each, theirs, best=True)
                yield worst >= best if each.maximize else worst <= best


def _end(objective: Objective, metrics: Mapping[str, float], *, best: bool) -> float:
    """Return the best or the worst that a metric may be, by its interval if it has one."""
    end = "high" if objective.maximize == best else "low"
    seconds = objective.metric.removesuffix("_s")
    name = f"{seconds}_{end}" + "_s" * (seconds != objective.metric)
    return metrics.get(name, metrics[objective.metric])


def _dominates(mine: tuple[float, ...], theirs: tuple[float, ...]) -> bool:
    return mine != theirs and all(a >= b for a, b in zip(mine, theirs, strict=True))
