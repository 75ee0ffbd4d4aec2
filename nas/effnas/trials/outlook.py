"""Can I stop? What more trials may gain."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np

from effnas.trials.uncertainty import Ranking

#: Fewer complete trials do not say how good the best ones of many are.
MIN_TRIALS = 20
#: The share of trials, at least `_MIN_HIGHEST`, that tells how rewards end at the top.
_HIGHEST, _MIN_HIGHEST = 0.2, 5
#: Shape of the generalized Pareto distribution of rewards there; below 0, since rewards have a
#: ceiling. Few trials cannot tell it, so that it is the same for all searches.
_SHAPE = -0.25
#: Trials of random search that one of a controller that learns is worth.
_LEARNED = 3.0


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What more trials may gain.

    Attributes:
        trials: How many more.
        reason: Why nothing can be said, if so; then what follows is None.
        expected: By how much the best network's true reward is expected to rise, 0 or more.
        high: With 95 % it rises by this at most.
        worth: The gain that is worth mentioning.
        probability: That the gain is as large as that, 0 to 1.
    """

    trials: int
    reason: str | None = None
    expected: float | None = None
    high: float | None = None
    worth: float | None = None
    probability: float | None = None


def outlook(
    ranking: Ranking,
    *,
    learns: bool,
    more: int = 50,
    complete: float = 1.0,
    untried: int | None = None,
    worth: float = 0.005,
    seed: int = 0,
) -> Outlook:
    """Estimate what more trials of the same controller would gain.

    True rewards of random trials end at the top as a generalized Pareto distribution does (Pickands
    1975), whose scale follows from the highest ones; so the best of more trials follows from those
    before, whatever the space. Trials of a controller that learns count for more. Shape, share and
    worth of those trials were chosen on simulated searches; `benchmarks/calibration.py` compares
    others with what they gained.

    Args:
        ranking: The complete trials.
        learns: Whether the controller learns from trials.
        more: How many more trials, 1 or more.
        complete: The share of trials that are complete at their end, 0 to 1.
        untried: Architectures of the space that were not tried, if that is known.
        worth: The gain worth mentioning, as a share of the best true reward.
        seed: Of the draws.
    """
    rewards = ranking.drawn_rewards
    if rewards is None:
        return Outlook(trials=more, reason="it is not known how sure accuracies and rewards are")
    draws, count = rewards.shape
    if count < MIN_TRIALS:
        reason = f"{count} complete trials are too few; it takes {MIN_TRIALS}"
        return Outlook(trials=more, reason=reason)
    if untried == 0:
        return Outlook(trials=more, reason="every architecture of the space was tried")
    highest = max(ceil(_HIGHEST * count), _MIN_HIGHEST)
    ordered = np.sort(rewards, axis=1)
    threshold = ordered[:, -highest - 1]
    scale = (ordered[:, -highest:] - threshold[:, None]).mean(axis=1) * (1 - _SHAPE)
    new = more if untried is None else min(more, untried)
    worth_random = round(new * complete * (_LEARNED if learns else 1.0))
    rng = np.random.default_rng(seed)
    above = rng.binomial(worth_random, highest / count, size=draws)
    # The largest of n values has the level u^(1/n) in their distribution, u uniform.
    level = rng.random(draws) ** (1 / np.maximum(above, 1))
    reached = threshold + scale * np.expm1(-_SHAPE * np.log1p(-level)) / _SHAPE
    best = ordered[:, -1]
    gains = np.where(above > 0, np.maximum(reached - best, 0.0), 0.0)
    least = worth * abs(float(best.mean()))
    return Outlook(
        trials=more,
        expected=float(gains.mean()),
        high=float(np.quantile(gains, 0.95)),
        worth=least,
        probability=float((gains >= least).mean()),
    )
