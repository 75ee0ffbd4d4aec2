"""Metrics of architectures on the new device: measured, or predicted by Gaussian processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from effnas.controllers.encoding import Encoding
from effnas.controllers.gaussian_process import OnlineGP
from effnas.controllers.posterior import (
    MetricPosterior,
    Posterior,
    metrics_that_matter,
    reward_posterior,
)
from effnas.evaluation.evaluator import TIMING_METRICS, TRAINING_METRICS
from effnas.workflows.retarget.curve_accuracies import CurveAccuracies

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from effnas.arch.architecture import Architecture
    from effnas.space.search_space import SearchSpace
    from effnas.trials.learning_curve import LearningCurves, PredictedAccuracy
    from effnas.trials.reward import Reward
    from effnas.trials.trial import Trial

#: Standard deviation of log S while fewer than three networks are timed on the new device.
_PRIOR_DEVIATION = 0.3
_LN2 = float(np.log(2))

_DEVICE_METRICS = ("step_time", *TIMING_METRICS)


class Predictions:
    """Holds what was measured on either device, and predicts the rest.

    Args:
        space: The space of the finished search.
        reward: Says which metrics matter.
        trials: The trials of the finished search, one for an architecture.
        old_reward: The reward of each on the old device, by the architecture's id.
        curves: Of trials of equal training time, whose accuracies follow for the new device from
            how many steps fit there; None where accuracies hold on every device.
    """

    def __init__(
        self,
        space: SearchSpace,
        reward: Reward,
        trials: Sequence[Trial],
        old_reward: Mapping[str, float],
        curves: LearningCurves | None = None,
    ) -> None:
        self.space = space
        self.reward = reward
        # All mappings are by id: hashing an architecture takes longer than most else here.
        self._old = {
            t.architecture.id: space.counted_metrics(t.architecture) | dict(t.metrics)
            for t in trials
        }
        self._old_reward = old_reward
        self._architectures = {t.architecture.id: t.architecture for t in trials}
        self._trained = {key: _without_timing(metrics) for key, metrics in self._old.items()}
        self._by_curve = CurveAccuracies(curves, trials) if curves else None
        if curves:
            self._trained = {
                key: {name: v for name, v in metrics.items() if name not in TRAINING_METRICS}
                for key, metrics in self._trained.items()
            }
        self._timed: dict[str, dict[str, float]] = {}
        self._timed_architectures: dict[str, Architecture] = {}
        needed = self._needed()
        self._device_names = ["step_time", *(n for n in needed if n in TIMING_METRICS)]
        self._trained_names = [n for n in needed if n not in _DEVICE_METRICS]
        self._encoding = Encoding(space)
        self._rows: dict[str, NDArray[np.float64]] = {}
        groups = self._encoding.groups
        self._on_old = {name: self._learn_old(name) for name in self._device_names}
        self._on_old_logs = {
            name: {
                key: float(_logs([metrics[name]])[0])
                for key, metrics in self._old.items()
                if name in metrics
            }
            for name in self._device_names
        }
        # One more column holds the metric on the old device.
        with_old = (*groups, slice(groups[-1].stop, groups[-1].stop + 1))
        self._on_new = {name: OnlineGP(with_old, _PRIOR_DEVIATION) for name in self._device_names}
        self._of_training = {name: OnlineGP(groups, 1.0) for name in self._trained_names}
        self._stale = {*self._device_names, *self._trained_names}

    def add_timing(
        self, arch: Architecture, metrics: Mapping[str, float], steps: int | None = None
    ) -> None:
        """Take the metrics of a timing on the new device; others are ignored.

        Args:
            arch: What was timed.
            metrics: Of the timing.
            steps: That fit into the training time there; None where trainings are by epochs.
        """
        self._timed_architectures[arch.id] = arch
        self._timed[arch.id] = {n: float(v) for n, v in metrics.items() if n in _DEVICE_METRICS}
        self._stale.update(self._device_names)
        if self._by_curve:
            self._by_curve.forget()
            if steps is not None and self._by_curve.tell_steps(arch, steps):
                self._stale.update(self._trained_names)

    def add_training(self, arch: Architecture, metrics: Mapping[str, float]) -> None:
        """Take the metrics of a training; those of timing are ignored."""
        self._architectures[arch.id] = arch
        self._trained[arch.id] = self.space.counted_metrics(arch) | _without_timing(metrics)
        self._stale.update(self._trained_names)
        if self._by_curve:
            self._by_curve.tell_trained(arch)

    def is_timed(self, arch: Architecture) -> bool:
        """Whether the step time on the new device is known."""
        return arch.id in self._timed

    def predicted_accuracies(self) -> Mapping[str, PredictedAccuracy]:
        """Return the accuracies on the new device that follow from learning curves, by id."""
        return self._by_curve.predicted(self._slowdown) if self._by_curve else {}

    def rewards(self, archs: Sequence[Architecture]) -> Posterior:
        """Return the posterior of rewards."""
        found = self._measured(archs)
        counted = {
            name: np.array([metrics[name] for metrics in found])
            for name in self.space.counted_metrics(self.space.reference)
        }
        posteriors = {}
        for name in [*self._device_names, *self._trained_names]:
            is_log = name in self._device_names
            lacking = [n for n, metrics in enumerate(found) if name not in metrics]
            values = np.array([metrics.get(name, 1.0) for metrics in found])
            mean, deviation = np.log(values) if is_log else values, np.zeros(len(archs))
            mean[lacking], deviation[lacking] = self._predict(name, [archs[n] for n in lacking])
            posteriors[name] = MetricPosterior(mean, deviation, is_log)
        return reward_posterior(self._score, counted, posteriors)

    def _score(self, metrics: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        """Return rewards; where there is none, the worst there was."""
        return np.nan_to_num(
            self.reward.score_vectorized(metrics), nan=min(self._old_reward.values())
        )

    def _measured(self, archs: Sequence[Architecture]) -> list[dict[str, float]]:
        """Return the metrics of N architectures that are counted or measured."""
        return [
            (self._trained.get(arch.id) or self.space.counted_metrics(arch))
            | self._timed.get(arch.id, {})
            for arch in archs
        ]

    def metrics(self, archs: Sequence[Architecture]) -> list[dict[str, float]]:
        """Return all metrics of trained architectures, measured or the median prediction."""
        found, by_curve = self._measured(archs), self.predicted_accuracies()
        for arch, metrics in zip(archs, found, strict=True):
            if arch.id in by_curve:
                metrics["accuracy"] = by_curve[arch.id].accuracy
        for name in self._device_names:
            values = np.exp(self.device(name, archs)[0])
            for metrics, value in zip(found, values.tolist(), strict=True):
                metrics.setdefault(name, value)
        return found

    def _predict(
        self, name: str, archs: Sequence[Architecture]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return mean and deviation of a metric (of its logarithm, if it is one of timing)."""
        if name in self._device_names:
            return self.device(name, archs)
        model = self._of_training[name]
        by_curve = self.predicted_accuracies() if name == "accuracy" else {}
        if name in self._stale:
            values = {key: m[name] for key, m in self._trained.items() if name in m}
            values |= {key: each.accuracy for key, each in by_curve.items()}
            known = [arch for key, arch in self._architectures.items() if key in values]
            model.update(self._matrix(known), np.array([values[arch.id] for arch in known]))
            self._stale.discard(name)
        mean, deviation = model.predict(self._matrix(archs))
        for n, arch in enumerate(archs):
            if arch.id in by_curve:
                mean[n], deviation[n] = by_curve[arch.id]
        return mean, deviation

    def _slowdown(
        self, archs: Sequence[Architecture]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return mean and deviation of log2 of S on the new device over S on the old one, [N]."""
        mean, deviation = self.device("step_time", archs)
        return (mean - self._old_logs("step_time", archs)) / _LN2, deviation / _LN2

    def device(
        self, name: str, archs: Sequence[Architecture]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return mean and deviation of the logarithm of a timing metric on the new device, [N]."""
        model = self._on_new[name]
        if name in self._stale:
            known = [a for a in self._timed_architectures.values() if name in self._timed[a.id]]
            values = _logs(self._timed[arch.id][name] for arch in known)
            model.update(self.device_matrix(name, known), values)
            self._stale.discard(name)
        mean, deviation = model.predict(self.device_matrix(name, archs))
        if not model.is_fitted:
            mean = self._old_logs(name, archs)
        for n, arch in enumerate(archs):
            if name in self._timed.get(arch.id, {}):
                mean[n], deviation[n] = _logs([self._timed[arch.id][name]])[0], 0.0
        return mean, deviation

    def device_matrix(self, name: str, archs: Sequence[Architecture]) -> NDArray[np.float64]:
        """Return the encoding and, as one more column, the metric on the old device."""
        everywhere = _logs(metrics[name] for metrics in self._old.values() if name in metrics)
        column = self._old_logs(name, archs) - everywhere.mean()
        return np.hstack([self._matrix(archs), column[:, None] / (everywhere.std() or 1.0)])

    def _old_logs(self, name: str, archs: Sequence[Architecture]) -> NDArray[np.float64]:
        """Return the logarithm of a timing metric on the old device, measured or predicted, [N]."""
        known = self._on_old_logs[name]
        new = [arch for arch in archs if arch.id not in known]
        if new:
            predicted = self._on_old[name].predict(self._matrix(new))[0]
            known.update(zip((arch.id for arch in new), predicted.tolist(), strict=True))
        return np.array([known[arch.id] for arch in archs])

    def _learn_old(self, name: str) -> OnlineGP:
        """Return a model of a timing metric on the old device."""
        model = OnlineGP(self._encoding.groups, _PRIOR_DEVIATION)
        known = [a for key, a in self._architectures.items() if name in self._old[key]]
        model.update(self._matrix(known), _logs(self._old[arch.id][name] for arch in known))
        return model

    def _matrix(self, archs: Sequence[Architecture]) -> NDArray[np.float64]:
        """Return the encoding of N architectures, [N, D]; rows are cached."""
        new = list({arch.id: arch for arch in archs if arch.id not in self._rows}.values())
        if new or not archs:
            matrix = self._encoding.matrix(new)
            self._rows.update(zip((arch.id for arch in new), matrix, strict=True))
        return np.stack([self._rows[arch.id] for arch in archs]) if archs else matrix

    def _needed(self) -> list[str]:
        """Return the metrics that the reward of some trial depends on, and that are not counted."""
        counted = self.space.counted_metrics(self.space.reference)
        found: dict[str, None] = {}
        for key, metrics in self._old.items():
            found |= dict.fromkeys(metrics_that_matter(self.reward, metrics, self._old_reward[key]))
        return [name for name in found if name not in counted]


def _without_timing(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: float(v) for name, v in metrics.items() if name not in _DEVICE_METRICS}


def _logs(values: Iterable[float]) -> NDArray[np.float64]:
    """Return logarithms; metrics of timing are positive, save for flags and counts of steps."""
    return np.log(np.maximum(np.array(list(values), dtype=np.float64), 1e-12))
