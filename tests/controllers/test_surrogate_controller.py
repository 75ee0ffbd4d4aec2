"""The surrogate controller: it keeps the contract, and uses what it is told and what it knows."""

from __future__ import annotations

import numpy as np
import pytest

from effnas import Architecture, Search, SearchSpace, TrialState
from effnas.controllers import Controller
from effnas.controllers.surrogate import SurrogateController
from effnas.errors import ConfigError, InfeasibleError
from effnas.testing import MNASNET, TINY, ControllerContract, play, started

REWARD = "accuracy * step_time^-0.07 * params_ratio^-0.05"


@pytest.mark.slow
class TestSurrogate(ControllerContract):
    length = 20

    def make(self, space: SearchSpace, seed: int) -> Controller:
        return SurrogateController(space, seed, initial=8)


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


def test_too_few_initial_trials_are_refused() -> None:
    with pytest.raises(ConfigError, match="initial is 2"):
        SurrogateController(TINY, initial=2)


def test_it_finds_more_than_random_search_with_twice_the_trials() -> None:
    assert search("surrogate", 0, 26, space="tiny") > search("random", 0, 52, space="tiny")


@pytest.mark.slow
def test_it_does_so_in_a_large_space_too() -> None:
    assert search("surrogate", 0, 35) > search("random", 0, 140)


def test_what_is_known_beforehand_is_used() -> None:
    def chance(arch: Architecture) -> float:
        return 1 + int(arch.id, 16) % 1000 / 100  # which no model can learn

    space = SearchSpace.load("tiny")
    found = Search(
        space,
        "accuracy * step_time^-0.5",
        "surrogate",
        known=lambda archs: [{"step_time": chance(arch)} for arch in archs],
    )
    found.run(lambda arch: measure(arch) | {"step_time": chance(arch)}, budget=26)
    rewards = [trial.reward or 0.0 for trial in found.trials]
    assert min(rewards[20:]) > max(rewards[:20])


def test_trials_under_way_are_not_asked_for_twice() -> None:
    controller = SurrogateController(TINY, initial=10)
    told = play(controller, 12, lambda arch: measure(arch)["accuracy"])
    archs = []
    for number in range(len(told), len(told) + 4):
        archs.append(controller.ask(number))
        controller.tell(started(number, archs[-1]))
    assert len({arch.id for arch in archs}) == 4


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


def test_a_reward_without_a_value_for_a_guess_counts_as_the_worst() -> None:
    found = Search("tiny", "log(accuracy - 0.55)", "surrogate", 0)

    def accuracy(arch: Architecture) -> dict[str, float]:
        value = 0.5 + int(arch.id, 16) % 100 / 200
        if value <= 0.56:
            raise InfeasibleError("it learns nothing")
        return {"accuracy": value}

    found.run(accuracy, budget=24)
    assert len(found.trials) == 24
