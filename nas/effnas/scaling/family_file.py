"""A member of a family, read from the folder that `effnas scale` wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from effnas.arch.architecture import Architecture
from effnas.arch.files import read_text
from effnas.config.json_object import JsonObject, WrongKindError
from effnas.config.regularization import STRENGTHS
from effnas.errors import ConfigError, UserError
from effnas.scaling.sizing import FORMAT, KIND

_MAX_BYTES = 10_000_000
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
        costs: Predicted, by the names of `effnas.scaling.member_costs.SizedMember`.
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
        return _parse(read_text(family, most_bytes=_MAX_BYTES), file.stem, arch)
    except UserError as error:
        raise ConfigError(f"{family}: {error}") from None


def _parse(text: str, name: str, arch: Architecture) -> Member | None:
    try:
        content = JsonObject.parse(text, kind=KIND, format=FORMAT)
    except WrongKindError:
        raise UserError(
            f"not a family that `effnas scale` wrote; move {name}.json elsewhere"
        ) from None
    row = next((row for row in content.objects("members") if row.text("name") == name), None)
    if row is None:
        return None
    if row.text("architecture_id") != arch.id:
        raise UserError(
            f"its member {name} is another network than {name}.json; move that file elsewhere, or "
            "run `effnas scale` again"
        )
    last = row.whole("train_image_size")
    first = row.wholes("stage_image_sizes")[0] if "stage_image_sizes" in row else last
    if first > last:
        raise UserError(f"stage_image_sizes begins with {first}, above train_image_size {last}")
    return Member(
        name=name,
        family=content.text("family"),
        base=content.text("base"),
        image_size=row.whole("image_size"),
        train_image_size=last,
        first_image_size=first,
        batch_size=content.whole("batch_size"),
        num_classes=content.whole("num_classes"),
        epochs=content.whole("epochs"),
        images=content.whole("images"),
        hardware=content.text("hardware") if "hardware" in content else None,
        costs={cost: row.number(cost) for cost in _COSTS if cost in row},
        strengths={name: row.ramp(name, most=most) for name, most in STRENGTHS.items()},
    )
