"""Optuna's samplers keep the contract of controllers, and see a space as it is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from effnas import Architecture, Measurement, Reward, SearchSpace, TrialState
from effnas.controllers.base import Controller
from effnas.controllers.optuna import OptunaController
from effnas.controllers.random import RandomController
from effnas.errors import ConfigError
from effnas.testing import (
    FOREIGN,
    MNASNET,
    NARROW,
    TINY,
    ControllerContract,
    ended,
    luck,
    play,
    started,
)
from effnas.trials.objectives import Objectives
from effnas.trials.problem import Problem
from effnas.trials.trial import Trial

COMPLETE, INFEASIBLE, FAILED = TrialState.COMPLETE, TrialState.INFEASIBLE, TrialState.FAILED
#: `se` is closed where fused has expansion 1.
CONDITIONAL = SearchSpace.parse(
    "stages: ['<fused|mbconv>_r<1..3>_k<3|5>_s1_e<1|4>_se<0|0.25>_c16',"
    " '<fused|mbconv>_r<1..3>_k<3|5>_s2_e<1|4>_se<0|0.25>_c24']"
)

SOME_SLOW = ["tpe", "cmaes", "nsgaii", "qmc", pytest.param("gp", marks=pytest.mark.slow)]


# A Gaussian process takes seconds for each proposal, so that its whole contract would take an hour
# or more: of gp, only retries and replays are tested, below.
@pytest.mark.slow
class TestTpe(ControllerContract):
    length = 20  # the first ten are drawn

    def make(self, space: SearchSpace, seed: int) -> Controller:
        return OptunaController(space, seed)


@pytest.mark.slow
class TestCmaEs(ControllerContract):
    length = 24

    def make(self, space: SearchSpace, seed: int) -> Controller:
        return OptunaController(space, seed, sampler="cmaes")


GOAL = Problem(Reward.load("A"), objectives=Objectives.parse("accuracy:max,params:min"))


def measured(trial: Trial) -> Trial:
    """The trial with the metrics of the objectives, if it is complete."""
    if trial.reward is None:
        return trial
    metrics = {"accuracy": trial.reward, **MNASNET.counted_metrics(trial.architecture)}
    return replace(trial, measurement=Measurement(metrics=metrics))


class Measured(OptunaController):
    """Is told the metrics of the contract's trials, which carry none."""

    def tell(self, trial: Trial) -> None:
        super().tell(measured(trial))


@pytest.mark.slow
class TestNsgaIIWithObjectives(ControllerContract):
    length = 60  # the first generation has 50

    def make(self, space: SearchSpace, seed: int) -> Controller:
        return Measured(space, seed, problem=GOAL, sampler="nsgaii")


def optunas(controller: OptunaController) -> list[FrozenTrial]:
    """Optuna's trials, without the suggestions that were taken back."""
    finished = controller._study.get_trials(deepcopy=False)
    return [t for t in finished if t.state is not OptunaState.FAIL]


def values(controller: OptunaController) -> list[float | None]:
    return [trial.value for trial in optunas(controller)]


def told(trials: list[Trial], space: SearchSpace, sampler: str = "tpe") -> OptunaController:
    controller = OptunaController(space, sampler=sampler)
    for trial in trials:
        controller.tell(trial)
    return controller


def some(count: int, space: SearchSpace = TINY) -> list[Architecture]:
    return [t.architecture for t in play(RandomController(space), count) if t.state is COMPLETE]


def test_numbers_are_positions_in_order_and_operators_are_categories() -> None:
    controller = OptunaController(TINY)
    arch = controller.ask(0)
    controller.tell(started(0, arch))
    (trial,) = optunas(controller)
    assert trial.distributions.keys() == {choice.name for choice in TINY.choices}
    assert trial.distributions["stage1.op"] == CategoricalDistribution(["fused", "mbconv_se0.25"])
    assert trial.distributions["stage2.e"] == IntDistribution(0, 2)
    decisions = TINY.decisions(arch)
    assert decisions is not None
    assert trial.params["stage2.e"] == [1, 4, 6].index(int(decisions["stage2.e"]))
    assert trial.params["stage1.op"] == decisions["stage1.op"]


@pytest.mark.slow
def test_cma_es_is_given_what_is_always_open() -> None:
    open_always = OptunaController(CONDITIONAL, sampler="cmaes").always_open
    assert open_always == {f"stage{n}.{name}" for n in (1, 2) for name in ("op", "r", "k", "e")}
    controller = OptunaController(CONDITIONAL, sampler="cmaes")
    play(controller, 60)
    generations = [t.system_attrs.get("cma:generation", 0) for t in optunas(controller)]
    assert max(generations[30:]) > max(generations[:20])  # it has not fallen back to drawing


def test_trials_without_a_reward_count_as_the_worst_so_far() -> None:
    archs, controller = some(5), OptunaController(TINY)
    for number, fate in enumerate([INFEASIBLE, 0.4, TrialState.PRUNED, 0.3, INFEASIBLE]):
        controller.tell(started(number, archs[number]))
        controller.tell(ended(number, archs[number], fate))
    assert values(controller) == [0.4, 0.4, 0.3, 0.3]  # there is no worst one for the first
    assert len(controller._study.get_trials(deepcopy=False)) == 5


def test_objectives_are_turned_to_be_maximised_and_lacking_ones_count_as_the_worst_in_each() -> (
    None
):
    archs = some(5)
    controller = OptunaController(TINY, problem=GOAL, sampler="nsgaii")
    fates: list[dict[str, float] | None] = [
        {"accuracy": 0.4, "params": 7.0}, None, {"accuracy": 0.6, "params": 9.0},
        {"accuracy": 0.9}, None,
    ]  # fmt: skip
    for number, metrics in enumerate(fates):
        fate = INFEASIBLE if metrics is None else metrics["accuracy"]
        controller.tell(started(number, archs[number]))
        trial = ended(number, archs[number], fate)
        controller.tell(replace(trial, measurement=Measurement(metrics=metrics or {})))
    assert [trial.values for trial in optunas(controller)] == [
        [0.4, -7.0], [0.4, -7.0], [0.6, -9.0], [0.4, -9.0], [0.4, -9.0]
    ]  # fmt: skip


@pytest.mark.parametrize("sampler", ["gp", "cmaes", "qmc"])
def test_other_samplers_take_no_objectives(sampler: str) -> None:
    with pytest.raises(ConfigError, match=f"optuna:{sampler} .* are optuna:nsgaii, optuna:tpe"):
        OptunaController(TINY, problem=GOAL, sampler=sampler)


def test_what_was_never_started_here_is_learned_from_unless_it_is_foreign() -> None:
    controller = OptunaController(NARROW)
    controller.tell(started(0, FOREIGN))
    controller.tell(ended(0, FOREIGN, 0.9))
    controller.tell(ended(1, some(1, NARROW)[0], 0.8))
    assert values(controller) == [0.8]


@pytest.mark.slow
@pytest.mark.parametrize("sampler", SOME_SLOW)
def test_a_retried_trial_told_once_of_each_state_gives_the_same(sampler: str) -> None:
    live = OptunaController(CONDITIONAL, sampler=sampler)
    history = play(live, 14)
    retried, running = live.ask(14), started(14, live.ask(14))
    failed, complete = ended(14, retried, FAILED), ended(14, retried, 2.0)
    for states, once in (
        ([running, running], [running]),
        ([failed, running], [failed]),
        ([failed, running], []),
        ([complete], [complete]),
    ):
        history += once
        for trial in states:
            live.tell(trial)
        again = told(history, CONDITIONAL, sampler)
        assert values(again) == values(live)
    assert values(live) == [*(luck(t.architecture) for t in history[1:28:2]), 2.0]
    assert again.ask(15) == live.ask(15)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", SOME_SLOW)
def test_a_search_with_parallel_trials_is_taken_up(sampler: str) -> None:
    live, history = OptunaController(CONDITIONAL, sampler=sampler), []
    for number in range(24):
        arch = live.ask(number)
        history.append(started(number, arch))
        live.tell(history[-1])
        if number >= 3:  # three are always running
            arch = next(t.architecture for t in history if t.number == number - 3)
            history.append(ended(number - 3, arch, luck(arch)))
            live.tell(history[-1])
    again = told(history, CONDITIONAL, sampler)
    assert [again.ask(24), again.ask(24)] == [live.ask(24), live.ask(24)]
