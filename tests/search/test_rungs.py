"""Rungs: which trainings continue, what a search by them costs, and that stops change nothing."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from searches import TINY, Shuffled, events, stored, summary

from effnas import Architecture, Measurement, Rungs, Search, Trial, TrialState
from effnas.config.recipe import Recipe
from effnas.controllers.registry import make_controller
from effnas.errors import ConfigError, InfeasibleError, RewardError
from effnas.evaluation.backend import InlineBackend
from effnas.evaluation.evaluator import FunctionEvaluator, Job, Task
from effnas.search.launch import Settings
from effnas.search.rungs import trained_length, with_early_warmup
from effnas.trials.store import RunFolder

RUNGS = Rungs((1, 2, 4))
WAITING, RUNNING, COMPLETE = TrialState.WAITING, TrialState.RUNNING, TrialState.COMPLETE
PRUNED, INFEASIBLE = TrialState.PRUNED, TrialState.INFEASIBLE
patient = settings(deadline=None)  # the machine may be busy


def quality(arch: Architecture) -> float:
    """What a whole training of a network would give, 0.5 to 0.9."""
    return 0.5 + int(arch.id, 16) % 401 / 1000


def measure(arch: Architecture, epochs: int) -> dict[str, float]:
    """What a training of some epochs gives: the less, the more luck is in it."""
    luck = random.Random(f"{arch.id}/{epochs}").uniform(-0.1, 0.1)
    return {"accuracy": quality(arch) * (1 - 0.5**epochs) + luck / epochs, "step_time": 1.0}


class Counted:
    """Measures, and notes what was asked; stops the search after a number of calls."""

    def __init__(self, calls: int | None = None, function: Callable[..., object] = measure) -> None:
        self.left, self.function = calls, function
        self.asked: list[tuple[str, int]] = []

    def __call__(self, arch: Architecture, epochs: int) -> Mapping[str, float]:
        if self.left is not None:
            if not self.left:
                raise KeyboardInterrupt
            self.left -= 1
        self.asked.append((arch.id, epochs))
        return self.function(arch, epochs)  # type: ignore[return-value]


def search_of(
    rungs: Rungs = RUNGS, controller: str = "random", reward: str = "A", **more: object
) -> Search:
    made = make_controller(controller, TINY, 5)
    return Search(TINY, reward, made, 5, rungs=rungs, **more)  # type: ignore[arg-type]


# -- what rungs are


WRONG = [
    "4,2",
    "0,2",
    "a,b",
    "",
    "1,1",
    "4",
    "60s,15s",
    "60s",
    "15s,60",
    "0.5s,1s",
    "0s,4s",
    "1d,2d",
]


@pytest.mark.parametrize("text", WRONG)
def test_wrong_rungs_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(
        ConfigError, match=r"^`fidelity` .*1,2,4,? or .*15s,30s,60s$|write 90s"
    ) as e:
        Rungs.parse(text)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("text", ["1,2,4", "15s,1m,4m", "1m,1h"])
def test_rungs_are_read_as_they_are_written(text: str) -> None:
    rungs = Rungs.parse(text)
    assert str(rungs) == text
    assert rungs.in_seconds == (text != "1,2,4")
    assert Rungs.parse(text.replace(",", " , ")) == rungs


def test_the_last_rung_is_the_whole_training(tmp_path: Path) -> None:
    given: Any = {"space": "tiny", "data": "digits", "out": tmp_path, "rungs": RUNGS}
    with pytest.raises(ConfigError, match=r"^`fidelity` 1,2,4 ends at 4 epochs, .* has 8; leave"):
        Settings(**given, recipe=Recipe(epochs=8))
    assert Settings(**given, recipe=Recipe(epochs=4)).rungs == RUNGS
    by_time, seconds = Recipe(train_time_s=60), Rungs.parse("15s,60s")
    assert Settings(**given | {"rungs": seconds}, recipe=by_time).rungs == seconds
    for rungs, recipe, said in (
        (RUNGS, by_time, r"1,2,4 is in epochs, .* as in 15s,60s"),
        (seconds, Recipe(epochs=60), r"15s,1m is in seconds, .* as in 1,2,4"),
        (seconds, replace(by_time, train_time_s=64), r"ends at 60 seconds, .* has 64; leave out"),
    ):
        with pytest.raises(ConfigError, match=rf"^`fidelity` .*{said}"):
            Settings(**given | {"rungs": rungs}, recipe=recipe)


# -- which trials continue

ARCHS = list(TINY.architectures())[:40]


@st.composite
def situations(draw: st.DrawFn) -> tuple[Rungs, list[Trial]]:
    """Rungs, and trials that are anywhere on them."""
    rungs = Rungs(tuple(sorted(draw(st.sets(st.integers(1, 30), min_size=2, max_size=4)))))
    accuracy = st.integers(0, 6).map(lambda n: n / 10)  # ties are common
    trials = []
    for number in range(draw(st.integers(0, len(ARCHS)))):
        reached = draw(st.integers(0, len(rungs.at)))
        found = {epochs: draw(accuracy) for epochs in rungs.at[:reached]}
        states = {0: [RUNNING, INFEASIBLE], len(rungs.at): [COMPLETE]}
        state = draw(st.sampled_from(states.get(reached, [WAITING, RUNNING, PRUNED, INFEASIBLE])))
        measurement = Measurement(metrics={}, rungs=found)
        trials.append(
            Trial(number=number, architecture=ARCHS[number], state=state, measurement=measurement)
        )
    return rungs, trials


def accuracy_at(trial: Trial, epochs: int) -> float | None:
    """The accuracy at a rung as the reward; the worst one has no value."""
    return trial.measurement.rungs[epochs] or None


def may_continue(rungs: Rungs, trials: list[Trial], trial: Trial) -> bool:
    """Whether a trial is paused and among the best 1/eta at its rung, by counting the better."""
    reached = len(trial.measurement.rungs)
    if trial.state is not WAITING:
        return False
    low, high = rungs.at[reached - 1 : reached + 1]
    rivals = [t for t in trials if low in t.measurement.rungs]
    mine = trial.measurement.rungs[low]
    before = sum(
        t.measurement.rungs[low] > mine
        or (t.measurement.rungs[low] == mine and t.number < trial.number)
        for t in rivals
    )
    return (before + 1) * high <= len(rivals) * low


@pytest.mark.slow
@patient
@given(situations())
def test_the_best_of_the_highest_rung_continues_and_only_where_it_may(
    situation: tuple[Rungs, list[Trial]],
) -> None:
    rungs, trials = situation
    found = rungs.promoted(trials, accuracy_at)
    able = [t for t in trials if may_continue(rungs, trials, t)]

    def order(trial: Trial) -> tuple[float, ...]:
        reached = trial.measurement.rungs
        return -max(reached), -reached[max(reached)], trial.number

    assert found == min(able, key=order, default=None)


# -- a search by rungs


@pytest.mark.slow
def test_the_best_are_trained_to_the_end_at_a_part_of_the_cost() -> None:
    rungs = RUNGS
    evaluate = Counted()
    told: list[Trial] = []
    search = search_of(rungs)
    trials = search.run(evaluate, budget=120, on_trial=told.append)
    assert [t.number for t in trials] == list(range(120))
    assert {t.state for t in trials} == {COMPLETE, PRUNED}
    # Nothing is evaluated twice, and no rung is left out.
    assert len(set(evaluate.asked)) == len(evaluate.asked)
    for trial in trials:
        reached = tuple(trial.measurement.rungs)
        assert reached == rungs.at[: len(reached)]
        assert (trial.state is COMPLETE) == (reached == rungs.at)
        for epochs, accuracy in trial.measurement.rungs.items():
            assert accuracy == measure(trial.architecture, epochs)["accuracy"]
        assert trial.reward == trial.metrics["accuracy"] == trial.measurement.rungs[reached[-1]]
    # Of every rung, at least the best 1/eta continue; mistakes of the beginning may add some.
    for low, high in zip(rungs.at, rungs.at[1:], strict=False):
        here = [t for t in trials if low in t.measurement.rungs]
        best = sorted(here, key=lambda t: (-t.measurement.rungs[low], t.number))
        assert all(high in t.measurement.rungs for t in best[: len(here) * low // high])
        assert sum(high in t.measurement.rungs for t in here) < 0.9 * len(here)
    assert trained_length(trials) == sum(max(t.measurement.rungs) for t in trials)
    expected = 120 * rungs.expected
    most = min(1.3 * expected, 120 * rungs.at[-1])
    assert 0.95 * expected < trained_length(trials) < most
    assert search.best is not None
    assert search.best.state is COMPLETE
    assert {t.state for t in trials.ranked()} == {COMPLETE}
    assert Counter(t.state for t in told) == Counter(
        [WAITING] * (len(evaluate.asked) - trials.count(COMPLETE)) + [t.state for t in trials]
    )


def test_a_function_must_take_the_epochs_and_give_an_accuracy() -> None:
    with pytest.raises(ConfigError, match=r"^rungs say .* has no parameter `epochs`; give it one$"):
        search_of().run(lambda arch: {"accuracy": 0.5}, budget=3)
    with pytest.raises(ConfigError, match="return the metric accuracy"):
        search_of(reward="S").run(lambda arch, epochs: {"step_time": 0.5}, budget=3)


def test_the_step_time_is_found_at_the_first_rung_alone() -> None:
    jobs: list[Job] = []

    def evaluator(job: Job) -> Measurement:
        jobs.append(job)
        arch, epochs = job.architecture, job.until
        assert epochs is not None
        trained = Measurement(
            metrics={"accuracy": measure(arch, epochs)["accuracy"]},
            fidelity=f"{epochs} epochs",
            seed=3,
            hardware="trains",
        )
        if job.task is Task.TRAIN:
            return trained
        timed = {"step_time": 1 + int(arch.id, 16) % 100 / 100, **trained.metrics}
        return replace(trained, metrics=timed, hardware="times", step_time_source="measured")

    trials = search_of(reward="A / S").run(budget=40, backend=InlineBackend(evaluator))
    assert all((job.task is Task.EVALUATE) == (job.until == 1) for job in jobs)
    for trial in trials:
        found = trial.measurement
        assert (found.hardware, found.step_time_source) == ("times", "measured")
        assert found.fidelity == f"{max(found.rungs)} epochs"
        assert trial.metrics["step_time"] == 1 + int(trial.architecture.id, 16) % 100 / 100
        assert trial.reward == trial.metrics["accuracy"] / trial.metrics["step_time"]


def test_a_trial_that_diverges_later_is_infeasible_and_keeps_what_is_known() -> None:
    def diverge(arch: Architecture, epochs: int) -> dict[str, float]:
        if epochs > 1:
            raise InfeasibleError("training diverged")
        return measure(arch, epochs)

    trials = search_of().run(diverge, budget=12)
    gone = [t for t in trials if t.state is INFEASIBLE]
    assert trials.count(PRUNED) == 12 - len(gone)
    assert len(gone) >= 6
    for trial in gone:
        assert (trial.reward, trial.reason) == (None, "training diverged")
        assert trial.measurement.rungs == {1: measure(trial.architecture, 1)["accuracy"]}


def test_a_worker_lost_at_a_higher_rung_costs_that_rung_alone() -> None:
    failed: set[tuple[str, int]] = set()

    def stumble(arch: Architecture, epochs: int) -> Mapping[str, float]:
        if (arch.id, epochs) not in failed:  # once at every rung of every trial
            failed.add((arch.id, epochs))
            raise ZeroDivisionError("a bug")
        return evaluate(arch, epochs)

    evaluate = Counted()
    trials = search_of().run(stumble, budget=20)
    assert summary(trials) == summary(search_of().run(measure, budget=20))
    assert len(evaluate.asked) == len(set(evaluate.asked))


# -- stops


@pytest.mark.slow
def test_a_run_stopped_anywhere_continues_as_if_it_had_not_been(tmp_path: Path) -> None:
    controller = "tunas"
    asked: list[tuple[str, int]] = []
    for calls in (2, 2, 0, 0, 9, 1, 1, None):
        evaluate = Counted(calls)
        with RunFolder.open(tmp_path) as folder, suppress(KeyboardInterrupt):
            search = search_of(controller=controller, store=folder)
            search.resume(events(tmp_path))
            search.run(evaluate, budget=24)
        asked += evaluate.asked
    undisturbed = Counted()
    expected = search_of(controller=controller).run(undisturbed, budget=24)
    assert summary(stored(tmp_path)) == summary(search.trials) == summary(expected)
    assert asked == undisturbed.asked


@pytest.mark.slow
def test_every_prefix_of_a_store_is_a_run_that_continues(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path / "whole") as folder:
        expected = summary(search_of(store=folder).run(measure, budget=6))
    lines = (tmp_path / "whole" / "trials.jsonl").read_bytes().splitlines(keepends=True)
    assert len(lines) > 20
    for count in range(len(lines)):  # among them those in the midst of the pruning
        path = tmp_path / f"{count}"
        path.mkdir()
        (path / "trials.jsonl").write_bytes(b"".join(lines[:count]) + b'{"trial": 3, "st')
        with RunFolder.open(path) as folder:
            search = search_of(store=folder)
            search.resume(events(path))
            assert summary(search.run(measure, budget=6)) == expected


class Told:
    """Notes what a controller receives."""

    def __init__(self, search: Search) -> None:
        self.steps: list[tuple[int, TrialState, int]] = []
        tell = search.controller.tell

        def note(trial: Trial) -> None:
            self.steps.append((trial.number, trial.state, len(trial.measurement.rungs)))
            tell(trial)

        search.controller.tell = note  # type: ignore[method-assign]


def test_a_resumed_controller_receives_what_it_received_before(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path) as folder:
        search = search_of(store=folder)
        live = Told(search)
        search.run(measure, budget=12)
    again = search_of()
    replayed = Told(again)
    again.resume(events(tmp_path))
    assert replayed.steps == live.steps
    assert len(set(live.steps)) == len(live.steps)


def test_a_changed_reward_scores_rungs_and_pruned_trials_again(tmp_path: Path) -> None:
    def timed(arch: Architecture, epochs: int) -> dict[str, float]:
        return {**measure(arch, epochs), "step_time": 1 + int(arch.id, 16) % 7}

    with RunFolder.open(tmp_path) as folder:
        search_of(store=folder).run(timed, budget=16)
    with RunFolder.open(tmp_path) as folder:
        search = search_of(reward="A / S", store=folder)
        search.resume(events(tmp_path), rescore=True)
        for trial in search.trials:
            assert trial.reward == trial.metrics["accuracy"] / trial.metrics["step_time"]
            for epochs, accuracy in trial.measurement.rungs.items():
                expected = accuracy / trial.metrics["step_time"]
                assert search.scoring.reward_at(trial, epochs) == expected
    assert summary(stored(tmp_path)) == summary(search.trials)


def test_a_reward_without_a_value_at_a_rung_is_reported_and_the_trial_is_the_worst(
    tmp_path: Path,
) -> None:
    def none_at_first(arch: Architecture, epochs: int) -> dict[str, float]:
        return {**measure(arch, epochs), "step_time": float(len(evaluate.asked) != 1)}

    evaluate = Counted(function=none_at_first)
    with RunFolder.open(tmp_path) as folder, pytest.raises(RewardError, match="A / S"):
        search_of(reward="A / S", store=folder).run(evaluate, budget=8)
    with RunFolder.open(tmp_path) as folder:
        search = search_of(reward="A / S", store=folder)
        search.resume(events(tmp_path))
        trials = search.run(evaluate, budget=8)
    worst = [t for t in trials if t.reward is None]
    assert [(t.state, tuple(t.measurement.rungs)) for t in worst] == [(PRUNED, (1,))]
    assert len(evaluate.asked) == len(set(evaluate.asked))


def test_several_workers_climb_all_rungs_whatever_the_order_and_the_stops(tmp_path: Path) -> None:
    asked: list[tuple[str, int]] = []
    for calls in (5, 8, 21, None):
        evaluate = Counted(calls)
        with RunFolder.open(tmp_path) as folder, suppress(KeyboardInterrupt):
            search = search_of(store=folder)
            search.resume(events(tmp_path))
            search.run(budget=30, backend=Shuffled(FunctionEvaluator(evaluate)))
        asked += evaluate.asked
    assert len(asked) == len(set(asked))
    assert {t.state for t in search.trials} == {COMPLETE, PRUNED}
    assert len(search.trials) == 30
    assert RUNGS.promoted(search.trials, search.scoring.reward_at) is None


def test_a_warm_up_ends_before_networks_are_first_compared() -> None:
    recipe = Recipe(epochs=8, warmup_epochs=2)
    assert with_early_warmup(recipe, (4, 8)) is with_early_warmup(recipe, None) is recipe
    assert with_early_warmup(recipe, (1, 8)).warmup_epochs == 0.5
    # By time, whatever number of epochs fits: the first rung is as long a share of them.
    assert with_early_warmup(replace(recipe, train_time_s=64), (4, 64)).warmup_epochs == 0.25
