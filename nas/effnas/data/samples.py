"""Some training images as the networks see them, in one picture."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from effnas.data.images import ImageSet

_COLUMNS, _ROWS = 6, 2
#: Pixels of an image in the picture, at most, and between two of them.
_MAX_SIZE, _GAP = 96, 2


def samples_png(images: ImageSet) -> bytes:
    """Return a PNG of twelve images of up to twelve classes, six in a row, of 96 pixels at most."""
    from PIL import Image

    size = min(images.image_size, _MAX_SIZE)
    step = size + _GAP
    sheet = Image.new("RGB", (_COLUMNS * step - _GAP, _ROWS * step - _GAP), "white")
    for place, index in enumerate(_spread(images)):
        picture = Image.fromarray(images.images[index])
        if size < images.image_size:
            picture = picture.resize((size, size), Image.Resampling.LANCZOS)
        sheet.paste(picture, (place % _COLUMNS * step, place // _COLUMNS * step))
    file = io.BytesIO()
    sheet.save(file, "PNG")
    return file.getvalue()


def _spread(images: ImageSet) -> list[int]:
    """Return the indices of twelve images, or of all if there are fewer: by turns of the classes.

    Of more classes than that, some evenly spread ones are taken.
    """
    count = min(_COLUMNS * _ROWS, len(images))
    by_class = np.argsort(images.labels, kind="stable")
    labels = images.labels[by_class]
    groups = np.split(by_class, np.flatnonzero(np.diff(labels)) + 1)
    if len(groups) > count:
        groups = [groups[n] for n in np.linspace(0, len(groups) - 1, count).astype(int)]
    turns = sorted((turn, n, int(i)) for n, each in enumerate(groups)
                   for turn, i in enumerate(each[:count]))  # fmt: skip
    return [index for _, _, index in turns[:count]]
