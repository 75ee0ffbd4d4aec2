"""A finished search with the step times of a table: what S is over, and what is counted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from command_line import Run
from written_runs import write_run

from effnas import load_run
from effnas.cli.folders import read_folder
from effnas.export.figures import _of_trial
from effnas.trials.step_unit import StepUnit

#: Each retargets a run, which takes a little longer.
pytestmark = pytest.mark.slow

GOLDEN = Path(__file__).parents[1] / "golden" / "folders"
LEFT_OUT = 1


@pytest.fixture(params=StepUnit)
def unit(request: pytest.FixtureRequest, effnas: Run) -> StepUnit:
    """What S is over after retargeting to a table of all trials but one."""
    shutil.copytree(GOLDEN / "run", "run")
    run, found = load_run("run"), StepUnit(request.param)
    networks = [t.architecture for t in run.trials if t.number != LEFT_OUT]
    if found is StepUnit.REFERENCE:
        networks.append(run.space.reference)
    rows = (f"{arch},{0.01 * (2 + n)}\n" for n, arch in enumerate(networks))
    Path("board.csv").write_text(f"architecture,step_time_s\n{''.join(rows)}")
    return found


def test_every_line_says_the_same_of_what_s_is_over(effnas: Run, unit: StepUnit) -> None:
    done = effnas("retarget", "run", "--step-times", "board.csv")
    assert done.code == 0, done.err
    moved = load_run("run-board")
    assert moved.step_unit is unit
    other = next(each for each in StepUnit if each is not unit)
    status = effnas("status", "run-board").out
    assert f"S: over {unit.value} step; step: S times {unit.value} " in status
    assert f"{other.value} step" not in status
    is_reference = unit is StepUnit.REFERENCE
    # Neither S nor rewards are put beside those of another unit.
    assert ("old S" in done.out) == is_reference
    assert ("old reward" in done.out) == is_reference
    assert (" here: S " in done.out) == is_reference
    assert ("ranks do" in done.out) != is_reference


def test_trials_without_a_step_time_are_not_counted(effnas: Run, unit: StepUnit) -> None:
    command = ["retarget", "run", "--step-times", "board.csv"]
    found = json.loads(effnas(*command, "--json").out)
    whole = len(load_run("run").trials)
    state = read_folder(Path("run-board"))
    assert found["cost"]["timings"] == len(found["candidates"]) == state.done == whole - 1
    assert (state.state, state.total, unit) == ("finished", whole, load_run("run-board").step_unit)
    assert f"step times of {whole - 1} of {whole} trials" in effnas("resume", "run-board").out
    assert "budget" not in effnas("status", "run-board").out
    # What was stopped before its end is not finished, though all of its trials are.
    stored = json.loads(Path("run-board/manifest.json").read_text())
    del stored["finished"]
    Path("run-board/manifest.json").write_text(json.dumps(stored))
    assert read_folder(Path("run-board")).state == "unfinished"
    assert effnas(*command).code == 0
    assert read_folder(Path("run-board")).state == "finished"


@pytest.fixture
def timed(tmp_path: Path) -> Path:
    """Folder `timed` of a finished search of equal training time, and `fast.csv` and `same.csv`."""
    write_run(tmp_path / "timed")
    file = tmp_path / "timed" / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["recipe"]["train_time_s"] = 60.0
    manifest["data"] |= {"train_images": 1_000, "holdout_images": 400}
    manifest["reward"] = {"name": "accuracy", "kind": "expression", "text": "accuracy"}
    file.write_text(json.dumps(manifest))
    trials = tmp_path / "timed" / "trials.jsonl"
    lines = [json.loads(line) for line in trials.read_text().splitlines()]
    for line in lines:
        accuracy = line["metrics"]["accuracy"]
        line["stages"] = [{"image_size": 16, "steps": 60, "step_time_s": 1.0}]
        line["curve"] = [[15, accuracy - 0.3], [30, accuracy - 0.1], [60, accuracy]]
        line["fidelity"] = "60 s on 1000 images at 16 px"
    trials.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    run = load_run(tmp_path / "timed")
    # Seconds of a step of the target's batch; those of trainings are in proportion.
    factor = run.space.target.batch_size / 32
    for name, seconds in (("fast", 0.4), ("same", 1.0)):
        networks = [run.space.reference, *(t.architecture for t in run.trials)]
        rows = "".join(f"{arch},{seconds * factor}\n" for arch in dict.fromkeys(networks))
        (tmp_path / f"{name}.csv").write_text(f"architecture,step_time_s\n{rows}")
    return tmp_path / "timed"


@pytest.mark.usefixtures("timed")
def test_all_that_shows_a_predicted_accuracy_says_so(
    effnas: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    done = effnas("retarget", "timed", "--step-times", "fast.csv")
    assert done.code == 0, done.err
    assert "A and P are as in" not in done.out
    assert "from learning curves\nfor 2 of 2 networks, ±" in done.out
    assert "`--budget 5` trains\nthose that may win" in done.out
    assert all(len(line) <= 80 for line in done.out.splitlines())
    moved = load_run("timed-fast")
    best = moved.best
    assert best is not None
    accuracy = f"~{best.metrics['accuracy']:.4f}"
    for command in (["status", "timed-fast"], ["rescore", "timed-fast", "--reward", "v2"]):
        shown = effnas(*command)
        assert accuracy in shown.out, command
        assert "~ accuracy: predicted" in shown.out
        assert all(len(line) <= 80 for line in shown.out.splitlines())
    assert "predicted for 150 steps from 60" in effnas("status", "timed-fast").out
    rows = json.loads(effnas("status", "timed-fast", "--json").out)["trials"]
    assert all(row["accuracy_deviation"] > 0 for row in rows)
    report = json.loads(effnas("report", "timed-fast", "--json").out)
    assert f"Trial {best.number} is predicted best" in report["title"]
    answers = {section["name"]: section for section in report["sections"]}
    assert "% predicted accuracy" in answers["best"]["answer"]
    assert "predicted from learning curves for 2 of 2" in answers["better"]["sure"]
    assert all(row["accuracy_predicted"] for row in report["tables"]["ranking"])
    [figure] = [each for each in _of_trial(moved, best) if each.name == "accuracy in the search"]
    assert figure.how == "predicted"


@pytest.mark.usefixtures("timed")
def test_where_as_many_steps_fit_nothing_is_a_prediction(effnas: Run) -> None:
    done = effnas("retarget", "timed", "--step-times", "same.csv")
    assert done.code == 0, done.err
    assert "no accuracy is a prediction" in done.out
    assert "~" not in done.out
    status = effnas("status", "timed-same").out
    assert "~ accuracy" not in status
    assert "learning curves" not in status
