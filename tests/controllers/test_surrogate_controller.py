"""The surrogate controller: it keeps the contract, and uses what it is told and what it knows."""

from __future__ import annotations

import numpy as np
import pytest

from effnas import Architecture, Search, SearchSpace, TrialState
from effnas.controllers.base import Controller
from effnas.controllers.surrogate import SurrogateController
from effnas.errors import InfeasibleError
from effnas.testing import MNASNET, ControllerContract, play
from effnas.trials.objectives import Objectives
from effnas.trials.pareto_front import relative_hypervolume

REWARD = "accuracy * step_time^-0.07 * params_ratio^-0.05"


@pytest.mark.slow
class TestSurrogate(ControllerContract):
    length = 8

    def make(self, space: SearchSpace, seed: int) -> Controller:
        return SurrogateController(space, seed, initial=4)


def measure(arch: Architecture) -> dict[str, float]:
    """More layers, kernels and expansions: more accurate, at a falling rate; and slower."""
    capacity = sum(s.r * (1 + 0.2 * (s.k == 5)) * s.e**0.5 for s in arch.stages)
    time = sum(s.r * (1 + s.e) * s.k / 3 for s in arch.stages)
    return {"accuracy": 0.8 - 0.5 / capacity, "step_time": time / 10}


def search(name: str, seed: int, budget: int, *, space: str = "mnasnet") -> float:
    found = Search(space, REWARD, name, seed)
    found.run(measure, budget=budget)
    assert found.best is not None
    assert found.best.reward is not None
    return found.best.reward


@pytest.mark.slow
def test_what_is_known_beforehand_is_used() -> None:
    def chance(arch: Architecture) -> float:
        return 1 + int(arch.id, 16) % 1000 / 100  # which no model can learn

    space = SearchSpace.load("tiny")
    found = Search(
        space,
        "accuracy * step_time^-0.5",
        "surrogate",
        free_metrics=lambda archs: [{"step_time": chance(arch)} for arch in archs],
    )
    found.run(lambda arch: measure(arch) | {"step_time": chance(arch)}, budget=26)
    rewards = [trial.reward or 0.0 for trial in found.trials]
    assert min(rewards[10:]) > max(rewards[:10])


@pytest.mark.slow
def test_it_learns_what_is_infeasible() -> None:
    def forbidden(arch: Architecture) -> bool:
        return arch.stages[0].r == 3  # which the best would have

    def fate(arch: Architecture) -> float | TrialState:
        return TrialState.INFEASIBLE if forbidden(arch) else measure(arch)["accuracy"]

    told = play(SurrogateController(MNASNET, initial=10), 45, fate)
    archs = [t.architecture for t in told if t.state.is_finished]
    assert sum(forbidden(arch) for arch in archs[15:]) <= 12
    best = max(measure(arch)["accuracy"] for arch in archs if not forbidden(arch))
    drawn = (MNASNET.sample(np.random.default_rng(n)) for n in range(1000))
    assert best > max(measure(arch)["accuracy"] for arch in drawn if not forbidden(arch))


@pytest.mark.slow
def test_a_reward_without_a_value_for_a_guess_counts_as_the_worst() -> None:
    found = Search("tiny", "log(accuracy - 0.55)", "surrogate", 0)

    def accuracy(arch: Architecture) -> dict[str, float]:
        value = 0.5 + int(arch.id, 16) % 100 / 200
        if value <= 0.56:
            raise InfeasibleError("it learns nothing")
        return {"accuracy": value}

    found.run(accuracy, budget=24)
    assert len(found.trials) == 24


BOTH = Objectives.parse("accuracy:max,step_time:min")


def searched_for_both(name: str, seed: int, budget: int, space: str) -> Search:
    found = Search(space, REWARD, name, seed, objectives=BOTH)
    found.run(measure, budget=budget)
    return found


def volumes(*searches: Search) -> list[float]:
    """The hypervolume of each search, on the scale of all."""
    points = [np.array([BOTH.of(trial) for trial in found.trials]) for found in searches]
    return [relative_hypervolume(values, np.concatenate(points)) for values in points]


@pytest.mark.slow
def test_its_front_covers_more_than_that_of_random_search() -> None:
    mine, drawn = (searched_for_both(name, 0, 34, "tiny") for name in ("surrogate", "random"))
    mine_volume, drawn_volume = volumes(mine, drawn)
    assert mine_volume > drawn_volume
