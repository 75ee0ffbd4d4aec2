"""Images of a source: drawn class by class, and decoded into memory."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from effnas.data.decoding import decode_all, original_size
from effnas.data.images import ImageSet, allocate_images
from effnas.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy.typing as npt

    from effnas.data.source import Encoded, OnBadImage, Source

#: About how many images are asked for their size before they are resized.
_SIZED_IMAGES = 200


def load_parts(
    source: Source,
    parts: Sequence[npt.NDArray[np.int64]],
    image_size: int,
    on_bad_image: OnBadImage,
    way_out: str = "lower `data_share` or `image_size`",
    sizes: list[tuple[int, int]] | None = None,
) -> list[ImageSet]:
    """Decode the images at these indices into memory, reading the source once.

    Args:
        source: What is read.
        parts: Indices of the images of each part.
        image_size: Side of the images in pixels, 1 or more.
        on_bad_image: As in `load_search_images`.
        way_out: What to do if they do not fit into memory.
        sizes: Takes height and width of some of the images, before they are resized.

    Returns:
        One set for each part, in the order of its indices, without the images that cannot be
        decoded.

    Raises:
        DataError: As `load_search_images`.
    """
    chosen = np.concatenate(parts)
    images, good, bad = _decode(source, chosen, image_size, on_bad_image, way_out, sizes)
    starts = np.cumsum([len(part) for part in parts])[:-1]
    borders = np.searchsorted(good, starts)
    found = []
    for pixels, kept, left_out in zip(
        np.split(images, borders),
        np.split(chosen[good], borders),
        np.split(chosen[bad], np.searchsorted(bad, starts)),
        strict=True,
    ):
        _check_classes_left(source, source.labels[kept])
        found.append(
            ImageSet(
                images=pixels,
                labels=source.labels[kept],
                classes=source.classes,
                skipped=tuple(source.names[index] for index in left_out),
                part=source.part,
                label_lists=source.label_lists and source.label_lists.take(kept),
            )
        )
    return found


def check_image_size(image_size: int) -> None:
    """Raise a `DataError` if images cannot have that many pixels a side."""
    if image_size < 1:
        raise DataError(f"`image_size` must be 1 or more, not {image_size}")


def _decode(
    source: Source,
    chosen: npt.NDArray[np.int64],
    image_size: int,
    on_bad_image: OnBadImage,
    way_out: str,
    sizes: list[tuple[int, int]] | None,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Decode the chosen images in their order.

    Returns:
        Pixels [M, S, S, 3] of those that can be decoded, their ascending positions in `chosen`,
        and those of the others.
    """
    check_image_size(image_size)
    images = allocate_images(len(chosen), image_size, way_out=way_out)
    bad: list[int] = []

    def note_bad_image(position: int, reason: str) -> None:
        if on_bad_image == "refuse":
            # A test part is read as was chosen for the training part.
            skip = ", or pass `on_bad_image` skip" if source.part is None else ""
            raise DataError(
                f"{source.origin}: {source.names[chosen[position]]} cannot be decoded ({reason});"
                f" repair or remove it{skip}"
            )
        bad.append(position)

    encoded = source.read(chosen)
    if sizes is not None:
        encoded = _noting_sizes(encoded, sizes, max(len(chosen) // _SIZED_IMAGES, 1))
    decode_all(encoded, images, note_bad_image)
    bad.sort()
    good = np.delete(np.arange(len(chosen)), bad)
    if bad:
        # Closing the gaps in place: a copy could take more memory than there is.
        for position, index in enumerate(good):
            images[position] = images[index]
    return images[: len(good)], good, np.array(bad, np.int64)


def _noting_sizes(
    encoded: Iterable[tuple[int, Encoded]], sizes: list[tuple[int, int]], every: int
) -> Iterator[tuple[int, Encoded]]:
    """Pass images on, and note height and width of one in `every`."""
    for number, (position, image) in enumerate(encoded):
        if number % every == 0:
            with suppress(ValueError):  # decoding will say it
                sizes.append(original_size(image))
        yield position, image


def _check_classes_left(source: Source, labels: npt.NDArray[np.int64]) -> None:
    lost = set(range(len(source.classes))) - set(np.unique(labels).tolist())
    if lost and source.every_class:
        raise DataError(
            f"{source.origin}: no image of {source.class_noun} {source.classes[min(lost)]!r}"
            " can be decoded"
        )
    if len(labels) == 0:
        raise DataError(f"{source.origin}: none of the images can be decoded")


def hold_out(
    source: Source, share: float, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Split the images of a source at random, class by class, by the first label of each.

    Args:
        source: The images.
        share: Share of each class that is held out, above 0 and below 1; it is rounded so that
            each class has an image on either side.
        seed: Of the draw; the same labels, share and seed give the same split.

    Returns:
        Ascending indices of the training images and of the held-out ones. The two are disjoint
        and together cover all images.

    Raises:
        DataError: `share` is out of range, or a class has a single image. Where images have
            several labels, such an image is trained on: others may have its class, too.
    """
    if not 0 < share < 1:
        raise DataError(f"the share to hold out must lie between 0 and 1, not {share}")
    counts = np.bincount(source.labels)
    if source.label_lists is None and counts.min() < 2:
        raise DataError(
            f"{source.origin}: {source.class_noun} {source.classes[int(np.argmin(counts))]!r} has"
            " a single image, and needs two or more: one to train on and one to hold out"
        )
    held = draw_per_class(source.labels, share, seed, at_least=1, leave=1)
    if len(held) == 0:
        raise DataError(f"{source.origin}: no class has two images, so that none can be held out")
    return np.setdiff1d(np.arange(len(source.labels)), held, assume_unique=True), held


def draw_per_class(
    labels: npt.NDArray[np.int64], share: float, seed: int, *, at_least: int, leave: int
) -> npt.NDArray[np.int64]:
    """Draw a share of each class at random.

    Of a class of n images round(share * n) are drawn, but no fewer than `at_least` and no more
    than n - `leave` (which prevails). Returns ascending indices into `labels`.
    """
    rng = np.random.default_rng(seed)
    by_class = np.argsort(labels, kind="stable")
    borders = np.flatnonzero(np.diff(labels[by_class])) + 1
    drawn = []
    for members in np.split(by_class, borders):
        count = min(max(round(share * len(members)), at_least), len(members) - leave)
        drawn.append(rng.permutation(members)[:count])
    return np.sort(np.concatenate(drawn))
