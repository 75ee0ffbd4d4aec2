"""The search: each architecture once, each result kept, and the same trials after any stop."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import numpy as np
import pytest
from searches import TINY, Shuffled, events, stored, summary

import effnas
from effnas import (
    Architecture,
    InfeasibleError,
    Measurement,
    Search,
    SearchSpace,
    Trial,
    TrialState,
)
from effnas.controllers.base import Controller
from effnas.controllers.evolution import EvolutionController
from effnas.controllers.random import RandomController
from effnas.errors import (
    ConfigError,
    EffnasError,
    RewardError,
    SearchFailedError,
    SpaceExhaustedError,
    StoreError,
)
from effnas.evaluation.backend import InlineBackend
from effnas.evaluation.evaluator import FunctionEvaluator, Job, Task
from effnas.search.retime import retime, take_step_time, time_finalists
from effnas.timing.step_time import StepTime
from effnas.trials.store import RunFolder

REWARD = "A * S^-0.07 * P^-0.05"
FOREIGN = Architecture.parse(["mbconv_r1_k3_s2_e1_c8"], stem=16, head=64)
CONTROLLERS: dict[str, Callable[[], Controller]] = {
    "random": lambda: RandomController(TINY, 5),
    # So small that most trials of a test are mutants.
    "evolution": lambda: EvolutionController(TINY, 5, population_size=6, sample_size=3),
}
both = pytest.mark.parametrize("kind", sorted(CONTROLLERS))


def measure(arch: Architecture) -> dict[str, float]:
    """What a measurement might give, the same each time."""
    luck = int(arch.id, 16) % 1000
    if luck % 10 == 0:
        raise InfeasibleError("out of memory: needs 5.0 GB")
    if luck % 10 == 1:
        return {"accuracy": float("nan"), "step_time": 1.0}
    return {"accuracy": 0.5 + luck / 2000, "step_time": 1 + arch.layers / 10}


class Counted:
    """Measures, and counts how often each architecture has been measured to the end."""

    def __init__(self, function: Callable[[Architecture], Mapping[str, float]] = measure) -> None:
        self.function = function
        self.calls: Counter[str] = Counter()

    def __call__(self, arch: Architecture) -> Mapping[str, float]:
        self.calls[arch.id] += 1
        return self.function(arch)


def space_of(*stages: str, constraints: tuple[str, ...] = ()) -> SearchSpace:
    lines = ["stages:", *(f"  - {stage}" for stage in stages)]
    lines += ["constraints:", *(f"  - '{c}'" for c in constraints)] if constraints else []
    return SearchSpace.parse("\n".join(lines) + "\n")


ONE = space_of("fused_r1_k3_s2_e1_c8")
SIX = space_of("fused_r<1..3>_k<3|5>_s2_e1_c8")


@contextmanager
def opened(
    path: Path, kind: str = "random", reward: str = REWARD, *, rescore: bool = False
) -> Iterator[Search]:
    """The search of a run folder, continued if there is one."""
    with RunFolder.open(path) as folder:
        search = Search(TINY, reward, CONTROLLERS[kind](), 5, store=folder)
        search.resume(events(path), rescore=rescore)
        yield search


def undisturbed(kind: str, budget: int) -> list[tuple[object, ...]]:
    search = Search(TINY, REWARD, CONTROLLERS[kind](), 5)
    return summary(search.run(measure, budget=budget))


# -- ask and tell


def test_what_is_told_is_scored_and_kept() -> None:
    search = Search("tiny", "A * S^-0.07", seed=3)
    arch = search.ask()
    assert search.best is None
    assert search.trials[0].state is TrialState.RUNNING
    trial = search.tell(arch, accuracy=0.71, step_time=1.2)
    assert (trial.number, trial.state, trial.architecture) == (0, TrialState.COMPLETE, arch)
    assert trial.reward == pytest.approx(0.71 * 1.2**-0.07, rel=1e-12)
    assert search.best == trial == search.trials[0]


def test_params_and_the_like_are_counted_at_the_target_unless_they_are_given() -> None:
    search = Search("tiny", "P")
    arch = search.ask()
    counts = effnas.count(arch, 16, 1000)
    reference = effnas.count(TINY.reference, 16, 1000)
    told = search.tell(arch, accuracy=0.5).metrics
    assert told["params"] == counts.params
    assert told["params_ratio"] == counts.params / reference.params
    assert (told["macs"], told["activations"]) == (counts.macs, counts.activations)
    assert search.tell(search.ask(), params_ratio=0.25, params=7.0).reward == 0.25
    assert search.trials[1].metrics["params"] == 7.0


@both
def test_architectures_that_were_not_asked_for_may_be_told(kind: str) -> None:
    search = Search(TINY, "A", CONTROLLERS[kind]())
    known = TINY.sample(np.random.default_rng(0))
    for arch in (FOREIGN, known, known):
        search.tell(arch, accuracy=0.9)
    for _ in range(20):
        arch = search.ask()
        assert TINY.contains(arch)
        assert arch != known
        search.tell(arch, accuracy=0.1)
    assert [t.architecture for t in search.trials[:3]] == [FOREIGN, known, known]
    assert [t.number for t in search.trials] == list(range(23))


def test_a_reward_that_lacks_a_metric_says_so_and_the_measurement_is_kept(tmp_path: Path) -> None:
    with opened(tmp_path, reward="A * S^-0.07") as search:
        arch = search.ask()
        with pytest.raises(RewardError, match="needs step_time"):
            search.tell(arch, accuracy=0.7)
    trial = stored(tmp_path)[0]
    assert (trial.state, trial.reward, trial.metrics["accuracy"]) == (
        TrialState.COMPLETE,
        None,
        0.7,
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_telling_what_is_no_number_is_an_error_of_ours(value: float) -> None:
    search = Search(TINY, "A")
    with pytest.raises(EffnasError, match=r"accuracy|'A'"):
        search.tell(search.ask(), accuracy=value)


# -- the loop


@both
def test_a_search_runs_its_budget_and_nothing_twice(kind: str) -> None:
    evaluate = Counted()
    ended: list[Trial] = []
    search = Search(TINY, REWARD, CONTROLLERS[kind]())
    trials = search.run(evaluate, budget=40, on_trial=ended.append)
    assert [t.number for t in trials] == list(range(40)) == [t.number for t in ended]
    assert set(evaluate.calls) == {t.architecture.id for t in trials}
    assert set(evaluate.calls.values()) == {1}
    assert all(t.duration_s is not None and t.duration_s >= 0 for t in trials)
    search.run(evaluate, budget=40)
    search.run(evaluate, budget=3)
    assert evaluate.calls.total() == 40
    assert len(search.run(evaluate, budget=41)) == 41


@pytest.mark.parametrize("budget", [0, -1])
def test_a_budget_below_one_is_refused(budget: int) -> None:
    with pytest.raises(ConfigError, match=f"the budget is {budget} trials"):
        Search("tiny").run(measure, budget=budget)
    with pytest.raises(ConfigError, match="a function that evaluates"):
        Search("tiny").run(budget=1)


def test_a_trial_that_meets_a_bug_is_tried_once_more(tmp_path: Path) -> None:
    def stumble(arch: Architecture) -> dict[str, float]:
        if evaluate.calls[arch.id] == 1 and evaluate.calls.total() == 3:
            raise ZeroDivisionError("a bug")
        return {"accuracy": 0.5}

    evaluate = Counted(stumble)
    ended: list[Trial] = []
    with opened(tmp_path, reward="A") as search:
        trials = search.run(evaluate, budget=5, on_trial=ended.append)
    assert trials.count(TrialState.COMPLETE) == 5
    assert sorted(evaluate.calls.values()) == [1, 1, 1, 1, 2]
    assert [t.number for t in ended] == [0, 1, 2, 3, 4]
    history = [t for t in events(tmp_path) if t.number == 2]
    assert [t.state for t in history] == ["RUNNING", "FAILED", "RUNNING", "COMPLETE"]
    place = f"{Path(__file__).name}:{stumble.__code__.co_firstlineno + 2}"
    assert history[1].reason is not None
    assert history[1].reason.startswith("ZeroDivisionError: a bug (")
    assert history[1].reason.endswith(f"{place})")
    assert history[3].reason is None


def test_a_search_gives_up_when_most_of_its_last_trials_fail(tmp_path: Path) -> None:
    def fail_from_the_fifth(arch: Architecture) -> dict[str, float]:
        if len(evaluate.calls) >= 5:
            raise RuntimeError("a bug")
        return {"accuracy": 0.5}

    evaluate = Counted(fail_from_the_fifth)
    with (
        opened(tmp_path, reward="A") as search,
        pytest.raises(SearchFailedError, match=r"5 of the last 9 trials failed, .*: a bug"),
    ):
        search.run(evaluate, budget=50)
    assert [t.state for t in stored(tmp_path)] == ["COMPLETE"] * 4 + ["FAILED"] * 5
    assert sorted(evaluate.calls.values()) == [1] * 4 + [2] * 5
    # With the bug fixed, those that failed come last.
    fixed = Counted(lambda arch: {"accuracy": 0.6})
    ended: list[int] = []
    with opened(tmp_path, reward="A") as search:
        trials = search.run(fixed, budget=11, on_trial=lambda trial: ended.append(trial.number))
    assert trials.count(TrialState.COMPLETE) == 11
    assert ended == [9, 10, 4, 5, 6, 7, 8]
    assert fixed.calls.total() == 7


def test_where_all_fail_a_search_gives_up_after_three(tmp_path: Path) -> None:
    def fail(arch: Architecture) -> dict[str, float]:
        raise RuntimeError("a bug")

    with (
        opened(tmp_path, reward="A") as search,
        pytest.raises(SearchFailedError, match=r"3 of the last 3 trials failed"),
    ):
        search.run(fail, budget=50)


def test_networks_that_always_fail_here_and_there_end_no_search(tmp_path: Path) -> None:
    def crash(arch: Architecture) -> dict[str, float]:
        if int(arch.id, 16) % 6 == 0:
            raise RuntimeError("a kernel crashed")
        return {"accuracy": 0.5}

    seen: list[int] = []
    for budget in (40, 60, 80):
        with opened(tmp_path, reward="A") as search:
            trials = search.run(crash, budget=budget)
        failed = [t.number for t in trials if t.state is TrialState.FAILED]
        assert len(trials) == budget
        assert len(failed) + trials.count(TrialState.COMPLETE) == budget
        assert failed[: len(seen)] == seen
        seen = failed
    assert len(seen) > 5


@pytest.mark.parametrize("controller", ["random", "evolution"])
@pytest.mark.parametrize(("space", "size"), [(ONE, 1), (SIX, 6)], ids=["one", "six"])
def test_a_space_that_is_exhausted_ends_the_search(
    space: SearchSpace, size: int, controller: str
) -> None:
    evaluate = Counted(lambda arch: {"accuracy": arch.layers / 100})
    search = Search(space, "A", controller)
    assert len(search.run(evaluate, budget=10_000)) == space.size == size
    assert search.exhausted
    assert set(evaluate.calls) == {arch.id for arch in space.architectures()}
    assert evaluate.calls.total() == size
    assert len(search.run(evaluate, budget=20_000)) == size
    with pytest.raises(SpaceExhaustedError):
        search.ask()


# -- the order of things


class Watched(RandomController):
    """Notes what it receives in a list that it shares with a store."""

    def __init__(self, notes: list[tuple[str, int, str]]) -> None:
        super().__init__(TINY, 5)
        self.notes = notes

    def tell(self, trial: Trial) -> None:
        self.notes.append(("told", trial.number, trial.state))
        super().tell(trial)


class NotingStore:
    """Notes what it stores, and fails when there is no room for more."""

    def __init__(self, notes: list[tuple[str, int, str]], room: int = 10**6) -> None:
        self.notes, self.room = notes, room

    def append(self, trial: Trial, *, durable: bool) -> None:
        assert durable == trial.state.is_finished
        if not self.room:
            raise StoreError("the disk is full")
        self.room -= 1
        self.notes.append(("stored", trial.number, trial.state))


@pytest.mark.parametrize("room", [0, 1, 8, 40])
def test_every_change_is_stored_before_the_controller_receives_it(room: int) -> None:
    notes: list[tuple[str, int, str]] = []
    search = Search(TINY, REWARD, Watched(notes), store=NotingStore(notes, room))
    with pytest.raises(StoreError) if room < 40 else nullcontext():
        search.run(measure, budget=20)
    assert [what for what, *_ in notes] == ["stored", "told"] * room
    assert all(
        first[1:] == second[1:] for first, second in zip(notes[::2], notes[1::2], strict=True)
    )


@both
def test_several_workers_fill_the_budget_whatever_the_order_and_the_stops(
    tmp_path: Path, kind: str
) -> None:
    evaluate = Counted()
    for calls in (7, 8, 15, None):
        stop = calls and StopAfter(calls, evaluate)
        backend = Shuffled(FunctionEvaluator(stop or evaluate))
        with opened(tmp_path, kind) as search, suppress(KeyboardInterrupt):
            search.run(budget=40, backend=backend)
        assert backend.most == 3
    trials = stored(tmp_path)
    assert [t.number for t in trials] == list(range(40))
    assert all(t.state.is_finished for t in trials)
    assert set(evaluate.calls.values()) == {1}
    assert evaluate.calls.total() == 40


# -- measuring what was predicted


class PredictsThenMeasures:
    """Predicts step times when it evaluates, and measures others when it is to time."""

    def __init__(self, measure_s: Callable[[Architecture], float] = lambda arch: 1.0) -> None:
        self.measure_s = measure_s
        self.tasks: list[tuple[Task, str]] = []

    def __call__(self, job: Job) -> Measurement:
        arch = job.architecture
        self.tasks.append((job.task, arch.id))
        if job.task is Task.TIME:
            measured = {"step_time": self.measure_s(arch), "step_time_settled": 1.0}
            return Measurement(metrics=measured, hardware="here", step_time_source="measured")
        luck = int(arch.id, 16) % 1000
        metrics = {"accuracy": 0.5 + luck / 2000, "step_time": 1.0, "step_time_high": 1.5}
        return Measurement(
            metrics=metrics,
            fidelity="4 epochs",
            seed=luck,
            hardware="a profile",
            step_time_source="predicted",
        )

    def timed(self) -> list[str]:
        return [identity for task, identity in self.tasks if task is Task.TIME]


def slow_half(arch: Architecture) -> float:
    """Half of the networks take much longer than was predicted."""
    return 1.0 if int(arch.id, 16) // 1000 % 2 else 100.0


def sources(trials: list[Trial]) -> list[str]:
    return [t.measurement.step_time_source for t in trials]


def test_step_times_are_measured_until_those_of_the_best_are() -> None:
    count = 5
    evaluator = PredictsThenMeasures(slow_half)
    backend = InlineBackend(evaluator)
    ended: list[Trial] = []
    search = Search(TINY, "A / S", "random", seed=5)
    before = search.run(budget=40, backend=backend)
    time_finalists(search, backend, count=count, on_trial=ended.append)
    ranked = search.trials.ranked()
    assert sources(ranked[:count]) == ["measured"] * count
    assert all(slow_half(t.architecture) == 1.0 for t in ranked[:count])
    # In the order of the rewards by prediction, and no further than that took.
    by_prediction = [t.number for t in before.ranked()]
    numbers = [t.number for t in ended]
    assert numbers == by_prediction[: len(numbers)]
    assert count < len(numbers) < 40
    assert ended[-1] in ranked[:count]
    assert evaluator.timed() == [t.architecture.id for t in ended]
    others = [t for t in search.trials if t.number not in numbers]
    assert others == [before[t.number] for t in others]


def test_with_objectives_the_whole_front_is_measured() -> None:
    evaluator = PredictsThenMeasures(slow_half)
    backend = InlineBackend(evaluator)
    search = Search(TINY, "A", "random", 5, objectives="accuracy:max,step_time:min,params:min")
    search.run(budget=40, backend=backend)
    predicted = search.pareto_front
    assert len(predicted) > 5
    time_finalists(search, backend, count=2)
    assert search.pareto_front != predicted
    assert set(sources([*search.pareto_front, *search.trials.ranked()[:2]])) == {"measured"}
    assert len(evaluator.timed()) < 40


def test_a_timing_changes_the_step_time_and_what_follows_from_it_and_nothing_else() -> None:
    backend = InlineBackend(PredictsThenMeasures(lambda arch: 4.0))
    search = Search(TINY, "A / S")
    (before,) = search.run(budget=1, backend=backend)
    time_finalists(search, backend)
    (after,) = search.trials
    assert before.reward is not None
    assert after.reward == before.reward / 4
    expected = {**before.metrics, "step_time": 4.0, "step_time_settled": 1.0}
    del expected["step_time_high"]  # of the prediction
    assert dict(after.metrics) == expected
    measurement = after.measurement
    assert (measurement.hardware, measurement.step_time_source) == ("here", "measured")
    assert (measurement.fidelity, measurement.seed) == ("4 epochs", before.measurement.seed)
    assert (after.state, after.number) == (TrialState.COMPLETE, 0)
    assert after.architecture == before.architecture


def test_a_run_stopped_while_the_best_are_timed_continues_as_if_it_had_not_been(
    tmp_path: Path,
) -> None:
    def run(path: Path, stop_after: int | None) -> None:
        timed = 0

        def stop(trial: Trial) -> None:
            nonlocal timed
            timed += 1
            if timed == stop_after:
                raise KeyboardInterrupt

        backend = InlineBackend(PredictsThenMeasures(slow_half))
        with opened(path, reward="A / S") as search, suppress(KeyboardInterrupt):
            search.run(budget=30, backend=backend)
            time_finalists(search, backend, on_trial=stop)

    run(tmp_path / "whole", None)
    for stop_after in (1, 2, None):
        run(tmp_path / "stopped", stop_after)
    assert summary(stored(tmp_path / "stopped")) == summary(stored(tmp_path / "whole"))


def test_the_best_that_turns_out_not_to_fit_is_infeasible_and_the_next_is_timed(
    tmp_path: Path,
) -> None:
    refused: list[str] = []

    def refuse_first(arch: Architecture) -> float:
        if len(refused) < 2:
            refused.append(arch.id)
            raise InfeasibleError("out of memory", metrics={"largest_batch_size": 3})
        return 1.0

    backend = InlineBackend(PredictsThenMeasures(refuse_first))
    with opened(tmp_path, reward="A / S") as search:
        before = {t.number: t for t in search.run(budget=20, backend=backend)}
        time_finalists(search, backend)
        ranked = search.trials.ranked()
    assert len(ranked) == 18
    assert sources(ranked[:5]) == ["measured"] * 5
    gone = [t for t in stored(tmp_path) if t.state is TrialState.INFEASIBLE]
    assert sorted(t.architecture.id for t in gone) == sorted(refused)
    for trial in gone:
        assert (trial.reward, trial.reason) == (None, "out of memory")
        expected = {**before[trial.number].metrics, "largest_batch_size": 3}
        assert dict(trial.metrics) == {
            name: value for name, value in expected.items() if not name.startswith("step_time")
        }


def test_a_timing_that_fails_ends_the_search_and_loses_nothing(tmp_path: Path) -> None:
    calls: list[str] = []

    def fail_after_the_first(arch: Architecture) -> float:
        calls.append(arch.id)
        if len(calls) >= 2:
            raise ZeroDivisionError("a bug")
        return 1.0

    backend = InlineBackend(PredictsThenMeasures(fail_after_the_first))
    with opened(tmp_path, reward="A / S") as search:
        search.run(budget=20, backend=backend)
        with pytest.raises(SearchFailedError, match="cannot be timed: ZeroDivisionError: a bug"):
            time_finalists(search, backend)
    trials = stored(tmp_path)
    assert trials.count(TrialState.COMPLETE) == 20
    assert sources(list(trials)).count("measured") == 1
    with opened(tmp_path, reward="A / S") as search:  # fixed
        time_finalists(search, InlineBackend(PredictsThenMeasures()))
        assert sources(search.trials.ranked()[:5]) == ["measured"] * 5


# -- continuing a run


class StopAfter:
    """Ends the process's work by Control-C in the evaluation after this many."""

    def __init__(self, calls: int, evaluate: Counted) -> None:
        self.left, self.evaluate = calls, evaluate

    def __call__(self, arch: Architecture) -> Mapping[str, float]:
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        return self.evaluate(arch)


@both
def test_a_run_stopped_in_a_trial_continues_as_if_it_had_not_been(
    tmp_path: Path, kind: str
) -> None:
    evaluate = Counted()
    for calls in (3, 3, 0, 0, 9):
        with opened(tmp_path, kind) as search, pytest.raises(KeyboardInterrupt):
            search.run(StopAfter(calls, evaluate), budget=30)
        assert stored(tmp_path).count(TrialState.RUNNING) == 1
    with opened(tmp_path, kind) as search:
        search.run(evaluate, budget=30)
        assert summary(search.trials) == undisturbed(kind, 30)
    assert summary(stored(tmp_path)) == undisturbed(kind, 30)
    assert set(evaluate.calls.values()) == {1}


@both
def test_a_larger_budget_extends_a_run(tmp_path: Path, kind: str) -> None:
    evaluate = Counted()
    for budget in (4, 9, 9, 2, 25):
        with opened(tmp_path, kind) as search:
            search.run(evaluate, budget=budget)
    assert summary(stored(tmp_path)) == undisturbed(kind, 25)
    assert evaluate.calls.total() == 25


@both
def test_a_changed_reward_scores_what_is_stored_again(tmp_path: Path, kind: str) -> None:
    evaluate = Counted()
    with opened(tmp_path, kind) as search:
        search.run(evaluate, budget=20)
    before = stored(tmp_path)
    content = (tmp_path / "trials.jsonl").read_bytes()
    with opened(tmp_path, kind, "A / S", rescore=True) as search:
        proposed = search.ask()
    assert (tmp_path / "trials.jsonl").read_bytes().startswith(content)
    after = stored(tmp_path)[:20]
    assert [t.metrics for t in after] == [t.metrics for t in before]
    for old, new in zip(before, after, strict=True):
        expected = old.reward and old.metrics["accuracy"] / old.metrics["step_time"]
        assert new.reward == pytest.approx(expected)
    # The controller knows the new rewards, in the order in which the trials had ended.
    controller = CONTROLLERS[kind]()
    for trial in after:
        controller.tell(trial)
    assert controller.ask(20) == proposed
    with opened(tmp_path, kind, "A / S") as search:  # and so it is when the run is opened again
        assert [t.reward for t in search.trials[:20]] == [t.reward for t in after]
        assert search.trials[20].architecture == proposed
    assert evaluate.calls.total() == 20


def test_a_reward_without_a_value_ends_the_search_and_loses_nothing(tmp_path: Path) -> None:
    def fast_on_the_fourth(arch: Architecture) -> dict[str, float]:
        return {"accuracy": 0.5, "step_time": 0.0 if len(evaluate.calls) == 4 else 2.0}

    evaluate = Counted(fast_on_the_fourth)
    with opened(tmp_path, reward="A / S") as search, pytest.raises(RewardError, match="A / S"):
        search.run(evaluate, budget=8)
    fourth = stored(tmp_path)[3]
    assert (fourth.state, fourth.reward) == (TrialState.COMPLETE, None)
    assert (fourth.metrics["accuracy"], fourth.metrics["step_time"]) == (0.5, 0.0)
    with opened(tmp_path, reward="A / (S + 1)", rescore=True) as search:
        trials = search.run(evaluate, budget=8)
    assert [t.reward for t in trials] == pytest.approx([0.5 / 3] * 3 + [0.5] + [0.5 / 3] * 4)
    assert set(evaluate.calls.values()) == {1}


def test_a_number_that_is_taken_is_not_given_again(tmp_path: Path) -> None:
    with opened(tmp_path) as search:
        search.run(measure, budget=5)
    before = stored(tmp_path)
    lines = (tmp_path / "trials.jsonl").read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if b'"trial": 2,' not in line]
    assert len(kept) == 8
    (tmp_path / "trials.jsonl").write_bytes(b"".join(kept))

    def measure_few(arch: Architecture) -> Mapping[str, float]:
        if evaluate.calls.total() == 10:
            pytest.fail("the search does not end")
        return measure(arch)

    evaluate = Counted(measure_few)
    with opened(tmp_path) as search:
        search.run(evaluate, budget=6)
    after = {t.number: t for t in stored(tmp_path)}
    assert {n: after[n] for n in (0, 1, 3, 4)} == {n: before[n] for n in (0, 1, 3, 4)}
    assert len(after) == 6


DRIVER = """
import sys, time
from pathlib import Path
from effnas import Search, SearchSpace
from effnas.controllers.evolution import EvolutionController
from effnas.trials.store import RunFolder, read_events

def measure(arch):
    with open(sys.argv[2], "a") as log:
        log.write(arch.id + "\\n")
    time.sleep(0.01)
    return {"accuracy": int(arch.id, 16) % 1000 / 1000}

path, space = Path(sys.argv[1]), SearchSpace.load("tiny")
with RunFolder.open(path) as folder:
    controller = EvolutionController(space, 5, population_size=6, sample_size=3)
    search = Search(space, "A", controller, store=folder)
    search.resume(read_events(path, space))
    print("ready", flush=True)
    search.run(measure, budget=60)
"""


@pytest.mark.slow
def test_a_driver_killed_at_any_moment_loses_no_completed_trial(tmp_path: Path) -> None:
    moments = random.Random(0)
    path, log = tmp_path / "run", tmp_path / "started"
    log.touch()
    command = [sys.executable, "-c", DRIVER, str(path), str(log)]
    finished, kills = False, 0
    while not finished:
        completed = {
            t.architecture.id
            for t in (stored(path) if path.exists() else [])
            if t.state.is_finished
        }
        whole = (path / "trials.jsonl").read_bytes() if path.exists() else b""
        already = len(log.read_text().split())
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as driver:
            assert driver.stdout is not None
            assert driver.stdout.readline() == "ready\n"
            if kills < 4:
                time.sleep(moments.uniform(0.0, 0.15))
                driver.kill()
                kills += 1
        finished = driver.returncode == 0
        # Nothing that had been completed is started again, and no line has changed.
        assert not completed & set(log.read_text().split()[already:])
        assert (path / "trials.jsonl").read_bytes().startswith(whole[: whole.rfind(b"\n") + 1])
    expected = Search(TINY, "A", CONTROLLERS["evolution"]()).run(
        lambda arch: {"accuracy": int(arch.id, 16) % 1000 / 1000}, budget=60
    )
    assert kills == 4
    assert summary(stored(path)) == summary(expected)


@pytest.mark.slow
def test_nothing_here_needs_torch_or_ray() -> None:
    code = (
        "import sys, effnas\n"
        "search = effnas.Search('tiny', 'A')\n"
        "search.run(lambda arch: {'accuracy': 0.5}, budget=3)\n"
        "print({'torch', 'ray', 'timm'} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == "set()\n"


# -- trials of another run, on another device


def another_run(budget: int = 6) -> Search:
    search = Search(TINY, "A / S", seed=3)
    search.run(budget=budget, backend=InlineBackend(PredictsThenMeasures()))
    return search


def test_trials_of_another_run_are_timed_and_their_numbers_stay(tmp_path: Path) -> None:
    parent = another_run()
    wanted = [parent.trials[4], parent.trials[1]]
    told: list[int] = []

    class Listens(RandomController):
        def learn(self, trial: Trial) -> None:
            told.append(trial.number)

    with RunFolder.open(tmp_path) as folder:
        search = Search(TINY, "A / S", Listens(TINY), store=folder, first_number=6)
        waiting = list(wanted)
        backend = InlineBackend(PredictsThenMeasures(lambda arch: 2.0))
        retime(search, backend, lambda under_way: waiting.pop(0) if waiting else None)
        assert [t.number for t in search.trials] == [1, 4]
        assert told == [4, 1]
        for trial in search.trials:
            old = parent.trials[trial.number]
            assert trial.architecture == old.architecture
            assert trial.metrics["accuracy"] == old.metrics["accuracy"]
            assert trial.metrics["step_time"] == 2.0
            assert trial.reward == trial.metrics["accuracy"] / 2
            assert trial.duration_s is not None  # of the timing, not of the old training
            assert trial.measurement.seed == old.measurement.seed
        # A new trial follows the other run's, though most of those were not taken over.
        new = search.tell(search.ask(), accuracy=0.5, step_time=1.0)
        assert new.number == 6
    assert summary(stored(tmp_path)) == summary(search.trials)


def test_a_source_gives_step_times_or_says_why_there_are_none() -> None:
    parent = another_run(budget=2)
    known, unknown = parent.trials

    def source(arch: Architecture) -> StepTime:
        if arch != known.architecture:
            raise InfeasibleError("not in the table")
        return StepTime(metrics={"step_time": 0.5}, source="table", hardware="a board")

    search = Search(TINY, "A / S", first_number=2)
    timed = take_step_time(search, known, source)
    assert timed.reward == known.metrics["accuracy"] / 0.5
    assert timed.measurement.step_time_source == "table"
    lost = take_step_time(search, unknown, source)
    assert (lost.state, lost.reason, lost.reward) == (
        TrialState.INFEASIBLE, "not in the table", None,
    )  # fmt: skip
    assert lost.metrics["accuracy"] == unknown.metrics["accuracy"]
    assert [t.number for t in search.trials] == [0, 1]
    assert search.best == timed
