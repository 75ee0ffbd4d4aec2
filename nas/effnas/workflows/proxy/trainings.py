"""One training of a reference network: the job, its outcome, and its record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isfinite

from effnas.arch.architecture import Architecture
from effnas.config.settings import Recipe
from effnas.errors import ConfigError
from effnas.trials.store import Json
from effnas.trials.trial import Measurement


@dataclass(frozen=True, order=True)
class Fidelity:
    """What a training costs: what a proxy may save on.

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
        accuracy: Share of the held-out images classified correctly, 0 to 1.
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


def to_record(training: Training) -> dict[str, Json]:
    """Return a training as plain JSON data, without what does not apply to it."""
    outcome = training.outcome
    record: dict[str, Json] = {
        "epochs": training.fidelity.epochs,
        "image_size": training.fidelity.image_size,
        "data_share": training.fidelity.data_share,
        "architecture": str(training.architecture),
        "architecture_id": training.architecture.id,
        "repeat": training.repeat,
    }
    optional: dict[str, Json] = {
        "accuracy": outcome.accuracy,
        "reason": outcome.reason,
        "train_time_s": outcome.train_time_s,
        "fidelity": outcome.fidelity or None,
        "hardware": outcome.hardware or None,
    }
    return record | {name: value for name, value in optional.items() if value is not None}


def from_record(record: Mapping[str, object], *, stem: int, head: int) -> Training:
    """Return the training of a record.

    Raises:
        ValueError: If the record is not one that `to_record` writes.
        KeyError: If it lacks something.
    """
    arch = Architecture.parse(str(record["architecture"]), stem=stem, head=head)
    if arch.id != record["architecture_id"]:
        raise ValueError("architecture_id does not belong to the architecture")
    accuracy, seconds, reason = (record.get(n) for n in ("accuracy", "train_time_s", "reason"))
    return Training(
        Fidelity(
            _whole(record, "epochs"),
            _whole(record, "image_size"),
            _number(record["data_share"]),
        ),
        arch,
        _whole(record, "repeat"),
        TrainingOutcome(
            accuracy=None if accuracy is None else _number(accuracy),
            reason=None if reason is None else str(reason),
            train_time_s=None if seconds is None else _number(seconds),
            fidelity=str(record.get("fidelity", "")),
            hardware=str(record.get("hardware", "")),
        ),
    )


def _whole(record: Mapping[str, object], name: str) -> int:
    value = record[name]
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{name} is {value!r}")
    return value


def _number(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError(f"{value!r} is no number")
    return float(value)
