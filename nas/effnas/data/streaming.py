"""Images that do not fit into memory: decoded again whenever they are needed."""

from __future__ import annotations

import hashlib
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from effnas.config.text import counted
from effnas.data.decoding import DECODERS, decode_into, silence_pillow
from effnas.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from concurrent.futures import Future

    import numpy.typing as npt

    from effnas.data.source import LabelLists, OnBadImage, Source

# Images that a thread decodes at a time.
_PIECE = 8
# Limits of what is decoded ahead of the current batch.
_MAX_PIECES = 128
_MAX_BYTES = 256_000_000


@dataclass(frozen=True, kw_only=True, eq=False)
class StreamedSet:
    """Labelled images of one square size, decoded whenever they are needed: a `TrainSet`.

    Their pixels are those that an `ImageSet` would have.

    Attributes:
        source: What they are a part of; its images can be read in any order.
        indices: Which ones, as indices into the source, int64, of shape [N].
        image_size: Side of the images in pixels.
        on_bad_image: Whether an image that cannot be decoded is an error, or has another one of
            its batch stand in for it.
    """

    source: Source
    indices: npt.NDArray[np.int64]
    image_size: int
    on_bad_image: OnBadImage
    _skipped: dict[str, None] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def classes(self) -> tuple[str, ...]:
        """Name of each class; a label is a position in it."""
        return self.source.classes

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @cached_property
    def labels(self) -> npt.NDArray[np.int64]:
        """Class of each image, in 0..num_classes-1, of shape [N]; the first of several."""
        return self.source.labels[self.indices]

    @cached_property
    def label_lists(self) -> LabelLists | None:
        """All labels of each image; None where every image has one."""
        lists = self.source.label_lists
        return None if lists is None else lists.take(self.indices)

    @property
    def skipped(self) -> tuple[str, ...]:
        """Names of the images that others stand in for, in the order they were read."""
        return tuple(self._skipped)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of names, labels and classes; a file that was repaired leaves it as it is."""
        digest = hashlib.blake2b(digest_size=8)
        digest.update(repr((len(self), self.image_size, self.classes)).encode())
        for index in self.indices.tolist():
            # Names of files may hold bytes that are not UTF-8, but no zero.
            digest.update(self.source.names[index].encode(errors="surrogateescape") + b"\0")
        digest.update(self.labels.data)
        if self.label_lists is not None:
            self.label_lists.update(digest)
        return digest.hexdigest()

    def batches(self, chosen: Iterable[npt.NDArray[np.int64]]) -> Iterator[npt.NDArray[np.uint8]]:
        """Yield the images at each array of n positions, [n, S, S, 3], in order.

        Threads decode up to 1,024 images or 256 MB ahead. They end with the iterator: at its end,
        when it is closed, or when it raises.

        In place of an image that cannot be decoded stands, where such are skipped, the nearest
        good one before it in its batch, else the nearest after it.

        Raises:
            DataError: An image cannot be decoded and none is to be skipped, a batch has no good
                image, or the data cannot be read.
        """
        # Filters of warnings are the process's: a context would be left while others are in theirs.
        silence_pillow()
        most = max(min(_MAX_BYTES // (_PIECE * self.image_size**2 * 3), _MAX_PIECES), 1)
        pieces = self._pieces(chosen)
        pending: deque[tuple[_Piece, Future[list[tuple[int, str]]]]] = deque()
        bad: list[int] = []
        pool = ThreadPoolExecutor(DECODERS, thread_name_prefix="decode")
        try:
            while True:
                for piece in islice(pieces, most - len(pending)):
                    pending.append((piece, pool.submit(self._decode, piece)))
                if not pending:
                    return
                piece, reasons = pending.popleft()
                for position, reason in reasons.result():
                    self._note_bad_image(piece.indices[position], reason)
                    bad.append(position)
                if piece.is_last:
                    self._replace(bad, piece)
                    yield piece.images
                    bad = []
        finally:
            pool.shutdown(cancel_futures=True)

    def _pieces(self, chosen: Iterable[npt.NDArray[np.int64]]) -> Iterator[_Piece]:
        for positions in chosen:
            indices = self.indices[positions]
            images = np.empty((len(indices), self.image_size, self.image_size, 3), np.uint8)
            for start in range(0, max(len(indices), 1), _PIECE):
                yield _Piece(indices, images, start)

    def _decode(self, piece: _Piece) -> list[tuple[int, str]]:
        encoded = self.source.read(piece.indices[piece.start : piece.start + _PIECE])
        return decode_into(((piece.start + n, image) for n, image in encoded), piece.images)

    def _note_bad_image(self, index: int, reason: str) -> None:
        name = self.source.names[index]
        if self.on_bad_image == "refuse":
            raise DataError(
                f"{self.source.origin}: {name} cannot be decoded ({reason}); repair it, or pass"
                " `on_bad_image` skip; what is stored of the training is kept"
            )
        self._skipped[name] = None

    def _replace(self, bad: list[int], piece: _Piece) -> None:
        if not bad:
            return
        good = np.setdiff1d(np.arange(len(piece.indices)), bad)
        if len(good) == 0:
            raise DataError(
                f"{self.source.origin}: of {counted(len(bad), 'image')} of a batch, none can be"
                f" decoded, {self.source.names[piece.indices[0]]} among them; repair or remove them"
            )
        before = np.searchsorted(good, bad) - 1
        piece.images[bad] = piece.images[good[np.maximum(before, 0)]]


class _Piece(NamedTuple):
    """A few images of a batch, from `start` on; `indices` and `images` are those of the batch."""

    indices: npt.NDArray[np.int64]
    images: npt.NDArray[np.uint8]
    start: int

    @property
    def is_last(self) -> bool:
        return self.start + _PIECE >= len(self.indices)
