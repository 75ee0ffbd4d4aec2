"""Trackers: they show what was logged, resume with a training, and never end one."""

from __future__ import annotations

import json
import math
import os
import pty
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from effnas.errors import ConfigError, StoreError
from effnas.workflows.trackers import RUNS, TRACKERS, TrackedTraining, Tracker, open_trackers

SETTINGS = {"recipe": "v2", "epochs": 8, "learning_rate": 0.25, "ema": True, "limit": None}
# TensorBoard writes in a thread, and the full disk ends it.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
REASON = "needs pip install 'effnas[tracking]'"


@pytest.fixture(autouse=True)
def no_settings_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith(("MLFLOW_", "WANDB_")):
            monkeypatch.delenv(name)
    # Both are set by effnas, and are reset when the test ends.
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # no login there


def open_one(
    name: str, folder: Path, *, step: int = 0, notify: Callable[[str], None] = lambda text: None
) -> Tracker:
    folder.mkdir(exist_ok=True)
    training = TrackedTraining(
        folder=folder, run_name="first", settings=SETTINGS, step=step, notify=notify
    )
    (tracker,) = open_trackers([name], training)
    return tracker


def log_losses(tracker: Tracker, steps: range, factor: float = 1.0) -> None:
    for step in steps:
        tracker.log(step, {"train/loss": factor / step, "accuracy": math.nan})


def events(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder / "tensorboard"))
    found.Reload()
    return found


def scalars(folder: Path) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in events(folder).Scalars("train/loss")]


def test_tensorboard_has_what_was_logged_as_soon_as_it_was(tmp_path: Path) -> None:
    tracker = open_one("tensorboard", tmp_path)
    log_losses(tracker, range(1, 4))
    assert scalars(tmp_path) == [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))]
    tracker.close()
    assert events(tmp_path).Tags()["scalars"] == ["train/loss"]  # and nothing that is not finite
    (settings,) = events(tmp_path).Tensors("settings/text_summary")
    (text,) = settings.tensor_proto.string_val
    assert "| epochs | 8 |" in text.decode()


def test_tensorboard_deletes_figures_after_the_step_that_is_resumed_from(tmp_path: Path) -> None:
    log_losses(open_one("tensorboard", tmp_path), range(1, 9))  # killed: not closed
    tracker = open_one("tensorboard", tmp_path, step=4)
    assert [step for step, _ in scalars(tmp_path)] == [1, 2, 3, 4]
    log_losses(tracker, range(5, 7), factor=2.0)
    tracker.close()
    assert scalars(tmp_path) == [
        (step, pytest.approx((2 if step > 4 else 1) / step)) for step in range(1, 7)
    ]
    assert len(events(tmp_path).Tensors("settings/text_summary")) == 1


def test_a_full_disk_ends_the_tracker_and_not_the_training(tmp_path: Path) -> None:
    told: list[str] = []
    tracker = open_one("tensorboard", tmp_path, notify=told.append)
    (file,) = (tmp_path / "tensorboard").iterdir()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + 100, hard))
    try:
        log_losses(tracker, range(1, 20))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    tracker.close()
    (line,) = told
    assert line.startswith("tracker tensorboard fails and is left out: OSError:")


@pytest.mark.parametrize("name", TRACKERS)
def test_an_unknown_name_or_missing_package_is_told_before_anything_is_written(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=rf"'{name}s' is not known; did you mean '{name}'"):
        open_one(f"{name}s", tmp_path / "run")
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=r"pip install 'effnas\[tracking\]'") as raised:
        open_one(name, tmp_path / "run")
    assert "\n" not in str(raised.value)
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.parametrize("content", [b"[1]", b'{"wandb": "../x"}', b"\xff"])
def test_a_damaged_file_of_runs_is_refused_in_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / RUNS).write_bytes(content)
    with pytest.raises(StoreError, match=f"{RUNS}: cannot be read .*delete it") as raised:
        open_one("tensorboard", tmp_path)
    assert "\n" not in str(raised.value)


def test_mlflow_resumes_the_same_run_until_that_is_deleted(tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow", reason=REASON)
    folder = tmp_path / "a run"
    tracker = open_one("mlflow", folder)
    log_losses(tracker, range(1, 4))
    tracker.close(failed=True)
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    run = client.get_run(json.loads((folder / RUNS).read_text())["mlflow"])
    assert run.info.status == "FAILED"
    assert run.info.run_name == "first"
    assert run.data.params == {name: str(value) for name, value in SETTINGS.items()}
    assert run.data.metrics == {"train/loss": pytest.approx(1 / 3)}

    told: list[str] = []
    tracker = open_one("mlflow", folder, step=3, notify=told.append)
    log_losses(tracker, range(4, 6))
    (experiment,) = client.search_experiments(filter_string="name = 'effnas'")
    (same,) = client.search_runs([experiment.experiment_id])
    assert same.info.run_id == run.info.run_id
    assert same.info.status == "RUNNING"
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert [metric.step for metric in history] == [1, 2, 3, 4, 5]

    client.delete_run(run.info.run_id)
    log_losses(tracker, range(6, 9))
    tracker.close()
    (line,) = told
    assert line.startswith("tracker mlflow fails and is left out: MlflowException:")
    assert "\n" not in line
    open_one("mlflow", folder, step=8).close()
    (new,) = client.search_runs([experiment.experiment_id])
    assert new.info.run_id == json.loads((folder / RUNS).read_text())["mlflow"]
    assert new.info.status == "FINISHED"


def test_a_server_that_does_not_answer_is_an_error_before_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow", reason=REASON)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    with pytest.raises(ConfigError, match=r"mlflow cannot be opened .*refused") as raised:
        open_one("mlflow", tmp_path)
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


WANDB = """
import sys
from pathlib import Path
from effnas.workflows.trackers import TrackedTraining
from effnas.workflows.trackers import open_trackers
folder, told = Path(sys.argv[1]), []
for step in (0, 2):
    training = TrackedTraining(
        folder=folder, run_name="first", settings={"epochs": 8}, step=step, notify=told.append
    )
    (tracker,) = open_trackers(["wandb"], training)
    for later in range(step + 1, step + 4):
        tracker.log(later, {"train/loss": 1 / later, "accuracy": float("nan")})
    tracker.close(failed=step == 0)
(folder / "told").write_text("\\n".join(told))
"""


def test_wandb_without_a_login_asks_nothing_and_writes_files_of_one_run(tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason=REASON)
    theirs, ours = pty.openpty()  # a terminal, at which it could ask
    subprocess.run(
        [sys.executable, "-c", WANDB, str(tmp_path)],
        stdin=ours, stdout=ours, stderr=ours, timeout=120, check=True,
    )  # fmt: skip
    os.set_blocking(theirs, False)
    with pytest.raises(BlockingIOError):
        os.read(theirs, 1000)  # nothing was printed
    for end in (theirs, ours):
        os.close(end)
    run = json.loads((tmp_path / RUNS).read_text())["wandb"]
    files = list((tmp_path / "wandb").glob(f"offline-run-*-{run}/run-{run}.wandb"))
    assert len(files) == len(list((tmp_path / "wandb").glob("offline-run-*"))) == 2
    for file in files:
        content = file.read_bytes()
        assert b"train/loss" in content
        assert b"accuracy" not in content
    told = (tmp_path / "told").read_text()
    assert told.splitlines()[0] == (
        f"wandb: no login, so it writes to {tmp_path / 'wandb'}; `wandb sync` sends that"
    )
