"""What trials of a search are worth: counted, checked against constraints, and scored."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from effnas.errors import RewardError
from effnas.evaluation.evaluator import TIMING_METRICS
from effnas.trials.constraints import Constraints
from effnas.trials.trial import Measurement, Trial, TrialState

if TYPE_CHECKING:
    from effnas.evaluation.backend import Outcome
    from effnas.trials.problem import Problem


@dataclass(frozen=True)
class Scoring:
    """Turns measurements into trials with a state and a reward.

    Attributes:
        problem: The reward, and the metrics that are free.
        constraints: Conditions that every architecture must meet, and their space.
    """

    problem: Problem
    constraints: Constraints
    #: By trial and epochs: the measurement at a rung, and the reward that follows from it.
    _at_rungs: dict[tuple[int, int], tuple[Measurement, float | None]] = field(default_factory=dict)

    def counted(self, trial: Trial, measurement: Measurement) -> Trial:
        """Return a trial with a measurement, and with what is counted of its architecture."""
        counted = self.constraints.space.counted_metrics(trial.architecture)
        metrics = counted | dict(measurement.metrics)
        return replace(trial, measurement=replace(measurement, metrics=metrics))

    def scored(self, trial: Trial) -> Trial:
        """Return a trial with its reward, or INFEASIBLE if it breaks a constraint.

        Raises:
            RewardError: If the reward cannot be computed.
            ConfigError: If a constraint lacks a metric.
        """
        if broken := self.constraints.broken(trial.architecture, trial.metrics):
            return replace(trial, state=TrialState.INFEASIBLE, reason=broken)
        if self.constraints.of_metrics:
            [known] = self.problem.free_metrics([trial.architecture])
            self.constraints.check_given(known.keys() | trial.metrics.keys())
        return replace(trial, reward=self.problem.reward.score(trial.metrics))

    def retimed(self, trial: Trial, outcome: Outcome, *, before_s: float) -> Trial:
        """Return a complete trial with another step time, and the reward that follows from it.

        Args:
            trial: The trial; what an earlier timing measured is replaced.
            outcome: A timing, or why the network cannot be timed.
            before_s: Seconds that the trial took before.
        """
        found = outcome.measurement or Measurement(metrics={})
        kept = {n: v for n, v in trial.metrics.items() if n not in ("step_time", *TIMING_METRICS)}
        trial = replace(
            trial,
            measurement=replace(
                trial.measurement,
                metrics={**kept, **found.metrics},
                hardware=found.hardware,
                step_time_source=found.step_time_source,
            ),
            reward=None,
            duration_s=before_s + outcome.duration_s,
        )
        infeasible = outcome.infeasible or self.constraints.broken(
            trial.architecture, trial.metrics
        )
        if infeasible is not None:
            return replace(trial, state=TrialState.INFEASIBLE, reason=infeasible)
        return replace(trial, reward=self.problem.reward.score(trial.metrics))

    def reward_at(self, trial: Trial, rung: int) -> float | None:
        """Return the reward of a trial at a rung that it has reached; None if it has no value."""
        measured, reward = self._at_rungs.get((trial.number, rung), (None, None))
        if measured is not trial.measurement:
            metrics = {**trial.metrics, "accuracy": trial.measurement.rungs[rung]}
            try:
                reward = self.problem.reward.score(metrics)
            except RewardError:
                reward = None
            self._at_rungs[trial.number, rung] = trial.measurement, reward
        return reward
