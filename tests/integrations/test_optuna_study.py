"""A run as a study of Optuna: the same trials, added to as the run grows, in a real storage."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import optuna
import pytest

from effnas import Architecture, InfeasibleError, Run, Search, SearchSpace, TrialState, load_run
from effnas.errors import ConfigError, StoreError
from effnas.integrations.optuna import to_study
from effnas.search.rungs import Rungs
from effnas.trials.manifest import SearchManifest
from effnas.trials.manifest_parts import RewardPart, SourcedSpacePart
from effnas.trials.store import RunFolder

SPACE = SearchSpace.load("tiny")


def accuracy(arch: Architecture, epochs: int = 2) -> dict[str, float]:
    if arch.stages[0].r == 1:
        raise InfeasibleError("\x1b[31mtoo shallow\udce9")
    return {"accuracy": 0.3 + 0.01 * arch.layers * epochs, "step_time": 1.0 + arch.layers}


def write_run(path: Path, budget: int, objectives: str | None = None, rungs: bool = False) -> Run:
    reward = RewardPart(name="A", kind="expression", text="A")
    with RunFolder.open(path) as folder:
        SearchManifest(
            space=SourcedSpacePart.of(SPACE), reward=reward, objectives=objectives
        ).write(path)
        search = Search(
            SPACE, "A", "random", objectives=objectives, store=folder,
            rungs=Rungs((1, 2)) if rungs else None,
        )  # fmt: skip
        if (path / "trials.jsonl").stat().st_size:
            search.resume(load_run(path).trials)
        search.run(accuracy, budget=budget)
    return load_run(path)


@pytest.fixture
def storage(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'runs.db'}"


def test_a_study_has_what_the_run_has_and_grows_with_it(tmp_path: Path, storage: str) -> None:
    run = write_run(tmp_path / "x", 8)
    study = to_study(run, storage=storage)
    assert len(study.trials) == 8
    run = write_run(tmp_path / "x", 12)
    for _ in range(2):
        to_study(tmp_path / "x", storage=storage)
    study = optuna.load_study(study_name="x", storage=storage)
    assert len(study.trials) == 12
    assert run.best is not None
    assert study.best_value == run.best.reward
    for theirs, trial in zip(study.trials, run.trials, strict=True):
        assert theirs.params == SPACE.decisions(trial.architecture)
        assert theirs.user_attrs["architecture"] == str(trial.architecture)
        assert (theirs.state.name == "COMPLETE") is (trial.state is TrialState.COMPLETE)
        assert theirs.datetime_start is not None
        assert theirs.datetime_complete is not None
        assert theirs.datetime_start <= theirs.datetime_complete
    reasons = {t.user_attrs["reason"] for t in study.trials if t.state.name == "FAIL"}
    assert reasons == {"too shallow\N{REPLACEMENT CHARACTER}"}


def test_objectives_are_directions(tmp_path: Path, storage: str) -> None:
    run = write_run(tmp_path / "x", 20, "accuracy:max,step_time:min")
    study = to_study(run, storage=storage)
    assert [each.name for each in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert study.metric_names == ["accuracy", "step_time"]
    mine = {(t.metrics["accuracy"], t.metrics["step_time"]) for t in run.pareto_front}
    assert {tuple(t.values) for t in study.best_trials} == mine


def test_rungs_are_intermediate_values(tmp_path: Path) -> None:
    run = write_run(tmp_path / "x", 8, rungs=True)
    study = to_study(run)
    pruned = [t for t in study.trials if t.state.name == "PRUNED"]
    assert pruned
    assert all([*t.intermediate_values] == [1] for t in pruned)
    complete = study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    assert all([*t.intermediate_values] == [1, 2] for t in complete)


def test_another_study_of_the_name_and_no_storage_are_lines(tmp_path: Path, storage: str) -> None:
    write_run(tmp_path / "x", 3)
    write_run(tmp_path / "y" / "x", 3)
    to_study(tmp_path / "x", storage=storage)
    with pytest.raises(ConfigError, match="choose another `name`"):
        to_study(tmp_path / "y" / "x", storage=storage)
    assert len(to_study(tmp_path / "y" / "x", storage=storage, name="other").trials) == 3
    with pytest.raises(ConfigError, match="storage"):
        to_study(tmp_path / "x", storage="nosuch://a")
    with pytest.raises(StoreError):
        to_study(tmp_path / "none")


def test_times_that_are_none_are_left_out(tmp_path: Path) -> None:
    run = write_run(tmp_path / "x", 3)
    trials = type(run.trials)(replace(t, ended="yesterday") for t in run.trials)
    assert len(to_study(replace(run, trials=trials)).trials) == 3
