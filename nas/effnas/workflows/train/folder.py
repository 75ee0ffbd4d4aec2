"""The folder of a training: what it was made with, its log, its state, and its weights."""

from __future__ import annotations

import csv
import hashlib
import io
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from effnas.config.settings import Execution
from effnas.errors import StoreError
from effnas.train.progress import EpochRow, Progress
from effnas.trials.store import (
    MANIFEST,
    Json,
    RunFolder,
    read_manifest,
    write_whole,
)
from effnas.workflows.train.forecast import Forecast
from effnas.workflows.train.settings import TrainingPlan, TrainSettings

if TYPE_CHECKING:
    from effnas.data.train_images import TrainImages

T = TypeVar("T")

KIND = "training"
LOG = "log.csv"
#: The state of a training that has not come to its end.
CHECKPOINT = "checkpoint.safetensors"
#: Weights of the epoch of the highest accuracy, and of the last one.
BEST, LAST = "best.safetensors", "last.safetensors"
#: What must be the same for a training to go on.
_SAME = ("network", "recipe", "seed", "weights", "new_head", "data")
#: What tells data from others; the manifest says more of them.
_SAME_DATA = ("fingerprint", "minival_fingerprint")


class TrainingFolder(RunFolder):
    """The folder, locked against other commands."""

    records_name = LOG

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open it as `RunFolder.open` does; a folder of something else is left as it is.

        Raises:
            StoreError: Also if its manifest cannot be read, or is of something else.
        """
        stored_manifest(path)
        return super().open(path)


def describe(settings: TrainSettings, plan: TrainingPlan, images: TrainImages) -> dict[str, Json]:
    """Return the manifest of a training.

    Args:
        settings: What the user asked for.
        plan: What was settled.
        images: Tell which data they are.
    """
    arch = plan.arch
    network: dict[str, Json] = {"name": settings.network} if arch is None else {
        "architecture": str(arch), "architecture_id": arch.id, "stem": arch.stem, "head": arch.head
    }  # fmt: skip
    name = settings.data
    return {
        "kind": KIND,
        "effnas": version("effnas"),
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "network": network,
        "params": plan.params,
        "recipe": plan.recipe.to_dict(),
        "seed": settings.seed,
        "weights": digest(settings.weights) if settings.weights else None,
        "new_head": settings.new_head,
        "data": {
            "name": Path(name).name if Path(name).is_absolute() else name,
            "fingerprint": images.train.fingerprint,
            "minival_fingerprint": images.minival.fingerprint if images.minival else None,
            "streamed": images.are_streamed,
            "images": plan.images,
            "minival": plan.minival,
            "class_names": list(plan.classes),
            "skipped": list(plan.skipped),
        },
        "eval_image_size": plan.eval_image_size,
        "stages": [cast("Json", asdict(stage)) for stage in plan.stages],
        "parts": list(plan.micro_batches),
        "workers": plan.workers,
        "execution": cast("Json", asdict(plan.execution)),
        "hardware": plan.hardware,
        "forecast": cast("Json", asdict(plan.forecast)),
    }


def digest(file: Path) -> str:
    """Return 16 hex digits that differ when a file does."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()[:16]


def stored_manifest(folder: Path) -> dict[str, Json] | None:
    """Return the manifest of a training; None if there is none yet.

    Raises:
        StoreError: If it cannot be read, or is of something else.
    """
    if not (folder / MANIFEST).exists():
        return None
    manifest = read_manifest(folder)
    if manifest.get("kind") != KIND:
        raise StoreError(f"{folder}: the folder holds no training; choose another `out`")
    return manifest


def check_same(folder: Path, stored: Mapping[str, Json], manifest: Mapping[str, Json]) -> None:
    """See that a training may go on.

    Raises:
        StoreError: If it was begun with something else; names what.
    """
    for name in _SAME:
        mine, other = manifest[name], stored.get(name)
        if isinstance(mine, dict) and isinstance(other, dict):
            keys = _SAME_DATA if name == "data" else mine
            inner = [key for key in keys if mine[key] != other.get(key)]
            differing = f"{name} ({', '.join(inner)})" if inner else ""
        else:
            differing = name if mine != other else ""
        if differing:
            raise StoreError(
                f"{folder}: this training was begun with another {differing}. Give the same again "
                "to go on with it, or choose another `out`"
            )


def write_log(folder: Path, rows: Sequence[EpochRow]) -> None:
    """Write `log.csv`: a row for each epoch; what is unknown is empty.

    Raises:
        StoreError: If it cannot be written.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, [f.name for f in fields(EpochRow)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    write_whole(folder / LOG, text.getvalue().removesuffix("\n"))


def is_streamed(manifest: Mapping[str, Json]) -> bool:
    """Whether the images of the training are decoded in every epoch."""
    data = manifest.get("data")
    return isinstance(data, dict) and data.get("streamed") is True


def stored_execution(manifest: Mapping[str, Json]) -> Execution:
    """Return how the training has been run.

    Raises:
        StoreError: If the manifest does not say.
    """
    return read_part(lambda found: Execution(**found), manifest, "execution")


def stored_forecast(manifest: Mapping[str, Json]) -> Forecast:
    """Return the forecast of the training.

    Raises:
        StoreError: If the manifest holds none.
    """
    return read_part(Forecast.from_dict, manifest, "forecast")


def stored_progress(manifest: Mapping[str, Json]) -> Progress | None:
    """Return how a training that has come to its end went; None if it has not.

    Raises:
        StoreError: If that cannot be read.
    """
    if manifest.get("progress") is None:
        return None
    return read_part(Progress.from_dict, manifest, "progress")


def read_part(make: Callable[[dict[str, Any]], T], manifest: Mapping[str, Json], name: str) -> T:
    """Return what is made of a part of the manifest.

    Raises:
        StoreError: If it is not there, or nothing can be made of it.
    """
    try:
        return make(cast("dict[str, Any]", manifest[name]))
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"the manifest's {name} cannot be used ({error}); restore it from a copy, or choose "
            "another `out`"
        ) from error
