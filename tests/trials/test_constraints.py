"""Hard constraints of a search: nothing is proposed, trained or ranked that breaks them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from effnas import (
    Architecture,
    Search,
    SearchSpace,
    Trials,
    TrialState,
)
from effnas.controllers.random import RandomController
from effnas.controllers.registry import CONTROLLERS
from effnas.errors import (
    ConfigError,
    InfeasibleError,
    SpaceError,
)
from effnas.evaluation.backend import InlineBackend
from effnas.evaluation.evaluator import Job, Task
from effnas.search.retime import time_finalists
from effnas.trials.constraints import Constraints
from effnas.trials.store import RunFolder, read_events
from effnas.trials.trial import Measurement

TINY = SearchSpace.load("tiny")
SIX = SearchSpace.parse("stages: ['fused_r<1..3>_k<3|5>_s2_e1_c8']")
COMPLETE, INFEASIBLE = TrialState.COMPLETE, TrialState.INFEASIBLE


def accuracy(arch: Architecture) -> float:
    return 0.3 + int(arch.id, 16) % 1000 / 2000


def step_time(arch: Architecture) -> float:
    return arch.layers / 5


def measure(arch: Architecture) -> dict[str, float]:
    return {"accuracy": accuracy(arch), "step_time": step_time(arch)}


def known_step_times(archs: Sequence[Architecture]) -> list[Mapping[str, float]]:
    """What a table might give: not every network is in it."""
    return [{} if arch.stages[2].k == 5 else {"step_time": step_time(arch)} for arch in archs]


# -- before a trial


#: Of these, 24 proposals take some seconds.
SLOW = {"surrogate", "reinforce", "optuna:tpe", "optuna:cmaes"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else [])
        for name in CONTROLLERS
        if name != "optuna:gp"
    ],
)
def test_no_controller_proposes_what_is_known_to_break_a_constraint(name: str) -> None:
    texts = ["params <= 170e3", "stage1.r + stage2.r <= 4", "S * P <= 1.2", "accuracy >= 0.4"]
    search = Search("tiny", "A / S", name, 3, free_metrics=known_step_times, constraints=texts)
    trials = search.run(measure, budget=24)
    assert len({t.architecture.id for t in trials}) == 24
    for trial in trials:
        arch, metrics = trial.architecture, TINY.counted_metrics(trial.architecture)
        assert metrics["params"] <= 170e3
        assert arch.stages[0].r + arch.stages[1].r <= 4
        breaks = step_time(arch) * metrics["params_ratio"] > 1.2
        assert not breaks or arch.stages[2].k == 5  # of which nothing was known
        ends = INFEASIBLE if breaks or accuracy(arch) < 0.4 else COMPLETE
        assert trial.state is ends
    assert {t.state for t in trials} == {COMPLETE, INFEASIBLE}


def test_a_controller_made_for_the_space_without_them_is_refused() -> None:
    controller = RandomController(TINY)
    with pytest.raises(SpaceError, match=r"tiny lacks the constraint 'P <= 1'; make the contr"):
        Search(TINY, "A", controller, constraints=["P <= 1"])
    narrow = RandomController(TINY.constrained(["P <= 1"]))
    assert Search(TINY, "A", narrow, constraints=["P <= 1"]).ask()


@pytest.mark.slow
def test_constraints_that_contradict_each_other_are_named_before_anything_is_tried() -> None:
    search = Search(SIX, "A", constraints=["layers > 2", "layers <= 2"])
    with pytest.raises(SpaceError, match=r"no architecture meets 'layers .* has layers = [23];"):
        search.run(lambda arch: pytest.fail("it was tried"), budget=3)
    search = Search(SIX, "A", free_metrics=lambda archs: [{"step_time": 2.0}] * len(archs),
                    constraints=["S <= 0.8"])  # fmt: skip
    with pytest.raises(SpaceError, match=r"meets 'S <= 0.8'; the closest .* has S = 2;"):
        search.ask()


# -- a trial


def test_a_trial_that_breaks_one_keeps_its_metrics_and_has_no_reward() -> None:
    search = Search("tiny", "A", constraints=["accuracy >= 0.5", "step_time <= 1"])
    low = search.tell(search.ask(), accuracy=0.4, step_time=0.5)
    slow = search.tell(search.ask(), accuracy=0.9, step_time=1.31)
    fine = search.tell(search.ask(), accuracy=0.5, step_time=1.0)
    assert [(t.state, t.reward) for t in (low, slow)] == [(INFEASIBLE, None)] * 2
    assert low.reason == "accuracy is 0.4, and the search wants 'accuracy >= 0.5'"
    assert slow.reason == "step_time is 1.31, and the search wants 'step_time <= 1'"
    assert low.metrics["accuracy"] == 0.4
    assert low.metrics.keys() == fine.metrics.keys() > {"params", "macs"}
    assert (fine.state, search.best) == (COMPLETE, fine)


def test_several_quantities_and_choices_may_be_in_one() -> None:
    assert Constraints.parse(["S < 1", " S  <  1"], TINY).texts == ("S < 1",)
    text = "S <= 0.5 or stage1.op != 'fused' and S + P <= 1"
    constraints = Constraints.parse([text], TINY)
    for arch in list(TINY.architectures())[::500]:
        ratio = TINY.counted_metrics(arch)["params_ratio"]
        metrics = {"step_time": 0.7, "params_ratio": ratio}
        fine = arch.stages[0].op != "fused" and 0.7 + ratio <= 1
        broken = constraints.broken(arch, metrics)
        assert (broken is None) is fine
        shown = f"P is {ratio:.6g} and S is 0.7 and stage1.op is {arch.stages[0].op}, and the"
        assert fine or (broken or "").startswith(shown)
        assert constraints.broken(arch, {}) is None  # nothing is known yet


def test_a_metric_that_is_not_given_is_told_and_nothing_is_lost(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path) as folder:
        search = Search(TINY, "A", constraints=["step_time <= 1"], store=folder)
        with pytest.raises(ConfigError, match="'step_time <= 1' needs step_time, and"):
            search.tell(search.ask(), accuracy=0.5)
    last = list(read_events(tmp_path, TINY))[-1]
    assert last.metrics["accuracy"] == 0.5
    # Nor need a function give what is known without it.
    known = Search(
        TINY, "A", free_metrics=lambda archs: [{"step_time": 0.5}] * len(archs),
        constraints=["step_time <= 1"],
    )  # fmt: skip
    assert known.tell(known.ask(), accuracy=0.5).state is COMPLETE


class TimesThenTrains:
    """Does as a worker does, and counts what it trains."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.constraints = Constraints.parse(texts, TINY)
        self.trained: Counter[str] = Counter()

    def __call__(self, job: Job) -> Measurement:
        arch = job.architecture
        predicted = {"step_time": step_time(arch), "step_time_high": 1.1 * step_time(arch)}
        if job.task is Task.TIME:
            metrics = {"step_time": 1.3 * step_time(arch)}
            return Measurement(metrics=metrics, step_time_source="measured")
        if broken := self.constraints.broken(arch, predicted):
            raise InfeasibleError(broken, metrics=predicted)
        self.trained[arch.id] += 1
        metrics = {**predicted, "accuracy": accuracy(arch)}
        return Measurement(metrics=metrics, step_time_source="predicted")


TEXTS = ["S <= 1.2", "accuracy >= 0.4", "P <= 2"]


def searched(path: Path, budget: int) -> tuple[Trials, Counter[str]]:
    evaluator = TimesThenTrains(TEXTS)
    with RunFolder.open(path) as folder:
        search = Search(TINY, "A", "evolution", 5, constraints=TEXTS, store=folder)
        search.resume(read_events(path, TINY))
        return search.run(budget=budget, backend=InlineBackend(evaluator)), evaluator.trained


def summary(trials: Trials) -> list[tuple[object, ...]]:
    return [
        (t.number, t.architecture.id, t.state, t.reward, t.reason, dict(t.metrics)) for t in trials
    ]


@pytest.mark.slow
def test_a_run_with_constraints_goes_on_as_if_it_had_not_been_stopped(tmp_path: Path) -> None:
    whole, trained = searched(tmp_path / "whole", 90)
    assert trained == Counter(t.architecture.id for t in whole if step_time(t.architecture) <= 1.2)
    for budget in (1, 60, 90):
        parts, _ = searched(tmp_path / "parts", budget)
    assert summary(parts) == summary(whole)
    assert {t.state for t in whole} == {COMPLETE, INFEASIBLE}


def test_a_finalist_whose_measured_step_time_breaks_one_is_infeasible() -> None:
    search = Search(TINY, "A", "random", constraints=TEXTS)
    backend = InlineBackend(TimesThenTrains(TEXTS))
    search.run(budget=60, backend=backend)
    before = {t.number for t in search.trials.ranked()}
    time_finalists(search, backend)
    gone = [t for t in search.trials if t.number in before and t.state is INFEASIBLE]
    assert gone
    for trial in gone:
        slow = 1.3 * step_time(trial.architecture)
        assert slow > 1.2
        assert trial.reason == f"S is {slow:.6g}, and the search wants 'S <= 1.2'"
        assert (trial.reward, trial.metrics["step_time"]) == (None, slow)
        assert trial.metrics["accuracy"] == accuracy(trial.architecture)
    best = search.trials.ranked()[:5]
    assert all(t.metrics["step_time"] <= 1.2 for t in best)
    assert all(t.measurement.step_time_source == "measured" for t in best)
