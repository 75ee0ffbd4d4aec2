"""What a data set holds, before any image is decoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from effnas.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from typing import TypeAlias

    import numpy.typing as npt
    from PIL import Image

    Encoded: TypeAlias = Path | bytes | Image.Image

#: What is asked for: a search asks for the training part only.
Part = Literal["training", "test"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """The images of one part of a data set: their names and labels, and a way to get at them.

    Attributes:
        origin: The path or name that the user gave, for messages.
        classes: Name of each class.
        names: Name of each image, in an order that is the same on every machine.
        labels: Class of each image, of shape [N].
        read: Given indices into `names`, yields `(position in the indices, image)` for each of
            them, in the order that suits the medium.
        class_noun: What a class is called in messages.
        part: What the data set calls its test part; None for the training part.
    """

    origin: str
    classes: tuple[str, ...]
    names: Sequence[str]
    labels: npt.NDArray[np.int64]
    read: Callable[[npt.NDArray[np.int64]], Iterator[tuple[int, Encoded]]]
    class_noun: str = "class"
    part: str | None = None

    def check_classes(self) -> None:
        """Raise a `DataError` unless there are two or more classes, each with an image."""
        if len(self.classes) < 2:
            raise DataError(
                f"{self.origin}: there is one {self.class_noun} only, {self.classes[0]!r};"
                " a search needs two or more"
            )
        counts = np.bincount(self.labels, minlength=len(self.classes))
        if not counts.all():
            empty = self.classes[int(np.argmin(counts))]
            raise DataError(
                f"{self.origin}: {self.class_noun} {empty!r} holds no images;"
                " add some, or remove it from all parts"
            )
