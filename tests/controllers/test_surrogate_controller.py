"""The surrogate controller: it keeps the contract, and uses what it is told and what it knows."""

from __future__ import annotations

import numpy as np
import pytest

from effnas import Architecture, Search, SearchSpace, Trial, TrialState
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


JOINT = """
stages: [fused_r<1..3>_k3_s2_e<1|4>_c<16|32|64>, mbconv_r<1..3>_k3_s2_e4_c<32|64>]
reference: [fused_r2_k3_s2_e4_c32, mbconv_r2_k3_s2_e4_c32]
target: {image_size: 32, num_classes: 10}
recipe:
  learning_rate_per_256: <0.064|0.004|0.008|0.016|0.032|0.128|0.256>
  optimizer: <nmuon|adamw|nesterov>
  image_size: <24..32|16..32|32..32|12..16>
  mixup: <0|0.2>
"""


def first_trials(space: SearchSpace) -> list[Architecture]:
    controller, found = SurrogateController(space, 1), [space.with_default_recipe(space.reference)]
    for number in range(controller._first_draws):
        controller.tell(Trial(number=number, architecture=found[-1]))
        found.append(controller.ask(number + 1))
    return found[1:-1]


def changed(arch: Architecture, default: Architecture) -> set[tuple[str, object]]:
    return set(arch.recipe) - set(default.recipe)


def test_every_option_of_a_recipe_is_tried_with_the_reference_beside_few_others() -> None:
    space = SearchSpace.parse(JOINT)
    default = space.with_default_recipe(space.reference)
    first = first_trials(space)
    assert len(first) == 15
    recipes = [arch for arch in first if arch.stages == default.stages]
    networks = [arch for arch in first if arch.stages != default.stages]
    assert min(len(recipes), len(networks)) >= 6
    assert all(arch.recipe == default.recipe for arch in networks)
    assert {len(changed(arch, default)) for arch in recipes} == {3}
    tried = set.union(*(changed(arch, default) for arch in recipes))
    assert tried >= {("optimizer", "adamw"), ("optimizer", "nesterov"), ("mixup", 0.2)}
    assert tried >= {("image_size", size) for size in ("16..32", "32..32", "12..16")}
    rates = {option for name, option in tried if name == "learning_rate_per_256"}
    assert rates == {0.004, 0.016, 0.256}  # two and four options from the default
    macs = [space.count(arch).macs for arch in networks]
    assert max(macs) > 4 * min(macs)


def test_where_only_the_recipe_is_open_all_first_trials_screen_it() -> None:
    blocks = "stages: [fused_r2_k3_s2_e4_c32]\n" + JOINT[JOINT.index("target") :]
    space = SearchSpace.parse(blocks)
    first = first_trials(space)
    assert len(first) == 9
    default = space.with_default_recipe(space.reference)
    assert {len(changed(arch, default)) for arch in first} == {3}


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
