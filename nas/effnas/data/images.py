"""Decoded images in memory."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from effnas.errors import DataError

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageSet:
    """Labelled images of one square size.

    Attributes:
        images: Pixels, uint8 RGB, of shape [N, S, S, 3].
        labels: Class of each image, int64 in 0..num_classes-1, of shape [N].
        classes: Name of each class; a label is a position in it.
        skipped: Names of the images that were left out because they cannot be decoded.
        part: What the data set calls its test part, if they are of that; None for the training
            part.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    skipped: tuple[str, ...] = ()
    part: str | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of images, labels and classes, 16 hex digits: it differs when the data differ."""
        digest = hashlib.blake2b(digest_size=8)
        # Shape and names as Python text first, which tells where each of them ends.
        digest.update(repr((self.images.shape, self.classes)).encode())
        digest.update(np.ascontiguousarray(self.images).data)
        digest.update(np.ascontiguousarray(self.labels).data)
        return digest.hexdigest()


def allocate_images(count: int, image_size: int) -> npt.NDArray[np.uint8]:
    """Return an unfilled array [count, image_size, image_size, 3].

    Raises:
        DataError: It would take more than half of the memory that is available now.
    """
    needed_bytes = count * image_size * image_size * 3
    limit_bytes = _available_memory_bytes() // 2
    if needed_bytes > limit_bytes:
        raise DataError(
            f"{count:,} images of {image_size}×{image_size} pixels take"
            f" {needed_bytes / 1e9:.1f} GB, more than half of the memory that is available"
            f" ({limit_bytes / 1e9:.1f} GB);"
            " lower --data-share or --image-size, or free some memory"
        )
    return np.empty((count, image_size, image_size, 3), dtype=np.uint8)


def _available_memory_bytes() -> int:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
