"""Can I stop? What more trials may gain."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from effnas.arch.architecture import Architecture
from effnas.controllers.baseline import MIN_TRIALS, fitted
from effnas.controllers.posterior import MetricPosterior
from effnas.controllers.predictor import Predictor
from effnas.space.search_space import SearchSpace
from effnas.trials.problem import Problem
from effnas.trials.trial import Trial, TrialState
from effnas.trials.uncertainty import Noise

#: Architectures drawn at random; trials, and then untried architectures, whose neighbours are
#: looked at; rounds of the latter.
_DRAWN, _NEAR, _ROUNDS = 300, 5, 4
#: The truly best trial is looked for among the N with the highest expected rewards.
_LEADERS = 40
#: Draws of what everything is truly worth.
_DRAWS = 500


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What more trials of a controller that learns may gain.

    Attributes:
        trials: How many more.
        reason: Why nothing can be said, if so; then what follows is None.
        high: With 95 % the best network's true reward rises by this at most; 0 or more. Gains were
            far below it on average, since a model promises too much of what was never tried.
        worth: The gain that is worth mentioning.
        probability: That the gain is as large as that, 0 to 1.
    """

    trials: int
    reason: str | None = None
    high: float | None = None
    worth: float | None = None
    probability: float | None = None


def outlook(
    trials: Iterable[Trial],
    space: SearchSpace,
    problem: Problem,
    noise: Noise,
    *,
    more: int = 50,
    worth: float = 0.005,
    seed: int = 0,
    predictor: Predictor | None = None,
) -> Outlook:
    """Estimate what more trials would gain.

    A model of these trials (`effnas.controllers.predictor`) draws what the best trials and untried
    architectures are truly worth, together. The untried ones are those that promise most of random
    draws, of the neighbours of the best trials and of a few steps further; the next trials are
    taken to be those. The mean of these gains is more than twice too high
    (`benchmarks/README.md`), so that only their upper end and a probability are given.

    Args:
        trials: Trials that have ended, by any controller.
        space: Their space.
        problem: Their reward and free metrics.
        noise: What makes measured accuracies unsure; the rest of what the model cannot explain is
            taken for the network's own.
        more: How many more trials, 1 or more.
        worth: The gain worth mentioning, as a share of the best expected reward.
        seed: Of the draws.
        predictor: A model that has learned from these trials, if there is one already.
    """
    ended = [trial for trial in trials if trial.state.is_finished]
    complete = [
        t for t in ended if t.state is TrialState.COMPLETE and space.contains(t.architecture)
    ]
    if problem.objectives:
        return Outlook(trials=more, reason="several objectives are pursued, not one reward")
    if len(complete) < MIN_TRIALS:
        reason = f"{len(complete)} complete trials are too few; it takes {MIN_TRIALS}"
        return Outlook(trials=more, reason=reason)
    predictor = predictor or fitted(ended, space, problem)
    rng = np.random.default_rng(seed)
    tried = [trial.architecture for trial in complete]
    expected = predictor.posterior(tried, predictor.reward).mean
    leaders = [complete[n] for n in np.argsort(-expected, kind="stable")[:_LEADERS]]
    new = _promising(predictor, leaders, set(tried), float(expected.max()), more, rng)
    if not new:
        return Outlook(trials=more, reason="every architecture near the best ones was tried")
    drawn = _drawn_rewards(predictor, leaders, new, noise, rng)
    feasible = np.exp(predictor.log_feasible(new))
    drawn[:, len(leaders) :][rng.random((_DRAWS, len(new))) >= feasible] = -np.inf
    best = drawn[:, : len(leaders)].max(axis=1)
    gains = np.maximum(drawn[:, len(leaders) :].max(axis=1) - best, 0.0)
    least = worth * abs(float(best.mean()))
    return Outlook(
        trials=more,
        high=float(np.quantile(gains, 0.95)),
        worth=least,
        probability=float((gains >= least).mean()),
    )


def _promising(
    predictor: Predictor,
    leaders: list[Trial],
    tried: set[Architecture],
    best: float,
    count: int,
    rng: np.random.Generator,
) -> list[Architecture]:
    """Return the untried architectures with the largest expected improvement, `count` at most."""
    space, worth = predictor.space, dict[Architecture, float]()
    starts = [trial.architecture for trial in leaders[:_NEAR]]
    look_at = [space.sample(rng) for _ in range(_DRAWN)]
    for _ in range(_ROUNDS):
        look_at += [near for arch in starts for near in space.neighbours(arch)]
        look_at = [a for a in dict.fromkeys(look_at) if a not in worth and a not in tried]
        if look_at:
            values = predictor.posterior(look_at, predictor.reward).log_expected_improvement(best)
            values += predictor.log_feasible(look_at)
            worth.update(zip(look_at, values.tolist(), strict=True))
        starts = sorted(worth, key=worth.__getitem__, reverse=True)[:_NEAR]
        look_at = []
    return sorted(worth, key=worth.__getitem__, reverse=True)[:count]


def _drawn_rewards(
    predictor: Predictor,
    leaders: list[Trial],
    new: list[Architecture],
    noise: Noise,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Draw the true rewards of trials and of untried architectures, together, [draws, N]."""
    archs = [trial.architecture for trial in leaders] + new
    seen = slice(len(leaders))
    drawn = predictor.draw(archs, _DRAWS, rng)
    for name, noises in predictor.noise(archs).items():
        level, is_log = drawn[name], predictor.is_log[name]
        values = np.array([trial.metrics.get(name, np.nan) for trial in leaders])
        error = np.zeros(len(leaders))
        if name == "accuracy":
            error = np.array([noise.standard_error(float(a)) or 0.0 for a in np.nan_to_num(values)])
        if is_log:
            level, values, error = np.log(level), np.log(values), error / values
        # What the model cannot explain is noise, or the network's own. A trial's own part is known
        # from what was measured, as well as noise lets it.
        variance = max(float(np.mean(noises**2)) - float(np.mean(error**2)), 1e-12)
        share = variance / (variance + error**2)
        own = np.sqrt(variance) * rng.standard_normal(level.shape)
        told = share * (values - level[:, seen])
        told += np.sqrt(share) * error * rng.standard_normal(told.shape)
        own[:, seen] = np.where(np.isfinite(told), told, own[:, seen])
        drawn[name] = MetricPosterior(level + own, np.zeros(1), is_log).values(name, 0.0)
    flat = {name: values.ravel() for name, values in drawn.items()}
    return predictor.reward(flat).reshape(_DRAWS, len(archs))
