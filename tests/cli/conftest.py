"""What the tests of commands share: running one in this process, and runs that are finished."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from command_line import Result, Run
from written_runs import write_run

from effnas.cli.app import main


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings run in this process: how Ray runs them is the subject of other tests."""
    from effnas.evaluation.workers import Workers

    defaults = Workers.__init__.__kwdefaults__
    assert "backend" in defaults
    monkeypatch.setitem(defaults, "backend", "inline")


@pytest.fixture
def effnas(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Run:
    """Runs `effnas ARGUMENTS` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)

    def run(*arguments: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["effnas", *arguments])
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0
        return Result(code, *capfd.readouterr())

    return run


@pytest.fixture
def finished_run(tmp_path: Path) -> Path:
    """Folder `run` of a finished search."""
    write_run(tmp_path / "run")
    return tmp_path / "run"
