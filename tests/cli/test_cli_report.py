"""`effnas report`: where it writes, and what `--json` says."""

from __future__ import annotations

import json
from pathlib import Path

from command_line import Run
from written_runs import write_run


def test_a_run_is_reported(effnas: Run) -> None:
    write_run(Path("run"))
    done = effnas("report", "run", "--tables", "tables", "--json")
    said = json.loads(done.out)
    assert done.code == 0
    assert said["title"] == "Trial 1 wins"
    assert Path("run/report.html").read_text().startswith("<!doctype html>")
    assert {f"{name}.csv" for name in said["tables"]} <= {p.name for p in Path("tables").iterdir()}


def test_several_runs_stand_side_by_side(effnas: Run) -> None:
    write_run(Path("first"))
    write_run(Path("second"))
    done = effnas("report", "first", "second")
    assert done.code == 0
    assert "2 searches" in done.out
    assert Path("report.html").exists()


def test_what_is_no_run_is_one_line(effnas: Run) -> None:
    Path("empty").mkdir()
    done = effnas("report", "empty")
    assert done.code == 2
    assert "nothing that effnas wrote" in done.err
    assert not Path("empty/report.html").exists()
