"""What random search would have reached: the baseline that a controller has to beat."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf

import numpy as np

from effnas.controllers.predictor import Predictor, trials_that_matter
from effnas.space.search_space import SearchSpace
from effnas.trials.pareto_front import relative_hypervolume
from effnas.trials.problem import Problem
from effnas.trials.trial import Trial, TrialState

#: Fewer complete trials do not say enough about the rest of the space.
MIN_TRIALS = 20
#: Architectures drawn at random, or as many as there are trials; random searches among them, and
#: numbers of trials after which it is said what these have reached.
_POOL, _SEARCHES, _STEPS = 1_000, 200, 60
#: The most architectures that are drawn, which is the longest random search that is estimated.
_MOST_DRAWN = 10_000


@dataclass(frozen=True)
class RandomSearch:
    """What a random search of N trials reaches.

    Attributes:
        trials: Trials of the search.
        best: The best measured reward to be expected; with several objectives the hypervolume of
            its front, on the scale of the trials that it was estimated from.
        low: In one search of twenty it is below this.
        high: In one search of twenty it is above this.
    """

    trials: int
    best: float
    low: float
    high: float


def random_searches(
    trials: Iterable[Trial],
    space: SearchSpace,
    problem: Problem,
    seed: int = 0,
    predictor: Predictor | None = None,
) -> list[RandomSearch]:
    """Estimate what random search would have reached with fewer and with as many trials as these.

    A model of these trials (`effnas.controllers.predictor`) says what random architectures would
    measure, noise and its own uncertainty included, and which of them would be infeasible; random
    searches are drawn from that. Trials that a controller chose may be used, since the model takes
    them for what they are: architectures at their place in the space.

    Args:
        trials: Trials that have ended.
        space: Their space.
        problem: Their reward, objectives and free metrics.
        seed: Of the draws.
        predictor: A model that has learned from these trials, if there is one already.

    Returns:
        Estimates for rising numbers of trials, the last one for that of these (for `_MOST_DRAWN` of
        more); with several objectives that one alone. Empty if fewer than `MIN_TRIALS` are
        complete.
    """
    ended = [trial for trial in trials if trial.state.is_finished]
    if sum(trial.state is TrialState.COMPLETE for trial in ended) < MIN_TRIALS:
        return []
    predictor = predictor or fitted(ended, space, problem)
    rng = np.random.default_rng(seed)
    longest = min(len(ended), _MOST_DRAWN)
    pool = list(dict.fromkeys(space.sample(rng) for _ in range(max(_POOL, longest))))
    known, posteriors = predictor.metrics(pool, measured=True)
    feasible = np.exp(predictor.log_feasible(pool))
    objectives = problem.objectives
    seen = [objectives.of(trial) for trial in ended] if objectives else []
    seen = [values for values in seen if values is not None]
    counts = np.unique(np.geomspace(1, longest, _STEPS).round().astype(np.int64))
    if objectives:
        counts = counts[-1:]
    reached = []
    for _ in range(_SEARCHES):
        # All of the pool is measured; a search draws from it, nothing twice, and meets what is
        # infeasible.
        metrics = known | {
            name: each.values(name, rng.normal(size=len(pool))) for name, each in posteriors.items()
        }
        drawn = rng.permutation(len(pool))[:longest]
        is_met = rng.random(len(drawn)) < feasible[drawn]
        if not is_met.any():
            continue
        if objectives:
            values = objectives.vectorized(metrics)[drawn[is_met]]
            reached.append(np.array([relative_hypervolume(values, np.array(seen))]))
        else:
            rewards = np.where(is_met, predictor.reward(metrics)[drawn], -np.inf)
            reached.append(np.maximum.accumulate(rewards)[np.minimum(counts, len(drawn)) - 1])
    if not reached:
        return []
    found = []
    for count, values in zip(counts.tolist(), np.stack(reached, axis=1), strict=True):
        if np.isfinite(values).all():  # before that, some have met nothing but what is infeasible
            low, high = np.quantile(values, [0.05, 0.95])
            found.append(RandomSearch(count, float(values.mean()), float(low), float(high)))
    return found


def fitted(trials: Iterable[Trial], space: SearchSpace, problem: Problem) -> Predictor:
    """Return a model that has learned from trials, of very many from those that matter."""
    predictor, told = Predictor(space, problem), list(trials)
    rewards = [-inf if trial.reward is None else trial.reward for trial in told]
    for n in trials_that_matter(np.array(rewards)):
        predictor.tell(told[n])
    predictor.update()
    return predictor
