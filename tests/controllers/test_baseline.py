"""What random search would have reached is told well, whichever controller made the trials."""

from __future__ import annotations

import numpy as np
import pytest

from effnas import Architecture, Reward, Search, SearchSpace
from effnas.controllers.baseline import MIN_TRIALS, random_search
from effnas.trials.problem import Problem

MNASNET = SearchSpace.load("mnasnet")
GOAL = Problem(Reward.load("A * S^-0.07 * P^-0.05"))


def measure(arch: Architecture) -> dict[str, float]:
    counts = MNASNET.count(arch)
    kernels = sum(stage.k for stage in arch.stages)
    accuracy = 0.9 - 0.2 * np.exp(-counts.macs / 3e8) - 0.002 * (kernels - 25) ** 2 / 10
    return {"accuracy": float(accuracy), "step_time": counts.activations / 1e7}


def searched(controller: str, budget: int) -> Search:
    search = Search(MNASNET, GOAL.reward, controller, 3)
    search.run(measure, budget=budget)
    return search


@pytest.fixture(scope="module")
def rewards() -> list[float]:
    """Those of random networks."""
    rng = np.random.default_rng(1)
    archs = [MNASNET.sample(rng) for _ in range(3000)]
    return [GOAL.reward.score(MNASNET.counted_metrics(arch) | measure(arch)) for arch in archs]


@pytest.mark.parametrize("controller", ["random", "evolution", "surrogate"])
@pytest.mark.slow
def test_it_is_what_random_searches_really_reach(controller: str, rewards: list[float]) -> None:
    rng = np.random.default_rng(2)
    bests = [rng.choice(rewards, 30).max() for _ in range(300)]
    found = random_search(searched(controller, 30).trials, MNASNET, GOAL)
    assert found is not None
    assert found.trials == 30
    assert found.low < np.mean(bests) < found.high
    assert abs(found.best - np.mean(bests)) < 0.5 * np.std(rewards)


def test_nothing_is_told_from_a_few_trials() -> None:
    trials = searched("random", MIN_TRIALS - 1).trials
    assert random_search(trials, MNASNET, GOAL) is None
