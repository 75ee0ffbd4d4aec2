"""From guesses of metrics to guesses of rewards."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import exp
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from effnas.errors import RewardError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from effnas.reward import Reward


class MetricGuess(NamedTuple):
    """Mean and standard deviation of a metric, or of its logarithm."""

    mean: float
    deviation: float
    is_log: bool

    def value(self, name: str, deviations: float) -> float:
        """Return the metric so many deviations from the mean, within its bounds."""
        value = self.mean + deviations * self.deviation
        if self.is_log:
            value = exp(min(value, 700.0))
        return min(max(value, 0.0), 1.0) if name == "accuracy" else value


@dataclass(frozen=True)
class Guess:
    """Mean and standard deviation of the rewards of N architectures, [N]."""

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    def gain(self, best: float) -> NDArray[np.float64]:
        """Return the expected improvement over `best`, [N]."""
        from scipy.special import ndtr

        ahead = self.mean - best
        deviation = np.maximum(self.deviation, 1e-12)
        z = ahead / deviation
        density = np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)
        gain = np.where(self.deviation > 0, ahead * ndtr(z) + deviation * density, ahead)
        return np.maximum(gain, 0.0)

    def log_gain(self, best: float) -> NDArray[np.float64]:
        """Return the logarithm of the expected improvement over `best`, [N].

        It still ranks architectures that are so far below that the improvement itself is rounded to
        nothing (Ament et al. 2023, section 4).
        """
        from scipy.special import ndtr

        deviation = np.maximum(self.deviation, 1e-12)
        z = (self.mean - best) / deviation
        log_density = -0.5 * z * z - 0.5 * np.log(2 * np.pi)
        near = np.exp(log_density) + z * ndtr(z)
        # Far below, density + z * ndtr(z) cancels out; the two first terms of its series do not.
        far = log_density - np.log(np.maximum(z * z, 1.0))
        with np.errstate(divide="ignore"):
            inside = np.where(z > -5, np.log(np.maximum(near, 1e-300)), far)
        return np.asarray(inside + np.log(deviation))


def guess_rewards(
    score: Callable[[Mapping[str, float]], float],
    sure: Sequence[Mapping[str, float]],
    unknown: Sequence[Mapping[str, MetricGuess]],
) -> Guess:
    """Return what rewards of N architectures are to be expected.

    A reward may be any function, so its mean and deviation come from the 2 M points of the cubature
    rule for M unknown metrics (Arasaratnam & Haykin 2009, section IV).

    Args:
        score: Returns the reward for metrics by name.
        sure: What is known of each architecture.
        unknown: What is guessed of each, by metric.
    """
    mean, deviation = np.zeros(len(sure)), np.zeros(len(sure))
    for n, (known, guessed) in enumerate(zip(sure, unknown, strict=True)):
        if not guessed:
            mean[n] = score(known)
            continue
        middle = dict(known) | {name: guess.value(name, 0.0) for name, guess in guessed.items()}
        far = len(guessed) ** 0.5
        rewards = [
            score({**middle, name: guess.value(name, deviations)})
            for name, guess in guessed.items()
            for deviations in (-far, far)
        ]
        mean[n] = sum(rewards) / len(rewards)
        deviation[n] = (sum((r - mean[n]) ** 2 for r in rewards) / len(rewards)) ** 0.5
    return Guess(mean, deviation)


def metrics_that_matter(reward: Reward, metrics: Mapping[str, float], value: float) -> list[str]:
    """Return the metrics of a trial without which its reward is another one, or none.

    Args:
        reward: The reward.
        metrics: All metrics of the trial.
        value: Its reward.
    """
    if reward.metrics:
        return [name for name in metrics if name in reward.metrics]
    found = []
    for name in metrics:
        try:
            same = reward.score({n: v for n, v in metrics.items() if n != name}) == value
        except RewardError:
            same = False
        if not same:
            found.append(name)
    return found
