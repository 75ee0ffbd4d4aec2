"""Trackers: TensorBoard, MLflow and Weights & Biases show a training's figures beside its own CSV.

A tracker that cannot be opened is an error before anything is trained; one that fails later is left
out, and the training continues.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from effnas.config.plugins import describe
from effnas.errors import ConfigError, StoreError, closest
from effnas.trials.store import write_whole
from effnas.workflows.trackers.base import TrackedTraining, Tracker
from effnas.workflows.trackers.mlflow import MLflow
from effnas.workflows.trackers.tensorboard import TensorBoard
from effnas.workflows.trackers.wandb import WandB

_OPEN: dict[str, Callable[[TrackedTraining], Tracker]] = {
    "tensorboard": TensorBoard.open,
    "mlflow": MLflow.open,
    "wandb": WandB.open,
}
#: Known trackers; each has the name of its package.
TRACKERS = tuple(_OPEN)
#: File of the ids of a training's runs, by tracker, in its folder; it is resumed in the same ones.
RUNS = "trackers.json"

_RUN_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LARGEST_FILE = 4096  # bytes; ours has 100


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
