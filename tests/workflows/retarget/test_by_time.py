"""Searches of equal training time on other devices: what fits there, and how accurate that is."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from math import log2
from pathlib import Path

import pytest
import torch

from effnas import Run, SearchSpace, load_run
from effnas.config.catalog import Source
from effnas.config.recipe import Recipe
from effnas.config.settings import StepTimeConfig
from effnas.errors import ConfigError
from effnas.evaluation.workers import Workers
from effnas.search.launch import SearchObserver, Settings, launch
from effnas.search.retime import time_finalists
from effnas.search.search import Search
from effnas.timing.device import describe_device, hardware_id
from effnas.trials.learning_curve import LearningCurves, trained_for
from effnas.trials.trial import Trial, TrialState
from effnas.workflows.retarget.launch import (
    Retargeted,
    RetargetObserver,
    retarget,
)
from effnas.workflows.retarget.settings import RetargetSettings
from shortened_timings import shorten_timings
from synthetic_profiles import profile_of

pytestmark = pytest.mark.slow  # networks are trained, and retargeted

TEXT = """\
stem: 8
head: 16
target: {image_size: 8, batch_size: 64, num_classes: 10}
stages:
  - <fused|mbconv>_r<1..2>_k3_s2_e<1|4>_c<8|16>
reference:
  - fused_r1_k3_s2_e1_c8
recipe:
  batch_size: <64|32>
"""
SPACE = SearchSpace.parse(TEXT)
#: Seconds of training, on a device that nobody has: networks take 12 to 100 steps of it.
TIME_S = 48.0
HERE = Workers(backend="inline", device="cpu", threads=1)


def step_s(number: int) -> float:
    return 1.0 + 3.0 * (number % 4) / 3


def write_table(path: Path, factor: float = 1.0, left_out: int | None = None) -> Path:
    """Write the step times of a device that takes `factor` times as long."""
    networks = dict.fromkeys(arch.network for arch in SPACE.architectures())
    rows = [f"{arch},{factor * step_s(n)}" for n, arch in enumerate(networks) if n != left_out]
    path.write_text("architecture,step_time_s\n" + "\n".join(rows) + "\n")
    return path


@pytest.fixture(scope="module", autouse=True)
def _one_thread_and_short_timings() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        shorten_timings(patch)
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A search of eight networks on a device that a table knows."""
    folder = tmp_path_factory.mktemp("parent")
    return searched(folder, StepTimeConfig.of(table=write_table(folder / "old.csv")), TIME_S, 8)


def searched(folder: Path, step_times: StepTimeConfig, time_s: float, budget: int) -> Run:
    recipe = Recipe(
        epochs=4, stages=2, image_size=(6, 8), data_share=0.5, holdout_share=0.3, batch_size=64,
        optimizer="nadamw", learning_rate_per_256=0.02, train_time_s=time_s,
    )  # fmt: skip
    launch(
        Settings(
            space=Source("few", folder / "few.yaml", TEXT, "0" * 16, "path"),
            data="digits",
            controller="random",
            baselines=("none",),
            out=folder / "run",
            budget=budget,
            reward="accuracy",
            workers=HERE,
            recipe=recipe,
            step_times=step_times,
        ),
        SearchObserver(),
    )
    return load_run(folder / "run")


def moved(run: Run, out: Path, table: Path, **more: object) -> Retargeted:
    settings = RetargetSettings(
        run=run.path, out=out, workers=HERE, step_times=StepTimeConfig.of(table=table),
        **more,  # type: ignore[arg-type]
    )  # fmt: skip
    return retarget(settings, RetargetObserver())


def steps(trial: Trial) -> int:
    return sum(stage.steps for stage in trial.measurement.stages)


def test_on_a_device_twice_as_fast_twice_the_steps_fit_and_accuracies_are_predictions(
    parent: Run, tmp_path: Path
) -> None:
    out = tmp_path / "fast"
    found = moved(parent, out, write_table(tmp_path / "fast.csv", 0.5))
    run = load_run(out)
    curves = LearningCurves.of(parent.trials, parent.noise)
    assert found.by_time
    assert [t.number for t in run.trials] == [t.number for t in parent.trials]
    for trial in run.trials:
        old = parent.trials[trial.number]
        assert steps(trial) in range(2 * steps(old) - 2, 2 * steps(old) + 3)
        assert sum(s.steps * s.step_time_s for s in trial.measurement.stages) <= TIME_S
        assert [s.image_size for s in trial.measurement.stages] == [6, 8]
        expected = curves.predict(old, log2(steps(trial) / steps(old)))
        assert trial.metrics["accuracy"] == expected.accuracy >= old.metrics["accuracy"]
        assert trial.measurement.accuracy_deviation == expected.deviation > 0
        assert trial.measurement.fidelity == (
            f"predicted for {steps(trial)} steps from {steps(old)}"
        )
        assert trial.measurement.curve == old.measurement.curve
        assert trial.measurement.seed is None
        assert not {"train_loss", "train_time_s"} & trial.metrics.keys()
        assert trial.metrics["step_time"] == pytest.approx(old.metrics["step_time"])
    for candidate in found.ranking:
        assert candidate.accuracy_deviation > 0
        assert candidate.reward_deviation == pytest.approx(candidate.accuracy_deviation, rel=0.2)
    assert run.best is not None
    assert found.ranking[0].architecture == run.best.architecture
    # The interval of a rank is that of the prediction.
    ranking = run.ranking(run.known_reward)
    for ranked in ranking:
        assert ranked.accuracy_error == ranked.trial.measurement.accuracy_deviation


def test_on_the_same_device_nothing_is_predicted(parent: Run, tmp_path: Path) -> None:
    out = tmp_path / "same"
    found = moved(parent, out, write_table(tmp_path / "same.csv", 1.01))
    for trial in load_run(out).trials:
        old = parent.trials[trial.number]
        assert not trial.is_predicted
        assert trial.metrics["accuracy"] == old.metrics["accuracy"]
        assert trial.measurement.stages == old.measurement.stages
        assert trial.measurement.fidelity == old.measurement.fidelity
    assert all(c.accuracy_deviation == 0 for c in found.ranking)


def test_a_network_of_which_too_few_steps_fit_is_infeasible(parent: Run, tmp_path: Path) -> None:
    out = tmp_path / "slow"
    found = moved(parent, out, write_table(tmp_path / "slow.csv", 4.0))
    run = load_run(out)
    states = {t.number: t.state for t in run.trials}
    assert set(states.values()) == {TrialState.COMPLETE, TrialState.INFEASIBLE}
    for trial in run.trials:
        if trial.state is TrialState.INFEASIBLE:
            assert "of the train_time of 48 s at least 8 are to fit in" in (trial.reason or "")
            assert "accuracy" not in trial.metrics
        else:
            assert 8 <= steps(trial) < steps(parent.trials[trial.number])
            assert trial.metrics["accuracy"] <= parent.trials[trial.number].metrics["accuracy"]
    complete = {n for n, state in states.items() if state is TrialState.COMPLETE}
    kept = {t.architecture.id for t in run.trials if t.number in complete}
    assert {c.architecture.id for c in found.ranking} == kept


def test_what_may_win_is_trained_there_and_then_measured(parent: Run, tmp_path: Path) -> None:
    table, out = write_table(tmp_path / "fast.csv", 0.5), tmp_path / "fast"
    found = moved(parent, out, table, budget=3)
    run = load_run(out)
    measured = [t for t in run.trials if t.state is TrialState.COMPLETE and not t.is_predicted]
    assert 1 <= len(measured) <= 3
    assert found.trained_again
    again = {t.number for t in found.trained_again}
    new = {t.number for t in run.trials} - {t.number for t in parent.trials}
    assert {t.number for t in measured} == again | new
    for trial in measured:
        assert trial.measurement.curve[-1] == (steps(trial), trial.metrics["accuracy"])
        assert trial.measurement.seed is not None
        if trial.number in again:
            assert steps(trial) > 1.9 * steps(parent.trials[trial.number])
            assert trial.architecture == parent.trials[trial.number].architecture
    certain = {c.architecture.id for c in found.ranking if not c.accuracy_deviation}
    assert certain == {t.architecture.id for t in measured}
    # The same again trains no more, and a larger budget only what is left of it.
    same = moved(parent, out, table, budget=3)
    assert [c.architecture for c in same.ranking] == [c.architecture for c in found.ranking]
    assert [t.metrics for t in load_run(out).trials] == [t.metrics for t in run.trials]
    assert {t.number for t in same.trained_again} == again


class Killed(RetargetObserver):
    """Stops as if by Ctrl-C after the first new training."""

    def trained(self, trial: Trial, search: Search) -> None:
        raise KeyboardInterrupt


def test_a_killed_one_is_resumed(
    parent: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, out = write_table(tmp_path / "fast.csv", 0.5), tmp_path / "fast"
    settings = RetargetSettings(
        run=parent.path, out=out, workers=HERE, step_times=StepTimeConfig.of(table=table), budget=2
    )
    with pytest.raises(KeyboardInterrupt):
        retarget(settings, Killed())
    first = [t for t in load_run(out).trials if not t.is_predicted]
    assert len(first) == 1
    # And within a training: it is the next one to run.
    from effnas.evaluation.training import WorkerTraining

    train = WorkerTraining.__call__

    def stop(*arguments: object, **named: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(WorkerTraining, "__call__", stop)
    with pytest.raises(KeyboardInterrupt):
        retarget(settings, RetargetObserver())
    monkeypatch.setattr(WorkerTraining, "__call__", train)
    [running] = [t for t in load_run(out).trials if t.state is TrialState.RUNNING]
    retarget(settings, RetargetObserver())
    run = load_run(out)
    measured = [t for t in run.trials if not t.is_predicted]
    assert {t.number for t in measured} == {first[0].number, running.number}
    assert all(t.state is TrialState.COMPLETE for t in run.trials)


def test_a_run_that_was_retargeted_is_retargeted_from_what_was_trained(
    parent: Run, tmp_path: Path
) -> None:
    moved(parent, tmp_path / "fast", write_table(tmp_path / "fast.csv", 0.5))
    fast, out = load_run(tmp_path / "fast"), tmp_path / "back"
    moved(fast, out, write_table(tmp_path / "back.csv", 1.0))
    for trial in load_run(out).trials:
        old = parent.trials[trial.number]
        assert trained_for(trial) == trained_for(old)
        assert trial.metrics["accuracy"] == old.metrics["accuracy"]
        assert trial.measurement.accuracy_deviation == pytest.approx(
            parent.noise.standard_error(old.metrics["accuracy"])
        )


def test_a_table_without_seconds_and_a_reward_of_the_loss_are_refused(
    parent: Run, tmp_path: Path
) -> None:
    table = write_table(tmp_path / "ratios.csv")
    table.write_text(table.read_text().replace("step_time_s", "step_time"))
    with pytest.raises(ConfigError, match="give no `step_time_s`"):
        moved(parent, tmp_path / "new", table)
    seconds = write_table(tmp_path / "seconds.csv")
    with pytest.raises(Exception, match="train_loss"):
        moved(parent, tmp_path / "other", seconds, reward="accuracy - 0.01 * train_loss")


def test_steps_are_measured_on_the_device_at_hand_and_s_is_that_of_trainings(
    tmp_path: Path,
) -> None:
    run = searched(tmp_path, StepTimeConfig(), 1.5, 3)
    settings = RetargetSettings(run=run.path, out=tmp_path / "here", workers=HERE, timings=2)
    found = retarget(settings, RetargetObserver())
    there = load_run(tmp_path / "here")
    assert there.manifest.step_times == run.manifest.step_times == "measured in trainings"
    assert (len(found.ranking), len(there.trials)) == (3, 2)
    for trial in there.trials:
        assert trial.measurement.step_time_source == "training"
        assert {"step_time", "step_time_s"} <= trial.metrics.keys()
        assert "step_time_low" not in trial.metrics
        assert sum(s.steps * s.step_time_s for s in trial.measurement.stages) <= 1.5
        old = run.trials[trial.number].measurement
        assert trial.is_predicted == (trial.measurement.stages != old.stages)
    # Of the one that was not timed, not even the number of steps is known.
    [guess] = [c for c in found.ranking if not c.timed]
    assert guess.accuracy_deviation > 0


def test_a_command_tells_the_steps_without_images(parent: Run, tmp_path: Path) -> None:
    command = f"{shlex.quote(sys.executable)} -c print(0.5) {{arch_json}}"
    settings = RetargetSettings(
        run=parent.path, out=tmp_path / "board", workers=HERE, data="no such folder", timings=2,
        step_times=StepTimeConfig.of(command=command),
    )  # fmt: skip
    retarget(settings, RetargetObserver())
    for trial in load_run(tmp_path / "board").trials:
        assert trial.measurement.step_time_source == "command"
        stages = trial.measurement.stages
        batch_size = dict(trial.architecture.recipe)["batch_size"]
        assert stages[-1].step_time_s == pytest.approx(0.5 * int(batch_size) / 64)
        assert trial.is_predicted


def test_the_best_of_a_profile_are_planned_by_steps_that_are_measured(
    parent: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert time_finalists.__kwdefaults__ is not None
    monkeypatch.setitem(time_finalists.__kwdefaults__, "count", 1)
    here = hardware_id(describe_device(torch.device("cpu")))
    path = tmp_path / "here.json"
    path.write_text(profile_of(parent.space, hardware=here).to_json())
    out = tmp_path / "auto"
    settings = RetargetSettings(
        run=parent.path, out=out, workers=HERE, step_times=StepTimeConfig.of(profile=path)
    )
    retarget(settings, RetargetObserver())
    sources = []
    for trial in load_run(out).trials:
        assert trial.is_predicted
        sources.append(trial.measurement.step_time_source)
        told = (
            trial.metrics["step_time_s"] * int(dict(trial.architecture.recipe)["batch_size"]) / 64
        )
        is_told = trial.measurement.stages[-1].step_time_s == pytest.approx(told, rel=1e-9)
        assert is_told == (sources[-1] == "predicted")
    assert set(sources) == {"predicted", "measured"}
