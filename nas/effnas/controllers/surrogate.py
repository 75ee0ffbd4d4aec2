"""The surrogate controller: predicts what was not tried, and tries what promises most."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from effnas.arch.architecture import Architecture
from effnas.config.expression_tree import Vectors
from effnas.controllers.base import Controller
from effnas.controllers.gaussian_process import MIN_VALUES
from effnas.controllers.predictor import Predictor, Score
from effnas.errors import check_at_least
from effnas.space.search_space import SearchSpace
from effnas.trials.objectives import non_dominated, scalarise
from effnas.trials.problem import Problem
from effnas.trials.trial import Trial

#: Architectures drawn at random to find where to climb from.
_DRAWN = 200
#: Climbs begin at the best drawn ones and at the best trials, N of each.
_STARTS = 3
#: The best expected reward is looked for among the N trials with the highest measured ones.
_LEADERS = 50
#: Draws of which one is taken where costs are to be spread, and how often a decision of the recipe
#: is the default.
_SPREAD, _DEFAULT_SHARE = 64, 0.5
#: Steps of a climb at most: far more than there are decisions to change.
_MAX_STEPS = 60


class SurrogateController(Controller):
    """Models every unknown metric, and climbs to where the expected improvement is largest.

    The rewards that are expected (`effnas.controllers.predictor`), with their uncertainty, give the
    expected improvement over the best one so far (Jones et al. 1998), on a logarithmic scale (Ament
    et al. 2023), weighed with the probability that the architecture is feasible. Its maximum is
    looked for by climbs from the best of random draws and from the best trials, one decision at a
    time.

    Several objectives are weighed at random for every proposal (ParEGO, Knowles 2006), on a scale
    from the worst to the best of the front, and improvement is that of the weighed figure.

    The incumbent is the best *expected* reward among all trials, so that a lucky measurement does
    not mislead.

    Args:
        problem: The reward and the metrics that are free. Without one, rewards themselves are
            modelled.
        initial: Trials that are drawn at random before the first prediction, 3 or more; those with
            a reward or paused at a rung count.
    """

    name = "surrogate"
    most_repeats = 3
    takes_objectives: ClassVar[bool] = True

    def __init__(
        self,
        space: SearchSpace,
        seed: int = 0,
        *,
        problem: Problem | None = None,
        initial: int = 10,
    ) -> None:
        check_at_least(MIN_VALUES, initial=initial)
        super().__init__(space, seed, problem=problem)
        self.initial = initial
        self._objectives = problem.objectives if problem else None
        self._predictor = Predictor(space, problem)

    def tell(self, trial: Trial) -> None:
        """Learn that a trial has started or ended."""
        super().tell(trial)
        self._predictor.tell(trial)

    def propose(self, rng: np.random.Generator) -> Architecture:
        """Return the architecture with the most expected improvement that was not tried yet."""
        predictor = self._predictor
        if len(predictor.measured) < self.initial:
            return self._spread(rng) if self.space.recipe else self.space.sample(rng)
        predictor.update()
        score, measured = self._scalarised(rng) if self._objectives else self._rewarded()
        archs = [*predictor.measured]
        tried = [archs[n] for n in np.argsort(-measured, kind="stable")[:_LEADERS]]
        expected = predictor.posterior(tried, score).mean
        best = float(expected.max())
        worth: dict[Architecture, float] = {}

        def look_at(archs: list[Architecture]) -> None:
            new = [arch for arch in dict.fromkeys(archs) if arch not in worth]
            if new:
                values = predictor.posterior(new, score).log_expected_improvement(
                    best
                ) + predictor.log_feasible(new)
                worth.update(zip(new, values.tolist(), strict=True))

        drawn = [self.space.sample(rng) for _ in range(_DRAWN)]
        look_at(drawn)
        starts = sorted(worth, key=worth.__getitem__, reverse=True)[:_STARTS]
        starts += [tried[n] for n in np.argsort(-expected, kind="stable")[:_STARTS]]
        look_at(starts)
        for _ in range(_MAX_STEPS):
            near = {arch: list(self.space.neighbours(arch)) for arch in starts}
            look_at([arch for archs in near.values() for arch in archs])
            reached = [max([arch, *near[arch]], key=worth.__getitem__) for arch in near]
            if reached == starts:
                break
            starts = list(dict.fromkeys(reached))
        ranked = sorted(worth, key=worth.__getitem__, reverse=True)
        new = (arch for arch in ranked if arch.id not in self._proposed)
        return next(new, None) or self.space.sample(rng)

    def _spread(self, rng: np.random.Generator) -> Architecture:
        """Draw where the recipe is open: networks of all costs, and recipes near the default one.

        Most networks of a space are large, and of a dozen random decisions of a recipe one is
        mostly bad. So of several draws, the one is taken that is nearest to a random number of
        MACs on a logarithmic scale, and each decision of the recipe is the default in every other
        case.
        """
        drawn = [self.space.sample(rng) for _ in range(_SPREAD)]
        costs = np.log([1 + self.space.count(arch).macs for arch in drawn])
        arch = drawn[int(np.abs(costs - rng.uniform(costs.min(), costs.max())).argmin())]
        defaults = {choice.name: choice.options[0] for choice in self.space.recipe}
        decided = {
            name: defaults[name] if rng.random() < _DEFAULT_SHARE else option
            for name, option in arch.recipe
        }
        near = replace(arch, recipe=tuple(decided.items()))
        return arch if self.space.violated(near) else near

    def _rewarded(self) -> tuple[Score, NDArray[np.float64]]:
        """Return the reward as the figure to maximize, and what it was in all trials."""
        predictor = self._predictor
        rewards = [predictor.reward_of(trial) for trial in predictor.measured.values()]
        return predictor.reward, np.array(rewards, dtype=np.float64)

    def _scalarised(self, rng: np.random.Generator) -> tuple[Score, NDArray[np.float64]]:
        """Return the objectives weighed at random, and what that was in all trials."""
        objectives = self._objectives
        assert objectives is not None
        trials = self._predictor.measured.values()
        values = np.array([objectives.values(trial.metrics) for trial in trials])
        weights = objectives.draw_weights(rng)
        front = values[non_dominated(values)]
        worst, best = front.min(axis=0), front.max(axis=0)

        def score(metrics: Vectors) -> NDArray[np.float64]:
            return scalarise(objectives.vectorized(metrics), weights, worst, best)

        return score, scalarise(values, weights, worst, best)
