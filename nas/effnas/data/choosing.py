"""Chosen images of a source, decoded into memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from effnas.data.decoding import decode_all
from effnas.data.images import ImageSet, allocate_images
from effnas.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from effnas.data.source import OnBadImage, Source


def load_parts(
    source: Source,
    parts: Sequence[npt.NDArray[np.int64]],
    image_size: int,
    on_bad_image: OnBadImage,
    way_out: str = "lower `data_share` or `image_size`",
) -> list[ImageSet]:
    """Decode the images at these indices into memory, reading the source once.

    Args:
        source: What is read.
        parts: Indices of the images of each part.
        image_size: Side of the images in pixels, 1 or more.
        on_bad_image: As in `load_search_images`.
        way_out: What to do if they do not fit into memory.

    Returns:
        One set for each part, in the order of its indices, without the images that cannot be
        decoded.

    Raises:
        DataError: As `load_search_images`.
    """
    chosen = np.concatenate(parts)
    images, good, bad = _decode(source, chosen, image_size, on_bad_image, way_out)
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

    decode_all(source.read(chosen), images, note_bad_image)
    bad.sort()
    good = np.delete(np.arange(len(chosen)), bad)
    if bad:
        # Closing the gaps in place: a copy could take more memory than there is.
        for position, index in enumerate(good):
            images[position] = images[index]
    return images[: len(good)], good, np.array(bad, np.int64)


def _check_classes_left(source: Source, labels: npt.NDArray[np.int64]) -> None:
    lost = set(range(len(source.classes))) - set(np.unique(labels).tolist())
    if lost and source.every_class:
        raise DataError(
            f"{source.origin}: no image of {source.class_noun} {source.classes[min(lost)]!r}"
            " can be decoded"
        )
    if len(labels) == 0:
        raise DataError(f"{source.origin}: none of the images can be decoded")
