"""What a data set holds, before any image is decoded: its parts, names and labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from effnas.errors import DataError

if TYPE_CHECKING:
    import hashlib
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import TypeAlias

    import numpy.typing as npt
    from PIL import Image

    Encoded: TypeAlias = Path | bytes | Image.Image
    Read: TypeAlias = Callable[[npt.NDArray[np.int64]], Iterator[tuple[int, Encoded]]]

#: What is asked for: a search asks for the training part only.
Layer = Literal["training", "test"]
#: What becomes of an image that cannot be decoded.
OnBadImage = Literal["refuse", "skip"]
#: Names of parts, in lower case.
TRAINING_PARTS = frozenset({"train", "training"})
TEST_PARTS = frozenset({"test", "testing"})
VALIDATION_PARTS = frozenset({"val", "valid", "validation", "eval"})
OTHER_PARTS = TEST_PARTS | VALIDATION_PARTS
#: Where a test part is looked for, in this order: labels of some test parts are not published.
TEST_KINDS = ((TEST_PARTS, "test"), (VALIDATION_PARTS, "validation"))


@dataclass(frozen=True, eq=False)
class LabelLists:
    """One or more classes for each of N images, one list after the other.

    Attributes:
        values: Classes of all images, int64, of shape [sum of the lists' lengths].
        borders: Where the lists begin and end, int64, of shape [N + 1]: that of image i is
            `values[borders[i]:borders[i + 1]]`.
    """

    values: npt.NDArray[np.int64]
    borders: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.borders) - 1

    @property
    def first(self) -> npt.NDArray[np.int64]:
        """The first label of each image, of shape [N]."""
        return self.values[self.borders[:-1]]

    def update(self, digest: hashlib.blake2b) -> None:
        """Feed a hash."""
        for array in (self.values, self.borders):
            digest.update(np.ascontiguousarray(array).data)

    def take(self, chosen: npt.NDArray[np.int64]) -> LabelLists:
        """Return the lists of the images at these positions, 0..N-1, in their order."""
        starts = self.borders[chosen]
        lengths = self.borders[chosen + 1] - starts
        borders = np.concatenate([[0], np.cumsum(lengths)])
        # A value moves by as much as its list does.
        shifts = np.repeat(starts - borders[:-1], lengths)
        return LabelLists(self.values[np.arange(borders[-1]) + shifts], borders)

    def targets(self, chosen: npt.NDArray[np.int64], num_classes: int) -> npt.NDArray[np.float32]:
        """Return a distribution over the classes for each of n images, of shape [n, num_classes].

        Each of the k labels of an image has 1/k, so that a row sums to 1: the targets that
        EfficientNetV2 (Tan & Le 2021) has for ImageNet-21k.
        """
        lists = self.take(chosen)
        lengths = np.diff(lists.borders)
        targets = np.zeros((len(lists), num_classes), np.float32)
        targets[np.repeat(np.arange(len(lists)), lengths), lists.values] = np.repeat(
            1 / lengths, lengths
        )
        return targets


@dataclass(frozen=True, kw_only=True)
class FoundData:
    """What was found of a data set before anything was chosen from it.

    Attributes:
        name: Of the data set, without the folders that it is in.
        part: What it calls its training part; empty where it has no parts.
        images: Number of images of that part.
        untouched: Names of the parts that are not read.
        test_part: The one of them that a test would read; empty without one, None where that is not
            known.
        passed_over: Number of files of that part that are no images.
        passed_example: One of them.
    """

    name: str
    part: str = ""
    images: int = 0
    untouched: tuple[str, ...] = ()
    test_part: str | None = None
    passed_over: int = 0
    passed_example: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """The images of one part of a data set: their names and labels, and a way to get at them.

    Attributes:
        origin: The path or name that the user gave, for messages.
        classes: Name of each class.
        names: Name of each image, in an order that is the same on every machine.
        labels: Class of each image, of shape [N]; the first one where images have several.
        read: Given indices into `names`, yields `(position in the indices, image)` for each of
            them, in the order that suits the medium.
        class_noun: What a class is called in messages.
        part: What the data set calls its test part; None for the training part.
        label_lists: All labels of each image; None where every image has one.
        every_class: Whether each class must have images.
        file: The file of the image at an index into `names`; None if they are not files.
        way_out: Of a medium that can only be read from its beginning to its end: what to do where
            images must be read in any order. None for one that can be read so.
        mirrored: Whether trainings may mirror the images: a mirrored cat is a cat, but a mirrored
            digit is another sign.
        training_part: What the data set calls its training part; empty where it has no parts.
        untouched: Names of its other parts, as far as they are known.
        test_part: As of `FoundData`.
        passed_over: Names of files of the part that are no images.
    """

    origin: str
    classes: tuple[str, ...]
    names: Sequence[str]
    labels: npt.NDArray[np.int64]
    read: Read
    class_noun: str = "class"
    part: str | None = None
    label_lists: LabelLists | None = None
    every_class: bool = True
    file: Callable[[int], Path] | None = None
    way_out: str | None = None
    mirrored: bool = True
    training_part: str = ""
    untouched: tuple[str, ...] = ()
    test_part: str | None = None
    passed_over: Sequence[str] = ()

    @property
    def found(self) -> FoundData:
        """What was found, before anything is chosen from it."""
        return FoundData(
            name=Path(self.origin).name if Path(self.origin).is_absolute() else self.origin,
            part=self.training_part,
            images=len(self.names),
            untouched=self.untouched,
            test_part=self.test_part,
            passed_over=len(self.passed_over),
            passed_example=next(iter(self.passed_over), ""),
        )

    def check_classes(self) -> None:
        """Raise a `DataError` unless there are two or more classes, each with an image."""
        if len(self.classes) < 2:
            raise DataError(
                f"{self.origin}: there is one {self.class_noun} only, {self.classes[0]!r};"
                " two or more are needed"
            )
        counts = np.bincount(self.labels, minlength=len(self.classes))
        if self.every_class and not counts.all():
            empty = self.classes[int(np.argmin(counts))]
            raise DataError(
                f"{self.origin}: {self.class_noun} {empty!r} holds no images;"
                " add some, or remove it from all parts"
            )

    def check_single_labels(self) -> None:
        """Raise a `DataError` if images have several labels."""
        if self.label_lists is not None:
            several = int(np.argmax(np.diff(self.label_lists.borders) > 1))
            raise DataError(
                f"{self.origin}: {self.names[several]} has several labels, and a search takes"
                " images of one class each; name a table with one label in each row"
            )


def uneven_class(counts: Sequence[int]) -> tuple[int, float] | None:
    """Return the class that guessing gives most for, and that accuracy, where classes are uneven.

    They are if the largest class has more than twice the share that it would have if all were
    equal, or if guessing it is wrong less than half as often as guessing would be then.

    Args:
        counts: Images of each class.
    """
    if not any(counts):
        return None
    share, equal = max(counts) / sum(counts), 1 / len(counts)
    is_uneven = share > 2 * equal or 1 - share < (1 - equal) / 2
    return (list(counts).index(max(counts)), share) if is_uneven else None


def reader_of_files(file: Callable[[int], Path]) -> Read:
    """Return the `read` of a source whose images are files."""

    def read(chosen: npt.NDArray[np.int64]) -> Iterator[tuple[int, Encoded]]:
        for position, index in enumerate(chosen.tolist()):
            yield position, file(index)

    return read


def test_part_of(parts: Iterable[str]) -> str:
    """Return the name of the part that a test would read, of all parts; empty without one."""
    found = list(parts)
    named = (name for names, _ in TEST_KINDS for name in found if name.lower() in names)
    return next(named, "")


def only_part(found: Iterable[str], names: frozenset[str], kind: str, where: object) -> str | None:
    """Return the one of the names that were found which stands for a part; None if none does.

    Raises:
        DataError: If several do.
    """
    parts = [name for name in found if name.lower() in names]
    if len(parts) > 1:
        raise DataError(f"{where}: {' and '.join(parts)} are both {kind} parts; keep one of them")
    return parts[0] if parts else None
