"""The images of a training: all of the training part but its minival."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from effnas.data.choosing import check_image_size, hold_out, load_parts
from effnas.data.finding import find_source
from effnas.data.images import fit_into_memory
from effnas.data.streaming import StreamedSet

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from effnas.data.images import TrainSet
    from effnas.data.source import OnBadImage, Source


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainImages:
    """The images of a training.

    Attributes:
        train: Images to train on, of the size that they are stored in.
        minival: Held-out images, of the size that accuracy is measured at; None without.
    """

    train: TrainSet
    minival: TrainSet | None

    @property
    def skipped(self) -> tuple[str, ...]:
        """Names of the images that cannot be decoded, as far as they have been met."""
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
) -> TrainImages:
    """Read the training part of a data set, split into images to train on and a minival.

    The split is that of `load_search_images` with the same share and seed. Images that do not fit
    into memory (half of what is available) are decoded whenever they are needed.

    Args:
        name: As in `load_training_part`; also a table whose images have several labels.
        image_size: Side of the training images in pixels, 1 or more.
        eval_image_size: Side of the minival's images in pixels, 1 or more.
        minival_share: Share of the training part to hold out, 0 or more and below 1.
        seed: Of the draw.
        on_bad_image: Whether an image that cannot be decoded is an error, or is left out. Of images
            that are not kept in memory both happen when it is met: `StreamedSet.batches`.
        root: As in `load_training_part`.

    Raises:
        DataError: As `load_training_part`, a class is too small to be split, or images that do
            not fit into memory can only be read from beginning to end, as those of an archive.
    """
    for size in (image_size, eval_image_size):
        check_image_size(size)
    source = find_source(name, root)
    source.check_classes()
    if minival_share == 0:
        everything = np.arange(len(source.labels))
        return TrainImages(train=_load(source, everything, image_size, on_bad_image), minival=None)
    train, minival = hold_out(source, minival_share, seed)
    if source.way_out is not None and image_size == eval_image_size:
        # Reading an archive takes long: both at once.
        train_set, minival_set = load_parts(
            source, [train, minival], image_size, on_bad_image, _way_out(source.way_out)
        )
        return TrainImages(train=train_set, minival=minival_set)
    return TrainImages(
        train=_load(source, train, image_size, on_bad_image),
        minival=_load(source, minival, eval_image_size, on_bad_image),
    )


def _load(
    source: Source, chosen: npt.NDArray[np.int64], image_size: int, on_bad_image: OnBadImage
) -> TrainSet:
    if source.way_out is None:
        if not fit_into_memory(len(chosen), image_size):
            return StreamedSet(
                source=source, indices=chosen, image_size=image_size, on_bad_image=on_bad_image
            )
        return load_parts(source, [chosen], image_size, on_bad_image)[0]
    return load_parts(source, [chosen], image_size, on_bad_image, _way_out(source.way_out))[0]


def _way_out(medium: str) -> str:
    return f"{medium}, so that its images need not be in memory, or take smaller images"
