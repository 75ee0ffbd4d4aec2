"""Values at a low fidelity tell of those at a high one, and unsure ones leave them unsure."""

from __future__ import annotations

import numpy as np
import pytest

from effnas import Architecture, Rungs, Search, SearchSpace
from effnas.controllers.fidelity import Level, MultiFidelityGP
from effnas.controllers.gaussian_process import OnlineGP

RNG = np.random.default_rng
GROUPS = (slice(0, 2), slice(2, 4))


def points(n: int, seed: int = 0) -> np.ndarray:
    return RNG(seed).normal(size=(n, 4)) / 2


def high(X: np.ndarray) -> np.ndarray:  # noqa: N803
    return np.asarray(np.sin(4 * X[:, 0]) + X[:, 1] * X[:, 2] - X[:, 3] ** 2)


def low(X: np.ndarray) -> np.ndarray:  # noqa: N803
    return np.asarray(0.6 * high(X) - 1 + 0.05 * X[:, 1])


def levels(n_low: int, n_high: int) -> list[Level]:
    X = points(n_low)  # noqa: N806
    best = X[np.argsort(-low(X), kind="stable")[:n_high]]  # the best go on
    return [Level(X, low(X), np.ones(n_low)), Level(best, high(best), low(best))]


def error(model: MultiFidelityGP | OnlineGP) -> float:
    others = points(200, seed=1)
    return float(np.sqrt(((model.predict(others)[0] - high(others)) ** 2).mean()))


def test_many_low_values_and_a_few_high_ones_tell_more_than_the_few() -> None:
    both, few = MultiFidelityGP(GROUPS, 0.3), OnlineGP(GROUPS, 0.3)
    both.update(levels(120, 15))
    few.update(levels(120, 15)[1].points, levels(120, 15)[1].values)
    assert error(both) < 0.5 * error(few)


def test_what_is_unsure_at_the_low_fidelity_is_unsure_at_the_high_one() -> None:
    few, many = MultiFidelityGP(GROUPS, 0.3), MultiFidelityGP(GROUPS, 0.3)
    few.update(levels(16, 8))
    many.update(levels(160, 80))
    assert few.predict(points(50, 1))[1].mean() > 2 * many.predict(points(50, 1))[1].mean()
    before = many.predict(points(4, 2) * 2)
    many.condition_on_mean(points(4, 2) * 2)
    after = many.predict(points(4, 2) * 2)
    assert after[0] == pytest.approx(before[0], abs=0.05)
    assert (after[1] < before[1]).all()


TINY = SearchSpace.load("tiny")


def train(arch: Architecture, epochs: int) -> dict[str, float]:
    """More layers and expansions learn more; all of them learn in the same way."""
    capacity = sum(s.r * s.e**0.5 * (1 + (s.k == 5)) for s in arch.stages)
    final = 0.9 - 0.4 / capacity
    return {"accuracy": final * (1 - 0.1 * (4 / epochs - 1)), "step_time": 1.0}


@pytest.mark.slow
def test_the_controller_learns_from_all_rungs() -> None:
    search = Search(TINY, "A", "surrogate", 0, rungs=Rungs((1, 2, 4)))
    search.run(train, budget=40)
    drawn = Search(TINY, "A", "random", 0, rungs=Rungs((1, 2, 4)))
    drawn.run(train, budget=40)
    best = max(train(arch, 4)["accuracy"] for arch in TINY.architectures())
    assert search.best is not None
    assert search.best.reward == pytest.approx(best, abs=2e-3)
    mine, others = (
        np.mean([train(t.architecture, 4)["accuracy"] for t in found.trials[20:]])
        for found in (search, drawn)
    )
    assert mine > others
