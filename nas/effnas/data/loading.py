"""From the name of a data set to the decoded images of a part."""

from __future__ import annotations

import os
import statistics
from contextlib import suppress
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from effnas.data.choosing import check_image_size, draw_per_class, hold_out, load_parts
from effnas.data.decoding import original_size
from effnas.data.folders import archive_source, folder_source
from effnas.data.images import bytes_in_memory, memory_limit_bytes
from effnas.data.named import digits_source, is_timm_name, timm_source
from effnas.data.streaming import StreamedSet
from effnas.data.tables import is_table_name, table_source
from effnas.errors import DataError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from effnas.data.images import ImageSet, TrainSet
    from effnas.data.source import FoundData, Layer, OnBadImage, Source

#: scikit-learn's digits, whatever lies in the working folder; `./digits` is a path.
DIGITS = "digits"
# Images that the native size is taken from.
_SIZE_SAMPLE = 9


@dataclass(frozen=True, kw_only=True, eq=False)
class SearchImages:
    """The images of a search: those to train on, and those held out of them to measure A.

    Attributes:
        train: Training images.
        holdout: Held-out images; the same for every `data_share`.
        data_share: Share of the images that are not held out which `train` is.
        skipped: Names of the images that were left out because they cannot be decoded.
        mirrored: Whether trainings may mirror them, as `Source.mirrored`.
        original_sizes: Height and width in pixels of the smallest, the median and the largest
            image of a sample, by area, before they are resized.
        found: What the images were chosen from.
    """

    train: ImageSet
    holdout: ImageSet
    data_share: float
    skipped: tuple[str, ...]
    mirrored: bool
    original_sizes: tuple[tuple[int, int], ...] = ()
    found: FoundData | None = None

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
    eval_image_size: int | None = None,
    holdout_share: float,
    data_share: float | None = None,
    most_train_images: int | None = None,
    seed: int = 0,
    on_bad_image: OnBadImage = "refuse",
    root: Path | None = None,
) -> SearchImages:
    """Read what a search needs of the training part of a data set, each image decoded once.

    Both draws are stratified, and made before anything is decoded. Images become RGB with their
    shorter side resized to a size and the centre cropped to a square; one of that size is left as
    it is. Order and pixels are the same whenever the same data are read.

    Args:
        name: `digits`; a folder or a tar archive of class folders, with or without parts such as
            `train` and `val`, of which only the training part is read; a table of images, as
            `table_source` has it, with one label in each row; or a name with a prefix that timm
            understands, such as `torch/cifar10`, unless a path of that name exists.
        image_size: Side of the training images in pixels, 1 or more.
        eval_image_size: Side of the held-out images in pixels, 1 or more; None is as to train on.
        holdout_share: Share of the training part to hold out, above 0 and below 1.
        data_share: Share of the rest to train on, above 0 to 1; None takes all, or about
            `most_train_images`.
        most_train_images: Bounds the training images where no `data_share` is given.
        seed: Of the draws.
        on_bad_image: Whether an image that cannot be decoded ends the reading, or is left out
            and named in the result.
        root: Where timm looks for a data set that goes by name.

    Raises:
        DataError: The data are missing, unreadable, not laid out as expected, too large for the
            memory, without images in some class, or with a class that is too small to be split.
    """
    if data_share is not None and not 0 < data_share <= 1:
        raise DataError(f"`data_share` must be above 0 and at most 1, not {data_share}")
    source = find_source(name, root)
    source.check_classes()
    source.check_single_labels()
    train, holdout = hold_out(source, holdout_share, seed)
    if data_share is None:
        data_share = min((most_train_images or len(train)) / len(train), 1.0)
    if data_share < 1:
        labels = source.labels[train]
        train = train[draw_per_class(labels, data_share, seed, at_least=1, leave=0)]
    sizes: list[tuple[int, int]] = []
    if eval_image_size in (None, image_size):  # reading takes long: both at once
        train_set, holdout_set = load_parts(
            source, [train, holdout], image_size, on_bad_image, sizes=sizes
        )
    else:
        (train_set,) = load_parts(source, [train], image_size, on_bad_image, sizes=sizes)
        (holdout_set,) = load_parts(source, [holdout], eval_image_size, on_bad_image)
    return SearchImages(
        train=train_set,
        holdout=holdout_set,
        data_share=data_share,
        skipped=train_set.skipped + holdout_set.skipped,
        mirrored=source.mirrored,
        original_sizes=_smallest_to_largest(sizes),
        found=source.found,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainImages:
    """The images of a training.

    Attributes:
        train: Images to train on, of the size that they are stored in.
        minival: Held-out images, of the size that accuracy is measured at; None without.
        mirrored: Whether trainings may mirror them, as `Source.mirrored`.
        found: What the images were chosen from.
        original_sizes: As of `SearchImages`; empty where that would take long to find out.
    """

    train: TrainSet
    minival: TrainSet | None
    mirrored: bool
    found: FoundData | None = None
    original_sizes: tuple[tuple[int, int], ...] = ()

    @property
    def are_streamed(self) -> bool:
        """Whether images are decoded whenever they are needed."""
        return isinstance(self.train, StreamedSet)

    @property
    def skipped(self) -> tuple[str, ...]:
        """Names of the images that cannot be decoded, of those that have been read."""
        return self.train.skipped + (self.minival.skipped if self.minival is not None else ())


def load_train_images(
    name: str,
    *,
    image_size: int,
    eval_image_size: int,
    minival_share: float,
    seed: int = 0,
    on_bad_image: OnBadImage = "refuse",
    root: Path | None = None,
    memory_bytes: int | None = None,
) -> TrainImages:
    """Read the training part of a data set, split into images to train on and a minival.

    The split is that of `load_search_images` with the same share and seed. Images that do not fit
    into memory are decoded whenever they are needed, those of the minival too.

    Args:
        name: As in `load_search_images`; also a table whose images have several labels.
        image_size: Side of the training images in pixels, 1 or more.
        eval_image_size: Side of the minival's images in pixels, 1 or more.
        minival_share: Share of the training part to hold out, 0 or more and below 1.
        seed: Of the draw.
        on_bad_image: Whether an image that cannot be decoded is an error, or is left out. Of images
            that are not kept in memory both happen when it is met: `StreamedSet.batches`.
        root: As in `load_search_images`.
        memory_bytes: What both parts may take; None is half of what is available.

    Raises:
        DataError: As `load_search_images`, a class is too small to be split, or images are to be
            in memory and take more than half of what is available: such as can only be read
            from beginning to end, as those of an archive, or as `memory_bytes` leaves room for.
    """
    for size in (image_size, eval_image_size):
        check_image_size(size)
    source = find_source(name, root)
    source.check_classes()
    parts = (
        hold_out(source, minival_share, seed) if minival_share else (np.arange(len(source.labels)),)
    )
    sizes = (image_size, eval_image_size)
    needed_bytes = sum(map(bytes_in_memory, map(len, parts), sizes))
    sets: Sequence[TrainSet]
    if source.way_out is None and needed_bytes > (
        memory_limit_bytes() if memory_bytes is None else memory_bytes
    ):
        sets = [
            StreamedSet(source=source, indices=part, image_size=size, on_bad_image=on_bad_image)
            for part, size in zip(parts, sizes, strict=False)
        ]
    elif image_size == eval_image_size:  # reading takes long: both at once
        sets = load_parts(source, parts, image_size, on_bad_image, _way_out(source))
    else:
        sets = [
            load_parts(source, [part], size, on_bad_image, _way_out(source))[0]
            for part, size in zip(parts, sizes, strict=False)
        ]
    return TrainImages(
        train=sets[0],
        minival=sets[1] if len(sets) > 1 else None,
        mirrored=source.mirrored,
        found=source.found,
        original_sizes=() if source.way_out else _smallest_to_largest(_sample_sizes(source)),
    )


def _way_out(source: Source) -> str:
    if source.way_out is None:
        return "begin again with another `out`, where they are decoded in every epoch"
    return f"{source.way_out}, so that its images need not be in memory, or take smaller images"


def load_test_part(
    name: str,
    *,
    image_size: int,
    classes: tuple[str, ...],
    on_bad_image: OnBadImage = "refuse",
    root: Path | None = None,
) -> ImageSet:
    """Read the test part of a data set, which no search does: it is for the end, once.

    Images are decoded as in `load_search_images`. The part is the folder `test` or `testing`, else
    `val`, `valid`, `validation` or `eval`, since the labels of some test parts are not published;
    of a table, the rows of such a part; of timm's data sets, the split `test`, else `validation`;
    of the digits, what is not training. The result's `part` says which one it was.

    Args:
        name: As in `load_search_images`; also a table whose images have several labels.
        image_size: Side of the images in pixels, 1 or more.
        classes: Those of the training part, in its order.
        on_bad_image: As in `load_search_images`.
        root: As in `load_search_images`.

    Raises:
        DataError: There is no such part, its classes are not those of the training part, or as
            `load_search_images`.
    """
    source = _test_source(name, classes, root)
    source.check_classes()
    return load_parts(source, [np.arange(len(source.labels))], image_size, on_bad_image)[0]


def check_test_part(name: str, *, classes: tuple[str, ...] = (), root: Path | None = None) -> None:
    """Check, before something long begins, that there is what `load_test_part` reads.

    Arguments and errors are those of `load_test_part`, without `classes` those of the training part
    are looked up; no image is opened.
    """
    classes = classes or find_source(name, root).classes
    try:
        _test_source(name, classes, root)
    except DataError as error:
        raise DataError(f"{error}, or leave out `test`") from None


def _test_source(name: str, classes: tuple[str, ...], root: Path | None) -> Source:
    source = find_source(name, root, part="test")
    check_same_classes(source, classes)
    return source


def native_image_size(name: str, root: Path | None = None) -> int:
    """Return the median shorter side, in pixels, of the first few training images.

    Takes the names that `load_search_images` takes, and reads as little as it can: headers of
    images, and of an archive only its beginning where that holds a training part.

    Raises:
        DataError: The data are missing, unreadable or not laid out as expected, or none of these
            images can be read.
    """
    source = find_source(name, root, first=_SIZE_SAMPLE)
    sides = [min(size) for size in _sizes(source, np.arange(_SIZE_SAMPLE))]
    if not sides:
        raise DataError(f"{source.origin}: none of its first training images can be read")
    return statistics.median_low(sides)


def _sizes(source: Source, chosen: npt.NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield height and width of those of the chosen images that can be read."""
    for _, encoded in source.read(chosen[chosen < len(source.names)]):
        with suppress(ValueError):
            yield original_size(encoded)


def _sample_sizes(source: Source) -> list[tuple[int, int]]:
    every = max(len(source.names) // _SIZE_SAMPLE, 1)
    return list(_sizes(source, np.arange(0, len(source.names), every)))


def _smallest_to_largest(sizes: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Return the smallest, the median and the largest size, by area."""
    sizes = sorted(sizes, key=lambda size: size[0] * size[1])
    return (sizes[0], sizes[len(sizes) // 2], sizes[-1]) if sizes else ()


def find_source(
    name: str, root: Path | None, *, first: int | None = None, part: Layer = "training"
) -> Source:
    """Return a part of the data set of a name, which `load_search_images` describes.

    A data set of timm's that goes by name lies in `root`. With `first`, about that many images are
    listed where listing them takes long.

    Raises:
        DataError: There is no such data set, it cannot be read, or it lacks the part.
    """
    if name == DIGITS:
        return digits_source(part)
    path = Path(name).expanduser()
    try:
        # An empty name would be the working directory.
        if name and path.is_dir():
            return folder_source(path, part=part)
        if name and path.is_file():
            if is_table_name(path):
                return table_source(path, part=part)
            return archive_source(path, first=first, part=part)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    check_name(name)
    return timm_source(name, root, first=first, part=part)


def absolute_name(name: str) -> str:
    """Return the name of data as it is understood in any working folder: paths are absolute."""
    is_path = name != DIGITS and os.path.exists(Path(name).expanduser())  # noqa: PTH110 - no errors
    return str(Path(name).expanduser().absolute()) if is_path else name


def check_name(name: str) -> None:
    """Check that data of a name may be there: a file or folder is, what timm knows may be.

    Raises:
        DataError: If they are not.
    """
    path = Path(name).expanduser()
    is_there = bool(name) and os.path.exists(path)  # noqa: PTH110 - false for what no path can be
    if is_there or name == DIGITS or is_timm_name(name):
        return
    if hint := nearest(name, [DIGITS, *_beside(path)], cutoff=0.7):
        raise DataError(f"no data set {name!r}: there is no such file or folder; {hint}")
    raise DataError(
        f"no data set {name!r}: there is no such file or folder, and it is neither 'digits' nor a"
        " name that timm knows by its prefix, such as torch/cifar10, hfds/..., tfds/... or wds/..."
    )


def _beside(path: Path) -> list[str]:
    """Return what is in the folder of a path that is not there."""
    try:
        return [str(each) for each in path.parent.iterdir()]
    except OSError:
        return []


def check_same_classes(source: Source, classes: tuple[str, ...]) -> None:
    """Raise a `DataError` if the classes of a test part are not those of the training part."""
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
