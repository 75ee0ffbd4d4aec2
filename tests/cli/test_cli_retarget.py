"""A finished search with the step times of a table: what S is over, and what is counted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from command_line import Run

from effnas import load_run
from effnas.cli.folders import read_folder
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
