"""What random search would have reached is told well, whichever controller made the trials."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from effnas import Architecture, Reward, Search, SearchSpace, TrialState
from effnas.controllers import baseline, predictor
from effnas.controllers.baseline import MIN_TRIALS, random_searches
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
def test_they_are_what_random_searches_really_reach(controller: str, rewards: list[float]) -> None:
    rng = np.random.default_rng(2)
    found = random_searches(searched(controller, 30).trials, MNASNET, GOAL)
    assert found[-1].trials == 30
    for each in found:
        bests = [rng.choice(rewards, each.trials).max() for _ in range(300)]
        assert each.low < np.mean(bests) < each.high
        assert abs(each.best - np.mean(bests)) < 0.5 * np.std(rewards)


@pytest.mark.slow
def test_more_trials_reach_more_and_infeasible_ones_nothing() -> None:
    search = searched("random", 40)
    trials = [
        replace(t, state=TrialState.INFEASIBLE, reward=None) if t.number % 3 else t
        for t in search.trials
    ]
    trials += [replace(t, number=t.number + 40) for t in searched("random", 60).trials[40:]]
    fewer, all_of_them = (random_searches(t, MNASNET, GOAL) for t in (trials, search.trials))
    assert fewer[0].trials > all_of_them[0].trials == 1
    for found in (fewer, all_of_them):
        for values in ([f.best for f in found], [f.low for f in found], [f.high for f in found]):
            assert values == sorted(values)


def test_of_very_many_trials_those_that_matter_are_enough(
    rewards: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = searched("random", 120).trials
    monkeypatch.setattr(predictor, "MOST_TRIALS", 60)
    monkeypatch.setattr(predictor, "_SETTLED_AFTER", 20)
    learned = baseline.fitted(trials, MNASNET, GOAL).measured
    assert len(learned) == 60
    monkeypatch.setattr(baseline, "_MOST_DRAWN", 100)
    found = random_searches(trials, MNASNET, GOAL)
    assert found[-1].trials == 100
    bests = [np.random.default_rng(n).choice(rewards, 100).max() for n in range(300)]
    assert abs(found[-1].best - np.mean(bests)) < 0.5 * np.std(rewards)


def test_nothing_is_told_from_a_few_trials() -> None:
    trials = searched("random", MIN_TRIALS - 1).trials
    assert random_searches(trials, MNASNET, GOAL) == []
