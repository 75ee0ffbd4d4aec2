"""The images of a training: all of the training part but its minival."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from effnas.data.choosing import check_image_size, load_parts
from effnas.data.finding import find_source
from effnas.data.holdout import hold_out
from effnas.data.images import bytes_in_memory, memory_limit_bytes
from effnas.data.streaming import StreamedSet

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from effnas.data.images import TrainSet
    from effnas.data.source import OnBadImage, Source


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainImages:
    """The images of a training.

    Attributes:
        train: Images to train on, of the size that they are stored in.
        minival: Held-out images, of the size that accuracy is measured at; None without.
        mirrored: Whether trainings may mirror them, as `Source.mirrored`.
    """

    train: TrainSet
    minival: TrainSet | None
    mirrored: bool

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
        train=sets[0], minival=sets[1] if len(sets) > 1 else None, mirrored=source.mirrored
    )


def _way_out(source: Source) -> str:
    if source.way_out is None:
        return "begin again with another `out`, where they are decoded in every epoch"
    return f"{source.way_out}, so that its images need not be in memory, or take smaller images"
