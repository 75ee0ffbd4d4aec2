"""The surrogate controller: guesses what was not tried yet, and tries what may be better most."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from effnas.controllers.base import Controller
from effnas.errors import ConfigError, RewardError
from effnas.guess import Guess, MetricGuess, guess_rewards, metrics_that_matter
from effnas.surrogate import FEWEST, Encoding, GrowingSurrogate
from effnas.trial import TrialState

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from effnas.architecture import Architecture
    from effnas.goal import Goal
    from effnas.space import SearchSpace
    from effnas.trial import Trial

#: Architectures drawn at random to find where to climb from.
_DRAWN = 200
#: Climbs begin at the best drawn ones and at the best trials, so many of each.
_STARTS = 3
#: The best expected reward is looked for among so many trials with the highest measured ones.
_LEADERS = 50
#: Steps of a climb at most: far more than there are decisions to change.
_MOST_STEPS = 60
#: Standard deviation of a metric's logarithm that too few trials have for a regression.
_PRIOR_DEVIATION = 0.3
#: What is modelled where there is no goal.
_REWARD = "reward"
#: Added to the variance of how feasible an architecture is: labels are 0 or 1, nothing between.
_LABEL_VARIANCE = 0.05


class SurrogateController(Controller):
    """Models every unknown metric, and climbs to the architecture with most expected improvement.

    Params, MACs and whatever else the goal knows of an architecture are exact. Each other metric
    that the reward depends on has a Gaussian process of its own over an encoding of architectures
    (`effnas.surrogate`), on a logarithmic scale where all of its values are positive. The reward
    that follows, with its uncertainty, gives the expected improvement over the best one so far
    (Jones et al. 1998), on a logarithmic scale (Ament et al. 2023). Its maximum is looked for by
    climbs from the best of random draws and from the best trials, one decision at a time.

    Trials under way count as if they had given what is expected of them (the kriging believer of
    Ginsbourger et al. 2010), so that parallel workers get different ones. Infeasible trials teach a
    further process where architectures are feasible; improvement is weighed with that probability.
    The incumbent is the best *expected* reward among all trials, so that a lucky measurement does
    not mislead.

    Args:
        space: The space.
        seed: Seed of all proposals.
        goal: The reward and what is known before a trial. Without one, rewards themselves are
            modelled.
        initial: Complete trials that are drawn at random before the first guess, 3 or more.
    """

    name = "surrogate"
    most_repeats = 3

    def __init__(
        self,
        space: SearchSpace,
        seed: int = 0,
        *,
        goal: Goal | None = None,
        initial: int = 20,
    ) -> None:
        if initial < FEWEST:
            raise ConfigError(f"surrogate: initial is {initial}, it must be {FEWEST} or more")
        super().__init__(space, seed, goal=goal)
        self.initial = initial
        self._encoding = Encoding(space)
        # In the order in which they ended, which fixes what the models are learned from.
        self._complete: dict[Architecture, Trial] = {}
        self._is_feasible: dict[Architecture, bool] = {}
        self._running: dict[Architecture, None] = {}
        #: The encoding of every architecture of the space that was told of.
        self._rows: dict[Architecture, NDArray[np.float64]] = {}
        #: The metrics that rewards depend on and that were not known of some trial beforehand.
        self._names = {} if goal else {_REWARD: None}
        self._models: dict[str, GrowingSurrogate] = {}
        self._feasible = GrowingSurrogate(self._encoding.groups, 1.0)

    # -- what is told

    def tell(self, trial: Trial) -> None:
        """Learn that a trial has started or ended."""
        arch = trial.architecture
        if arch not in self._rows and self.space.contains(arch):
            [self._rows[arch]] = self._encoding.matrix([arch])
        super().tell(trial)
        if trial.state is TrialState.RUNNING and arch in self._rows:
            self._running[arch] = None

    def learn(self, trial: Trial) -> None:
        """Take note of what was measured, or that nothing can be."""
        arch = trial.architecture
        self._running.pop(arch, None)
        if arch not in self._rows:
            return  # not of this space
        if trial.state is TrialState.INFEASIBLE:
            self._is_feasible[arch] = False
        elif trial.reward is not None:
            self._is_feasible[arch] = True
            self._complete[arch] = trial
            if self.goal:
                [known] = self._known([arch])
                matter = metrics_that_matter(self.goal.reward, trial.metrics, trial.reward)
                self._names.update({name: None for name in matter if name not in known})

    # -- what is proposed

    def propose(self, rng: np.random.Generator) -> Architecture:
        """Return the architecture with the most expected improvement that was not tried yet."""
        if len(self._complete) < self.initial:
            return self.space.sample(rng)
        beliefs = self._learned()
        trials = sorted(self._complete.values(), key=lambda trial: -(trial.reward or 0.0))
        tried = [trial.architecture for trial in trials[:_LEADERS]]
        expected = beliefs(tried).mean
        best = float(expected.max())
        worth: dict[Architecture, float] = {}

        def look_at(archs: list[Architecture]) -> None:
            new = [arch for arch in dict.fromkeys(archs) if arch not in worth]
            if new:
                values = beliefs(new).log_gain(best) + self._log_feasible(new)
                worth.update(zip(new, values.tolist(), strict=True))

        drawn = [self.space.sample(rng) for _ in range(_DRAWN)]
        look_at(drawn)
        starts = sorted(worth, key=worth.__getitem__, reverse=True)[:_STARTS]
        starts += [tried[n] for n in np.argsort(-expected, kind="stable")[:_STARTS]]
        look_at(starts)
        for _ in range(_MOST_STEPS):
            near = {arch: list(self.space.neighbours(arch)) for arch in starts}
            look_at([arch for archs in near.values() for arch in archs])
            reached = [max([arch, *near[arch]], key=worth.__getitem__) for arch in near]
            if reached == starts:
                break
            starts = list(dict.fromkeys(reached))
        ranked = sorted(worth, key=worth.__getitem__, reverse=True)
        new = (arch for arch in ranked if arch.id not in self._proposed)
        return next(new, None) or self.space.sample(rng)

    # -- what is believed

    def _learned(self) -> Callable[[Sequence[Architecture]], Guess]:
        """Bring the models up to date, and return what tells the expected rewards."""
        trials = list(self._complete.values())
        told_rows = self._matrix([*self._complete])
        running_rows = self._matrix([*self._running])
        is_log = {}
        for name in self._names:
            kept = [n for n, trial in enumerate(trials) if name in _metrics(trial)]
            values = np.array([_metrics(trials[n])[name] for n in kept])
            is_log[name] = len(values) > 0 and bool(values.min() > 0)
            model = self._models.setdefault(
                name, GrowingSurrogate(self._encoding.groups, _PRIOR_DEVIATION)
            )
            model.update(told_rows[kept], np.log(values) if is_log[name] else values)
            if self._running:
                model.believe(running_rows)
        if not all(self._is_feasible.values()):
            labels = np.array([*self._is_feasible.values()], dtype=np.float64)
            self._feasible.update(self._matrix([*self._is_feasible]), labels)

        worst = min(t.reward for t in trials if t.reward is not None)

        def score(metrics: Mapping[str, float]) -> float:
            if self.goal is None:
                return metrics[_REWARD]
            try:
                return self.goal.reward.score(metrics)
            except RewardError:  # no value there: as bad as the worst
                return worst

        def beliefs(archs: Sequence[Architecture]) -> Guess:
            sure = self._known(archs)
            unknown: list[dict[str, MetricGuess]] = [{} for _ in archs]
            rows = self._matrix(archs)
            for name, log_scale in is_log.items():
                lacking = [n for n, metrics in enumerate(sure) if name not in metrics]
                mean, deviation = self._models[name].predict(rows[lacking])
                for n, middle, spread in zip(
                    lacking, mean.tolist(), deviation.tolist(), strict=True
                ):
                    unknown[n][name] = MetricGuess(middle, spread, log_scale)
            return guess_rewards(score, sure, unknown)

        return beliefs

    def _known(self, archs: Sequence[Architecture]) -> list[dict[str, float]]:
        """Return the metrics of N architectures that need no model."""
        if self.goal is None:
            return [{} for _ in archs]
        return [
            {**self.space.counted_metrics(arch), **more}
            for arch, more in zip(archs, self.goal.known(archs), strict=True)
        ]

    def _log_feasible(self, archs: Sequence[Architecture]) -> NDArray[np.float64]:
        """Return the logarithm of the probability that each is feasible, [N]."""
        if not self._feasible.is_fitted:
            return np.zeros(len(archs))
        from scipy.special import log_ndtr

        mean, deviation = self._feasible.predict(self._matrix(archs))
        return np.asarray(log_ndtr((mean - 0.5) / np.sqrt(deviation**2 + _LABEL_VARIANCE)))

    def _matrix(self, archs: Sequence[Architecture]) -> NDArray[np.float64]:
        """Return the encoding of N architectures, [N, D]; those of trials are at hand."""
        new = [arch for arch in archs if arch not in self._rows]
        rows = dict(zip(new, self._encoding.matrix(new), strict=True))
        found = [rows[arch] if arch in rows else self._rows[arch] for arch in archs]
        return np.stack(found) if found else self._encoding.matrix([])


def _metrics(trial: Trial) -> Mapping[str, float]:
    assert trial.reward is not None
    return {**trial.metrics, _REWARD: trial.reward}
