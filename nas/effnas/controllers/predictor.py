"""What architectures of a space would measure and be worth, learned from trials."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from effnas.arch.architecture import Architecture
from effnas.config.expression_tree import Vectors
from effnas.controllers.encoding import Encoding
from effnas.controllers.fidelity import Level, MultiFidelityGP
from effnas.controllers.gaussian_process import OnlineGP, one_thread
from effnas.controllers.posterior import (
    MetricPosterior,
    Posterior,
    metrics_that_matter,
    reward_posterior,
)
from effnas.errors import RewardError
from effnas.space.search_space import SearchSpace
from effnas.trials.objectives import non_dominated
from effnas.trials.problem import Problem
from effnas.trials.trial import Trial, TrialState

#: Takes metrics of N architectures by name, [N] each; returns a figure to maximize, [N].
Score = Callable[[Vectors], NDArray[np.float64]]

#: Standard deviation of a metric's logarithm that too few trials have for a regression.
_PRIOR_DEVIATION = 0.3
#: What is modelled where there is no problem.
_REWARD = "reward"
#: Added to the variance of how feasible an architecture is: labels are 0 or 1, nothing between.
_LABEL_VARIANCE = 0.05
#: Trials that a model learns from at most: its time grows with their cube, its memory with their
#: square; and the number of trials after which it is settled again which of more they are.
MOST_TRIALS, _SETTLED_AFTER = 1_000, 200


def trials_that_matter(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return which of N trials a model learns from, in their order: all, or `MOST_TRIALS` of more.

    Those are the ones with the highest values, as many spread evenly over the others, and the
    latest. They are settled for a while, so that models need not start again with every trial.

    Args:
        values: How much each of them matters, [N].
    """
    count = len(values)
    if count <= MOST_TRIALS:
        return np.arange(count)
    settled = (count - 1) // _SETTLED_AFTER * _SETTLED_AFTER
    size = MOST_TRIALS - _SETTLED_AFTER
    highest = np.argsort(-values[:settled], kind="stable")[: size // 2]
    others = np.setdiff1d(np.arange(settled), highest)
    spread = others[np.linspace(0, len(others) - 1, size - len(highest)).round().astype(int)]
    return np.concatenate([np.sort(np.concatenate([highest, spread])), np.arange(settled, count)])


class Predictor:
    """Predicts the metrics, and so the rewards, of architectures that were not tried.

    Params, MACs and whatever else the problem knows of an architecture are exact. Each other metric
    that the reward or an objective needs has a Gaussian process of its own over an encoding of
    architectures (`effnas.controllers.gaussian_process`), on a logarithmic scale where all of its
    values are positive. One more process learns from infeasible trials where architectures are
    feasible. Accuracies at all rungs of a search tell of those at the highest one
    (`effnas.controllers.fidelity`). Of thousands of trials, models learn from those that matter.

    Without a problem, rewards themselves are modelled. Predictions follow from the trials in the
    order in which they were told, and not from when one asks.

    Attributes:
        measured: The trials of the space that have a reward, or that have paused at a rung, in the
            order in which `tell` first received them. Those without a metric that is pursued are
            left out.
    """

    def __init__(self, space: SearchSpace, problem: Problem | None = None) -> None:
        self.space = space
        self.problem = problem
        self.measured: dict[Architecture, Trial] = {}
        #: Accuracies by the epochs that gave them; without rungs all of them at 0.
        self._accuracies: dict[int, dict[Architecture, float]] = {}
        self._is_feasible: dict[Architecture, bool] = {}
        self._running: dict[Architecture, None] = {}
        #: The architectures of the space that `tell` received, and the encoding of those for which
        #: it was needed: that of all at once is quicker than one by one.
        self._told: set[Architecture] = set()
        self._rows: dict[Architecture, NDArray[np.float64]] = {}
        #: The metrics that rewards depend on and that are not free for every trial.
        self._names = {} if problem else {_REWARD: None}
        self._models: dict[str, MultiFidelityGP] = {}
        #: By modelled metric, whether its logarithm is modelled.
        self._is_log: dict[str, bool] = {}
        #: The lowest reward that was seen when models were brought up to date.
        self._worst = 0.0

    @cached_property
    def _encoding(self) -> Encoding:
        return Encoding(self.space)

    @cached_property
    def _feasible(self) -> OnlineGP:
        return OnlineGP(self._encoding.groups, 1.0)

    def tell(self, trial: Trial) -> None:
        """Learn that a trial has started or ended."""
        arch = trial.architecture
        if arch not in self._told:
            if not self.space.contains(arch):
                return
            self._told.add(arch)
        if trial.state is TrialState.RUNNING:
            self._running[arch] = None
            return
        self._running.pop(arch, None)
        if trial.state is TrialState.INFEASIBLE:
            self._is_feasible[arch] = False
            self.measured.pop(arch, None)  # it may have paused at a rung
        reward = self.reward_of(trial)
        if reward is None:
            return
        self._is_feasible[arch] = True
        objectives = self.problem.objectives if self.problem else None
        if objectives and any(each.metric not in trial.metrics for each in objectives):
            return
        self.measured[arch] = trial
        whole = {0: trial.metrics["accuracy"]} if "accuracy" in trial.metrics else {}
        for epochs, value in (trial.measurement.rungs or whole).items():
            self._accuracies.setdefault(epochs, {})[arch] = value
        if self.problem:
            [known] = self._known([arch])
            matter = metrics_that_matter(self.problem.reward, trial.metrics, reward)
            matter += [objective.metric for objective in objectives or ()]
            self._names.update({name: None for name in matter if name not in known})

    def reward_of(self, trial: Trial) -> float | None:
        """Return the reward of a trial, of one that has paused that at its rung, or None."""
        if trial.state is not TrialState.WAITING:
            return trial.reward
        try:
            return self.problem.reward.score(trial.metrics) if self.problem else None
        except RewardError:
            return None

    def update(self) -> None:
        """Bring the models up to date with the trials.

        Trials under way count as if they had given what is expected of them (the kriging believer
        of Ginsbourger et al. 2010), so that parallel workers get different ones.
        """
        rewards = (t.reward for t in self.measured.values() if t.reward is not None)
        self._worst = min(rewards, default=0.0)
        running_rows = self._matrix([*self._running])
        mattering = self._mattering()
        for name in self._names:
            found = self._accuracies if name == "accuracy" else {0: self._values(name)}
            at = {
                epochs: {arch: value for arch, value in values.items() if arch in mattering}
                for epochs, values in found.items()
            }
            self._is_log[name] = all(
                value > 0 for values in at.values() for value in values.values()
            )
            model = self._models.setdefault(
                name, MultiFidelityGP(self._encoding.groups, _PRIOR_DEVIATION)
            )
            model.update(list(self._levels(at, is_log=self._is_log[name])))
            if self._running:
                model.condition_on_mean(running_rows)
        if not all(self._is_feasible.values()):
            archs = [*self._is_feasible]
            labels = np.array([*self._is_feasible.values()], dtype=np.float64)
            kept = trials_that_matter(-labels)
            self._feasible.update(self._matrix([archs[n] for n in kept]), labels[kept])

    def _mattering(self) -> set[Architecture]:
        """Return the architectures of the trials that metrics are learned from."""
        if len(self.measured) <= MOST_TRIALS:
            return set(self.measured)
        trials = [*self.measured.values()]
        rewards = np.array([self.reward_of(trial) for trial in trials], dtype=np.float64)
        if self.problem and (objectives := self.problem.objectives):
            values = np.array([objectives.values(trial.metrics) for trial in trials])
            rewards[non_dominated(values)] = np.inf
        return {trials[n].architecture for n in trials_that_matter(rewards)}

    def _values(self, name: str) -> dict[Architecture, float]:
        """Return a metric of the trials that have it."""
        if name == _REWARD:
            return {a: t.reward for a, t in self.measured.items() if t.reward is not None}
        return {a: t.metrics[name] for a, t in self.measured.items() if name in t.metrics}

    def _levels(
        self, at: Mapping[int, Mapping[Architecture, float]], *, is_log: bool
    ) -> Iterator[Level]:
        """Yield what was measured at each fidelity, the lowest first."""
        below: Mapping[Architecture, float] = {}
        for epochs in sorted(at):
            archs = [arch for arch in at[epochs] if arch in below or not below]
            columns = [
                np.array([values.get(arch, 1.0) for arch in archs])
                for values in (at[epochs], below)
            ]
            yield Level(self._matrix(archs), *(np.log(c) if is_log else c for c in columns))
            below = at[epochs]

    def metrics(
        self, archs: Sequence[Architecture], *, measured: bool = False
    ) -> tuple[dict[str, NDArray[np.float64]], dict[str, MetricPosterior]]:
        """Return what is known of N architectures, and the posteriors of the others, by metric.

        Args:
            archs: The architectures, one or more.
            measured: Whether deviations are those of measured values, noise included, or of the
                expected ones.
        """
        known, modelled = self._divided(archs)
        rows = self._matrix(archs)
        posteriors = {}
        for name, (mean, lacking) in modelled.items():
            model, deviation = self._models[name], np.zeros(len(archs))
            mean[lacking], deviation[lacking] = model.predict(rows[lacking])
            if measured:
                deviation[lacking] = np.hypot(deviation[lacking], model.noise)
            posteriors[name] = MetricPosterior(mean, deviation, self._is_log[name])
        return known, posteriors

    def draw(
        self, archs: Sequence[Architecture], count: int, rng: np.random.Generator
    ) -> dict[str, NDArray[np.float64]]:
        """Draw what the metrics of N architectures may be, of all of them together.

        Returns:
            By metric `count` draws of the values that are expected of measurements, [count, N];
            metrics that are known are the same in all.
        """
        known, modelled = self._divided(archs)
        rows = self._matrix(archs)
        drawn = {name: np.tile(values, (count, 1)) for name, values in known.items()}
        for name, (mean, lacking) in modelled.items():
            mean[lacking], covariance = self._models[name].joint(rows[lacking])
            if len(covariance):
                # Networks that are alike make it singular; rounding, a little less than that.
                covariance[np.diag_indices(len(covariance))] += 1e-6 * np.diag(covariance).mean()
            moved = np.zeros((count, len(archs)))
            normal = rng.standard_normal((count, len(covariance)))
            with one_thread():
                moved[:, lacking] = normal @ np.linalg.cholesky(covariance).T
            whole = MetricPosterior(mean + moved, np.zeros(1), self._is_log[name])
            drawn[name] = whole.values(name, 0.0)
        return drawn

    def _divided(
        self, archs: Sequence[Architecture]
    ) -> tuple[
        dict[str, NDArray[np.float64]],
        dict[str, tuple[NDArray[np.float64], NDArray[np.int64]]],
    ]:
        """Return what is known of N architectures by metric, [N], and what is modelled.

        Of a modelled metric the values, [N], logarithms where `_is_log`, and at which places they
        are not known.
        """
        sure = self._known(archs)
        modelled = {}
        for name, is_log in self._is_log.items():
            values = np.array([metrics.get(name, 1.0) for metrics in sure])
            lacking = [n for n, metrics in enumerate(sure) if name not in metrics]
            modelled[name] = np.log(values) if is_log else values, np.array(lacking, dtype=np.int64)
        names = set.intersection(*(set(metrics) for metrics in sure)) - modelled.keys()
        return {n: np.array([metrics[n] for metrics in sure]) for n in sorted(names)}, modelled

    def posterior(self, archs: Sequence[Architecture], score: Score) -> Posterior:
        """Return the posterior of a figure of N architectures that follows from metrics."""
        return reward_posterior(score, *self.metrics(archs))

    def reward(self, metrics: Vectors) -> NDArray[np.float64]:
        """Return the rewards that follow from metrics, [N]; where there is none, the worst seen."""
        if self.problem is None:
            return metrics[_REWARD]
        return np.nan_to_num(self.problem.reward.score_vectorized(metrics), nan=self._worst)

    def log_feasible(self, archs: Sequence[Architecture]) -> NDArray[np.float64]:
        """Return the logarithm of the probability that each of N is feasible, [N]."""
        if not self._feasible.is_fitted:
            return np.zeros(len(archs))
        from scipy.special import log_ndtr

        mean, deviation = self._feasible.predict(self._matrix(archs))
        return np.asarray(log_ndtr((mean - 0.5) / np.sqrt(deviation**2 + _LABEL_VARIANCE)))

    def _known(self, archs: Sequence[Architecture]) -> list[dict[str, float]]:
        """Return the metrics of N architectures that need no model."""
        if self.problem is None:
            return [{} for _ in archs]
        return [
            {**self.space.counted_metrics(arch), **more}
            for arch, more in zip(archs, self.problem.free_metrics(archs), strict=True)
        ]

    def _matrix(self, archs: Sequence[Architecture]) -> NDArray[np.float64]:
        """Return the encoding of N architectures, [N, D]; those of trials are at hand."""
        new = [arch for arch in dict.fromkeys(archs) if arch not in self._rows]
        rows = dict(zip(new, self._encoding.matrix(new), strict=True))
        self._rows.update((arch, row) for arch, row in rows.items() if arch in self._told)
        found = [rows[arch] if arch in rows else self._rows[arch] for arch in archs]
        return np.stack(found) if found else self._encoding.matrix([])
