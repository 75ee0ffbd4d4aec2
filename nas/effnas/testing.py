"""Tests for plug-ins: the contract of every controller.

    from effnas.testing import ControllerContract

    class TestMine(ControllerContract):
        def make(self, space, seed):
            return MyController(space, seed)

and pytest runs them. Needs pytest, which effnas itself does not.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest

from effnas.arch.architecture import Architecture
from effnas.controllers.base import Controller
from effnas.errors import SpaceExhaustedError
from effnas.space.search_space import SearchSpace
from effnas.trials.trial import Measurement, Trial, TrialState

TINY = SearchSpace.load("tiny")
MNASNET = SearchSpace.load("mnasnet")  # 1e11 architectures
ONE = SearchSpace.parse("stages: [fused_r1_k3_s2_e1_c8]")
SIX = SearchSpace.parse("stages: ['fused_r<1..3>_k<3|5>_s2_e1_c8']")
NARROW = SearchSpace.parse(
    "stages: ['mbconv_r<1..9>_k<3|5>_s2_e<1..6>_c8', 'fused_r<1..9>_k<3|5|7>_s2_e<1..6>_c16']\n"
    "constraints: ['stage1.r > stage2.r']\n"
)
JOINT = SearchSpace.parse(
    "stages: ['<fused|mbconv>_r<1..3>_k<3|5>_s2_e<1|4>_c8']\n"
    "recipe: {batch_size: <64|128|256>, optimizer: <adamw|sgd>, weight_decay: <0.001..0.1:log5>}\n"
)
FOREIGN = Architecture.parse(["mbconv_r1_k3_s2_e1_c8"], stem=16, head=64)
COMPLETE, INFEASIBLE, FAILED = TrialState.COMPLETE, TrialState.INFEASIBLE, TrialState.FAILED

#: How the trial of an architecture ends: with a reward, or in a state without one.
Fate = Callable[[Architecture], float | TrialState]


def luck(arch: Architecture) -> float:
    return int(arch.id, 16) % 1000 / 1000


def mixed(arch: Architecture) -> float | TrialState:
    return INFEASIBLE if luck(arch) < 0.2 else FAILED if luck(arch) < 0.3 else luck(arch)


def infeasible(arch: Architecture) -> TrialState:
    return INFEASIBLE


def started(number: int, arch: Architecture) -> Trial:
    return Trial(number=number, architecture=arch)


def ended(number: int, arch: Architecture, fate: float | TrialState) -> Trial:
    if isinstance(fate, TrialState):
        return Trial(number=number, architecture=arch, state=fate, reason="a reason")
    return Trial(number=number, architecture=arch, state=COMPLETE, reward=fate)


def play(controller: Controller, count: int, fate: Fate = luck, *, first: int = 0) -> list[Trial]:
    """Run `count` trials one after another, and return the trials that the controller received."""
    told = []
    for number in range(first, first + count):
        arch = controller.ask(number)
        for trial in (started(number, arch), ended(number, arch, fate(arch))):
            controller.tell(trial)
            told.append(trial)
    return told


def play_with_rungs(
    controller: Controller, count: int, *, prune: bool, first: int = 0
) -> list[Trial]:
    """Run trials that pause at a rung, from where the better half continues at once.

    With `prune` the others are stopped at the end. Returns the trials that the controller received.
    """
    told: list[Trial] = []

    def tell(trial: Trial) -> Trial:
        controller.tell(trial)
        told.append(trial)
        return trial

    paused = []
    for number in range(first, first + count):
        trial = tell(started(number, controller.ask(number)))
        reward = luck(trial.architecture)
        rung = Measurement(metrics={"accuracy": reward / 2}, rungs={1: reward / 2})
        trial = tell(replace(trial, state=TrialState.WAITING, measurement=rung))
        if reward < 0.5:
            paused.append(trial)
        else:
            tell(replace(trial, state=TrialState.RUNNING))
            whole = Measurement(metrics={"accuracy": reward}, rungs={1: reward / 2, 2: reward})
            tell(replace(trial, state=COMPLETE, measurement=whole, reward=reward))
    for trial in paused if prune else []:
        accuracy = trial.metrics["accuracy"]
        tell(replace(trial, state=TrialState.PRUNED, reward=accuracy))
    return told


def proposals(told: list[Trial]) -> list[str]:
    return [t.architecture.id for t in told if t.state.is_finished]


class ControllerContract:
    """Tests that hold for every controller: subclass it as `TestMine`, and define `make`.

    Attributes:
        length: Trials of a usual test; fewer make the suite faster where proposals take long. It
            should be more than a controller needs before it stops drawing at random.
    """

    length: ClassVar[int] = 80

    def make(self, space: SearchSpace, seed: int) -> Controller:
        raise NotImplementedError

    def test_it_has_a_name(self) -> None:
        assert self.make(TINY, 0).name

    def test_the_seed_decides_all_proposals(self) -> None:
        found = [proposals(play(self.make(TINY, seed), self.length, mixed)) for seed in (3, 3, 4)]
        assert found[0] == found[1] != found[2]

    def test_global_random_states_neither_matter_nor_change(self) -> None:
        found = []
        for seed in (1, 2):
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002 - the state that must not matter
            before = random.getstate(), repr(np.random.get_state())  # noqa: NPY002
            found.append(proposals(play(self.make(TINY, 0), self.length)))
            assert (random.getstate(), repr(np.random.get_state())) == before  # noqa: NPY002
        assert found[0] == found[1]

    def test_asking_again_gives_the_same(self) -> None:
        controller = self.make(TINY, 0)
        play(controller, self.length)
        assert len({controller.ask(self.length).id for _ in range(3)}) == 1

    @pytest.mark.parametrize(
        "space", [TINY, MNASNET, NARROW, JOINT], ids=["tiny", "mnasnet", "narrow", "joint"]
    )
    @pytest.mark.parametrize("fate", [mixed, lambda arch: 0.5], ids=["mixed", "equal"])
    def test_it_proposes_architectures_of_the_space_and_none_twice(
        self, space: SearchSpace, fate: Fate
    ) -> None:
        told = play(self.make(space, 0), self.length, fate)
        assert all(space.contains(t.architecture) for t in told)
        assert len(set(proposals(told))) == self.length

    def test_sixty_four_workers_start_before_the_first_ends(self) -> None:
        controller = self.make(MNASNET, 0)
        archs = []
        for number in range(64):
            archs.append(controller.ask(number))
            controller.tell(started(number, archs[-1]))
        for number in reversed(range(64)):
            controller.tell(ended(number, archs[number], luck(archs[number])))
        archs.append(controller.ask(64))
        assert len({arch.id for arch in archs}) == 65
        assert all(MNASNET.contains(arch) for arch in archs)

    @pytest.mark.parametrize("seed", range(3))
    def test_trials_may_end_in_any_order_and_way(self, seed: int) -> None:
        fates: list[Fate] = [luck, lambda arch: -luck(arch), infeasible, lambda arch: FAILED]
        dice = random.Random(seed)
        controller = self.make(NARROW, seed)
        running: list[tuple[int, Architecture]] = []
        asked: set[str] = set()
        for _ in range(self.length + 50):
            if dice.random() < 0.5 or not running:
                arch = controller.ask(len(asked))
                assert arch.id not in asked
                running.append((len(asked), arch))
                asked.add(arch.id)
                controller.tell(started(*running[-1]))
            else:
                number, arch = running.pop(dice.randrange(len(running)))
                controller.tell(ended(number, arch, dice.choice(fates)(arch)))

    def test_what_it_never_asked_for_may_be_told(self) -> None:
        controller = self.make(SIX, 0)
        controller.tell(ended(0, FOREIGN, 0.9))
        known = next(SIX.architectures())
        controller.tell(ended(1, known, 0.8))
        controller.tell(ended(1, known, 0.8))  # twice
        told = play(controller, 5, first=2)
        assert known.id not in proposals(told)
        assert len(set(proposals(told))) == 5

    @pytest.mark.parametrize("fate", [INFEASIBLE, FAILED])
    def test_a_flood_of_trials_without_a_reward_does_not_stop_it(self, fate: TrialState) -> None:
        controller = self.make(MNASNET, 0)
        told = play(controller, 4 * self.length, lambda arch: fate)
        assert len(set(proposals(told))) == 4 * self.length

    @pytest.mark.slow
    def test_a_flood_after_good_trials_does_not_stop_it(self) -> None:
        controller = self.make(MNASNET, 0)
        told = play(controller, self.length)
        # As if the memory had become too small for all that is near the best.
        told += play(controller, 2 * self.length, infeasible, first=self.length)
        assert len(set(proposals(told))) == 3 * self.length

    @pytest.mark.parametrize("fate", [luck, infeasible], ids=["complete", "infeasible"])
    def test_a_small_space_is_proposed_whole_and_then_exhausted(self, fate: Fate) -> None:
        for space in (ONE, SIX):
            controller = self.make(space, 0)
            told = play(controller, space.size, fate)
            assert set(proposals(told)) == {arch.id for arch in space.architectures()}
            for _ in range(2):
                with pytest.raises(SpaceExhaustedError):
                    controller.ask(space.size)

    @pytest.mark.parametrize("fate", [luck, mixed], ids=["complete", "mixed"])
    def test_told_the_same_again_it_asks_for_the_same(self, fate: Fate) -> None:
        told = play(self.make(TINY, 0), self.length, fate)
        middle = 5 * self.length // 8
        stops = (0, 1, middle - 1, middle, middle + 1, self.length - 1)
        for trials, running in itertools.product(stops, (False, True)):
            live, again = self.make(TINY, 0), self.make(TINY, 0)
            play(live, trials, fate)
            number = trials + running
            if running:
                live.tell(told[2 * trials])
            for trial in told[: trials + number]:
                again.tell(trial)
            assert again.ask(number) == live.ask(number)

    @pytest.mark.parametrize("prune", [False, True], ids=["paused", "pruned"])
    def test_trials_may_pause_and_continue_or_be_pruned(self, prune: bool) -> None:
        controller = self.make(TINY, 0)
        told = play_with_rungs(controller, self.length, prune=prune)
        told += play(controller, 3, first=self.length)
        assert all(TINY.contains(t.architecture) for t in told)
        assert len({t.architecture.id for t in told}) == self.length + 3

    @pytest.mark.parametrize("prune", [False, True], ids=["paused", "pruned"])
    def test_told_of_the_same_rungs_again_it_asks_for_the_same(self, prune: bool) -> None:
        live = self.make(TINY, 0)
        count = 5 * self.length // 8
        told = play_with_rungs(live, count, prune=prune)
        told += play_with_rungs(live, 2, prune=prune, first=count)
        again = self.make(TINY, 0)
        for trial in told:
            again.tell(trial)
        assert again.ask(count + 2) == live.ask(count + 2)
