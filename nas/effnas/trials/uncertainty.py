"""How sure accuracies and rewards are: standard errors, and which trials cannot be told apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np

from effnas.trials.baselines import Baseline
from effnas.trials.reward import Reward
from effnas.trials.trial import Trial, Trials

#: Draws from what is known of the true rewards.
_DRAWS = 4_000
#: A 95 % interval of a normal distribution has this half-width in standard deviations.
_Z = 1.96


@dataclass(frozen=True, kw_only=True)
class Noise:
    """What makes a measured accuracy differ from that of the same recipe on endless images.

    Attributes:
        holdout_images: Images that give A; None where that is not known.
        seed_spread: Standard deviation of A over seeds, 0 to 1; None where no network was trained
            with several.
    """

    holdout_images: int | None
    seed_spread: float | None = None

    @classmethod
    def of(cls, holdout_images: int | None, baselines: Iterable[Baseline]) -> Noise:
        """Return the noise; its spread over seeds is pooled over baselines with several."""
        several = [b.accuracies for b in baselines if len(b.accuracies) > 1]
        freedom = sum(len(each) - 1 for each in several)
        squares = sum((len(each) - 1) * float(np.var(each, ddof=1)) for each in several)
        return cls(
            holdout_images=holdout_images,
            seed_spread=sqrt(squares / freedom) if freedom else None,
        )

    def standard_error(self, accuracy: float, trainings: int = 1) -> float | None:
        """Return the standard error of a mean accuracy; None where nothing is known.

        The binomial error of the hold-out, which all trainings share, and the spread over seeds.
        """
        if not self.holdout_images:
            return None
        # (k + 1) / (n + 2): an accuracy of 0 or 1 is not certain either.
        n = self.holdout_images
        p = (accuracy * n + 1) / (n + 2)
        return sqrt(p * (1 - p) / n + (self.seed_spread or 0.0) ** 2 / trainings)


def images_to_tell_apart(accuracy: float, difference: float) -> int:
    """Return how large a hold-out must be for a difference of accuracies to show (95 %)."""
    return ceil(2 * accuracy * (1 - accuracy) * (_Z / difference) ** 2)


@dataclass(frozen=True, kw_only=True)
class RankedTrial:
    """What is known of the true reward of a complete trial.

    Attributes:
        trial: The trial.
        accuracy_error: Standard error of its accuracy; None where that is not known.
        low: The true reward is above this with 95 %.
        high: The true reward is below this with 95 %.
        best_probability: That it is the best of the complete trials, 0 to 1; None: not known.
        rank: The best rank that it may have, from 1.
        last_rank: The worst one; trials that cannot be told apart share ranks.
    """

    trial: Trial
    accuracy_error: float | None
    low: float | None
    high: float | None
    best_probability: float | None
    rank: int
    last_rank: int


def rank_trials(trials: Trials, reward: Reward, noise: Noise) -> list[RankedTrial]:
    """Return how sure the ranking of the complete trials is, the highest measured reward first.

    The true rewards are assumed to be normal around their mean with the spread that is left when
    the noise is taken away from the measured ones (empirical Bayes), so that a trial which was
    lucky is not believed in full.
    """
    ranked = trials.ranked()
    errors = [noise.standard_error(t.metrics["accuracy"]) if "accuracy" in t.metrics else None
              for t in ranked]  # fmt: skip
    if not ranked or any(error is None for error in errors):
        return [
            RankedTrial(trial=t, accuracy_error=e, low=None, high=None, best_probability=None,
                     rank=n, last_rank=n)
            for n, (t, e) in enumerate(zip(ranked, errors, strict=True), start=1)
        ]  # fmt: skip
    measured = np.array([t.reward for t in ranked], dtype=float)
    pairs = zip(ranked, errors, strict=True)
    spread = np.array([reward_error(t.metrics, reward, error or 0.0) for t, error in pairs])
    means, deviations = _shrunk(measured, spread)
    rng = np.random.default_rng(0)
    drawn = means + deviations * rng.standard_normal((_DRAWS, len(means)))
    best = np.bincount(drawn.argmax(axis=1), minlength=len(means)) / _DRAWS
    places = (-drawn).argsort(axis=1).argsort(axis=1) + 1
    first, last = np.quantile(places, [0.05, 0.95], axis=0, method="nearest")
    return [
        RankedTrial(
            trial=t,
            accuracy_error=errors[n],
            low=float(means[n] - 1.645 * deviations[n]),
            high=float(means[n] + 1.645 * deviations[n]),
            best_probability=float(best[n]),
            rank=int(first[n]),
            last_rank=int(last[n]),
        )
        for n, t in enumerate(ranked)
    ]


def reward_error(m: Mapping[str, float], reward: Reward, accuracy_error: float) -> float:
    """Return the standard error of the reward of metrics, from those of accuracy and step time."""
    steps = {"accuracy": accuracy_error}
    if "step_time_low" in m and "step_time_high" in m:
        steps["step_time"] = (m["step_time_high"] - m["step_time_low"]) / (2 * _Z)
    squares = 0.0
    for name, step in steps.items():
        if step > 0:
            sides = [reward.score({**m, name: max(m[name] + sign * step, 1e-9)})
                     for sign in (-1, 1)]  # fmt: skip
            squares += ((sides[1] - sides[0]) / 2) ** 2
    return sqrt(squares)


def _shrunk(
    measured: Sequence[float] | np.ndarray, spread: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return means and deviations of true values, given measured ones and their errors."""
    values = np.asarray(measured)
    mean = float(values.mean())
    between = max(float(values.var()) - float((spread**2).mean()), 1e-12)
    weight = between / (between + spread**2)
    return mean + weight * (values - mean), np.sqrt(weight) * spread
