"""The folder of a training: what it was made with, its log, its state, and its weights."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import ClassVar, Self

from msgspec import ValidationError, convert

from effnas.config.codec import Count, Pixels, Share, Size
from effnas.config.recipe import Recipe
from effnas.config.settings import Execution
from effnas.errors import StoreError
from effnas.timing.training_time import Forecast
from effnas.train.progress import EpochRow, Progress
from effnas.train.stages import Stage
from effnas.trials.differences import ALL_MUST_MATCH, must_match
from effnas.trials.guessing import Guessing
from effnas.trials.manifest import Manifest
from effnas.trials.store import LOG, RunFolder, read_log_rows, write_whole

#: The state of a training that has not come to its end.
CHECKPOINT = "checkpoint.safetensors"
#: Weights of the epoch of the highest accuracy, and of the last one.
BEST, LAST = "best.safetensors", "last.safetensors"


@dataclass(frozen=True, kw_only=True)
class TestResult:
    """What the trained network reaches on images that nothing was chosen by.

    Attributes:
        part: What the data set calls them.
        images: How many they are.
        skipped: How many more cannot be decoded.
        accuracy: Share that is classified correctly, 0 to 1.
        class_counts: Images of each class; empty where that is not known, or images have several.
    """

    part: str
    images: Count
    skipped: Count
    accuracy: Share
    class_counts: tuple[Count, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """The images of a training.

    Attributes:
        name: As the user named them, without the folders that they are in.
        fingerprint: Differs when the training images, labels or classes do.
        minival_fingerprint: Likewise of the minival; None without one.
        streamed: Whether images are decoded in every epoch.
        images: Training images.
        minival: Images that accuracy is measured on.
        class_names: Names of the classes.
        skipped: Images that were left out because they cannot be decoded.
        mirrored: Whether images are mirrored at random; None: not known.
        minival_class_counts: Of the minival, as of `TestResult`.
        test_part: What the data set calls the part that a test reads; empty without one, None where
            that is not known.
    """

    name: str
    fingerprint: str = field(metadata=must_match("data (other images or labels)", shown=False))
    minival_fingerprint: str | None = field(
        metadata=must_match("data (other images are held out)", shown=False)
    )
    streamed: bool
    images: Size
    minival: Count
    class_names: tuple[str, ...]
    skipped: tuple[str, ...]
    mirrored: bool | None = None
    minival_class_counts: tuple[Count, ...] = ()
    test_part: str | None = None

    def guessing(self, counts: tuple[int, ...]) -> Guessing:
        """Return what guessing reaches on images of these classes."""
        return Guessing(classes=len(self.class_names) or None, counts=counts)


@dataclass(frozen=True, kw_only=True)
class TrainingManifest(Manifest):
    """What a training was made with, and how it went.

    Attributes:
        effnas: Version of the package.
        created: When it began, UTC in ISO format.
        network: Block strings as `architecture`, with `architecture_id`, `stem`, `head`, and
            `stem_stride` where it is not 2; of a model of timm's the `name`.
        params: Its trainable parameters.
        recipe: With all sizes and strengths.
        seed: Fixed all that was random.
        weights: Digest of the file that it began with; None if there was none.
        new_head: Whether the classifier was left out of these.
        data: The images.
        eval_image_size: Pixels that accuracy is measured at.
        stages: Of the training.
        parts: For each stage, parts of a batch that the devices take one after the other.
        workers: Processes that share each batch.
        execution: Precision, memory format and compilation.
        hardware: What it runs on, in one line.
        forecast: How long it takes.
        progress: How it went, once it has come to its end.
        test: What was found on the test part, once that was read.
    """

    kind: ClassVar[str] = "training"
    what: ClassVar[str] = "training"
    command: ClassVar[str] = "effnas train"
    later: ClassVar[tuple[str, ...]] = ("progress", "test")

    effnas: str = ""
    created: str
    network: Mapping[str, str | int] = field(metadata=ALL_MUST_MATCH)
    params: Count = 0
    recipe: Recipe = field(metadata=ALL_MUST_MATCH)
    seed: Count = field(metadata=must_match("seed"))
    weights: str | None = field(
        default=None, metadata=must_match("weights (another file)", shown=False)
    )
    new_head: bool = field(default=False, metadata=must_match("new-head"))
    data: TrainingData
    eval_image_size: Pixels
    stages: tuple[Stage, ...]
    parts: tuple[Size, ...]
    workers: Size = 1
    execution: Execution
    hardware: str
    forecast: Forecast
    progress: Progress | None = None
    test: TestResult | None = None


class TrainingFolder(RunFolder):
    """The folder, locked against other commands."""

    records_name = LOG

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open it as `RunFolder.open` does; a folder of something else is left as it is.

        Raises:
            StoreError: Also if its manifest cannot be read, or is of something else.
        """
        TrainingManifest.stored(path)
        return super().open(path)


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


def read_log(folder: Path) -> list[EpochRow]:
    """Return the epochs that `log.csv` has; none if there is no such file.

    Raises:
        StoreError: If it is not what was written.
    """
    rows = read_log_rows(folder)
    try:
        return [
            convert({name: cell or None for name, cell in row.items()}, EpochRow, strict=False)
            for row in rows
        ]
    except ValidationError as error:
        raise StoreError(f"{folder / LOG}: {error}; restore it from a copy") from None
