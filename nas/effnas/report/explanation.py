"""Why a network wins: its path from the reference, and which decisions matter, by a surrogate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from effnas.arch.architecture import Architecture
from effnas.config.text import Option
from effnas.controllers.predictor import Predictor
from effnas.space.search_space import SearchSpace

#: Draws from what the model knows of all networks together.
_DRAWS = 100
#: Random networks that shares of the variance are estimated from.
_NETWORKS = 250
#: More metrics than these make too many orders to split a step by.
_MAX_METRICS = 4


@dataclass(frozen=True, kw_only=True)
class Step:
    """One decision on the way from the reference to the winner.

    Attributes:
        decision: Such as `stage2.k`.
        before: Its option in the reference; None where the reference leaves it closed.
        after: In the winner.
        gain: Change of the reward's logarithm, by the model.
        low: The gain is above this with 95 %.
        high: The gain is below this with 95 %.
        parts: The share of each metric in the gain, by its name.
        reward: That is expected after the step.
    """

    decision: str
    before: Option | None
    after: Option | None
    gain: float
    low: float
    high: float
    parts: Mapping[str, float]
    reward: float


def path(predictor: Predictor, winner: Architecture) -> list[Step] | None:
    """Return the decisions that differ from the reference's, the one that gains most first.

    At every step the change is taken after which the model expects most.

    Returns:
        None if one of both lies outside the space, or expected rewards are not all above 0.
    """
    space = predictor.space
    reference = space.with_default_recipe(space.reference)
    start, end = space.decisions(reference), space.decisions(winner)
    if start is None or end is None:
        return None
    left = [name for name in end if start.get(name) != end[name]]
    left += [name for name in start if name not in end]
    network = _mixing(space, start, end)
    networks, order, taken = [network(frozenset())], [], frozenset[str]()
    while left:
        tries = {name: network(taken | {name}) for name in left}
        names = [name for name in left if tries[name] != networks[-1]]
        if not names:
            break
        expected = predictor.posterior([tries[name] for name in names], predictor.reward).mean
        best = names[int(expected.argmax())]
        left.remove(best)
        taken |= {best}
        order.append(best)
        networks.append(tries[best])
    if not order:
        return []
    return _steps(predictor, networks, [(name, start.get(name), end.get(name)) for name in order])


def _mixing(
    space: SearchSpace, start: Mapping[str, Option], end: Mapping[str, Option]
) -> Callable[[frozenset[str]], Architecture]:
    def network(taken: frozenset[str]) -> Architecture:
        def choose(name: str, options: tuple[Option, ...]) -> Option:
            first, second = (end, start) if name in taken else (start, end)
            return first.get(name, second.get(name, options[0]))

        return space.architecture_by(choose)

    return network


def _steps(
    predictor: Predictor,
    networks: Sequence[Architecture],
    changes: Sequence[tuple[str, Option | None, Option | None]],
) -> list[Step] | None:
    drawn = predictor.draw(networks, _DRAWS, np.random.default_rng(0))
    rewards = _rewards(predictor, drawn)
    if not (rewards > 0).all():
        return None
    logs = np.log(rewards)
    gains = np.diff(logs, axis=1)
    low, high = np.quantile(gains, [0.05, 0.95], axis=0)
    parts = _parts(predictor, drawn)
    return [
        Step(
            decision=name,
            before=before,
            after=after,
            gain=float(gains[:, n].mean()),
            low=float(low[n]),
            high=float(high[n]),
            parts={metric: float(values[n]) for metric, values in parts.items()},
            reward=float(np.exp(logs[:, n + 1].mean())),
        )
        for n, (name, before, after) in enumerate(changes)
    ]


def _rewards(predictor: Predictor, drawn: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the rewards of metrics of any one shape."""
    shape = next(iter(drawn.values())).shape
    return predictor.reward({name: v.ravel() for name, v in drawn.items()}).reshape(shape)


def _parts(
    predictor: Predictor, drawn: Mapping[str, NDArray[np.float64]]
) -> dict[str, NDArray[np.float64]]:
    """Split the gain of each step among the metrics of the reward: their Shapley values, [N]."""
    problem = predictor.problem
    needed = problem.reward.metrics if problem else frozenset()
    first = ("accuracy", "step_time", "params_ratio")
    names: list[str] = [name for name in first if name in needed]
    names += sorted(needed - set(names))
    if not names or len(names) > _MAX_METRICS or not needed <= drawn.keys():
        return {}
    after = {name: drawn[name][:, 1:] for name in names}
    orders = list(permutations(names))
    found = {name: np.zeros(after[name].shape[1]) for name in names}
    for order in orders:
        now = {name: values[:, :-1] for name, values in drawn.items()}
        last = np.log(_rewards(predictor, now))
        for name in order:
            now[name] = after[name]
            value = np.log(_rewards(predictor, now))
            found[name] += (value - last).mean(axis=0) / len(orders)
            last = value
    return found


@dataclass(frozen=True, kw_only=True)
class Importance:
    """How much of the variance of the reward over the space follows from one decision alone.

    Attributes:
        decision: Such as `stage2.k`.
        share: Its share of the variance, 0 to 1.
        low: The share is above this with 95 %.
        high: The share is below this with 95 %.
        best_option: The option with the highest mean.
    """

    decision: str
    share: float
    low: float
    high: float
    best_option: Option


def importances(predictor: Predictor, seed: int = 0) -> tuple[list[Importance], float]:
    """Return the decisions by their main effect on the reward, the largest first.

    Shares of the variance over random networks (functional ANOVA), for each draw of the model, so
    that the intervals say what the trials leave open.

    Returns:
        The decisions, and the share of the variance that all of them explain together, each alone.
    """
    space = predictor.space
    rng = np.random.default_rng(seed)
    networks = list(dict.fromkeys(space.sample(rng) for _ in range(_NETWORKS)))
    drawn = _rewards(predictor, predictor.draw(networks, _DRAWS, rng))
    taken = [space.decisions(arch) or {} for arch in networks]
    variance = np.maximum(drawn.var(axis=1), 1e-18)
    found, total = [], np.zeros(_DRAWS)
    for choice in space.choices:
        options = [*choice.options, None]
        at = np.array([options.index(each.get(choice.name)) for each in taken])
        present = [n for n in range(len(options)) if (at == n).any()]
        if len(present) < 2:
            continue
        sizes = np.array([(at == n).sum() for n in present])
        means = np.stack([drawn[:, at == n].mean(axis=1) for n in present])
        between = (sizes[:, None] * (means - drawn.mean(axis=1)) ** 2).sum(axis=0) / len(at)
        # Groups of few networks differ by chance: what that alone would give is taken away.
        chance = (len(present) - 1) / (len(at) - len(present)) * (variance - between)
        share = np.clip((between - chance) / variance, 0.0, 1.0)
        total += share
        low, high = np.quantile(share, [0.05, 0.95])
        named = [n for n in range(len(present)) if options[present[n]] is not None]
        best = max(named, key=lambda n: float(means[n].mean()))
        option = options[present[best]]
        assert option is not None
        found.append(Importance(decision=choice.name, share=float(share.mean()), low=float(low),
                                high=float(high), best_option=option))  # fmt: skip
    found.sort(key=lambda each: -each.share)
    return found, float(min(total.mean(), 1.0))
