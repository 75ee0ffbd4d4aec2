"""Trainings of reference networks: the jobs, their outcomes, and the folder that keeps them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import inf
from typing import Any, ClassVar, cast

from effnas.arch.architecture import Architecture
from effnas.config.codec import Count, Share, Size, from_plain, pick, to_plain
from effnas.config.recipe import STRENGTHS, Recipe
from effnas.config.text import counted
from effnas.errors import ConfigError
from effnas.space.search_space import SearchSpace
from effnas.trials.differences import ALL_MUST_MATCH, must_match
from effnas.trials.manifest import TRAINER, CommandPart, Manifest
from effnas.trials.manifest_parts import SpacePart
from effnas.trials.store import TRAININGS, ArchitectureRecord, RunFolder, read_records
from effnas.trials.trial import Measurement

#: The settings that make a fidelity; all others are the same for all trainings of a folder.
_VARIED = ("epochs", "image_size", "eval_image_size", "data_share", *STRENGTHS)

#: What tells one training from another.
Key = tuple["Fidelity", str, int]


@dataclass(frozen=True, order=True)
class Fidelity:
    """What a proxy may save on.

    Attributes:
        epochs: Passes over the training images.
        image_size: Height and width in pixels.
        data_share: Share of the images that are not held out.
    """

    epochs: Size
    image_size: Size
    data_share: float

    @classmethod
    def of(cls, recipe: Recipe) -> Fidelity:
        """Return the fidelity of a recipe.

        Raises:
            ConfigError: If the recipe leaves the image size or the share to the worker.
        """
        if recipe.image_size is None or recipe.data_share is None:
            raise ConfigError("recipe: image_size and data_share must be settled to compare with")
        if recipe.train_time_s is not None:
            raise ConfigError(
                "recipe: trainings of a proxy are compared by epochs; leave out train_time_s"
            )
        return cls(round(recipe.epochs), recipe.last_image_size, recipe.data_share)

    def __str__(self) -> str:
        epochs = counted(self.epochs, "epoch")
        images = "all images" if self.data_share == 1 else f"{self.data_share:.3g} of the images"
        return f"{epochs} of {images} at {self.image_size} px"


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """A training that is wanted.

    Attributes:
        recipe: How to train, image size and share settled.
        architecture: What to train.
        repeat: Which of the network's trainings with other seeds it is, from 0.
    """

    recipe: Recipe
    architecture: Architecture
    repeat: int

    @property
    def fidelity(self) -> Fidelity:
        """Epochs, image size and share of the data."""
        return Fidelity.of(self.recipe)

    @property
    def key(self) -> Key:
        """Fidelity, network and repeat."""
        return self.fidelity, self.architecture.id, self.repeat

    def ended(self, outcome: TrainingOutcome) -> Training:
        """Return the training with its outcome."""
        return Training(self.fidelity, self.architecture, self.repeat, outcome)


@dataclass(frozen=True, kw_only=True)
class TrainingOutcome:
    """The outcome of a training: an accuracy, or the reason why there is none.

    Attributes:
        accuracy: Share of the held-out images that are classified correctly, 0 to 1.
        reason: Why the network cannot be trained so.
        train_time_s: Seconds of training, above 0.
        fidelity: Epochs, images and pixels, in the worker's words.
        hardware: Identity of the device.
    """

    accuracy: Share | None = None
    reason: str | None = None
    train_time_s: float | None = None
    fidelity: str = ""
    hardware: str = ""

    def __post_init__(self) -> None:
        if (self.accuracy is None) == (self.reason is None):
            raise ValueError("a training has either an accuracy or a reason for having none")
        if self.accuracy is not None and not 0 <= self.accuracy <= 1:
            raise ValueError(f"accuracy is {self.accuracy}, it must be 0 to 1")
        if self.train_time_s is not None and not 0 < self.train_time_s < inf:
            raise ValueError(f"train_time_s is {self.train_time_s}, it must be above 0")

    @classmethod
    def measured(cls, measurement: Measurement) -> TrainingOutcome:
        """Return the outcome of what a worker measured; it needs the metric `accuracy`."""
        return cls(
            accuracy=measurement.metrics["accuracy"],
            train_time_s=measurement.metrics.get("train_time_s"),
            fidelity=measurement.fidelity,
            hardware=measurement.hardware,
        )


@dataclass(frozen=True)
class Training:
    """A training that has ended; see `TrainingJob` and `TrainingOutcome` for its parts."""

    fidelity: Fidelity
    architecture: Architecture
    repeat: int
    outcome: TrainingOutcome

    @property
    def key(self) -> Key:
        """That of its job."""
        return self.fidelity, self.architecture.id, self.repeat


def jobs(recipe: Recipe, networks: Sequence[Architecture], repeats: int) -> list[TrainingJob]:
    """Return the trainings of all networks by one recipe, the first repeat of all first."""
    return [
        TrainingJob(recipe=recipe, architecture=arch, repeat=repeat)
        for repeat in range(repeats)
        for arch in networks
    ]


def missing(wanted: Iterable[TrainingJob], trainings: Iterable[Training]) -> list[TrainingJob]:
    """Return those wanted that have not ended."""
    ended = {training.key for training in trainings}
    return [job for job in wanted if job.key not in ended]


@dataclass(frozen=True, kw_only=True)
class _Record(ArchitectureRecord, TrainingOutcome, Fidelity):
    repeat: Count


def to_record(training: Training) -> dict[str, Any]:
    """Return a training as plain JSON data, without what does not apply to it."""
    arch = training.architecture
    record = _Record(
        architecture=str(arch),
        architecture_id=arch.id,
        repeat=training.repeat,
        **vars(training.outcome),
        **vars(training.fidelity),
    )
    return cast("dict[str, Any]", to_plain(record, sparse=True))


def from_record(plain: object, space: SearchSpace) -> Training:
    """Return the training of a record of `to_record`; raise ValueError if it is none."""
    record = from_plain(plain, _Record)
    arch, outcome = record.parsed(space), pick(TrainingOutcome, record)
    return Training(pick(Fidelity, record), arch, record.repeat, outcome)


def in_common(recipe: Recipe) -> dict[str, Any]:
    """Return what recipes of all fidelities have in common: as one of them is for one epoch."""
    plain = recipe.lasting(1).to_dict()
    rounded = {k: float(f"{v:.9g}") if isinstance(v, float) else v for k, v in plain.items()}
    return {k: v for k, v in rounded.items() if k not in _VARIED}


@dataclass(frozen=True, kw_only=True)
class ProxyManifest(Manifest):
    """What trainings are made with; `recipe` is what all of their recipes have in common."""

    kind: ClassVar[str] = "proxy"
    what: ClassVar[str] = "trainings of a proxy"
    command: ClassVar[str] = "effnas proxy"

    space: SpacePart
    data: str = field(metadata=must_match("data (other images or labels)", shown=False))
    seed: int = field(metadata=must_match("seed"))
    recipe: Mapping[str, Any] = field(metadata=ALL_MUST_MATCH)
    trainer: int = 1
    networks: tuple[str, ...]

    def differences(self, before: Manifest) -> list[str]:
        """As `Manifest.differences`; of the networks, the shorter list leads the longer one."""
        assert isinstance(before, ProxyManifest)
        differ = any(a != b for a, b in zip(before.networks, self.networks, strict=False))
        return [*super().differences(before), *(["networks"] if differ else [])]


class TrainingsFolder(RunFolder):
    """Trainings on disk, locked against other drivers; a check and a search may share a folder."""

    records_name = TRAININGS

    def begin(
        self,
        space: SearchSpace,
        networks: Sequence[Architecture],
        recipe: Recipe,
        *,
        data_fingerprint: str,
        seed: int,
        asked: CommandPart | None = None,
    ) -> list[Training]:
        """Return the stored trainings; what they belong to is stored, or must be as before.

        Args:
            space: The space of the networks.
            networks: The reference networks; there may be more or fewer than before.
            recipe: Any of the recipes; they differ in epochs, image size and share alone.
            data_fingerprint: Changes when the images, labels or classes do.
            seed: Of the run.
            asked: The command line.

        Raises:
            StoreError: If the folder holds something else; names what differs.
        """
        manifest = ProxyManifest(
            space=SpacePart.of(space),
            data=data_fingerprint,
            seed=seed,
            recipe=in_common(recipe),
            trainer=TRAINER,
            networks=tuple(map(str, networks)),
            asked=asked,
        )
        stored = ProxyManifest.stored(self.path)
        if stored:
            manifest.check_continues(stored, self.path)
            manifest = replace(manifest, networks=max(stored.networks, manifest.networks, key=len))
        if stored != manifest:
            manifest.write(self.path)
        parse = partial(from_record, space=space)
        return list(read_records(self.path / TRAININGS, parse, "training"))

    def add(self, training: Training) -> None:
        """Store one training; the disk has it when this returns.

        Raises:
            StoreError: If it cannot be written; what is stored already stays.
        """
        self.append_record(to_record(training), durable=True)
