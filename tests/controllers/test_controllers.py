"""What every controller keeps to, and that evolution is the published algorithm."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable
from math import comb
from statistics import mean

import numpy as np
import pytest

from effnas import Architecture, SearchSpace, Trial, TrialState
from effnas.controllers import (
    CONTROLLERS,
    Controller,
    EvolutionController,
    RandomController,
    make_controller,
)
from effnas.errors import ConfigError, SpaceExhaustedError

TINY = SearchSpace.load("tiny")
MNASNET = SearchSpace.load("mnasnet")  # 1e11 architectures
ONE = SearchSpace.parse("stages: [fused_r1_k3_s2_e1_c8]")
SIX = SearchSpace.parse("stages: ['fused_r<1..3>_k<3|5>_s2_e1_c8']")
NARROW = SearchSpace.parse(
    "stages: ['mbconv_r<1..9>_k<3|5>_s2_e<1..6>_c8', 'fused_r<1..9>_k<3|5|7>_s2_e<1..6>_c16']\n"
    "constraints: ['stage1.r > stage2.r']\n"
)
FOREIGN = Architecture.parse(["mbconv_r1_k3_s2_e1_c8"], stem=16, head=64)
COMPLETE, INFEASIBLE, FAILED = TrialState.COMPLETE, TrialState.INFEASIBLE, TrialState.FAILED

#: What becomes of an architecture: its reward, or the state of a trial that has none.
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
    """Run `count` trials one after another, and return what the controller was told."""
    told = []
    for number in range(first, first + count):
        arch = controller.ask(number)
        for trial in (started(number, arch), ended(number, arch, fate(arch))):
            controller.tell(trial)
            told.append(trial)
    return told


def proposals(told: list[Trial]) -> list[str]:
    return [t.architecture.id for t in told if t.state.is_finished]


class ControllerContract:
    """Tests that hold for every controller: subclass it as `TestMine`, and define `make`."""

    def make(self, space: SearchSpace, seed: int) -> Controller:
        raise NotImplementedError

    def test_it_has_a_name(self) -> None:
        assert self.make(TINY, 0).name.isidentifier()

    def test_the_seed_decides_all_proposals(self) -> None:
        found = [proposals(play(self.make(TINY, seed), 80, mixed)) for seed in (3, 3, 4)]
        assert found[0] == found[1] != found[2]

    def test_global_random_states_neither_matter_nor_change(self) -> None:
        found = []
        for seed in (1, 2):
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002 - the state that must not matter
            before = random.getstate(), repr(np.random.get_state())  # noqa: NPY002
            found.append(proposals(play(self.make(TINY, 0), 70)))
            assert (random.getstate(), repr(np.random.get_state())) == before  # noqa: NPY002
        assert found[0] == found[1]

    def test_asking_again_gives_the_same(self) -> None:
        controller = self.make(TINY, 0)
        play(controller, 60)
        assert len({controller.ask(60).id for _ in range(5)}) == 1

    @pytest.mark.parametrize("space", [TINY, MNASNET, NARROW], ids=["tiny", "mnasnet", "narrow"])
    @pytest.mark.parametrize("fate", [mixed, lambda arch: 0.5], ids=["mixed", "equal"])
    def test_it_proposes_architectures_of_the_space_and_none_twice(
        self, space: SearchSpace, fate: Fate
    ) -> None:
        told = play(self.make(space, 0), 80, fate)
        assert all(space.contains(t.architecture) for t in told)
        assert len(set(proposals(told))) == 80

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
        for _ in range(130):
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
        told = play(controller, 300, lambda arch: fate)
        assert len(set(proposals(told))) == 300

    @pytest.mark.slow
    def test_a_flood_after_good_trials_does_not_stop_it(self) -> None:
        controller = self.make(MNASNET, 0)
        told = play(controller, 60)
        # As if the memory had become too small for all that is near the best.
        told += play(controller, 200, infeasible, first=60)
        assert len(set(proposals(told))) == 260

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
        told = play(self.make(TINY, 0), 80, fate)
        for trials, running in itertools.product((0, 1, 49, 50, 51, 79), (False, True)):
            live, again = self.make(TINY, 0), self.make(TINY, 0)
            play(live, trials, fate)
            number = trials + running
            if running:
                live.tell(told[2 * trials])
            for trial in told[: trials + number]:
                again.tell(trial)
            assert again.ask(number) == live.ask(number)


class TestRandom(ControllerContract):
    def make(self, space: SearchSpace, seed: int) -> Controller:
        return RandomController(space, seed)


class TestEvolution(ControllerContract):
    def make(self, space: SearchSpace, seed: int) -> Controller:
        return EvolutionController(space, seed)


class TestSmallEvolution(ControllerContract):
    """Nearly all that it proposes are mutants."""

    def make(self, space: SearchSpace, seed: int) -> Controller:
        return EvolutionController(space, seed, population_size=4, sample_size=2)


# -- names


@pytest.mark.parametrize("name", sorted(CONTROLLERS))
def test_a_controller_is_made_by_its_name(name: str) -> None:
    controller = make_controller(name, TINY, 7)
    assert type(controller) is CONTROLLERS[name]
    assert (controller.name, controller.space, controller.seed) == (name, TINY, 7)


def test_an_unknown_controller_is_told_with_the_closest() -> None:
    with pytest.raises(ConfigError, match=r"'evolutoin': did you mean 'evolution'\?"):
        make_controller("evolutoin", TINY, 0)


# -- regularised evolution (Real et al. 2019, algorithm 1)


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


def test_until_the_population_is_full_it_draws_at_random() -> None:
    assert proposals(play(evolution(30, 5), 30)) == proposals(play(RandomController(MNASNET), 30))
    # A trial without a reward is no member, so that the drawing goes on.
    flood = [
        proposals(play(c, 80, infeasible)) for c in (evolution(30, 5), RandomController(MNASNET))
    ]
    assert flood[0] == flood[1]


def test_a_mutant_of_the_best_is_proposed_where_all_compete() -> None:
    controller, archs = evolution(8, 8), draw(8)
    for number, (arch, reward) in enumerate(
        zip(archs, (-3, -9, -1, -2, -7, -4, -8, -6), strict=True)
    ):
        controller.tell(ended(number, arch, reward))
    assert {distance(controller.ask(number), archs[2]) for number in range(8, 200)} == {1}


def test_the_parent_is_the_best_of_a_sample_drawn_without_replacement() -> None:
    population, sample, asked = 8, 3, 1000
    controller, archs = evolution(population, sample), draw(population)
    assert min(distance(a, b) for a in archs for b in archs if a is not b) > 2
    for number, arch in enumerate(archs):
        controller.tell(ended(number, arch, -number))
    parents = Counter(
        next(rank for rank, arch in enumerate(archs) if distance(mutant, arch) == 1)
        for mutant in (controller.ask(number) for number in range(population, population + asked))
    )
    for rank in range(population):
        # All others of the sample are worse.
        chance = comb(population - 1 - rank, sample - 1) / comb(population, sample)
        deviation = (asked * chance * (1 - chance)) ** 0.5
        assert abs(parents[rank] - asked * chance) <= 5 * deviation


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


def synthetic(arch: Architecture) -> float:
    """Decisions shared with the reference, more for those that agree in neighbouring stages."""
    mine, best = MNASNET.decisions(arch), MNASNET.decisions(MNASNET.reference)
    assert mine is not None
    assert best is not None
    names = sorted(mine)
    right = [mine[name] == best[name] for name in names]
    return sum(right) + sum(a and b for a, b in itertools.pairwise(right))


@pytest.mark.slow
def test_evolution_beats_random_search() -> None:
    def best(controller: Controller) -> float:
        return max(t.reward for t in play(controller, 120, synthetic) if t.reward is not None)

    mutated = [best(evolution(12, 6, seed)) for seed in range(10)]
    drawn = [best(RandomController(MNASNET, seed)) for seed in range(10)]
    assert mean(mutated) > mean(drawn) + 5
    assert all(m > d for m, d in zip(mutated, drawn, strict=True))
