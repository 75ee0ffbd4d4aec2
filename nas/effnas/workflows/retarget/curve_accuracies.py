"""Accuracies of trials of equal training time on the new device, from their learning curves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from effnas.trials.learning_curve import PredictedAccuracy, doublings_of

if TYPE_CHECKING:
    from effnas.arch.architecture import Architecture
    from effnas.trials.learning_curve import LearningCurves
    from effnas.trials.trial import Trial

#: Standard deviation of log2 of how many times as many steps fit into the training time there,
#: while it is known of fewer networks than `_ENOUGH`.
_PRIOR_DOUBLINGS, _ENOUGH = 1.0, 3

#: Returns the mean and the standard deviation, [N] each, of log2 of S there over S here.
Slowdown: TypeAlias = Callable[
    [Sequence["Architecture"]], tuple[NDArray[np.float64], NDArray[np.float64]]
]


class CurveAccuracies:
    """Holds how many steps fit there, and predicts accuracies by it.

    Args:
        curves: Of the finished search.
        trials: Its trials, one for an architecture.
    """

    def __init__(self, curves: LearningCurves, trials: Iterable[Trial]) -> None:
        self._curves = curves
        self._trials = {trial.architecture.id: trial for trial in trials}
        self._doublings: dict[str, float] = {}
        self._found: dict[str, PredictedAccuracy] = {}

    def tell_steps(self, arch: Architecture, steps: int) -> bool:
        """Take how many steps fit there; return whether that tells an accuracy."""
        if trial := self._trials.get(arch.id):
            self._doublings[arch.id] = doublings_of(steps, trial)
            self._found.clear()
        return trial is not None

    def tell_trained(self, arch: Architecture) -> None:
        """Take that a trial was trained there: its accuracy is no prediction any more."""
        if self._trials.pop(arch.id, None):
            self._doublings.pop(arch.id, None)
            self._found.clear()

    def forget(self) -> None:
        """Take that S is known of more networks."""
        self._found.clear()

    def predicted(self, slowdown: Slowdown) -> dict[str, PredictedAccuracy]:
        """Return the accuracies of all that were not trained there, by id.

        Where the number of steps is not known, it follows from S there, as the numbers that are
        known do from theirs.
        """
        if self._found or not self._trials:
            return self._found
        known = [t for key, t in self._trials.items() if key in self._doublings]
        others = [t for key, t in self._trials.items() if key not in self._doublings]
        for trial in known:
            key = trial.architecture.id
            self._found[key] = self._curves.predict(trial, self._doublings[key])
        if others:
            means, deviations = self._guessed(known, others, slowdown)
            for trial, mean, deviation in zip(others, means, deviations, strict=True):
                found = self._curves.predict(trial, float(mean), float(deviation))
                self._found[trial.architecture.id] = found
        return self._found

    def _guessed(
        self, known: Sequence[Trial], others: Sequence[Trial], slowdown: Slowdown
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return mean and deviation of the doublings of those that were not timed, [N]."""
        slower, unsure = slowdown([t.architecture for t in others])
        of_reference, spread = 0.0, _PRIOR_DOUBLINGS
        if known:
            told = np.array([self._doublings[t.architecture.id] for t in known])
            told = told + slowdown([t.architecture for t in known])[0]
            of_reference = float(told.mean())
            spread = float(told.std(ddof=1)) if len(known) >= _ENOUGH else _PRIOR_DOUBLINGS
        return of_reference - slower, np.hypot(spread, unsure)
