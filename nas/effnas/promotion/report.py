"""What came of finals: means and spreads, what they say of the proxy, and which network is best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from effnas.promotion.finalists import Finalist
from effnas.promotion.folder import Result
from effnas.promotion.schedule import Schedule
from effnas.proxy.statistics import Estimate, correlate, spearman

#: Draws from what is known of the means.
_DRAWS = 20_000
#: Networks whose ranks can be compared.
_FEWEST_RANKED = 3


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How one finalist stands.

    Attributes:
        finalist: The network.
        epochs: How far all of its seeds were trained.
        accuracies: Of the seeds, there.
        rewards: The same with the search's S and P.
        train_time_s: Seconds of all its trainings.
        reason: Why it cannot be trained so, if it cannot.
        chance: Probability that it is the best of those trained to the end, by their spread over
            seeds; 0 for one that was not.
    """

    finalist: Finalist
    epochs: int
    accuracies: tuple[float, ...]
    rewards: tuple[float, ...]
    train_time_s: float
    reason: str | None = None
    chance: float = 0.0

    @property
    def mean(self) -> float:
        """Mean reward over seeds; minus infinity where there is none."""
        return float(np.mean(self.rewards)) if self.rewards else float("-inf")

    @property
    def spread(self) -> float:
        """Standard deviation of the reward over seeds; 0 for one seed."""
        return float(np.std(self.rewards, ddof=1)) if len(self.rewards) > 1 else 0.0

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
            "epochs": self.epochs,
            "accuracies": list(self.accuracies),
            "rewards": list(self.rewards),
            "mean_reward": self.mean if self.rewards else None,
            "spread": self.spread if self.rewards else None,
            "chance": self.chance,
            "train_time_s": self.train_time_s,
            "reason": self.reason,
        }


@dataclass(frozen=True, kw_only=True)
class FinalsReport:
    """The finalists, the best first, and what their ranks say of the proxy.

    Attributes:
        standings: Those trained farthest first, by mean reward.
        epochs: Of a whole training.
        seeds: Of each finalist.
        correlation: Spearman's rho of the proxy's rewards with those of the finals, at the last
            level that all have reached; without a value for fewer than three, or where one side is
            constant.
        correlation_epochs: That level.
    """

    standings: tuple[Standing, ...]
    epochs: int
    seeds: int
    correlation: Estimate
    correlation_epochs: int

    @property
    def base(self) -> Standing | None:
        """The network that is picked: the highest mean of those trained to the end."""
        first = self.standings[0]
        return first if first.epochs == self.epochs and first.rewards else None


def make_report(
    finalists: Sequence[Finalist],
    schedule: Schedule,
    results: Sequence[Result],
    score: Callable[[Finalist, float], float],
) -> FinalsReport:
    """Put together what the results say.

    Args:
        finalists: In the order in which they were begun.
        schedule: Of the trainings.
        results: All of them.
        score: The reward of a finalist with another accuracy.
    """
    standings = [_standing(finalist, schedule, results, score) for finalist in finalists]
    whole = [n for n, each in enumerate(standings) if each.epochs == schedule.levels[-1]]
    chances = _chances([standings[n].rewards for n in whole])
    for n, chance in zip(whole, chances, strict=True):
        standings[n] = replace(standings[n], chance=chance)
    shared = [each for each in standings if each.reason is None]
    level = min((each.epochs for each in shared), default=0)
    correlation = Estimate(None)
    if len(shared) >= _FEWEST_RANKED and level:
        correlation = correlate(
            spearman,
            np.array([[each.finalist.trial.reward or 0.0] for each in shared]),
            np.array(
                [
                    [score(each.finalist, a) for a in _at(each.finalist, level, schedule, results)]
                    for each in shared
                ]
            ),
            np.random.default_rng(0),
            averaged=True,
        )
    ordered = sorted(standings, key=lambda each: (-each.epochs, -each.mean))
    return FinalsReport(
        standings=tuple(ordered),
        epochs=schedule.levels[-1],
        seeds=schedule.seeds,
        correlation=correlation,
        correlation_epochs=level,
    )


def _at(
    finalist: Finalist, epochs: int, schedule: Schedule, results: Sequence[Result]
) -> list[float]:
    """Return the accuracies at a level, one for each seed; none if one is missing."""
    name = finalist.trial.architecture.id
    found = {
        r.repeat: r.accuracy
        for r in results
        if r.candidate == name and r.epochs == epochs and r.accuracy is not None
    }
    return [found[n] for n in sorted(found)] if len(found) == schedule.seeds else []


def _standing(
    finalist: Finalist,
    schedule: Schedule,
    results: Sequence[Result],
    score: Callable[[Finalist, float], float],
) -> Standing:
    name = finalist.trial.architecture.id
    mine = [r for r in results if r.candidate == name]
    reached = [level for level in schedule.levels if _at(finalist, level, schedule, results)]
    epochs = max(reached, default=0)
    accuracies = _at(finalist, epochs, schedule, results)
    seconds = {r.repeat: r.train_time_s for r in sorted(mine, key=lambda r: r.epochs)}
    return Standing(
        finalist=finalist,
        epochs=epochs,
        accuracies=tuple(accuracies),
        rewards=tuple(score(finalist, accuracy) for accuracy in accuracies),
        train_time_s=sum(seconds.values()),
        reason=next((r.reason for r in mine if r.reason), None),
    )


def _chances(rewards: Sequence[Sequence[float]]) -> list[float]:
    """Return how likely each is the best, given the rewards of its seeds.

    All are held to have the same spread over seeds, which a few seeds tell only together: it is
    drawn from its scaled inverse chi-squared distribution, the means from normal ones.
    """
    if len(rewards) < 2:
        return [1.0] * len(rewards)
    means = np.array([np.mean(each) for each in rewards])
    counts = np.array([len(each) for each in rewards])
    freedom = int((counts - 1).sum())
    if freedom == 0:  # single seeds say nothing of the spread
        return [1.0 if n == int(np.argmax(means)) else 0.0 for n in range(len(means))]
    squares = sum(float(((np.array(each) - np.mean(each)) ** 2).sum()) for each in rewards)
    rng = np.random.default_rng(0)
    variance = squares / rng.chisquare(freedom, size=(_DRAWS, 1))
    drawn = means + rng.standard_normal((_DRAWS, len(means))) * np.sqrt(variance / counts)
    best = np.bincount(drawn.argmax(axis=1), minlength=len(means))
    return [float(share) for share in best / _DRAWS]
