"""How candidates compare: after how many epochs, which continue, and how sure the best is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, takewhile
from statistics import fmean

import numpy as np

from effnas.search.rungs import keeps_up
from effnas.trials.uncertainty import Noise
from effnas.workflows.trainings.folder import Result
from effnas.workflows.trainings.forecast import Forecast

#: Draws from what is known of the means.
_DRAWS = 20_000
#: Each level has this many times the epochs of the one before.
_ETA = 2


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Levels and seeds.

    Attributes:
        levels: Epochs, or seconds of trainings by time, growing; the last is the whole training.
            At each one before it, candidates stop that are not in the better half of those that
            have come there so far.
        seeds: Trainings of a candidate.
    """

    levels: tuple[int, ...]
    seeds: int

    @classmethod
    def of(cls, length: float, seeds: int) -> Schedule:
        """Return the schedule of trainings of some length: levels at about 1/4 and 1/2."""
        epochs = max(1, round(length))
        first = max(1, epochs // 4)
        levels = {level for n in range(3) if (level := first * _ETA**n) < epochs}
        return cls(levels=(*sorted(levels), epochs), seeds=seeds)

    @property
    def stops(self) -> str:
        """Which candidates stop where, in words; nothing where all are trained to the end."""
        after = " and ".join(map(str, self.levels[:-1]))
        return f"after {after}, those not in the better half so far stop" if after else ""

    @property
    def steps(self) -> int:
        """Results of a candidate that is trained to the end."""
        return len(self.levels) * self.seeds


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How one candidate stands.

    Attributes:
        name: Name of the candidate.
        epochs: Epochs that all of its seeds were trained for.
        accuracies: Of the seeds, after these epochs, 0 to 1.
        scores: What these are worth; the larger, the better.
        train_time_s: Seconds of all its trainings.
        reason: Why it cannot be trained, if it cannot.
        chance: Probability that it is the best of those trained to the end, by their spread over
            seeds and the size of the hold-out; None for one that was not, and where it is not
            known: one alone was trained to the end, or each with one seed.
    """

    name: str
    epochs: int
    accuracies: tuple[float, ...]
    scores: tuple[float, ...]
    train_time_s: float
    reason: str | None = None
    chance: float | None = None

    @property
    def mean(self) -> float:
        """Mean score over seeds; minus infinity where there is none."""
        return float(np.mean(self.scores)) if self.scores else float("-inf")

    @property
    def spread(self) -> float | None:
        """Standard deviation of the score over seeds; None for one seed, which has none."""
        return float(np.std(self.scores, ddof=1)) if len(self.scores) > 1 else None

    @property
    def accuracy(self) -> float | None:
        """Mean accuracy over seeds, 0 to 1; None where there is none."""
        return float(np.mean(self.accuracies)) if self.accuracies else None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Candidates by their trainings so far.

    Attributes:
        schedule: Levels and seeds.
        results: All so far, in the order in which they were stored.
        score: Takes a candidate's name and an accuracy; the larger its result, the better.
        holdout_images: Images that accuracies are measured on; None where that is not known.
    """

    schedule: Schedule
    results: list[Result]
    score: Callable[[str, float], float]
    holdout_images: int | None = None

    def ranked(self, names: Sequence[str]) -> list[Standing]:
        """Return how candidates stand: those trained farthest first, by mean score."""
        standings = [self._standing(name) for name in names]
        whole = [n for n, each in enumerate(standings) if each.epochs == self.schedule.levels[-1]]
        errors = [self._holdout_error(standings[n]) for n in whole]
        chances = _chances([standings[n].scores for n in whole], errors)
        for n, chance in zip(whole, chances, strict=True):
            standings[n] = replace(standings[n], chance=chance)
        return sorted(standings, key=lambda each: (-each.epochs, -each.mean))

    def accuracies_at(self, name: str, epochs: int) -> list[float]:
        """Return a candidate's accuracies at a level, one for each seed; none if one is missing."""
        found = {
            r.repeat: r.accuracy
            for r in self.results
            if (r.candidate, r.epochs) == (name, epochs) and r.accuracy is not None
        }
        return [found[n] for n in sorted(found)] if len(found) == self.schedule.seeds else []

    def left(self, name: str) -> list[tuple[int, int]]:
        """Return the trainings that a candidate lacks at its next level, as epochs and repeat.

        Empty if it was trained to the end, cannot be trained, or is too weak to continue.
        """
        if any(r.candidate == name and r.reason is not None for r in self.results):
            return []
        for level in self.schedule.levels:
            ended = {r.repeat for r in self.results if (r.candidate, r.epochs) == (name, level)}
            if left := [(level, n) for n in range(self.schedule.seeds) if n not in ended]:
                return left
            if not _continues(name, self._means_at(level)):
                return []
        return []

    def expected_epochs(self, names: Sequence[str]) -> dict[str, float]:
        """Return how many epochs each candidate still has to train, in all of its seeds.

        Of those that have not reached a level, half are expected to continue there, and the first.
        """
        failed = {result.candidate for result in self.results if result.reason is not None}
        share = {name: 1.0 for name in names if name not in failed}
        epochs = dict.fromkeys(names, 0.0)
        for before, level in pairwise((0, *self.schedule.levels)):
            ended = Counter(r.candidate for r in self.results if r.epochs == level)
            means = self._means_at(level)
            is_first = not means
            for name in share:
                epochs[name] += (
                    share[name] * (level - before) * max(self.schedule.seeds - ended[name], 0)
                )
                if name in means:
                    share[name] *= _continues(name, means)
                elif not is_first:
                    share[name] /= 2
                is_first = False
        return epochs

    def forecast(self, epoch_s: Mapping[str, float | None]) -> Forecast | None:
        """Return how long the trainings will take that are left; None where that is not known.

        Args:
            epoch_s: About how many seconds an epoch takes, by candidate; None: not known.
        """
        known = {name: seconds for name, seconds in epoch_s.items() if seconds is not None}
        if len(known) < len(epoch_s):
            return None
        epochs = self.expected_epochs(list(known))
        return Forecast(
            epochs=sum(epochs.values()),
            seconds=sum(epochs[name] * seconds for name, seconds in known.items()),
        )

    def _holdout_error(self, standing: Standing) -> float:
        """Return the standard error of a mean score that is due to the choice of the hold-out."""
        accuracy = standing.accuracy or 0.0
        error = Noise(holdout_images=self.holdout_images).standard_error(accuracy) or 0.0
        low, high = max(accuracy - error, 0.0), min(accuracy + error, 1.0)
        return abs(self.score(standing.name, high) - self.score(standing.name, low)) / 2

    def _means_at(self, level: int) -> dict[str, float]:
        """Return mean scores of candidates at a level, in the order in which they reached it."""
        scores: dict[str, list[float]] = {}
        means: dict[str, float] = {}
        for result in self.results:
            if result.epochs == level and result.accuracy is not None:
                there = scores.setdefault(result.candidate, [])
                there.append(self.score(result.candidate, result.accuracy))
                if len(there) == self.schedule.seeds:
                    means[result.candidate] = fmean(there)
        return means

    def _standing(self, name: str) -> Standing:
        mine = sorted((r for r in self.results if r.candidate == name), key=lambda r: r.epochs)
        levels = self.schedule.levels
        epochs = max((level for level in levels if self.accuracies_at(name, level)), default=0)
        accuracies = tuple(self.accuracies_at(name, epochs))
        return Standing(
            name=name,
            epochs=epochs,
            accuracies=accuracies,
            scores=tuple(self.score(name, accuracy) for accuracy in accuracies),
            train_time_s=sum({r.repeat: r.train_time_s for r in mine}.values()),
            reason=next((r.reason for r in self.results if r.candidate == name and r.reason), None),
        )


def _continues(name: str, means: Mapping[str, float]) -> bool:
    """Return whether a candidate continues, given the means at a level in their order."""
    before = [means[other] for other in takewhile(lambda other: other != name, means)]
    return keeps_up(means[name], before)


def _chances(
    scores: Sequence[Sequence[float]], holdout_errors: Sequence[float]
) -> Sequence[float | None]:
    """Return how likely each is the best, given the scores of its seeds; None where not known.

    All are assumed to have the same spread over seeds, which a few seeds tell only together: it is
    drawn from its scaled inverse chi-squared distribution, the means from normal ones. Errors of
    the hold-out are added as if each had one of its own, so that nobody is too sure.
    """
    means = np.array([np.mean(each) for each in scores])
    counts = np.array([len(each) for each in scores])
    freedom = int((counts - 1).sum())
    squares = sum(float(((np.array(each) - np.mean(each)) ** 2).sum()) for each in scores)
    # Single seeds say nothing of the spread.
    if len(scores) < 2 or freedom == 0 or not (squares or any(holdout_errors)):
        return [None] * len(scores)
    rng = np.random.default_rng(0)
    variance = squares / rng.chisquare(freedom, size=(_DRAWS, 1))
    spread = np.sqrt(variance / counts + np.square(holdout_errors))
    drawn = means + rng.standard_normal((_DRAWS, len(means))) * spread
    best = np.bincount(drawn.argmax(axis=1), minlength=len(means))
    return [float(share) for share in best / _DRAWS]
