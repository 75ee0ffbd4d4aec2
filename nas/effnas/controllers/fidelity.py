"""A model of values at several fidelities, such as accuracies after 1, 2 and 4 epochs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from effnas.controllers.gaussian_process import MIN_VALUES, OnlineGP, learned_size


class Level(NamedTuple):
    """What was measured at one fidelity; later values after earlier ones.

    Attributes:
        points: [N, D].
        values: [N].
        below: The values of the same points at the fidelity below, [N]; of no use at the lowest.
    """

    points: NDArray[np.float64]
    values: NDArray[np.float64]
    below: NDArray[np.float64]


class MultiFidelityGP:
    """Gaussian processes, one for each fidelity, of which each builds on the one below.

    The value at a fidelity is modelled over the point and its value at the fidelity below, as in
    recursive co-kriging (Le Gratiet & Garnier 2014): where the low fidelity tells nearly
    everything, a few values at the high one are enough. With one fidelity it is an `OnlineGP`.
    """

    def __init__(self, groups: Sequence[slice], prior_deviation: float) -> None:
        self._groups, self._prior_deviation = tuple(groups), prior_deviation
        self._models: list[OnlineGP] = []
        #: Mean and standard deviation of the values at the fidelity below.
        self._scales: list[tuple[float, float]] = []

    @property
    def noise(self) -> float:
        """Standard deviation of a measured value about the one that is expected there."""
        return self._models[-1].noise if self._models else 0.0

    def update(self, levels: Sequence[Level]) -> None:
        """Replace all values: one level for each fidelity, the lowest first.

        Levels above the lowest that have fewer values than `MIN_VALUES` are left out.
        """
        kept = [
            level for n, level in enumerate(levels) if n == 0 or len(level.values) >= MIN_VALUES
        ]
        while len(self._models) < len(kept):
            self._models.append(OnlineGP(self._groups_of(len(self._models)), self._prior_deviation))
            self._scales.append((0.0, 1.0))
        del self._models[len(kept) :], self._scales[len(kept) :]
        for n, level in enumerate(kept):
            points = level.points
            if n:
                # A scale that stays while the kernel does: a new one makes all points new ones.
                first = level.below[: learned_size(len(level.below))]
                self._scales[n] = float(first.mean()), float(first.std()) or 1.0
                points = self._beside(n, points, level.below)
            self._models[n].update(points, level.values)

    def condition_on_mean(self, X: NDArray[np.float64]) -> None:  # noqa: N803
        """Count N more points, [N, D], as if they had the values that are expected of them."""
        below = np.zeros(len(X))
        for n, model in enumerate(self._models):
            points = self._beside(n, X, below) if n else X
            below = model.predict(points)[0]
            model.condition_on_mean(points)

    def predict(self, X: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:  # noqa: N803
        """Return mean and standard deviation at the highest fidelity of N points, both [N]."""
        if not self._models:
            return np.zeros(len(X)), np.full(len(X), self._prior_deviation)
        mean, deviation = self._models[0].predict(X)
        for n, model in list(enumerate(self._models))[1:]:
            low, low_deviation = mean, deviation
            mean, deviation = model.predict(self._beside(n, X, low))
            # What is unsure below is unsure above, by as much as the one follows the other.
            ahead, _ = model.predict(self._beside(n, X, low + low_deviation))
            deviation = np.hypot(deviation, ahead - mean)
        return mean, deviation

    def joint(self, X: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:  # noqa: N803
        """Return means at the highest fidelity of N points, [N], and their covariance, [N, N]."""
        if not self._models:
            return np.zeros(len(X)), np.eye(len(X)) * self._prior_deviation**2
        mean, covariance = self._models[0].joint(X)
        for n, model in list(enumerate(self._models))[1:]:
            step = np.sqrt(np.maximum(np.diag(covariance), 1e-12))
            points = self._beside(n, X, mean)
            ahead, _ = model.predict(self._beside(n, X, mean + step))
            mean, own = model.joint(points)
            slope = (ahead - mean) / step
            covariance = own + np.outer(slope, slope) * covariance
        return mean, covariance

    def _groups_of(self, level: int) -> tuple[slice, ...]:
        end = self._groups[-1].stop
        return (*self._groups, slice(end, end + 1)) if level else self._groups

    def _beside(
        self,
        level: int,
        X: NDArray[np.float64],  # noqa: N803
        below: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Return the points with their value at the fidelity below as one more column."""
        middle, spread = self._scales[level]
        return np.hstack([X, ((below - middle) / spread)[:, None]])
