"""Data sets that timm opens by name: a real one in MNIST's format, and stand-ins for streams."""

from __future__ import annotations

import io
import struct
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from image_trees import load_all
from PIL import Image

import effnas.data.images
from effnas.data.images import ImageSet
from effnas.data.loading import (
    load_search_images,
    load_test_part,
    load_train_images,
    native_image_size,
)
from effnas.data.streaming import StreamedSet
from effnas.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import numpy.typing as npt
    from image_trees import TouchedFiles

pytestmark = pytest.mark.slow  # all of it imports timm, and with it torch


def write_idx(path: Path, array: npt.NDArray[Any]) -> None:
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


@pytest.fixture
def mnist(tmp_path: Path) -> SimpleNamespace:
    """Fifty training images, and a test part that cannot be read."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 256, (50, 28, 28))
    labels = np.arange(50) % 10
    write_idx(raw / "train-images-idx3-ubyte", images)
    write_idx(raw / "train-labels-idx1-ubyte", labels)
    (raw / "t10k-images-idx3-ubyte").write_bytes(b"not to be read")
    (raw / "t10k-labels-idx1-ubyte").write_bytes(b"not to be read")
    return SimpleNamespace(root=tmp_path, images=images, labels=labels)


def test_a_part_of_a_data_set_of_torchvision_is_read_by_its_name(
    mnist: SimpleNamespace, touched_files: TouchedFiles
) -> None:
    raw = mnist.root / "MNIST" / "raw"
    with touched_files() as touched:
        found = load_all("torch/mnist", 28, root=mnist.root)
    assert np.array_equal(found.images, np.repeat(mnist.images[..., None], 3, axis=3))
    assert np.array_equal(found.labels, mnist.labels)
    assert found.classes[3] == "3 - three"
    assert [path for path in touched if "train-images" in path]
    assert not [path for path in touched if "t10k" in path]
    with pytest.raises(DataError, match=r"^torch/mnist: no test part; looked for the splits"):
        load_test_part("torch/mnist", image_size=28, classes=("0",), root=mnist.root)
    assert native_image_size("torch/mnist", root=mnist.root) == 28
    images = np.random.default_rng(1).integers(0, 256, (20, 28, 28))
    write_idx(raw / "t10k-images-idx3-ubyte", images)
    write_idx(raw / "t10k-labels-idx1-ubyte", np.arange(20) % 10)
    with touched_files() as touched:
        test = load_test_part("torch/mnist", image_size=28, classes=found.classes, root=mnist.root)
    assert test.part == "test"
    assert np.array_equal(test.images[..., 0], images)
    opened = [path for path in touched if path.startswith(str(raw)) and "-idx" in path]
    assert opened
    assert not [path for path in opened if "train" in path]


@pytest.mark.parametrize(
    ("labels", "read"),
    [
        ({"test": [-1, -1, -1], "validation": [0, 1, 2]}, "validation"),
        ({"validation": [0, 1, 2]}, "validation"),
    ],
    ids=["secret labels", "no test part"],
)
def test_a_split_of_timm_without_labels_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, labels: dict[str, list[int]], read: str
) -> None:
    def open_split(*_: object, split: str, **__: object) -> object:
        reader = RandomAccessReader(encoded_images(len(labels[split])))
        reader.class_to_idx = {"a": 0, "b": 1, "c": 2}
        reader.dataset = {"label": labels[split]}
        return image_dataset(reader)

    monkeypatch.setattr("timm.data.create_dataset", open_split)
    found = load_test_part("hfds/x", image_size=8, classes=("a", "b", "c"))
    assert found.part == read
    assert found.labels.tolist() == labels[read]


def test_the_label_of_qmnist_is_the_digit(tmp_path: Path) -> None:
    raw = tmp_path / "QMNIST" / "raw"
    raw.mkdir(parents=True)
    digits = np.arange(20) % 10
    columns = np.stack([digits, *[np.full(20, 77)] * 7], axis=1)
    write_idx(raw / "qmnist-train-images-idx3-ubyte", np.zeros((20, 28, 28)))
    header = struct.pack(">HBB2I", 0, 12, 2, *columns.shape)
    (raw / "qmnist-train-labels-idx2-int").write_bytes(header + columns.astype(">i4").tobytes())
    found = load_all("torch/qmnist", 28, root=tmp_path)
    assert np.array_equal(found.labels, digits)


@pytest.mark.parametrize(
    ("name", "mirrored"),
    [("tfds/cifar10", True), ("tfds/EMNIST/letters", False), ("hfds/ufldl-stanford/svhn", False)],
)
def test_data_sets_of_digits_and_letters_are_not_mirrored(
    monkeypatch: pytest.MonkeyPatch, name: str, mirrored: bool
) -> None:
    if name.startswith("tfds"):
        open_stream(monkeypatch, range(30), range(30))
    else:
        dataset = image_dataset(RandomAccessReader(encoded_images(30)))
        monkeypatch.setattr("timm.data.create_dataset", lambda *_, **__: dataset)
    assert load_search_images(name, image_size=8, holdout_share=0.2).mirrored == mirrored


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("torch/cifar10", "Dataset not found"),
        ("torch/cifra10", "cifra10"),
        ("torch/folder", "name the folder itself"),
        ("wds/shards", "webdataset"),
    ],
)
def test_what_timm_cannot_open_is_one_line(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        load_all(name, root=tmp_path)
    assert str(caught.value).startswith(f"{name}: ")
    assert "\n" not in str(caught.value)
    assert "download=True" not in str(caught.value)


def numbered_image(number: int) -> Image.Image:
    return Image.new("RGB", (8, 8), (number, 0, 0))


def encoded_images(count: int) -> list[bytes]:
    streams = [io.BytesIO() for _ in range(count)]
    for number, stream in enumerate(streams):
        numbered_image(number).save(stream, "PNG")
    return [stream.getvalue() for stream in streams]


def image_dataset(reader: object) -> object:
    from timm.data.dataset import ImageDataset

    return ImageDataset(None, reader=reader)


class StreamReader:
    """Gives thirty numbered images of three classes, as timm's readers of streams do."""

    class_to_idx = {"c": 2, "a": 0, "b": 1}  # noqa: RUF012

    def __init__(self, numbers_at_each_reading: Iterable[Iterable[int]]) -> None:
        self.readings = iter(numbers_at_each_reading)
        self.given = 0

    def __iter__(self) -> Iterator[tuple[Image.Image, np.int64]]:
        for number in next(self.readings):
            self.given += 1
            yield numbered_image(number), np.int64(number % 3)


def open_stream(
    monkeypatch: pytest.MonkeyPatch, *numbers_at_each_reading: Iterable[int]
) -> StreamReader:
    from timm.data.dataset import IterableImageDataset

    reader = StreamReader(numbers_at_each_reading)
    dataset = IterableImageDataset(None, reader=reader)
    monkeypatch.setattr("timm.data.create_dataset", lambda *_, **__: dataset)
    return reader


def test_a_stream_is_read_whole_and_by_share(monkeypatch: pytest.MonkeyPatch) -> None:
    open_stream(monkeypatch, range(30), range(30), range(30), range(30))
    whole = load_all("tfds/thirty")
    assert whole.images[:, 0, 0, 0].tolist() == list(range(30))
    assert whole.classes == ("a", "b", "c")
    drawn = load_search_images("tfds/thirty", image_size=8, holdout_share=0.2, data_share=0.5)
    for part, of_each in ((drawn.train, 4), (drawn.holdout, 2)):
        assert np.bincount(part.labels).tolist() == [of_each] * 3
        assert np.array_equal(part.images[:, 0, 0, 0] % 3, part.labels)


def test_the_native_size_of_a_stream_is_that_of_its_beginning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reader = open_stream(monkeypatch, range(30), range(30))
    assert native_image_size("wds/thirty") == 8
    assert reader.given < 30


@pytest.mark.parametrize("second", [range(1, 31), range(29)])
def test_a_stream_that_differs_on_second_reading_is_refused(
    monkeypatch: pytest.MonkeyPatch, second: Iterable[int]
) -> None:
    open_stream(monkeypatch, range(30), second)
    with pytest.raises(DataError, match="read again"):
        load_all("hfids/thirty")


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        ([0, 1, 2, 3], "labels run from 0 to 3, but it has 3 classes"),
        ([0, 2, 2, 2], "class 'b' holds no images"),
        ([], "holds no images"),
        (["cat", "dog"], "cat"),
        ([[1, 0], [0]], "timm cannot read it"),
    ],
)
def test_labels_that_are_not_those_of_single_classes_are_refused(
    monkeypatch: pytest.MonkeyPatch, targets: list[Any], said: str
) -> None:
    reader = SimpleNamespace(
        class_to_idx={"a": 0, "b": 1, "c": 2}, label_key="label", dataset={"label": targets}
    )
    dataset = image_dataset(reader)
    monkeypatch.setattr("timm.data.create_dataset", lambda *_, **__: dataset)
    with pytest.raises(DataError, match=said):
        load_all("hfds/odd")


class RandomAccessReader:
    """Stands for timm's reader of Hugging Face data sets."""

    label_key = "label"

    def __init__(self, encoded: list[bytes]) -> None:
        self.class_to_idx = {"even": 0, "odd": 1}
        self.encoded = encoded
        self.dataset = {"label": [i % 2 for i in range(len(encoded))]}

    def __getitem__(self, index: int) -> tuple[io.BytesIO, int]:
        return io.BytesIO(self.encoded[index]), index % 2

    def __len__(self) -> int:
        return len(self.encoded)


def test_a_bad_image_of_a_hugging_face_data_set_is_not_replaced_by_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoded = encoded_images(20)
    encoded[5] = b"damaged"
    dataset = image_dataset(RandomAccessReader(encoded))
    monkeypatch.setattr("timm.data.create_dataset", lambda *_, **__: dataset)
    with pytest.raises(DataError, match=r"hfds/x\[5\] cannot be decoded.*`on_bad_image` skip"):
        load_all("hfds/x")
    found = load_all("hfds/x", on_bad_image="skip")
    assert found.skipped == ("hfds/x[5]",)
    assert found.images[:, 0, 0, 0].tolist() == [n for n in range(20) if n != 5]
    assert found.labels.tolist() == [n % 2 for n in range(20) if n != 5]


def load_twice(
    name: str, monkeypatch: pytest.MonkeyPatch, root: Path | None = None
) -> tuple[ImageSet, StreamedSet]:
    """The training images of a data set, once in memory and once streamed."""
    options: Any = {"image_size": 16, "eval_image_size": 8, "minival_share": 0.2, "root": root}
    in_memory = load_train_images(name, **options).train
    monkeypatch.setattr(effnas.data.images, "available_memory_bytes", lambda: 0)
    streamed = load_train_images(name, **options).train
    assert isinstance(in_memory, ImageSet)
    assert isinstance(streamed, StreamedSet)
    return in_memory, streamed


def test_a_hugging_face_data_set_is_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = image_dataset(RandomAccessReader(encoded_images(100)))
    monkeypatch.setattr("timm.data.create_dataset", lambda *_, **__: dataset)
    in_memory, streamed = load_twice("hfds/x", monkeypatch)
    chosen = np.split(np.random.default_rng(0).permutation(80), 5)
    for found, expected in zip(streamed.batches(chosen), in_memory.batches(chosen), strict=True):
        assert np.array_equal(found, expected)


def test_a_stream_that_does_not_fit_into_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    open_stream(monkeypatch, range(30))
    monkeypatch.setattr(effnas.data.images, "available_memory_bytes", lambda: 0)
    with pytest.raises(DataError, match=r"GB.*name its images as a folder, or by torch/ or hfds/"):
        load_train_images("wds/x", image_size=8, eval_image_size=8, minival_share=0.2)
