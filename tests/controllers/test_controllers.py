"""Every controller keeps the contract, and evolution is the published algorithm."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest

from effnas import Architecture, Reward, SearchSpace, TrialState
from effnas.controllers.base import Controller
from effnas.controllers.evolution import EvolutionController
from effnas.controllers.random import RandomController
from effnas.controllers.registry import CONTROLLERS, make_controller
from effnas.errors import ConfigError
from effnas.testing import FOREIGN, MNASNET, TINY, ControllerContract, ended
from effnas.trials.objectives import Objectives
from effnas.trials.problem import Problem

INFEASIBLE, FAILED = TrialState.INFEASIBLE, TrialState.FAILED


class TestRandom(ControllerContract):
    def make(self, space: SearchSpace, seed: int) -> Controller:
        return RandomController(space, seed)


class TestEvolution(ControllerContract):
    def make(self, space: SearchSpace, seed: int) -> Controller:
        return EvolutionController(space, seed)


@pytest.mark.parametrize("name", sorted(CONTROLLERS))
def test_a_controller_is_made_by_its_name(name: str) -> None:
    controller = make_controller(name, TINY, 7)
    assert (controller.name, controller.space, controller.seed) == (name, TINY, 7)
    assert TINY.contains(controller.ask(0))


def test_only_controllers_that_say_so_are_given_objectives() -> None:
    problem = Problem(Reward.load("A"), objectives=Objectives.parse("A:max,S:min"))

    class Takes(EvolutionController):
        takes_objectives: ClassVar[bool] = True

    controller = Takes(TINY, problem=problem)
    assert controller.problem == problem
    with pytest.raises(ConfigError, match="evolution pursues the reward and takes no `objectives`"):
        EvolutionController(TINY, problem=problem)
    for name in ("random", "surrogate", "optuna:nsgaii", "optuna:tpe"):
        assert make_controller(name, TINY, problem=problem).takes_objectives


def test_an_unknown_controller_is_told_with_the_closest() -> None:
    with pytest.raises(ConfigError, match=r"'evolutoin': did you mean 'evolution'\?"):
        make_controller("evolutoin", TINY, 0)


def evolution(population_size: int, sample_size: int, seed: int = 0) -> EvolutionController:
    return EvolutionController(
        MNASNET, seed, population_size=population_size, sample_size=sample_size
    )


def draw(count: int) -> list[Architecture]:
    rng = np.random.default_rng(0)
    return [MNASNET.sample(rng) for _ in range(count)]


def distance(one: Architecture, other: Architecture) -> int:
    """The number of decisions in which two architectures differ; none of them opens another."""
    mine, theirs = MNASNET.decisions(one), MNASNET.decisions(other)
    assert mine is not None
    assert theirs is not None
    return sum(mine[name] != theirs[name] for name in mine)


@pytest.mark.parametrize(("population_size", "sample_size"), [(1, 1), (0, 0), (5, 0), (5, 6)])
def test_sizes_out_of_range_are_refused(population_size: int, sample_size: int) -> None:
    with pytest.raises(ConfigError, match=f"population_size {population_size} .*{sample_size}"):
        evolution(population_size, sample_size)


def test_a_mutant_of_the_best_is_proposed_where_all_compete() -> None:
    controller, archs = evolution(8, 8), draw(8)
    for number, (arch, reward) in enumerate(
        zip(archs, (-3, -9, -1, -2, -7, -4, -8, -6), strict=True)
    ):
        controller.tell(ended(number, arch, reward))
    assert {distance(controller.ask(number), archs[2]) for number in range(8, 200)} == {1}


def test_the_population_is_the_last_in_the_order_in_which_they_ended() -> None:
    controller, archs = evolution(4, 4), draw(7)
    # Numbers fall while rewards do too: the first to end is the best, and has the highest number.
    for number, reward in ((6, 0.9), (5, 0.8), (4, 0.7), (3, 0.6)):
        controller.tell(ended(number, archs[number], reward))
    parents = []
    for number in (2, 1, 0):
        parents.append(
            [n for n, arch in enumerate(archs) if distance(controller.ask(7), arch) == 1]
        )
        controller.tell(ended(number, archs[number], 0.1))
    assert parents == [[6], [5], [4]]  # the oldest dies, though it is the best


@pytest.mark.parametrize("fate", [INFEASIBLE, FAILED, TrialState.PRUNED])
def test_trials_without_a_reward_do_not_displace_members(fate: TrialState) -> None:
    controller, archs = evolution(4, 4), draw(40)
    for number, arch in enumerate(archs):
        controller.tell(ended(number, arch, 1 - number / 10 if number < 4 else fate))
    controller.tell(ended(40, FOREIGN, 5.0))
    assert distance(controller.ask(41), archs[0]) == 1
