"""What searches have cost: one count for the terminal, the list of folders, and the report."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from effnas import load_run
from effnas.cli.folders import read_folder
from effnas.cli.status import summarize
from effnas.report.statements import costs
from effnas.trials.work_time import WorkTime

RUN = Path(__file__).parents[1] / "golden" / "folders" / "run"


def test_a_search_costs_the_same_wherever_that_is_said(tmp_path: Path) -> None:
    shutil.copytree(RUN, tmp_path / "run")
    rows = [
        {"baseline": name, "network": "resnet18", "repeat": n, "metrics": {}, "duration_s": 2.5}
        for name, seeds in (("reference", 3), ("resnet18", 1))
        for n in range(seeds)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "run" / "baselines.jsonl").write_text(text)
    run = load_run(tmp_path / "run")
    assert run.work.baselines_s == 10.0
    assert run.work.trials_s == pytest.approx(sum(t.duration_s or 0.0 for t in run.trials))
    total = run.work.total_s
    assert sum(cost.seconds for cost in costs(run)) == pytest.approx(total)
    assert read_folder(run.path).cost_s == pytest.approx(total)
    assert summarize(run)["cost_s"] == pytest.approx(total)


def test_what_is_left_takes_as_long_as_what_has_ended() -> None:
    trials = load_run(RUN).trials
    work = WorkTime.of(trials, (), len(trials) + 2)
    assert work.left_s == pytest.approx(2 * work.trials_s / len(trials))
    assert WorkTime.of((), (), 5).left_s is None
    assert WorkTime.of(trials, (), 0).left_s == 0
