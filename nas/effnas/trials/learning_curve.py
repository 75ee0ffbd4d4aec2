"""Accuracy after another number of steps, predicted from learning curves.

A trial of equal training time has its accuracy after some of its steps. On a device where another
number of steps fits into the time, its accuracy is another one, and what it is follows from the
curves only in part: the learning rate falls to its end within one training, so that a curve rises
more steeply there than the accuracies of longer and longer trainings do.

The model, on the scale of log-odds, l = log(A / (1 - A)), where a straight line stays within 0 and
1 and is, for good networks, a power law of the error (Hestness et al. 2017):

* Of each trial, the slope of l over log2(steps), by least squares through its curve.
* Slopes are noisy, by the binomial error of the few images behind each point. So each is shrunk to
  the mean of all by its own share of the variance (empirical Bayes; the variance among networks is
  what all slopes have beyond their noise), and is 0 at least: more steps are never predicted worse.
* Twice the steps give `_LONGER` of a slope, half of them take `_SHORTER` of it, both ± `_SHARE`.
  These are from trainings of ten networks on the digits, with 24 to 192 steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import exp, fsum, inf, log, log2
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from effnas.config.text import counted
from effnas.trials.trial import TrialState
from effnas.trials.uncertainty import Noise

if TYPE_CHECKING:
    from effnas.trials.run import Run
    from effnas.trials.trial import Trial

#: What twice the steps, or half of them, give or take of the slope of a curve, and the standard
#: deviation of both shares.
_LONGER, _SHORTER, _SHARE = 0.5, 0.8, 0.3
#: Numbers of steps that differ by a smaller share are the same.
_SAME = 0.05
#: log2 of the ratio of training times up to which the best after one is that after the other.
_SAME_TIME = 0.5
#: Images behind each point of a curve but its last (`effnas.evaluation.training.CURVE_IMAGES`),
#: and behind all of them where it is not known how many are held out.
_CURVE_IMAGES = 1_000


class PredictedAccuracy(NamedTuple):
    """An accuracy after another number of steps than were trained.

    Attributes:
        accuracy: 0 to 1.
        deviation: Its standard deviation, that of the measured one included; 0 where the number of
            steps is the same, and the accuracy is the measured one.
    """

    accuracy: float
    deviation: float


class Prediction(NamedTuple):
    """The accuracy of a trial after another training time than the search's."""

    trial: Trial
    predicted: PredictedAccuracy

    def __str__(self) -> str:
        accuracy, deviation = self.predicted
        return f"{accuracy:.1%} ±{100 * deviation:.1f} of trial {self.trial.number}"


class AfterLonger(NamedTuple):
    """What is likely to be the best after another training time than the search's.

    Attributes:
        chosen: It, and what is predicted.
        best: The best of the search, which may be the same.
    """

    chosen: Prediction
    best: Prediction

    @property
    def is_other(self) -> bool:
        """Whether it is not the best of the search."""
        return self.chosen.trial is not self.best.trial

    def __str__(self) -> str:
        other = f", and {self.best}" if self.is_other else ""
        more = "" if self.is_other else ", and of no other trial more"
        return f"learning curves predict {self.chosen}{other}, the best of the search{more}"


class _Slope(NamedTuple):
    """Log-odds by which a curve rises as its steps double, and the variance of that."""

    value: float
    variance: float


@dataclass(frozen=True)
class LearningCurves:
    """The learning curves of a run; make it by `of`.

    Attributes:
        noise: What makes its accuracies unsure.
        slope: The mean of all trials' slopes.
        variance: That of slopes among networks, without what is noise.
    """

    noise: Noise
    slope: float
    variance: float
    _mean_variance: float

    @classmethod
    def of(cls, trials: Iterable[Trial], noise: Noise) -> LearningCurves:
        """Return the learning curves of trials; the order of trials does not matter."""
        slopes = [s for t in trials if (s := _slope(t.measurement.curve, noise)) is not None]
        count = len(slopes)
        if not count:
            return cls(noise, 0.0, 0.0, 0.0)
        mean = fsum(s.value for s in slopes) / count
        of_noise = fsum(s.variance for s in slopes) / count
        among = fsum((s.value - mean) ** 2 for s in slopes) / max(count - 1, 1)
        return cls(noise, mean, max(among - of_noise, 0.0), of_noise / count)

    def predict(
        self, trial: Trial, doublings: float, doublings_deviation: float = 0.0
    ) -> PredictedAccuracy:
        """Return the accuracy of a trial after another number of steps.

        Args:
            trial: Of a training by time.
            doublings: log2 of the new number of steps over that of the trial.
            doublings_deviation: Standard deviation of that, where the number is a guess.
        """
        _, measured = trained_for(trial)
        is_same = abs(doublings) <= log2(1 + _SAME)
        if is_same and not doublings_deviation:
            return PredictedAccuracy(measured, 0.0)
        slope = self._shrunk(trial)
        share = _LONGER if doublings > 0 else _SHORTER
        # Of none or all images right, log-odds are infinite: it may be half an image more or less.
        half = 0.5 / (self.noise.holdout_images or _CURVE_IMAGES)
        known = min(max(measured, half), 1 - half)
        predicted = _from_log_odds(_log_odds(known) + share * slope.value * doublings)
        predicted = max(predicted, measured) if doublings > 0 else min(predicted, measured)
        # Of all accuracies on the way, the one where log-odds tell most: so it never shrinks.
        low, high = sorted((known, predicted))
        steepest = min(max(0.5, low), high)
        of_gain = doublings**2 * (share**2 * slope.variance + _SHARE**2 * slope.value**2)
        of_gain += (share * slope.value * doublings_deviation) ** 2
        error = self.noise.standard_error(measured) or 0.0
        deviation = (error**2 + (steepest * (1 - steepest)) ** 2 * of_gain) ** 0.5
        return PredictedAccuracy(predicted, deviation)

    def _shrunk(self, trial: Trial) -> _Slope:
        """Return a trial's slope, drawn to the mean as far as it is noise."""
        own = _slope(trial.measurement.curve, self.noise) or _Slope(self.slope, inf)
        is_noise = own.variance / (self.variance + own.variance) if own.variance < inf else 1.0
        value = own.value + is_noise * (self.slope - own.value)
        return _Slope(max(value, 0.0), is_noise * self.variance + self._mean_variance)


def best_after(run: Run, train_time_s: float) -> AfterLonger | None:
    """Return what is likely to be the best of a search by time after another training time.

    What learns quickest is ahead after a short time, and often behind after a long one. So it is
    the trial whose predicted accuracy, less a standard deviation, is the highest: of a steep curve
    of a few steps, little is known.

    Args:
        run: The search. One that was retargeted has predictions already, and is left as it is.
        train_time_s: Above 0.

    Returns:
        It; None where times are about the same, or the reward is not the accuracy alone.
    """
    searched_s = run.manifest.recipe.train_time_s if run.manifest.recipe else None
    best, rewards = run.best, run.manifest.reward.text
    if searched_s is None or best is None or rewards != "A" or run.manifest.parent:
        return None
    doublings = log2(train_time_s / searched_s)
    if abs(doublings) <= _SAME_TIME:
        return None
    complete = [trial for trial in run.trials if trial.state is TrialState.COMPLETE]
    curves = LearningCurves.of(complete, run.noise)
    found = [Prediction(trial, curves.predict(trial, doublings)) for trial in complete]
    chosen = max(found, key=lambda one: one.predicted.accuracy - one.predicted.deviation)
    return AfterLonger(chosen, next(one for one in found if one.trial is best))


def trained_for(trial: Trial) -> tuple[int, float]:
    """Return the steps of a trial's training by time, and the accuracy that it has reached.

    Also of a trial whose accuracy is predicted: its curve is the one of its training.
    """
    measured = trial.measurement
    if measured.curve:
        return max(measured.curve)
    return sum(stage.steps for stage in measured.stages), measured.metrics["accuracy"]


def doublings_of(steps: int, trial: Trial) -> float:
    """Return log2 of a number of steps over that of a trial's training.

    Args:
        steps: 1 or more.
        trial: Of a training by time.
    """
    return log2(steps / trained_for(trial)[0])


def predicted_text(trials: Iterable[Trial]) -> str:
    """Return of how many complete trials the accuracy is predicted; nothing if of none."""
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    found = [d for t in complete if (d := t.measurement.accuracy_deviation) is not None]
    if not found:
        return ""
    return (
        f"predicted from learning curves for {len(found):,} of "
        f"{counted(len(complete), 'network')}, ±{100 * median(found):.1f} points"
    )


def _slope(curve: Sequence[tuple[int, float]], noise: Noise) -> _Slope | None:
    """Return the slope of a curve by least squares; None of less than two points."""
    points = sorted(dict(curve).items())
    if len(points) < 2:
        return None
    whole = noise.holdout_images or _CURVE_IMAGES
    images = [min(whole, _CURVE_IMAGES)] * (len(points) - 1) + [whole]
    smooth = [_smooth(accuracy, n) for (_, accuracy), n in zip(points, images, strict=True)]
    x = [log2(steps) for steps, _ in points]
    middle = fsum(x) / len(x)
    ahead = [each - middle for each in x]
    squares = fsum(each**2 for each in ahead)
    value = fsum(a * _log_odds(p) for a, p in zip(ahead, smooth, strict=True)) / squares
    variances = (1 / (n * p * (1 - p)) for p, n in zip(smooth, images, strict=True))
    variance = fsum(a**2 * v for a, v in zip(ahead, variances, strict=True)) / squares**2
    return _Slope(value, variance)


def _smooth(accuracy: float, images: int) -> float:
    """Return an accuracy as (k + 1) / (n + 2): one of 0 or 1 is not certain either."""
    return (accuracy * images + 1) / (images + 2)


def _log_odds(accuracy: float) -> float:
    return log(accuracy / (1 - accuracy))


def _from_log_odds(value: float) -> float:
    return 1 / (1 + exp(-value)) if value > -700 else 0.0
