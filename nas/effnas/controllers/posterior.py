"""From posteriors of metrics to those of rewards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from effnas.errors import RewardError
from effnas.trials.reward import Reward


class MetricPosterior(NamedTuple):
    """Means and standard deviations of a metric of N architectures, or of its logarithm.

    Attributes:
        mean: [N].
        deviation: [N]; 0 where the metric is known.
        is_log: Whether both are of the logarithm.
    """

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]
    is_log: bool

    def values(self, name: str, deviations: float | NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the metric at N times its deviation, or [N], from the mean, within bounds, [N]."""
        values = self.mean + deviations * self.deviation
        if self.is_log:
            values = np.exp(np.minimum(values, 700.0))
        return np.clip(values, 0.0, 1.0) if name == "accuracy" else values


@dataclass(frozen=True)
class Posterior:
    """Mean and standard deviation of the rewards of N architectures, [N]."""

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    def expected_improvement(self, best: float) -> NDArray[np.float64]:
        """Return the expected improvement over `best`, [N]."""
        from scipy.special import ndtr

        ahead = self.mean - best
        deviation = np.maximum(self.deviation, 1e-12)
        z = ahead / deviation
        density = np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)
        expected_improvement = np.where(
            self.deviation > 0, ahead * ndtr(z) + deviation * density, ahead
        )
        return np.maximum(expected_improvement, 0.0)

    def log_expected_improvement(self, best: float) -> NDArray[np.float64]:
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


def reward_posterior(
    score: Callable[[Mapping[str, NDArray[np.float64]]], NDArray[np.float64]],
    known: Mapping[str, NDArray[np.float64]],
    posteriors: Mapping[str, MetricPosterior],
) -> Posterior:
    """Return the posterior of the rewards of N architectures.

    A reward may be any function, so its mean and deviation come from the 2 M points of the cubature
    rule for M predicted metrics (Arasaratnam & Haykin 2009, section IV).

    Args:
        score: Returns the rewards, [N], for metrics by name, [N] each.
        known: The metrics that are known.
        posteriors: Those that are predicted.
    """
    if not posteriors:
        mean = score(known)
        return Posterior(mean, np.zeros(len(mean)))
    middle = {**known, **{name: each.values(name, 0.0) for name, each in posteriors.items()}}
    far = len(posteriors) ** 0.5
    rewards = np.stack(
        [
            score({**middle, name: each.values(name, deviations)})
            for name, each in posteriors.items()
            for deviations in (-far, far)
        ]
    )
    return Posterior(rewards.mean(axis=0), rewards.std(axis=0))


def metrics_that_matter(reward: Reward, metrics: Mapping[str, float], value: float) -> list[str]:
    """Return the metrics of a trial without which its reward, `value`, is another one, or none."""
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
