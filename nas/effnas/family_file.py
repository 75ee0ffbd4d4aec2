"""A member of a family, as the folder that `effnas scale --out` wrote tells it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from effnas.architecture import Architecture
from effnas.architecture.files import read_text
from effnas.errors import ConfigError, UserError
from effnas.scaling import STRENGTHS
from effnas.sizing import FORMAT, KIND

_MOST_BYTES = 10_000_000
#: Figures that a family may lack.
_COSTS = (
    "step_time",
    "step_time_s",
    "train_time_s",
    "progressive_train_time_s",
    "peak_memory_bytes",
)


@dataclass(frozen=True, kw_only=True)
class Member:
    """What a family says of one of its members.

    Attributes:
        name: Within the family.
        family: Name of the rules that it grew by.
        base: What it grew from, as the user of `effnas scale` named it.
        image_size: Pixels at inference.
        train_image_size: Pixels at the end of training.
        first_image_size: Pixels at the start of a training with growing images.
        batch_size: Images in a step.
        num_classes: Outputs that its costs were found with.
        epochs: Of the trainings whose time is told.
        images: Of their data.
        hardware: What its layers were timed on; None if they were not.
        costs: Predicted, by the names of `effnas.member_costs.SizedMember`.
        strengths: Of the regularisation, at the start and at the end of a training.
    """

    name: str
    family: str
    base: str
    image_size: int
    train_image_size: int
    first_image_size: int
    batch_size: int
    num_classes: int
    epochs: int
    images: int
    hardware: str | None
    costs: Mapping[str, float]
    strengths: Mapping[str, tuple[float, float]]


def find_member(file: Path, arch: Architecture) -> Member | None:
    """Return what the `family.json` beside an architecture file says of it.

    Returns:
        None if there is no such file, or the family has no member of that name.

    Raises:
        ConfigError: If it cannot be read, or tells of another network.
    """
    family = file.with_name("family.json")
    if not family.is_file():
        return None
    try:
        return _parse(read_text(family, most_bytes=_MOST_BYTES), file.stem, arch)
    except UserError as error:
        raise ConfigError(f"{family}: {error}") from None


def _parse(text: str, name: str, arch: Architecture) -> Member | None:
    try:
        content = json.loads(text)
    except (RecursionError, ValueError) as error:
        raise UserError(f"not valid JSON ({error})") from None
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise UserError(f"not a family that `effnas scale` wrote; move {name}.json elsewhere")
    if content.get("format") != FORMAT:
        found = str(content.get("format"))[:40]
        raise UserError(f"format {found} is not known to this version, which reads {FORMAT}")
    rows = content.get("members")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UserError("members: a list of objects is needed")
    row = next((row for row in rows if row.get("name") == name), None)
    if row is None:
        return None
    if row.get("architecture_id") != arch.id:
        raise UserError(
            f"its member {name} is another network than {name}.json; move that file elsewhere, or "
            "run `effnas scale` again"
        )
    hardware = content.get("hardware")
    if hardware is not None and not isinstance(hardware, str):
        raise UserError("hardware: a text is needed")
    return Member(
        name=name,
        family=str(content.get("family")),
        base=str(content.get("base")),
        image_size=_whole(row, "image_size"),
        train_image_size=_whole(row, "train_image_size"),
        first_image_size=_first_size(row),
        batch_size=_whole(content, "batch_size"),
        num_classes=_whole(content, "num_classes"),
        epochs=_whole(content, "epochs"),
        images=_whole(content, "images"),
        hardware=hardware,
        costs={cost: _number(row[cost], cost) for cost in _COSTS if cost in row},
        strengths={strength: _ramp(row, strength) for strength in STRENGTHS},
    )


def _whole(content: Mapping[str, Any], key: str) -> int:
    value = content.get(key)
    if type(value) is not int or value < 1:
        raise UserError(f"{key} is {str(value)[:40]}, it must be 1 or more")
    return value


def _first_size(row: Mapping[str, Any]) -> int:
    last = _whole(row, "train_image_size")
    sizes = row.get("stage_image_sizes", [last])
    if not isinstance(sizes, list) or not sizes:
        raise UserError("stage_image_sizes: a list of sizes is needed")
    first = _whole({"stage_image_sizes": sizes[0]}, "stage_image_sizes")
    if first > last:
        raise UserError(f"stage_image_sizes begins with {first}, above train_image_size {last}")
    return first


def _number(value: object, key: str) -> float:
    if type(value) not in (int, float) or not isfinite(value) or value < 0:  # type: ignore[arg-type, operator]
        raise UserError(f"{key} is {str(value)[:40]}, it must be 0 or more")
    return float(value)  # type: ignore[arg-type]


def _ramp(row: Mapping[str, Any], key: str) -> tuple[float, float]:
    ends = row.get(key)
    if not isinstance(ends, list) or len(ends) != 2:
        raise UserError(f"{key}: two numbers are needed")
    first, last = _number(ends[0], key), _number(ends[1], key)
    if not first <= last <= STRENGTHS[key]:
        raise UserError(
            f"{key} goes from {first:g} to {last:g}; strengths are 0 to {STRENGTHS[key]:g} and do "
            "not decrease"
        )
    return first, last
