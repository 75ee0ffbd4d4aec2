"""Draws that keep the proportions of the classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from effnas.errors import DataError

if TYPE_CHECKING:
    import numpy.typing as npt

    from effnas.data.source import Source


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
