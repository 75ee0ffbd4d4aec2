"""More trials would gain much while there is much to find, and nothing when all is known."""

from __future__ import annotations

import pytest

from effnas import Architecture, Reward, Search, SearchSpace
from effnas.controllers.outlook import MIN_TRIALS, outlook
from effnas.trials.objectives import Objectives
from effnas.trials.problem import Problem
from effnas.trials.uncertainty import Noise

TINY = SearchSpace.load("tiny")
PROBLEM = Problem(Reward.load("A * P^-0.05"))
NOISE = Noise(holdout_images=100_000)


def measure(arch: Architecture) -> dict[str, float]:
    layers, kernels = arch.layers, sum(stage.k for stage in arch.stages)
    return {"accuracy": 0.5 + 0.03 * layers + 0.005 * kernels, "step_time": 1.0}


def searched(controller: str, budget: int) -> Search:
    search = Search(TINY, PROBLEM.reward, controller, 1)
    search.run(measure, budget=budget)
    return search


@pytest.mark.slow
def test_a_search_that_has_found_the_best_gains_nothing() -> None:
    begun, ended = (searched(*each).trials for each in (("random", 20), ("surrogate", 60)))
    before, after = (outlook(trials, TINY, PROBLEM, NOISE) for trials in (begun, ended))
    assert ended.best is not None
    assert begun.best is not None
    gain = (ended.best.reward or 0.0) - (begun.best.reward or 0.0)
    assert before.high is not None
    assert before.high >= 0.9 * gain
    assert before.probability is not None
    assert before.probability > 0.8
    assert after.probability is not None
    assert after.probability < 0.1
    assert after.high is not None
    assert 0 <= after.high < before.high / 2


def test_where_nothing_can_be_said_there_is_a_reason() -> None:
    trials = searched("random", MIN_TRIALS - 1).trials
    few = outlook(trials, TINY, PROBLEM, NOISE)
    assert few.high is None
    assert few.reason == "19 complete trials are too few; it takes 20"
    several = Problem(PROBLEM.reward, objectives=Objectives.parse("A:max,P:min"))
    assert "objectives" in (outlook(trials, TINY, several, NOISE).reason or "")
