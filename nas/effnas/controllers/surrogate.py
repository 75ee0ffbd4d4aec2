"""The surrogate controller: predicts what was not tried, and tries what promises most."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from effnas.arch.architecture import Architecture
from effnas.config.expression_tree import Vectors
from effnas.config.text import Option
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
#: Draws of which one is taken where costs are to be spread; decisions of a recipe that are not the
#: default ones, and other options of a choice that are all tried; trials drawn in addition.
_DRAWN_BY_COST, _CHANGED, _TRIED, _MORE_FOR_BOTH = 64, 3, 4, 6
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
        #: The architectures that `tell` has received.
        self._told: dict[Architecture, None] = {}

    def tell(self, trial: Trial) -> None:
        """Learn that a trial has started or ended."""
        super().tell(trial)
        self._told[trial.architecture] = None
        self._predictor.tell(trial)

    def propose(self, rng: np.random.Generator) -> Architecture:
        """Return the architecture with the most expected improvement that was not tried yet."""
        predictor = self._predictor
        if len(predictor.measured) < self._first_draws:
            return self._screened(rng) if self.space.recipe else self.space.sample(rng)
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

    def _screened(self, rng: np.random.Generator) -> Architecture:
        """Draw where the recipe is open: other recipes of the reference, and other networks.

        Of a dozen random decisions of a recipe one is mostly bad, which says little of the others.
        So every other trial is the reference by the default recipe but for a few decisions, those
        that were tried least so far: after a dozen trials, every option has been tried once. The
        others are networks of all costs by the default recipe: most of a space are large, so of
        several draws, the one nearest to a random number of MACs on a logarithmic scale is taken.
        """
        space = self.space
        if len(self._told) % 2 and any(each.size > 1 for each in space.stages):
            drawn = [space.sample(rng) for _ in range(_DRAWN_BY_COST)]
            costs = np.log([1 + space.count(arch).macs for arch in drawn])
            arch = drawn[int(np.abs(costs - rng.uniform(costs.min(), costs.max())).argmin())]
            near = space.with_default_recipe(arch)
        else:
            tried = Counter(decision for arch in self._told for decision in arch.recipe)
            order = [self._others[n] for n in rng.permutation(len(self._others))]
            # Of each choice the option that was tried least, and the least tried of those.
            least = dict(sorted(order, key=tried.__getitem__, reverse=True))
            changed = dict(sorted(least.items(), key=tried.__getitem__)[:_CHANGED])
            default = space.with_default_recipe(space.reference)
            near = replace(default, recipe=tuple((dict(default.recipe) | changed).items()))
        return near if space.contains(near) else space.sample(rng)

    @property
    def _first_draws(self) -> int:
        """Trials before the first prediction: more where recipes and networks are open."""
        both = self.space.recipe and any(each.size > 1 for each in self.space.stages)
        return self.initial + (_MORE_FOR_BOTH if both else 0)

    @cached_property
    def _others(self) -> list[tuple[str, Option]]:
        """The decisions of the recipe that are not the default, of long choices those near it."""
        found = []
        for choice in self.space.recipe:
            default, *others = choice.options
            if len(others) > _TRIED and not any(isinstance(each, str) for each in choice.options):
                ordered = sorted(choice.options, key=float)
                place = ordered.index(default)
                others = [each for n, each in enumerate(ordered) if abs(n - place) in (2, 4)]
            found += [(choice.name, other) for other in others]
        return found

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
