"""What the tests of commands share: running one in this process, and runs that are finished."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from command_line import SMALL, Result, Run

from effnas import Architecture, Measurement, SearchSpace, Trial, TrialState
from effnas.cli.app import main
from effnas.config.settings import Execution, Recipe
from effnas.trials.manifest import DataPart, RewardPart, SearchManifest, SourcedSpacePart
from effnas.trials.store import RunFolder


@pytest.fixture
def short_timings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Timings end with their fewest rounds, however uncertain they are, and use few images."""
    from effnas.timing import execution
    from effnas.timing.networks import MeasuredStepTimes

    monkeypatch.setattr(execution, "_LONGEST_STEP_S", 0.0)
    monkeypatch.setattr(execution, "_REPEAT_S", 0.0)
    defaults = MeasuredStepTimes.__init__.__kwdefaults__
    assert "time_limit_s" in defaults
    monkeypatch.setitem(defaults, "time_limit_s", 0.0)


@pytest.fixture
def effnas(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Run:
    """Runs `effnas ARGUMENTS` in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["effnas", *arguments])
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0
        return Result(code, *capfd.readouterr())

    return run


def write_run(path: Path, state: TrialState = TrialState.COMPLETE) -> None:
    """Write a finished search on the digits, of two small networks."""
    space = SearchSpace.load(SMALL).with_target(num_classes=10)
    manifest = SearchManifest(
        created="2026-01-01T00:00:00Z",
        space=SourcedSpacePart.of(space),
        reward=RewardPart(name="v2", kind="expression", text="A * S^-0.07 * P^-0.05"),
        data=DataPart(name="digits", path="digits"),
        recipe=Recipe(epochs=1, image_size=16, batch_size=32, flip=False),
        execution=Execution(),
    )
    done = state is TrialState.COMPLETE
    with RunFolder.open(path) as folder:
        manifest.write(path)
        for n, first in enumerate(("fused_r1_k3_s2_e1_c8", "mbconv_r1_k3_s2_e1_c8_se0.25")):
            blocks = f"{first} fused_r1_k3_s2_e1_c16"
            arch = Architecture.parse(blocks, stem=space.stem, head=space.head)
            accuracy = 0.5 + n / 10
            metrics = {"accuracy": accuracy, "step_time": 1.0, "params_ratio": 1.0, "params": 1e4}
            trial = Trial(
                number=n,
                architecture=arch,
                state=state,
                measurement=Measurement(metrics=metrics if done else {}),
                reward=accuracy if done else None,
                reason=None if done else "none fits",
            )
            folder.append(trial, durable=True)


@pytest.fixture
def finished_run(tmp_path: Path) -> Path:
    """Folder `run` of a finished search."""
    write_run(tmp_path / "run")
    return tmp_path / "run"
