"""Trackers: TensorBoard, MLflow and Weights & Biases show a training's figures beside its own CSV.

A tracker that cannot be opened is an error before anything is trained; one that fails later is left
out, and the training continues.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from effnas.config.plugins import describe
from effnas.errors import ConfigError, StoreError, closest
from effnas.trials.store import write_whole

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient
    from torch.utils.tensorboard import SummaryWriter
    from wandb import Run

#: MLflow experiment and W&B project, unless the user's environment names another.
PROJECT = "effnas"

#: A setting of a training, as trackers show it.
Setting = str | int | float | bool | None
#: File of the ids of a training's runs, by tracker, in its folder; it is resumed in the same ones.
RUNS = "trackers.json"

_RUN_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LARGEST_FILE = 4096  # bytes; ours has 100
_PARAMS = 100  # that MLflow takes in one request
_FINISH_S = 60.0  # for the last uploads of W&B; what is not sent by then stays on disk
_OFF = ("offline", "dryrun", "disabled")


class Tracker(Protocol):
    """Stores the figures of one training."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Write values of a step, by name; those that are not finite are left out."""
        ...

    def close(self, *, failed: bool = False) -> None:
        """Write the rest, and whether the training failed."""
        ...


@dataclass(frozen=True, kw_only=True)
class TrackedTraining:
    """The training that a tracker is opened for.

    Attributes:
        folder: Its folder, which exists.
        run_name: Shown to people.
        settings: Shown beside its figures.
        step: The last step whose figures are valid, 0 at the start. TensorBoard deletes those of
            later steps; MLflow and W&B cannot, and receive them a second time.
        notify: Receives where W&B writes, and once for each tracker that it fails.
        runs: Ids of its runs, by tracker; a tracker that starts one adds it.
    """

    folder: Path
    run_name: str
    settings: Mapping[str, Setting]
    step: int
    notify: Callable[[str], None]
    runs: dict[str, str] = field(default_factory=dict)


class _TensorBoard:
    """Writes event files in the training's folder, after each step."""

    def __init__(self, writer: SummaryWriter) -> None:
        self._writer = writer

    @classmethod
    def open(cls, training: TrackedTraining) -> _TensorBoard:
        """Start a further file of events, which deletes those of later steps in the others."""
        from torch.utils.tensorboard import SummaryWriter

        folder = training.folder / "tensorboard"
        is_new = not folder.exists()
        first_void = training.step + 1 if training.step else 0
        writer = SummaryWriter(folder, purge_step=first_void)
        if is_new:
            rows = (f"| {name} | {value} |" for name, value in training.settings.items())
            table = "\n".join(["| setting | value |", "| --- | --- |", *rows])
            writer.add_text("settings", table, 0)
        writer.flush()
        return cls(writer)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self, *, failed: bool = False) -> None:
        self._writer.close()


class _MLflow:
    """Writes to the user's server, or a database in the training's folder: a request a step."""

    def __init__(self, client: MlflowClient, run: str) -> None:
        self._client = client
        self._run = run

    @classmethod
    def open(cls, training: TrackedTraining) -> _MLflow:
        """Resume a run, if the server knows it, else start one."""
        # By default, MLflow and the training wait four minutes for a server that is gone.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.WARNING)  # else it reports every table
        # MLflow 3 refuses folders of plain files.
        local = f"sqlite:///{training.folder.resolve() / 'mlflow.db'}"
        client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or local)
        run = training.runs.get("mlflow")
        if run and _is_known(client, run):
            client.update_run(run, status="RUNNING")
            return cls(client, run)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT
        found = client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else client.create_experiment(name)
        run = str(client.create_run(experiment, run_name=training.run_name).info.run_id)
        params = [Param(name, str(value)) for name, value in training.settings.items()]
        for start in range(0, len(params), _PARAMS):
            client.log_batch(run, params=params[start : start + _PARAMS])
        training.runs["mlflow"] = run
        return cls(client, run)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(name, value, now, step) for name, value in values.items()]
        self._client.log_batch(self._run, metrics=metrics)

    def close(self, *, failed: bool = False) -> None:
        self._client.set_terminated(self._run, "FAILED" if failed else "FINISHED")


def _is_known(client: MlflowClient, run: str) -> bool:
    """Return whether the server has a run: another server has not, or one that was emptied."""
    from mlflow.exceptions import MlflowException

    try:
        return bool(client.get_run(run).info.lifecycle_stage == "active")
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise


class _WandB:
    """Writes to W&B's own process, which uploads it when it can."""

    def __init__(self, run: Run) -> None:
        self._run = run

    @classmethod
    def open(cls, training: TrackedTraining) -> _WandB:
        """Resume a run, or start one; without a login it is on disk only, and nothing is asked."""
        import wandb

        # Silent and away from the terminal, which belongs to the progress bar.
        ours = wandb.Settings(
            silent=True, console="off", finish_timeout=_FINISH_S, finish_timeout_raises=True
        )
        mode = wandb.setup(ours).settings.mode
        if mode not in _OFF and not wandb.login(prompt=False, verify=False):
            mode = "offline"
            files = training.folder / "wandb"
            training.notify(f"wandb: no login, so it writes to {files}; `wandb sync` sends that")
        known = training.runs.get("wandb")
        run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            name=training.run_name,
            id=known,
            resume="allow" if known else None,
            config=dict(training.settings),
            dir=training.folder,
            mode=mode,
            reinit="create_new",
            settings=ours,
        )
        run.define_metric("*", step_metric="step")
        if run.url:
            training.notify(f"wandb: {run.url}")
        training.runs["wandb"] = run.id
        return cls(run)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        # W&B's own step never goes back, and values logged again would be lost.
        self._run.log({"step": step, **values})

    def close(self, *, failed: bool = False) -> None:
        self._run.finish(exit_code=int(failed))


_OPEN: dict[str, Callable[[TrackedTraining], Tracker]] = {
    "tensorboard": _TensorBoard.open,
    "mlflow": _MLflow.open,
    "wandb": _WandB.open,
}
#: Known trackers; each has the name of its package.
TRACKERS = tuple(_OPEN)


def open_trackers(names: Sequence[str], training: TrackedTraining) -> list[Tracker]:
    """Open trackers for a training that starts or is resumed; the same folder means the same runs.

    Args:
        names: Some of `TRACKERS`.
        training: Its `runs` are read from its folder.

    Returns:
        One tracker per name. Their methods raise no errors of the packages.

    Raises:
        ConfigError: If a name is unknown, its package is missing, or it cannot be opened.
        StoreError: If the ids of the runs cannot be read or written.
    """
    names = tuple(dict.fromkeys(names))
    for name in names:
        if name not in TRACKERS:
            raise ConfigError(f"tracker {name!r} is not known; {closest(name, TRACKERS)}")
        if find_spec(name) is None:
            raise ConfigError(
                f"tracker {name} needs a package that is not installed: "
                "pip install 'effnas[tracking]', or leave the tracker out"
            )
    training.runs.update(_read_runs(training.folder / RUNS))
    opened: list[Tracker] = []
    try:
        for name in names:
            tracker = _open(name, training)
            opened.append(_Guarded(name, tracker, training.notify))
        if training.runs:
            write_whole(training.folder / RUNS, json.dumps(training.runs))
    except BaseException:
        for tracker in opened:
            tracker.close(failed=True)
        raise
    return opened


def _open(name: str, training: TrackedTraining) -> Tracker:
    try:
        return _OPEN[name](training)
    except Exception as error:
        raise ConfigError(
            f"tracker {name} cannot be opened ({describe(error)}); fix that, or leave it out"
        ) from error


def _read_runs(file: Path) -> dict[str, str]:
    try:
        with file.open("rb") as content:
            runs = json.loads(content.read(_LARGEST_FILE))
        if not isinstance(runs, dict):
            raise ValueError("it is no mapping")
        if not all(_RUN_ID.fullmatch(run) for run in runs.values()):
            raise ValueError("a value is no id")
        return runs
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError) as error:
        raise StoreError(
            f"{file}: cannot be read ({error}); restore it from a copy, or delete it: new runs are "
            "then started"
        ) from error


class _Guarded:
    """Protects the training from a tracker's failures: it is left out after the first one."""

    def __init__(self, name: str, tracker: Tracker, notify: Callable[[str], None]) -> None:
        self._name = name
        self._tracker: Tracker | None = tracker
        self._notify = notify

    def log(self, step: int, values: Mapping[str, float]) -> None:
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        if self._tracker and finite:
            tracker = self._tracker
            self._try(lambda: tracker.log(step, finite))

    def close(self, *, failed: bool = False) -> None:
        tracker, self._tracker = self._tracker, None
        if tracker:
            self._try(lambda: tracker.close(failed=failed))

    def _try(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:  # noqa: BLE001  # the training continues in any case
            self._tracker = None
            self._notify(f"tracker {self._name} fails and is left out: {describe(error)}")
