"""What a search is after, and what it knows of an architecture before it is tried."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from effnas.arch.architecture import Architecture
    from effnas.config.expressions import Expression
    from effnas.trials.objectives import Objectives
    from effnas.trials.reward import Reward


def no_free_metrics(archs: Sequence[Architecture]) -> Sequence[Mapping[str, float]]:
    """Return no metrics of N architectures: what is known where there is no source."""
    return [{} for _ in archs]


#: Takes N architectures; returns the metrics that are known of each without trying it.
FreeMetrics = Callable[["Sequence[Architecture]"], "Sequence[Mapping[str, float]]"]


@dataclass(frozen=True)
class Problem:
    """What controllers may use beside the trials that they are told of.

    Attributes:
        reward: What is to be made large. A trial carries its reward; knowing how it follows from
            metrics lets a controller guess the one that is unknown rather than all of it.
        known: Returns, for each of N architectures, the metrics that are known before it is tried,
            such as a step time that a device profile predicts. Those that a space counts need not
            be among them.
        objectives: What is pursued in place of the reward, if anything, by the controllers that
            take objectives.
        constraints: Conditions over metrics that every trial must meet, or be INFEASIBLE. What
            they speak of are the space's quantities, and metrics and symbols of
            `effnas.trials.reward`. Those that a space can check by itself are constraints of the
            space, and not here.
    """

    reward: Reward
    known: FreeMetrics = no_free_metrics
    objectives: Objectives | None = None
    constraints: tuple[Expression, ...] = ()
