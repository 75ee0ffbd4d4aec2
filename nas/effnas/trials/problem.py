"""What a search optimizes, and which metrics it has without a trial."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from effnas.arch.architecture import Architecture
from effnas.config.expressions import Expression
from effnas.trials.objectives import Objectives
from effnas.trials.reward import Reward


def no_free_metrics(archs: Sequence[Architecture]) -> Sequence[Mapping[str, float]]:
    """Return no metrics for N architectures."""
    return [{} for _ in archs]


#: Takes N architectures; returns the metrics that each has without a trial.
FreeMetrics = Callable[[Sequence[Architecture]], Sequence[Mapping[str, float]]]


@dataclass(frozen=True)
class Problem:
    """What controllers may use besides the trials that they receive.

    Attributes:
        reward: What to maximize. A trial carries its reward; knowing how it follows from metrics
            lets a controller predict only those that are unknown.
        free_metrics: Returns, for each of N architectures, the metrics that it has without a trial,
            such as a step time that a device profile predicts. Those that a space counts need not
            be among them.
        objectives: What controllers that take objectives pursue in place of the reward, if given.
        constraints: Conditions over the space's quantities, and metrics and symbols of
            `effnas.trials.reward`, that every trial must meet, or be INFEASIBLE. Those that a space
            can check by itself are constraints of the space, and not here.
    """

    reward: Reward
    free_metrics: FreeMetrics = no_free_metrics
    objectives: Objectives | None = None
    constraints: tuple[Expression, ...] = ()
