"""The images of a training: the split, the sizes, and what does not fit into memory."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from image_trees import NOT_AN_IMAGE, write_archive
from PIL import Image

import effnas.data.images
import effnas.data.streaming
from effnas.data.images import ImageSet, TrainSet
from effnas.data.loading import TrainImages, load_search_images, load_train_images
from effnas.data.streaming import StreamedSet
from effnas.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from effnas.data.source import OnBadImage


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twenty JPEGs of each of three classes, of different sizes and all different."""
    rng = np.random.default_rng(0)
    for name in ("ant", "bee", "cat"):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for i in range(20):
            noise = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
            size = (int(rng.integers(20, 90)), int(rng.integers(20, 90)))
            Image.fromarray(noise).resize(size).save(folder / f"{i:02}.jpg", quality=95)
    return tmp_path / "photos"


def load(path: Path | str, **options: Any) -> TrainImages:
    defaults = {"image_size": 16, "eval_image_size": 24, "minival_share": 0.2}
    return load_train_images(str(path), **{**defaults, **options})


def every(images: TrainSet) -> npt.NDArray[np.uint8]:
    return next(images.batches([np.arange(len(images))]))


def decoders() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def stream(path: Path, on_bad_image: OnBadImage = "refuse", size: int = 16) -> StreamedSet:
    found = load(path, image_size=size, minival_share=0, on_bad_image=on_bad_image).train
    assert isinstance(found, StreamedSet)
    return found


@pytest.mark.parametrize("size", [16, 24])
def test_the_split_is_that_of_a_search(
    photos: Path, pack: Callable[[Path], Path], size: int
) -> None:
    path = pack(photos)
    found = load(path, image_size=size, seed=3)
    assert found.minival is not None
    assert (found.train.image_size, found.minival.image_size) == (size, 24)
    for part, other, side in ((found.train, "train", size), (found.minival, "holdout", 24)):
        search = load_search_images(str(path), image_size=side, holdout_share=0.2, seed=3)
        expected = getattr(search, other)
        assert isinstance(part, ImageSet)
        assert part.fingerprint == expected.fingerprint
    assert np.bincount(found.minival.labels).tolist() == [4, 4, 4]


def test_what_does_not_fit_into_memory_is_streamed(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both_bytes = 48 * 16 * 16 * 3 + 12 * 24 * 24 * 3
    for free_bytes, kind in ((2 * both_bytes - 2, StreamedSet), (2 * both_bytes, ImageSet)):
        monkeypatch.setattr(effnas.data.images, "available_memory_bytes", lambda b=free_bytes: b)
        found = load(photos)
        assert isinstance(found.train, kind)
        assert isinstance(found.minival, kind)
        assert found.are_streamed == (kind is StreamedSet)


def test_the_memory_that_images_may_take_can_be_given(photos: Path, no_memory: None) -> None:
    with pytest.raises(DataError, match="begin again with another `out`"):
        load(photos, memory_bytes=10**9)
    assert load(photos, memory_bytes=0).are_streamed


def test_an_archive_that_does_not_fit_into_memory_must_be_unpacked(
    tmp_path: Path, photos: Path, no_memory: None
) -> None:
    archive = write_archive(tmp_path / "photos.tar", photos)
    for size in (16, 24):
        with pytest.raises(DataError, match=r"\d+×\d+ pixels take .* GB.*unpack the archive"):
            load(archive, image_size=size)


@pytest.mark.parametrize("size", [8, 64])
def test_streamed_images_are_those_in_memory_pixel_for_pixel(
    photos: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    in_memory = load(photos, image_size=size)
    monkeypatch.setattr(effnas.data.images, "available_memory_bytes", lambda: 0)
    streamed = load(photos, image_size=size)
    for old, new in ((in_memory.train, streamed.train), (in_memory.minival, streamed.minival)):
        assert isinstance(old, ImageSet)
        assert isinstance(new, StreamedSet)
        assert np.array_equal(every(new), old.images)
        assert np.array_equal(new.labels, old.labels)
        assert (new.classes, new.num_classes, len(new)) == (old.classes, 3, len(old))
        assert new.image_size == old.image_size
        assert new.label_lists is old.label_lists is None


@pytest.mark.parametrize("ahead_bytes", [1, 256_000_000])
def test_batches_come_in_order_whatever_is_read_ahead(
    photos: Path, monkeypatch: pytest.MonkeyPatch, ahead_bytes: int
) -> None:
    in_memory = load(photos).train
    monkeypatch.setattr(effnas.data.images, "available_memory_bytes", lambda: 0)
    monkeypatch.setattr(effnas.data.streaming, "_MAX_BYTES", ahead_bytes)
    streamed = load(photos).train
    rng = np.random.default_rng(0)
    # Of sizes around those of the pieces that threads get, one longer than all that is read
    # ahead, and empty ones, too.
    chosen = [rng.integers(0, len(in_memory), n) for n in (7, 8, 0, 9, 1, 200, 16, 33, 0)]
    expected = list(in_memory.batches(chosen))
    for _ in range(2):
        found = list(streamed.batches(iter(chosen)))
        assert len(found) == len(expected) == 9
        assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
        assert all(batch.dtype == np.uint8 for batch in found)
    assert decoders() == []


def test_the_threads_end_with_the_iterator(photos: Path, no_memory: None) -> None:
    images = stream(photos)
    chosen = [np.arange(60)] * 100
    batches = images.batches(chosen)
    next(batches)
    assert decoders()
    batches.close()
    assert decoders() == []
    for _ in images.batches(chosen):  # left to the interpreter
        break
    assert decoders() == []

    def broken() -> Iterator[npt.NDArray[np.int64]]:
        yield np.arange(60)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(images.batches(broken()))
    assert decoders() == []


def test_a_bad_image_that_is_streamed_is_refused_when_it_is_met(
    photos: Path, no_memory: None
) -> None:
    good = (photos / "bee" / "05.jpg").read_bytes()
    (photos / "bee" / "05.jpg").write_bytes(good[: len(good) // 2])
    images = stream(photos)
    batches = images.batches(np.split(np.arange(60), 6))
    assert len([next(batches) for _ in range(2)]) == 2
    with pytest.raises(DataError, match=r"bee/05\.jpg cannot be decoded.*`on_bad_image` skip"):
        next(batches)
    assert decoders() == []
    (photos / "bee" / "05.jpg").write_bytes(good)
    assert len(every(images)) == 60


def test_in_place_of_a_bad_image_stands_the_nearest_good_one_of_its_batch(
    photos: Path, no_memory: None
) -> None:
    pixels = every(stream(photos))
    for name in ("ant/00.jpg", "ant/01.jpg", "ant/05.jpg", "ant/06.jpg", "ant/19.jpg"):
        (photos / name).write_bytes(NOT_AN_IMAGE)
    images = stream(photos, "skip")
    assert images.skipped == ()
    chosen = [np.arange(20), np.array([30, 5, 31, 6, 19]), np.array([1, 0, 40]), np.arange(40, 50)]
    stand_ins = [
        [2, 2, 2, 3, 4, 4, 4, *range(7, 19), 18],
        [30, 30, 31, 31, 31],
        [40, 40, 40],
        range(40, 50),
    ]
    for _ in range(2):
        for found, expected in zip(images.batches(chosen), stand_ins, strict=True):
            assert np.array_equal(found, pixels[list(expected)])
        assert images.skipped == tuple(f"ant/{n:02}.jpg" for n in (0, 1, 5, 6, 19))
    with pytest.raises(DataError, match=r"of 2 images of a batch, none .*ant/00\.jpg"):
        next(images.batches([np.arange(2)]))
    assert decoders() == []


def test_the_fingerprint_of_streamed_images_changes_with_the_data(
    photos: Path, no_memory: None
) -> None:
    prints = [stream(photos).fingerprint]
    with (photos / "ant" / "00.jpg").open("ab") as file:
        file.write(b"\0")  # a file that was repaired is the same image
    assert stream(photos).fingerprint == prints[0]
    assert len(prints[0]) == 16
    prints.append(stream(photos, size=24).fingerprint)
    (photos / "cat").rename(photos / "cow")
    prints.append(stream(photos).fingerprint)
    (photos / "cow" / "00.jpg").rename(photos / "bee" / "00x.jpg")
    prints.append(stream(photos).fingerprint)
    (photos / "ant" / "00.jpg").unlink()
    prints.append(stream(photos).fingerprint)
    assert len(set(prints)) == 5
