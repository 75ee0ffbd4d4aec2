"""One training of a reference network: the job, its outcome, and its record."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite
from typing import Any, cast

from effnas.arch.architecture import Architecture
from effnas.config.codec import Count, Share, Size, from_plain, pick, to_plain
from effnas.config.settings import Recipe
from effnas.errors import ConfigError
from effnas.trials.store import ArchitectureRecord
from effnas.trials.trial import Measurement


@dataclass(frozen=True, order=True)
class Fidelity:
    """What a proxy may save on.

    Attributes:
        epochs: Passes over the training images.
        image_size: Height and width in pixels.
        data_share: Share of the images that are not held out.
    """

    epochs: int
    image_size: int
    data_share: float

    @classmethod
    def of(cls, recipe: Recipe) -> Fidelity:
        """Return the fidelity of a recipe.

        Raises:
            ConfigError: If the recipe leaves the image size or the share to the worker.
        """
        if recipe.image_size is None or recipe.data_share is None:
            raise ConfigError("recipe: image_size and data_share must be settled to compare with")
        return cls(recipe.epochs, recipe.image_size, recipe.data_share)

    def __str__(self) -> str:
        epochs = f"{self.epochs} epoch{'s' * (self.epochs != 1)}"
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

    accuracy: float | None = None
    reason: str | None = None
    train_time_s: float | None = None
    fidelity: str = ""
    hardware: str = ""

    def __post_init__(self) -> None:
        if (self.accuracy is None) == (self.reason is None):
            raise ValueError("a training has either an accuracy or a reason for having none")
        if self.accuracy is not None and not 0 <= self.accuracy <= 1:
            raise ValueError(f"accuracy is {self.accuracy}, it must be 0 to 1")
        seconds = self.train_time_s
        if seconds is not None and not (seconds > 0 and isfinite(seconds)):
            raise ValueError(f"train_time_s is {seconds}, it must be above 0")

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


def jobs(recipe: Recipe, networks: Iterable[Architecture], repeats: int) -> list[TrainingJob]:
    """Return the trainings of all networks by one recipe, the first repeat of all first."""
    networks = list(networks)
    return [
        TrainingJob(recipe=recipe, architecture=arch, repeat=repeat)
        for repeat in range(repeats)
        for arch in networks
    ]


def missing(wanted: Iterable[TrainingJob], trainings: Iterable[Training]) -> list[TrainingJob]:
    """Return those wanted that have not ended."""
    ended = {(t.fidelity, t.architecture.id, t.repeat) for t in trainings}
    return [j for j in wanted if (j.fidelity, j.architecture.id, j.repeat) not in ended]


@dataclass(frozen=True, kw_only=True)
class _Record(ArchitectureRecord):
    epochs: Size
    image_size: Size
    data_share: float
    repeat: Count
    accuracy: Share | None = None
    reason: str | None = None
    train_time_s: float | None = None
    fidelity: str = ""
    hardware: str = ""


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


def from_record(plain: object, *, stem: int, head: int) -> Training:
    """Return the training of a record.

    Raises:
        ValueError: If the record is not one that `to_record` writes.
    """
    record = from_plain(plain, _Record)
    return Training(
        pick(Fidelity, record),
        record.parsed(stem, head),
        record.repeat,
        pick(TrainingOutcome, record),
    )
