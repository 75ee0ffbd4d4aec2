"""How an encoded image becomes a square of RGB pixels."""

from __future__ import annotations

import io
import os
import struct
import warnings
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future

    import numpy.typing as npt
    from PIL import Image

    from effnas.data.source import Encoded

# What the suffixes that we read stand for. Pillow knows more formats, and some of them (EPS)
# start other programs.
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF", "PPM")

#: Threads that decode at the same time.
DECODERS = min(os.cpu_count() or 1, 16)

#: Bits that greys of 16 bits may use; the fewest that hold the values of an image count.
_GREY_BITS = (8, 12, 16)

_PNG = b"\x89PNG\r\n\x1a\n"

# Images handed to a thread at a time: enough to make small images cheap to hand over, and few
# enough that encoded photographs waiting for a thread stay below some tens of megabytes.
_BATCH = 16


def decode_all(
    encoded: Iterable[tuple[int, Encoded]],
    images: npt.NDArray[np.uint8],
    on_bad_image: Callable[[int, str], None],
) -> None:
    """Decode each `(position, image)` into `images[position]`, in threads.

    `images` has the shape [N, S, S, 3]. For an image that cannot be decoded,
    `on_bad_image(position, reason)` is called instead, in the calling thread and in the order of
    `encoded`; what it raises ends the work.
    """
    items = iter(encoded)
    pending: deque[Future[list[tuple[int, str]]]] = deque()

    def finish_oldest() -> None:
        for position, reason in pending.popleft().result():
            on_bad_image(position, reason)

    with _quiet_pillow(), ThreadPoolExecutor(DECODERS) as pool:
        while batch := list(islice(items, _BATCH)):
            pending.append(pool.submit(decode_into, batch, images))
            if len(pending) > 2 * DECODERS:
                finish_oldest()
        while pending:
            finish_oldest()


def original_size(encoded: Encoded) -> tuple[int, int]:
    """Return height and width of an image in pixels, reading no more than its header.

    Raises:
        ValueError: It is not an image that can be read.
    """
    try:
        with _quiet_pillow(), _open(encoded) as image:
            return image.height, image.width
    except Exception as error:
        raise ValueError(_reason(error)) from error


def decode_into(
    encoded: Iterable[tuple[int, Encoded]], images: npt.NDArray[np.uint8]
) -> list[tuple[int, str]]:
    """Decode each `(position, image)` into `images[position]`, in this thread.

    `images` has the shape [N, S, S, 3]. Returns `(position, reason)` for each image that cannot be
    decoded.
    """
    bad = []
    for position, image in encoded:
        try:
            images[position] = _decode_square(image, images.shape[1])
        except Exception as error:  # noqa: BLE001 - damaged files make Pillow raise anything
            try:
                images[position] = _decode_square(_pixels_of_png(image), images.shape[1])
            except Exception:  # noqa: BLE001 - likewise
                bad.append((position, _reason(error)))
    return bad


def _pixels_of_png(encoded: Encoded) -> bytes:
    """Return a PNG without its metadata, for which Pillow refuses a whole image if it is damaged.

    Raises:
        ValueError: It is no PNG.
    """
    content = encoded.read_bytes() if isinstance(encoded, Path) else encoded
    if not isinstance(content, bytes) or not content.startswith(_PNG):
        raise ValueError("no PNG")
    kept, place = [_PNG], len(_PNG)
    while place < len(content):
        length, kind = struct.unpack_from(">I4s", content, place)
        end = place + 12 + length  # with length, kind, and checksum
        if kind[:1].isupper() or kind == b"tRNS":  # what pixels depend on
            kept.append(content[place:end])
        place = end
    return b"".join(kept)


def _decode_square(encoded: Encoded, image_size: int) -> npt.NDArray[np.uint8]:
    from PIL import Image, ImageOps

    with _open(encoded) as image:
        # JPEG alone can be decoded at a fraction of its size. Twice what is needed leaves the
        # antialiasing to the resize below.
        image.draft(None, (2 * image_size, 2 * image_size))
        rgb = _to_rgb(_upright(image))
        if rgb.size != (image_size, image_size):
            rgb = ImageOps.fit(rgb, (image_size, image_size), Image.Resampling.BICUBIC)
        return np.asarray(rgb)


def _upright(image: Image.Image) -> Image.Image:
    """Return an image as its camera was held.

    Not by Pillow's `exif_transpose`, which refuses a whole image for a damaged tag of its metadata.
    """
    from PIL import ExifTags, Image

    turned = Image.Transpose
    turns = {
        2: turned.FLIP_LEFT_RIGHT, 3: turned.ROTATE_180, 4: turned.FLIP_TOP_BOTTOM,
        5: turned.TRANSPOSE, 6: turned.ROTATE_270, 7: turned.TRANSVERSE, 8: turned.ROTATE_90,
    }  # fmt: skip
    turn = None
    with suppress(Exception):  # damaged files make Pillow raise anything
        turn = turns.get(image.getexif()[ExifTags.Base.Orientation])
    return image if turn is None else image.transpose(turn)


def _open(encoded: Encoded) -> Image.Image:
    from PIL import Image

    if isinstance(encoded, Image.Image):
        return encoded
    source = encoded if isinstance(encoded, Path) else io.BytesIO(encoded)
    image = Image.open(source, formats=_FORMATS)
    # Pillow itself has but a warning up to twice as many.
    most = Image.MAX_IMAGE_PIXELS
    if most is not None and image.width * image.height > most:
        image.close()
        raise ValueError(f"{image.width}×{image.height} pixels, which may be a decompression bomb")
    return image


def _to_rgb(image: Image.Image) -> Image.Image:
    from PIL import Image

    if image.mode == "F" or (image.mode == "I" and image.format == "TIFF"):
        raise ValueError("its pixels have 32 bits each, of unknown range")
    if image.mode.startswith("I"):
        # 16 bits of grey, which convert() would clip at 255 and so turn white. Medical and machine
        # cameras use 12 of them, and some programs 8: else such images would be black.
        values = np.asarray(image)
        bits = next(bits for bits in _GREY_BITS if values.max() < 1 << bits)
        grey = (values >> (bits - 8)).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def silence_pillow() -> None:
    """Keep remarks of Pillow off the terminal from now on."""
    warnings.filterwarnings("ignore", module=r"PIL\.")


@contextmanager
def _quiet_pillow() -> Iterator[None]:
    with warnings.catch_warnings():
        silence_pillow()
        yield


def _reason(error: Exception) -> str:
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "not an image of a known format"
    return str(error).partition("\n")[0] or type(error).__name__
