"""Results of finals: means and spreads, how well the proxy ranked, and the best network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from effnas.workflows.finals.evaluate_test import FinalTest
from effnas.workflows.finals.finalists import Finalist
from effnas.workflows.proxy.statistics import Estimate, correlate, spearman
from effnas.workflows.trainings.folder import Result
from effnas.workflows.trainings.standings import Comparison, Schedule, Standing


@dataclass(frozen=True, kw_only=True)
class FinalistStanding(Standing):
    """How one finalist stands; its scores are rewards with the search's S and P.

    Attributes:
        finalist: The trial, and why it is a finalist.
    """

    finalist: Finalist

    @property
    def middle_seed(self) -> int:
        """The training of middle accuracy, by its `repeat`: the best would owe it to luck."""
        order = sorted(range(len(self.accuracies)), key=lambda n: self.accuracies[n])
        return order[(len(order) - 1) // 2]

    def to_row(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        trial = self.finalist.trial
        return {
            "trial": trial.number,
            "reason_for_final": self.finalist.reason,
            "architecture": str(trial.architecture),
            "architecture_id": trial.architecture.id,
            "proxy_reward": trial.reward,
            "proxy_accuracy": trial.metrics.get("accuracy"),
            **({"proxy_predicted": True} if trial.is_predicted else {}),
            "epochs": self.epochs,
            "accuracies": list(self.accuracies),
            "rewards": list(self.scores),
            "mean_reward": self.mean if self.scores else None,
            "spread": self.spread,
            "chance": self.chance,
            "train_time_s": self.train_time_s,
            "reason": self.reason,
        }


@dataclass(frozen=True, kw_only=True)
class FinalsReport:
    """The finalists, the best first, and how well the proxy ranked them.

    Attributes:
        standings: Those trained farthest first, by mean reward.
        epochs: Epochs of a whole training.
        seeds: Trainings of each finalist.
        correlation: Spearman's rho of the proxy's rewards with those of the finals, at the last
            level that all have reached; without a value where that is not known.
        correlation_epochs: Epochs of that level.
        correlated: Networks that have reached it.
        test: What a network that these finals picked reaches on the test part; None if that was not
            read.
    """

    standings: tuple[FinalistStanding, ...]
    epochs: int
    seeds: int
    correlation: Estimate
    correlation_epochs: int
    correlated: int
    test: FinalTest | None = None

    @property
    def base(self) -> FinalistStanding | None:
        """The network that is picked: the highest mean of those trained to the end."""
        return next(iter(self.whole), None)

    @property
    def whole(self) -> Sequence[FinalistStanding]:
        """Those trained to the end, the best first: only these compare."""
        return [each for each in self.standings if each.epochs == self.epochs]

    @property
    def stopped(self) -> Sequence[FinalistStanding]:
        """The others: too weak to continue, or not to be trained at all."""
        return [each for each in self.standings if each.epochs != self.epochs]


def make_report(
    finalists: Sequence[Finalist],
    schedule: Schedule,
    results: list[Result],
    score: Callable[[Finalist, float], float],
    holdout_images: int | None = None,
) -> FinalsReport:
    """Return the report on results.

    Args:
        finalists: Who takes part.
        schedule: Levels and seeds.
        results: All trainings that have ended.
        score: Gives the reward of a finalist with an accuracy.
        holdout_images: Images that accuracies are measured on; None where that is not known.
    """
    by_name = {finalist.trial.architecture.id: finalist for finalist in finalists}
    comparison = Comparison(
        schedule=schedule,
        results=results,
        score=lambda name, accuracy: score(by_name[name], accuracy),
        holdout_images=holdout_images,
    )
    standings = [
        FinalistStanding(finalist=by_name[each.name], **vars(each))
        for each in comparison.ranked(list(by_name))
    ]
    shared = [each for each in standings if each.reason is None]
    level = min((each.epochs for each in shared), default=0)
    there = {each.name: comparison.accuracies_at(each.name, level) for each in shared}
    ranked = [each for each in shared if there[each.name]]
    correlation = correlate(
        spearman,
        np.array([[each.finalist.trial.reward or 0.0] for each in ranked]),
        np.array(
            [[score(each.finalist, accuracy) for accuracy in there[each.name]] for each in ranked]
        ),
        np.random.default_rng(0),
        averaged=True,
    )
    return FinalsReport(
        standings=tuple(standings),
        epochs=schedule.levels[-1],
        seeds=schedule.seeds,
        correlation=correlation,
        correlation_epochs=level,
        correlated=len(ranked),
    )
