"""The surrogate controller: guesses what was not tried yet, and tries what may be better most."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from effnas.controllers.base import Controller
from effnas.errors import ConfigError
from effnas.predictor import Predictor
from effnas.surrogate import FEWEST

if TYPE_CHECKING:
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


class SurrogateController(Controller):
    """Models every unknown metric, and climbs to the architecture with most expected improvement.

    The rewards that are expected (`effnas.predictor`), with their uncertainty, give the expected
    improvement over the best one so far (Jones et al. 1998), on a logarithmic scale (Ament et al.
    2023), weighed with the probability that the architecture is feasible. Its maximum is looked for
    by climbs from the best of random draws and from the best trials, one decision at a time.

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
        self._predictor = Predictor(space, goal)

    def tell(self, trial: Trial) -> None:
        """Learn that a trial has started or ended."""
        super().tell(trial)
        self._predictor.tell(trial)

    def propose(self, rng: np.random.Generator) -> Architecture:
        """Return the architecture with the most expected improvement that was not tried yet."""
        predictor = self._predictor
        if len(predictor.complete) < self.initial:
            return self.space.sample(rng)
        predictor.update()
        trials = sorted(predictor.complete.values(), key=lambda trial: -(trial.reward or 0.0))
        tried = [trial.architecture for trial in trials[:_LEADERS]]
        expected = predictor.rewards(tried).mean
        best = float(expected.max())
        worth: dict[Architecture, float] = {}

        def look_at(archs: list[Architecture]) -> None:
            new = [arch for arch in dict.fromkeys(archs) if arch not in worth]
            if new:
                values = predictor.rewards(new).log_gain(best) + predictor.log_feasible(new)
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
