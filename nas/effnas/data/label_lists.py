"""Images with several labels each, as those of ImageNet-21k have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import hashlib

    import numpy.typing as npt


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
