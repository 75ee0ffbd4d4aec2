"""The manifest: what a run was made with, and whether it may go on."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import cast

from effnas.config.catalog import Source
from effnas.config.settings import EvaluationConfig
from effnas.errors import StoreError
from effnas.space.search_space import SearchSpace
from effnas.trials.objectives import Objectives
from effnas.trials.reward import Reward
from effnas.trials.store import Json
from effnas.trials.worker_info import WorkerInfo

_Readers = Mapping[str, Callable[[Mapping[str, Json]], Json]]

#: What must be the same for a run to go on, since trials would not compare: what the user chooses,
#: and what is known once the data and the device are there.
_CHOSEN: _Readers = {
    "controller": lambda m: m.get("controller"),
    "objectives": lambda m: m.get("objectives"),
    "seed": lambda m: m.get("seed"),
    "constraints": lambda m: list[Json](sorted(constraints_of(m))),
    "fidelity": lambda m: m.get("rungs"),
}
_FOUND: _Readers = {
    "space (or its target)": lambda m: _inside(m, "space", "id"),
    "data": lambda m: _inside(m, "data", "fingerprint"),
    "hardware": lambda m: m.get("hardware"),
    "finished run": lambda m: _inside(m, "parent", "created"),
    "step times": lambda m: m.get("step_times", "measured"),
}


def choices(
    *,
    controller: str,
    objectives: Objectives | None,
    seed: int,
    constraints: Sequence[str],
    rungs: Sequence[int] | None,
) -> dict[str, Json]:
    """Return the part of a manifest that is known before anything slow is started."""
    return {
        "seed": seed,
        "controller": controller,
        "objectives": str(objectives) if objectives else None,
        "constraints": list(constraints),
        "rungs": list(rungs) if rungs else None,
    }


def describe(
    *,
    source: Source,
    space: SearchSpace,
    reward: Reward,
    chosen: Mapping[str, Json],
    budget: int,
    data: str,
    config: EvaluationConfig,
    prepared: WorkerInfo,
) -> dict[str, Json]:
    """Return the manifest of a run that is about to start."""
    reference = space.count(space.reference)
    return {
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "budget": budget,
        **chosen,
        "space": {
            "name": space.name,
            "path": str(source.path),
            "file_sha256": source.digest,
            "id": space.id,
            "text": space.to_text(),
        },
        "reward": {"name": reward.name, "kind": reward.kind, "text": reward.text},
        "reference": {
            "architecture": str(space.reference),
            "params": reference.params,
            "macs": reference.macs,
            "activations": reference.activations,
        },
        "data": {
            "name": data,
            "path": config.data,
            "root": config.data_root,
            "on_bad_image": config.on_bad_image,
            "classes": prepared.num_classes,
            "class_names": list(prepared.class_names),
            "train_images": prepared.train_images,
            "holdout_images": prepared.holdout_images,
            "fingerprint": prepared.data_fingerprint,
            "skipped_images": list(prepared.skipped_images),
            "mirrored": prepared.mirrored,
        },
        "recipe": cast("dict[str, Json]", prepared.recipe.to_dict()),
        "execution": cast("dict[str, Json]", asdict(prepared.execution)),
        "timing_batch_size": prepared.timing_batch_size,
        "hardware": prepared.hardware,
        "step_times": prepared.step_times,
        "device": cast("dict[str, Json]", dict(prepared.device)),
        "versions": versions(),
    }


def constraints_of(manifest: Mapping[str, Json]) -> list[str]:
    """Return the constraints of a run, beside those of its space."""
    return cast("list[str]", manifest.get("constraints", []))


def versions() -> dict[str, Json]:
    """Return the versions of Python and of the packages that figures may depend on."""
    names = ("effnas", "torch", "timm", "ray", "optuna", "numpy", "scipy")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def check_same_choices(path: Path, stored: Mapping[str, Json], chosen: Mapping[str, Json]) -> None:
    """Refuse to go on with a run under other choices, before anything slow is started.

    Raises:
        StoreError: If any of the `choices` differs; names all that do.
    """
    _refuse(path, _differing(_CHOSEN, stored, chosen))


def check_same_run(path: Path, stored: Mapping[str, Json], manifest: Mapping[str, Json]) -> None:
    """Refuse to mix trials that do not compare.

    Raises:
        StoreError: If anything but the reward and the budget differs; names all that does.
    """
    differing = _differing({**_CHOSEN, **_FOUND}, stored, manifest)
    for name, now in cast("dict[str, Json]", manifest["recipe"]).items():
        before = _inside(stored, "recipe", name)
        if before != now:
            differing.append(f"{name.replace('_', '-')} (was {before}, is {now})")
    _refuse(path, differing)


def _differing(
    readers: _Readers, stored: Mapping[str, Json], manifest: Mapping[str, Json]
) -> list[str]:
    values = {what: (read(stored), read(manifest)) for what, read in readers.items()}
    return [f"{what} (was {a}, is {b})" for what, (a, b) in values.items() if a != b]


def _refuse(path: Path, differing: Sequence[str]) -> None:
    if differing:
        raise StoreError(
            f"{path}: this run was begun with other settings: {'; '.join(differing)}. Give those "
            "again to go on with it, or choose another `out`"
        )


def _inside(manifest: Mapping[str, Json], part: str, key: str) -> Json:
    inner = manifest.get(part)
    return inner.get(key) if isinstance(inner, dict) else None
