"""A member of a family, read from the folder that `effnas scale` wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from effnas.arch.architecture import DEFAULT_STEM_STRIDE, Architecture
from effnas.config.codec import Amount, Count, Size, WrongKindError, from_plain, read_object
from effnas.config.regularization import STRENGTHS, Ramp
from effnas.errors import ConfigError, UserError
from effnas.trials.store import FAMILY, FAMILY_KIND

#: The file beside the members' own.
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
        architecture_id: Of its network.
        family: Name of the rules that it grew by.
        base: What it grew from, as the user of `effnas scale` named it.
        image_size: Pixels at inference.
        train_image_size: Pixels at the end of training.
        stage_image_sizes: Pixels of the stages of a training with growing images.
        batch_size: Images in a step.
        num_classes: Outputs that its costs were found with.
        epochs: Of the trainings whose time is estimated.
        images: Of their data.
        hardware: What its layers were timed on; None if they were not.
        step_time: Predicted, as the costs below it; see `effnas.scaling.sizing.SizedMember`.
        dropout: Its strength at the start and at the end of a training, as those below it.
        architecture: Block strings, with `stem`, `head` and `stem_stride`.
        params: Its trainable parameters; `macs` and `activations` are those at inference.
        reason: Why costs are missing, if they are.
    """

    name: str
    architecture_id: str
    family: str
    base: str
    image_size: Size
    train_image_size: Size
    stage_image_sizes: tuple[Size, ...] | None = None
    batch_size: Size
    num_classes: Size
    epochs: Size
    images: Size
    hardware: str | None = None
    step_time: Amount | None = None
    step_time_s: Amount | None = None
    train_time_s: Amount | None = None
    progressive_train_time_s: Amount | None = None
    peak_memory_bytes: Amount | None = None
    dropout: Ramp
    randaugment: Ramp
    mixup: Ramp
    drop_path: Ramp
    architecture: str = ""
    stem: Size = 1
    head: Size = 1
    stem_stride: Size = DEFAULT_STEM_STRIDE
    layers: Count = 0
    params: Amount | None = None
    macs: Amount | None = None
    activations: Amount | None = None
    reason: str | None = None

    def __post_init__(self) -> None:
        if self.first_image_size > self.train_image_size:
            raise ConfigError(
                f"stage_image_sizes begins with {self.first_image_size}, above train_image_size "
                f"{self.train_image_size}"
            )
        for name, (first, last) in self.strengths.items():
            if not 0 <= first <= last <= STRENGTHS[name]:
                raise ConfigError(
                    f"{name} goes from {first:g} to {last:g}; strengths are 0 to "
                    f"{STRENGTHS[name]:g} and do not decrease"
                )

    @property
    def first_image_size(self) -> int:
        """Pixels at the start of a training with growing images."""
        return (self.stage_image_sizes or (self.train_image_size,))[0]

    @property
    def costs(self) -> Mapping[str, float]:
        """The costs that are known, by name."""
        found = {name: getattr(self, name) for name in _COSTS}
        return {name: value for name, value in found.items() if value is not None}

    @property
    def strengths(self) -> Mapping[str, Ramp]:
        """The strengths of the regularisation by name."""
        return {name: getattr(self, name) for name in STRENGTHS}


@dataclass(frozen=True)
class _Rows:
    members: tuple[dict[str, Any], ...]
    fit: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class StoredFamily:
    """A family as its file tells it.

    Attributes:
        file: The file.
        members: From the base upwards, at least one.
        binding: Limits in words that kept the largest member from being larger; None without
            limits.
    """

    file: Path
    members: tuple[Member, ...]
    binding: tuple[str, ...] | None = None


def read_family(path: Path) -> StoredFamily:
    """Read a family from its folder, or from its file.

    Raises:
        ConfigError: If there is none, or it cannot be read.
    """
    file = path / FAMILY if path.is_dir() else path
    try:
        content = read_object(file, FAMILY_KIND)
        rows = from_plain(content, _Rows)
        members = tuple(from_plain(content | row, Member) for row in rows.members)
        if not members:
            raise UserError("it has no members")
        limits = (rows.fit and rows.fit.get("binding")) or ()
        binding = tuple(str(dict(limit).get("text", "?")) for limit in limits)
    except (UserError, TypeError, ValueError) as error:
        raise ConfigError(f"{file}: {error}; run `effnas scale` again") from None
    return StoredFamily(file, members, binding if rows.fit else None)


def find_member(file: Path, arch: Architecture) -> Member | None:
    """Return what the `family.json` beside an architecture file says of it.

    Returns:
        None if there is no such file, or the family has no member of that name.

    Raises:
        ConfigError: If it cannot be read, or describes another network.
    """
    family, name = file.with_name(FAMILY), file.stem
    if not family.is_file():
        return None
    try:
        content = read_object(family, FAMILY_KIND)
        rows = from_plain(content, _Rows).members
        row = next((row for row in rows if row.get("name") == name), None)
        member = from_plain(content | row, Member) if row else None
    except WrongKindError:
        raise ConfigError(
            f"{family}: not a family that `effnas scale` wrote; move {name}.json elsewhere"
        ) from None
    except UserError as error:
        raise ConfigError(f"{family}: {error}") from None
    if member and member.architecture_id != arch.id:
        raise ConfigError(
            f"{family}: its member {name} is another network than {name}.json; move that file "
            "elsewhere, or run `effnas scale` again"
        )
    return member
