"""Decoded images in memory."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np

from effnas.data.memory import available_memory_bytes
from effnas.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy.typing as npt

    from effnas.data.source import LabelLists


class TrainSet(Protocol):
    """Labelled images of one square size, in memory or decoded whenever they are needed."""

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """Class of each image, in 0..num_classes-1, of shape [N]; the first of several."""

    @property
    def label_lists(self) -> LabelLists | None:
        """All labels of each image; None where every image has one."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Name of each class; a label is a position in it."""

    @property
    def num_classes(self) -> int:
        """Number of classes."""

    @property
    def image_size(self) -> int:
        """Side S of the images in pixels."""

    @property
    def skipped(self) -> tuple[str, ...]:
        """Names of the images that cannot be decoded, as far as they have been met."""

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that differ when the data differ."""

    def __len__(self) -> int:
        """Return the number of images, N."""

    def batches(self, chosen: Iterable[npt.NDArray[np.int64]]) -> Iterator[npt.NDArray[np.uint8]]:
        """Yield the images at each array of n positions, RGB, of shape [n, S, S, 3], in order.

        `chosen` may be read some batches ahead.

        Raises:
            DataError: An image cannot be decoded or read.
        """


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageSet:
    """Labelled images of one square size, in memory: a `TrainSet`.

    Attributes:
        images: Pixels, uint8 RGB, of shape [N, S, S, 3].
        labels: Class of each image, int64 in 0..num_classes-1, of shape [N]; the first of several.
        classes: Name of each class; a label is a position in it.
        skipped: Names of the images that were left out because they cannot be decoded.
        part: What the data set calls its test part, if they are of that; None for the training
            part.
        label_lists: All labels of each image; None where every image has one.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    skipped: tuple[str, ...] = ()
    part: str | None = None
    label_lists: LabelLists | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @property
    def class_counts(self) -> tuple[int, ...]:
        """Number of images of each class, by their first labels."""
        return class_counts(self)

    @property
    def image_size(self) -> int:
        """Side of the images in pixels."""
        return int(self.images.shape[1])

    def batches(self, chosen: Iterable[npt.NDArray[np.int64]]) -> Iterator[npt.NDArray[np.uint8]]:
        """Yield the images at each array of n positions, [n, S, S, 3], in order."""
        for indices in chosen:
            yield self.images[indices]

    @cached_property
    def fingerprint(self) -> str:
        """Hash of images, labels and classes, 16 hex digits: it differs when the data differ."""
        digest = hashlib.blake2b(digest_size=8)
        # Shape and names as Python text first, which tells where each of them ends.
        digest.update(repr((self.images.shape, self.classes)).encode())
        digest.update(np.ascontiguousarray(self.images).data)
        digest.update(np.ascontiguousarray(self.labels).data)
        if self.label_lists is not None:
            self.label_lists.update(digest)
        return digest.hexdigest()


def class_counts(images: TrainSet) -> tuple[int, ...]:
    """Return the number of images of each class, by their first labels."""
    return tuple(np.bincount(images.labels, minlength=images.num_classes).tolist())


def single_class_counts(images: TrainSet | None) -> tuple[int, ...]:
    """Return the number of images of each class; nothing without images, or if one has several."""
    return () if images is None or images.label_lists is not None else class_counts(images)


def memory_limit_bytes() -> int:
    """Return how many bytes images may take: half of the memory that is available now."""
    return available_memory_bytes() // 2


def bytes_in_memory(count: int, image_size: int) -> int:
    """Return how many bytes that many images take."""
    return count * image_size * image_size * 3


def allocate_images(
    count: int, image_size: int, *, way_out: str = "lower `data_share` or `image_size`"
) -> npt.NDArray[np.uint8]:
    """Return an unfilled array [count, image_size, image_size, 3].

    Raises:
        DataError: The images do not fit into memory; it says what to do, `way_out`.
    """
    needed_bytes, limit_bytes = bytes_in_memory(count, image_size), memory_limit_bytes()
    if needed_bytes > limit_bytes:
        raise DataError(
            f"{count:,} images of {image_size}×{image_size} pixels take"
            f" {needed_bytes / 1e9:.1f} GB, more than half of the memory that is available"
            f" ({limit_bytes / 1e9:.1f} GB); {way_out}, or free some memory"
        )
    return np.empty((count, image_size, image_size, 3), dtype=np.uint8)
