"""How sure accuracies and rewards are: standard errors, and which trials cannot be told apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import ceil, sqrt
from typing import Literal, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from effnas.trials.baselines import Baseline
from effnas.trials.reward import Reward
from effnas.trials.trial import Trial, Trials
from effnas.trials.true_accuracy import (
    arcsine_error,
    drawn_accuracies,
    from_arcsine,
    network_features,
    to_arcsine,
)
from effnas.trials.true_reward import Z95, Draws, drawn_rewards

#: How sure intervals, shared ranks and the set that holds the best are, unless they say otherwise.
LEVEL = 0.9
#: Where it is not clear which trial is the best, so often it is one that the draws have lost sight
#: of, and may be any (`benchmarks/README.md`).
_SURPRISE = 0.07
#: With less than this probability nothing is said to be better: between 80 and 95 %, good baselines
#: were beaten less often than claimed (benchmarks/README.md).
CLEARLY = 0.95
#: Draws from what is known of the true rewards: fewer of many trials, so that a second is enough.
_MIN_DRAWS, _MAX_DRAWS, _MAX_DRAWN = 500, 4_000, 600_000


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
        What is not within 0 and 1 is no accuracy, whatever it is called.
        """
        if not self.holdout_images or not 0 <= accuracy <= 1:
            return None
        # (k + 1) / (n + 2): an accuracy of 0 or 1 is not certain either.
        n = self.holdout_images
        p = (accuracy * n + 1) / (n + 2)
        return sqrt(p * (1 - p) / n + (self.seed_spread or 0.0) ** 2 / trainings)


def images_to_tell_apart(accuracy: float, difference: float) -> int:
    """Return how large a hold-out must be for a difference of accuracies to show (95 %)."""
    return ceil(2 * accuracy * (1 - accuracy) * (Z95 / difference) ** 2)


class Difference(NamedTuple):
    """How much larger one true value is than another.

    Attributes:
        expected: The difference that is expected.
        low: With `LEVEL` the difference is between this and `high`, with as much on either side.
        high: See `low`.
        probability: That it is above 0.
    """

    expected: float
    low: float
    high: float
    probability: float


@dataclass(frozen=True, kw_only=True)
class RankedTrial:
    """What is known of the true accuracy and reward of a complete trial.

    True values are those on endless images, averaged over seeds of the training. All but the trial
    and its ranks are None where the noise is not known.

    Attributes:
        trial: The trial.
        accuracy_error: Standard error of its measured accuracy, or the standard deviation of a
            predicted one.
        accuracy: The true accuracy that is expected, 0 to 1: the measured one, drawn towards those
            of networks that are alike.
        accuracy_low: With `LEVEL` the true accuracy is between this and `accuracy_high`, with as
            much on either side.
        accuracy_high: See `accuracy_low`.
        reward: The true reward that is expected.
        low: With `LEVEL` the true reward is between this and `high`, with as much on either side.
        high: See `low`.
        best_probability: That it is the best of the complete trials, 0 to 1.
        rank: With `LEVEL` its true rank, from 1, is between this and `last_rank`, with no more than
            half of the rest on either side. Trials that cannot be told apart share ranks. Where the
            noise is not known: the ranks of trials with its measured reward.
        last_rank: See `rank`.
    """

    trial: Trial
    accuracy_error: float | None = None
    accuracy: float | None = None
    accuracy_low: float | None = None
    accuracy_high: float | None = None
    reward: float | None = None
    low: float | None = None
    high: float | None = None
    best_probability: float | None = None
    rank: int
    last_rank: int


class Ranking(Sequence[RankedTrial]):
    """The complete trials, the highest measured reward first, and how sure that order is.

    Make it by `rank_trials`. What it says of two networks comes from draws of all true values
    together, so that the luck of the one that was chosen for its measured reward is taken off.
    """

    def __init__(
        self, ranked: Sequence[RankedTrial], reward: Reward, noise: Noise, draws: Draws | None
    ) -> None:
        self._ranked = tuple(ranked)
        self._place = {each.trial.number: n for n, each in enumerate(ranked)}
        self._reward, self._noise, self._draws = reward, noise, draws

    @property
    def is_known(self) -> bool:
        """Whether it is known how sure the order is; else there is the measured order alone."""
        return self._draws is not None

    @overload
    def __getitem__(self, index: int) -> RankedTrial: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[RankedTrial]: ...
    def __getitem__(self, index: int | slice) -> RankedTrial | Sequence[RankedTrial]:
        return self._ranked[index]

    def __len__(self) -> int:
        return len(self._ranked)

    @property
    def drawn_rewards(self) -> NDArray[np.float64] | None:
        """Draws of the true rewards, all trials together, [draws, N]; None as for `is_known`."""
        return self._draws.reward if self._draws is not None else None

    @property
    def best_set(self) -> list[RankedTrial]:
        """The fewest trials that hold the truly best one with `LEVEL`, the likeliest first.

        Nobody can tell them apart. Empty where the noise is not known.
        """
        if self._draws is None:
            return []
        likeliest = sorted(self._ranked, key=lambda each: -(each.best_probability or 0.0))
        sums = accumulate(each.best_probability or 0.0 for each in likeliest)
        return likeliest[: 1 + sum(total < LEVEL - 1e-9 for total in sums)]

    def compare(
        self, trial: Trial, other: Trial | Baseline, of: Literal["reward", "accuracy"] = "reward"
    ) -> Difference | None:
        """Return how much better a complete trial truly is than another one, or than a baseline.

        Returns:
            None where the noise is not known, or the baseline lacks a metric of the reward.
        """
        if self._draws is None:
            return None
        mine = self._draws.of(of)[:, self._place[trial.number]]
        if isinstance(other, Trial):
            theirs = self._draws.of(of)[:, self._place[other.number]]
        else:
            draws = _baseline_draws(other, self._reward, self._noise, len(mine))
            if draws is None:
                return None
            theirs = draws.of(of)[:, 0]
        low, high = np.quantile(mine - theirs, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        better = (mine > theirs).mean()
        return Difference(float((mine - theirs).mean()), float(low), float(high), float(better))

    def above(self, trial: Trial, share: float) -> float | None:
        """Return the probability that the true accuracy of a complete trial is above a share.

        Such as that of chance, or that of the largest class, 0 to 1.
        """
        if self._draws is None:
            return None
        return float((self._draws.accuracy[:, self._place[trial.number]] > share).mean())

    def drawn_accuracies(self, trials: Sequence[Trial]) -> NDArray[np.float64] | None:
        """Return draws of the true accuracies of some of its trials, [draws, N]; None: not all."""
        if self._draws is None or any(trial.number not in self._place for trial in trials):
            return None
        return self._draws.accuracy[:, [self._place[trial.number] for trial in trials]]

    def images_to_tell(self, place: int) -> int | None:
        """Return how many held-out images would tell the best trial from another one (95 %).

        Both are trained once, and the difference is the one that is expected.

        Args:
            place: Of the other one by measured reward, from 2.

        Returns:
            None where the noise is not known, where the first one is not expected to be better, or
            where the spread over seeds hides the difference on any number of images.
        """
        first, other = self[0], self[place - 1]
        slope = self._draws.slope[0] if self._draws is not None else 0.0
        if first.reward is None or other.reward is None or slope <= 0:
            return None
        difference = max(first.reward - other.reward, 0.0) / slope
        visible = difference**2 - 2 * (Z95 * (self._noise.seed_spread or 0.0)) ** 2
        if visible <= 0:
            return None
        return images_to_tell_apart(first.trial.metrics["accuracy"], sqrt(visible))


def rank_trials(
    trials: Trials, reward: Reward, noise: Noise, before: Ranking | None = None
) -> Ranking:
    """Return the complete trials, the highest measured reward first, and how sure that order is.

    What is measured of one trial is held against what networks like it have measured
    (`effnas.trials.true_accuracy`), so that a trial which was lucky is not believed in full. Errors
    of different trials are taken to be independent; on one hold-out they rise and fall together
    in part, so that differences are rather surer than this says. Step times add their own
    intervals, where they are measured.

    Args:
        trials: Those of a run.
        reward: What gave them their rewards.
        noise: What makes their accuracies unsure.
        before: A ranking of the same trials by another reward: it knows of their accuracies
            already, and finding that out takes the most time.
    """
    ranked = trials.ranked()
    draws = _trial_draws(ranked, reward, noise, before)
    if draws is None:
        rewards = [t.reward for t in ranked]
        return Ranking(
            [
                RankedTrial(
                    trial=t,
                    accuracy_error=_accuracy_error(t, noise),
                    rank=1 + rewards.index(t.reward),
                    last_rank=rewards.index(t.reward) + rewards.count(t.reward),
                )
                for t in ranked
            ],
            reward,
            noise,
            None,
        )
    # Rewards that are equal in a draw share the places there by lot.
    lot = np.random.default_rng(2).random(draws.reward.shape) * 1e-12
    decided = draws.reward + lot * np.abs(draws.reward).max()
    order = (-decided).argsort(axis=1)
    best = np.bincount(order[:, 0], minlength=len(ranked)) / len(order)
    best += _SURPRISE * (1 - best.max()) * (1 / len(ranked) - best)
    places = np.empty_like(order)
    np.put_along_axis(places, order, np.arange(1, len(ranked) + 1)[None, :], axis=1)
    ends = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    first, last = np.quantile(places, ends, axis=0, method="nearest")
    low, high = np.quantile(draws.reward, ends, axis=0)
    accuracy_low, accuracy_high = np.quantile(draws.accuracy, ends, axis=0)
    accuracy, expected = draws.accuracy.mean(axis=0), draws.reward.mean(axis=0)
    return Ranking(
        [
            RankedTrial(
                trial=t,
                accuracy_error=_accuracy_error(t, noise),
                accuracy=float(accuracy[n]),
                accuracy_low=float(accuracy_low[n]),
                accuracy_high=float(accuracy_high[n]),
                reward=float(expected[n]),
                low=float(low[n]),
                high=float(high[n]),
                best_probability=float(best[n]),
                rank=int(first[n]),
                last_rank=int(last[n]),
            )
            for n, t in enumerate(ranked)
        ],
        reward,
        noise,
        draws,
    )


def _accuracy_error(trial: Trial, noise: Noise) -> float | None:
    if trial.is_predicted:
        return trial.measurement.accuracy_deviation
    return noise.standard_error(trial.metrics["accuracy"]) if "accuracy" in trial.metrics else None


def _trial_draws(
    ranked: Sequence[Trial], reward: Reward, noise: Noise, before: Ranking | None
) -> Draws | None:
    """Draw what N complete trials are truly worth; None where the noise is not known."""
    are_known = all(0 <= t.metrics.get("accuracy", -1.0) <= 1 for t in ranked)
    if not ranked or not noise.holdout_images or not are_known:
        return None
    metrics = [t.metrics for t in ranked]
    measured = np.array([m["accuracy"] for m in metrics])
    predicted = np.array([t.measurement.accuracy_deviation or 0.0 for t in ranked])
    rng = np.random.default_rng(0)
    accuracies = before.drawn_accuracies(ranked) if before else None
    if accuracies is None:
        accuracies = drawn_accuracies(
            to_arcsine(measured, noise.holdout_images),
            arcsine_error(
                measured, noise.holdout_images, noise.seed_spread or 0.0, predicted=predicted
            ),
            network_features(ranked),
            min(max(_MAX_DRAWN // len(ranked), _MIN_DRAWS), _MAX_DRAWS),
            rng,
        )
    return drawn_rewards(metrics, accuracies, reward, rng)


def _baseline_draws(baseline: Baseline, reward: Reward, noise: Noise, draws: int) -> Draws | None:
    """Draw what a baseline is truly worth, from its trainings alone: it was not chosen by them."""
    if not baseline.accuracies or not noise.holdout_images:
        return None
    measured = np.array([baseline.metrics["accuracy"]])
    error = arcsine_error(
        measured, noise.holdout_images, noise.seed_spread or 0.0, len(baseline.accuracies)
    )
    rng = np.random.default_rng(1)
    drawn = to_arcsine(measured, noise.holdout_images) + error * rng.standard_normal((draws, 1))
    return drawn_rewards([baseline.metrics], from_arcsine(drawn), reward, rng)
