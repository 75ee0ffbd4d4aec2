"""From the name of a data set to the decoded images of a part."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from effnas.data.decoding import decode_all, shorter_side
from effnas.data.folders import archive_source, folder_source
from effnas.data.holdout import draw_per_class, holdout_split
from effnas.data.images import ImageSet, allocate_images
from effnas.data.named import digits_source, is_timm_name, timm_source
from effnas.errors import DataError

if TYPE_CHECKING:
    import numpy.typing as npt

    from effnas.data.source import Part, Source

# Images that the native size is told from.
_SIZE_SAMPLE = 9


@dataclass(frozen=True, kw_only=True, eq=False)
class SearchImages:
    """The images of a search: those to train on, and those held out of them to measure A.

    Attributes:
        train: Training images.
        holdout: Held-out images; the same for every `data_share`.
        data_share: Share of the images that are not held out which `train` is.
        skipped: Names of the images that were left out because they cannot be decoded.
    """

    train: ImageSet
    holdout: ImageSet
    data_share: float
    skipped: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """Hexadecimal digits that differ when the images, labels or classes do."""
        return f"{self.train.fingerprint}-{self.holdout.fingerprint}"

    @property
    def nbytes(self) -> int:
        """Memory of the images, in bytes."""
        return self.train.images.nbytes + self.holdout.images.nbytes


def load_search_images(
    name: str,
    *,
    image_size: int,
    holdout_share: float,
    data_share: float | None = None,
    most_train_images: int | None = None,
    seed: int = 0,
    on_bad_image: Literal["refuse", "skip"] = "refuse",
    root: Path | None = None,
) -> SearchImages:
    """Read what a search needs of the training part of a data set, each image decoded once.

    Both draws are stratified, and made before anything is decoded.

    Args:
        name: As in `load_training_part`.
        image_size: Side of the images in pixels, 1 or more.
        holdout_share: Share of the training part to hold out, above 0 and below 1.
        data_share: Share of the rest to train on, above 0 to 1; None takes all, or so many that
            they are about `most_train_images`.
        most_train_images: Bounds the training images where no `data_share` is given.
        seed: Of the draws.
        on_bad_image: As in `load_training_part`.
        root: As in `load_training_part`.

    Raises:
        DataError: As `load_training_part`, or if a class is too small to be split.
    """
    if data_share is not None and not 0 < data_share <= 1:
        raise DataError(f"--data-share must be above 0 and at most 1, not {data_share}")
    source = _find_source(name, root)
    source.check_classes()
    counts = np.bincount(source.labels)
    if counts.min() < 2:
        lone = source.classes[int(np.argmin(counts))]
        raise DataError(
            f"{source.origin}: {source.class_noun} {lone!r} has a single image, and needs two or"
            " more: one to train on and one to hold out"
        )
    train, holdout = holdout_split(source.labels, share=holdout_share, seed=seed)
    if data_share is None:
        data_share = min((most_train_images or len(train)) / len(train), 1.0)
    if data_share < 1:
        labels = source.labels[train]
        train = train[draw_per_class(labels, data_share, seed, at_least=1, leave=0)]
    images, good, skipped = _decode(
        source, np.concatenate([train, holdout]), image_size, on_bad_image
    )
    border = int(np.searchsorted(good, len(train)))
    parts = []
    for chosen, pixels in (
        (train[good[:border]], images[:border]),
        (holdout[good[border:] - len(train)], images[border:]),
    ):
        labels = source.labels[chosen]
        _check_classes_left(source, labels)
        parts.append(ImageSet(images=pixels, labels=labels, classes=source.classes))
    return SearchImages(train=parts[0], holdout=parts[1], data_share=data_share, skipped=skipped)


def load_training_part(
    name: str,
    *,
    image_size: int,
    on_bad_image: Literal["refuse", "skip"] = "refuse",
    root: Path | None = None,
) -> ImageSet:
    """Read the whole training part of a data set into memory, each image decoded once.

    Images become RGB with their shorter side resized to `image_size` and the centre cropped to a
    square; one of that size already is left as it is. Order and pixels are the same whenever the
    same data are read.

    Args:
        name: `digits`; a folder or a tar archive of class folders, with or without parts such as
            `train` and `val`, of which only the training part is read; or a name with a prefix
            that timm understands, such as `torch/cifar10`, unless a path of that name exists.
        image_size: Side of the images in pixels, 1 or more.
        on_bad_image: Whether an image that cannot be decoded ends the reading, or is left out
            and named in the result.
        root: Where timm looks for a data set that goes by name.

    Raises:
        DataError: The data are missing, unreadable, not laid out as expected, too large for the
            memory, or without images in some class.
    """
    return _load_whole(_find_source(name, root), image_size, on_bad_image)


def load_test_part(
    name: str,
    *,
    image_size: int,
    classes: tuple[str, ...],
    on_bad_image: Literal["refuse", "skip"] = "refuse",
    root: Path | None = None,
) -> ImageSet:
    """Read the test part of a data set, which no search does: it is for the end, once.

    Images are decoded as in `load_training_part`. The part is the folder `test` or `testing`, else
    `val`, `valid`, `validation` or `eval`, since the labels of some test parts are not published;
    of timm's data sets, the split `test`, else `validation`; of the digits, what is not training.
    The result's `part` says which one it was.

    Args:
        name: As in `load_training_part`.
        image_size: Side of the images in pixels, 1 or more.
        classes: Those of the training part, in its order.
        on_bad_image: As in `load_training_part`.
        root: As in `load_training_part`.

    Raises:
        DataError: There is no such part, its classes are not those of the training part, or as
            `load_training_part`.
    """
    source = _find_source(name, root, part="test")
    _check_same_classes(source, classes)
    return _load_whole(source, image_size, on_bad_image)


def _load_whole(
    source: Source, image_size: int, on_bad_image: Literal["refuse", "skip"]
) -> ImageSet:
    source.check_classes()
    images, good, skipped = _decode(source, np.arange(len(source.labels)), image_size, on_bad_image)
    labels = source.labels[good]
    _check_classes_left(source, labels)
    return ImageSet(
        images=images,
        labels=labels,
        classes=source.classes,
        skipped=skipped,
        part=source.part,
    )


def _decode(
    source: Source,
    chosen: npt.NDArray[np.int64],
    image_size: int,
    on_bad_image: Literal["refuse", "skip"],
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], tuple[str, ...]]:
    """Decode the chosen images in their order.

    Returns:
        Pixels [M, S, S, 3] of those that can be decoded, their positions in `chosen`, and the
        names of the others.
    """
    if image_size < 1:
        raise DataError(f"--image-size must be 1 or more, not {image_size}")
    images = allocate_images(len(chosen), image_size)
    bad: list[int] = []

    def note_bad_image(position: int, reason: str) -> None:
        if on_bad_image == "refuse":
            # Whoever reads a test part goes by what was chosen for the training part.
            skip = ", or pass --on-bad-image skip" if source.part is None else ""
            raise DataError(
                f"{source.origin}: {source.names[chosen[position]]} cannot be decoded ({reason});"
                f" mend or remove it{skip}"
            )
        bad.append(position)

    decode_all(source.read(chosen), images, note_bad_image)
    bad.sort()
    good = np.delete(np.arange(len(chosen)), bad)
    if bad:
        # Closing the gaps in place: a copy could take more memory than there is.
        for position, index in enumerate(good):
            images[position] = images[index]
    names = tuple(source.names[chosen[position]] for position in bad)
    return images[: len(good)], good, names


def native_image_size(name: str, root: Path | None = None) -> int:
    """Return the median shorter side, in pixels, of the first few training images.

    Takes the names that `load_training_part` takes, and reads as little as it can: headers of
    images, and of an archive only its beginning where that holds a training part.

    Raises:
        DataError: The data are missing, unreadable or not laid out as expected, or none of these
            images can be read.
    """
    source = _find_source(name, root, first=_SIZE_SAMPLE)
    sides = []
    for _, encoded in source.read(np.arange(min(_SIZE_SAMPLE, len(source.names)))):
        try:
            sides.append(shorter_side(encoded))
        except ValueError:
            continue
    if not sides:
        raise DataError(f"{source.origin}: none of its first training images can be read")
    return statistics.median_low(sides)


def _find_source(
    name: str, root: Path | None, *, first: int | None = None, part: Part = "training"
) -> Source:
    if name == "digits":
        return digits_source(part)
    path = Path(name).expanduser()
    try:
        # An empty name would be the working directory.
        if name and path.is_dir():
            return folder_source(path, part=part)
        if name and path.is_file():
            return archive_source(path, first=first, part=part)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if is_timm_name(name):
        return timm_source(name, root, first=first, part=part)
    raise DataError(
        f"no data set {name!r}: there is no such file or folder, and it is neither 'digits' nor a"
        " name that timm knows by its prefix, such as torch/cifar10, hfds/..., tfds/... or wds/..."
    )


def _check_same_classes(source: Source, classes: tuple[str, ...]) -> None:
    for expected, found in zip_longest(classes, source.classes):
        if expected == found:
            continue
        if expected is not None and expected not in source.classes:
            difference = f"lacks the {source.class_noun} {expected!r} of the training part"
        else:
            there = "none" if expected is None else repr(expected)
            difference = f"has {source.class_noun} {found!r} where the training part has {there}"
        raise DataError(
            f"{source.origin}: its part {source.part!r} {difference}; both need the same classes"
        )


def _check_classes_left(source: Source, labels: npt.NDArray[np.int64]) -> None:
    lost = set(range(len(source.classes))) - set(np.unique(labels).tolist())
    if lost:
        raise DataError(
            f"{source.origin}: no image of {source.class_noun} {source.classes[min(lost)]!r}"
            " can be decoded"
        )
