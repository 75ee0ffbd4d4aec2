"""What becomes of an image on its way to a square of RGB pixels."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from effnas.data.decoding import decode_all, original_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

TRANSPOSE = Image.Transpose
# What a camera that was held in some way stored, given the upright picture.
STORED = {
    1: None,
    2: TRANSPOSE.FLIP_LEFT_RIGHT,
    3: TRANSPOSE.ROTATE_180,
    4: TRANSPOSE.FLIP_TOP_BOTTOM,
    5: TRANSPOSE.TRANSPOSE,
    6: TRANSPOSE.ROTATE_90,
    7: TRANSPOSE.TRANSVERSE,
    8: TRANSPOSE.ROTATE_270,
}


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def decode(encoded: bytes, size: int) -> Any:
    """The pixels, or the reason why there are none."""
    images = np.zeros((1, size, size, 3), np.uint8)
    reasons: list[str] = []
    decode_all([(0, encoded)], images, lambda _, reason: reasons.append(reason))
    return reasons[0] if reasons else images[0]


def smooth(width: int, height: int) -> npt.NDArray[np.uint8]:
    """A picture without fine detail, so that ways of resizing it agree."""
    y, x = np.mgrid[0:height, 0:width]
    channels = [255 * x / width, 255 * y / height, 127 + 120 * np.sin(6 * x / width)]
    return np.stack(channels, axis=-1).astype(np.uint8)


@pytest.fixture
def pixels() -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM", "TIFF"])
def test_an_image_of_the_size_wanted_is_left_untouched(
    pixels: npt.NDArray[np.uint8], kind: str
) -> None:
    assert np.array_equal(decode(encode(Image.fromarray(pixels), kind), 8), pixels)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_every_kind_of_pixel_becomes_rgb(mode: str) -> None:
    grey = np.full((8, 8, 3), 255, np.uint8)
    grey[:4] = 0
    kind = "TIFF" if mode == "CMYK" else "PNG"
    assert np.array_equal(decode(encode(Image.fromarray(grey).convert(mode), kind), 8), grey)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_of_grey_keep_their_brightness(kind: str) -> None:
    floats = encode(Image.fromarray(np.ones((8, 8), np.float32)), "TIFF")
    assert "unknown range" in decode(floats, 8)
    grey = (np.arange(64, dtype=np.uint16) * 1000).reshape(8, 8)
    found = decode(encode(Image.fromarray(grey), kind), 8)
    assert np.array_equal(found, np.repeat((grey >> 8)[:, :, None], 3, axis=2))


@pytest.mark.parametrize(("bits", "kept"), [(8, 0), (12, 4), (16, 8)])
def test_greys_that_use_some_of_16_bits_are_not_black(bits: int, kept: int) -> None:
    grey = np.linspace(0, (1 << bits) - 1, 64).astype(np.uint16).reshape(8, 8)
    found = decode(encode(Image.fromarray(grey)), 8)
    assert np.array_equal(found[..., 0], grey >> kept)
    assert found.max() == 255


@pytest.mark.parametrize("damage", ["tag", "offset", "text"])
def test_damaged_metadata_are_no_damaged_image(damage: str) -> None:
    image, exif = Image.fromarray(smooth(64, 48)), Image.Exif()
    exif[0x0112], exif[0x010E], exif[0x8769] = 6, "a" * 40, {0x9286: b"x" * 40}
    encoded = bytearray(encode(image, "JPEG", exif=exif, quality=95))
    begins = encoded.index(b"Exif\0\0") + 6
    if damage == "tag":  # a type that there is not
        encoded[begins + 12 : begins + 14] = b"\xee\xee"
    elif damage == "offset":  # of all tags
        encoded[begins + 4 : begins + 8] = b"\xff\xff\xff\x7f"
    else:
        encoded[begins : begins + 8] = b"no exif!"
    found = decode(bytes(encoded), 32)
    assert found.shape == (32, 32, 3)
    assert found.std() > 10


@pytest.mark.parametrize("orientation", STORED)
def test_a_photograph_is_turned_upright(pixels: npt.NDArray[np.uint8], orientation: int) -> None:
    upright = Image.fromarray(pixels)
    method = STORED[orientation]
    stored = upright if method is None else upright.transpose(method)
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert np.array_equal(decode(encode(stored, exif=exif), 8), pixels)


def test_a_damaged_comment_of_a_png_is_no_damaged_image(pixels: npt.NDArray[np.uint8]) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("made by", "somebody")
    encoded = bytearray(encode(Image.fromarray(pixels), pnginfo=text))
    encoded[encoded.index(b"somebody")] ^= 1  # its checksum does not fit any more
    assert np.array_equal(decode(bytes(encoded), 8), pixels)
    assert isinstance(decode(bytes(encoded[:-60]), 8), str)


def test_the_shorter_side_is_fitted_and_the_centre_kept() -> None:
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, :10], wide[:, 10:20], wide[:, 20:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    for image in (Image.fromarray(wide), Image.fromarray(wide.transpose(1, 0, 2))):
        found = decode(encode(image), 20)
        assert found.shape == (20, 20, 3)
        assert np.array_equal(found[10, 10], (0, 255, 0))
        assert np.all(found[4:16, 4:16] == (0, 255, 0))


@pytest.mark.parametrize("pixels_allowed", [48, 16])  # a warning of Pillow, and an error of it
def test_a_decompression_bomb_is_a_bad_image(
    pixels: npt.NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch, pixels_allowed: int
) -> None:
    encoded = encode(Image.fromarray(pixels))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pixels_allowed)
    assert "decompression bomb" in decode(encoded, 8)
    with pytest.raises(ValueError, match="decompression bomb"):
        original_size(encoded)


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        b"not an image",
        encode(Image.fromarray(smooth(64, 64)), "JPEG")[:-200],
        encode(Image.fromarray(smooth(64, 64)))[:-200],
        encode(Image.fromarray(smooth(64, 64)), "EPS"),  # Pillow would start a program for it
        encode(Image.fromarray(smooth(64, 64)), "PCX"),
    ],
    ids=["empty", "text", "cut JPEG", "cut PNG", "PostScript", "a format not asked for"],
)
def test_what_cannot_be_decoded_has_a_reason(encoded: bytes) -> None:
    reason = decode(encoded, 8)
    assert isinstance(reason, str)
    assert reason
    assert "\n" not in reason


def test_no_more_than_a_bounded_number_of_images_waits_for_a_thread() -> None:
    taken = 0

    def images_without_end() -> Iterator[tuple[int, bytes]]:
        nonlocal taken
        while True:
            taken += 1
            yield 0, b""

    def stop(position: int, reason: str) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        decode_all(images_without_end(), np.zeros((1, 4, 4, 3), np.uint8), stop)
    assert taken < 1000
