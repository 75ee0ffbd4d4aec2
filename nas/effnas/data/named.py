"""Data sets that go by a name: scikit-learn's digits, and what timm can open."""

from __future__ import annotations

from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from effnas.data.source import Source
from effnas.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import TypeAlias

    import numpy.typing as npt

    from effnas.data.source import Encoded, Layer, Read

    # Labels, names of the classes (none where the data set does not tell them), access, and the
    # images' files (none where they are not files).
    Opened: TypeAlias = tuple[Sequence[int], Sequence[str], Read, Sequence[Path]]

_DIGITS_TRAINING_SHARE = 0.8

# timm's prefixes: torchvision, Hugging Face with random access and as a stream, TensorFlow
# Datasets, WebDataset.
_PREFIXES = ("torch", "hfds", "hfids", "tfds", "wds")
_AT_RANDOM = ("torch", "hfds")
# In the names of data sets that show digits or letters. Fashion-MNIST shows clothes, but was never
# mirrored either, and stays so for accuracies to compare with earlier ones.
_SIGNS = ("digits", "mnist", "svhn")
_STREAM_WAY_OUT = "name its images as a folder, or by torch/ or hfds/"


def digits_source(part: Layer = "training") -> Source:
    """Return a part of scikit-learn's digits: the first 80 % of each class, or the others."""
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    # Sixteen is the brightest of its grey levels.
    grey = np.rint(np.asarray(digits.images) * (255 / 16)).astype(np.uint8)
    targets = np.asarray(digits.target, dtype=np.int64)
    is_training = np.zeros(len(targets), dtype=bool)
    for label in range(10):
        members = np.flatnonzero(targets == label)
        is_training[members[: round(_DIGITS_TRAINING_SHARE * len(members))]] = True
    indices = np.flatnonzero(is_training if part == "training" else ~is_training)

    def read(chosen: npt.NDArray[np.int64]) -> Iterator[tuple[int, Encoded]]:
        for position, index in enumerate(indices[chosen]):
            yield position, Image.fromarray(grey[index])

    return Source(
        origin="digits",
        classes=tuple(str(label) for label in range(10)),
        names=[f"digits[{index}]" for index in indices],
        labels=targets[indices],
        read=read,
        part=None if part == "training" else "test",
        mirrored=False,
        training_part="the first 80 %",
        untouched=("the last 20 % (test)",),
        test_part="test",
    )


def is_timm_name(name: str) -> bool:
    """Whether a name has the form of timm's names with a prefix, such as `torch/cifar10`."""
    prefix, _, rest = name.partition("/")
    return prefix.lower() in _PREFIXES and bool(rest)


def timm_source(
    name: str, root: Path | None, *, first: int | None = None, part: Layer = "training"
) -> Source:
    """Return a part of a data set that timm opens; nothing is downloaded by timm.

    The test part is the split `test`, or `validation` where that one is not there, or has labels
    that nobody publishes.

    Args:
        name: As `timm.data.create_dataset` has it, with a prefix.
        root: Folder that the data set lies in; by default the working directory, or for `hfds/`,
            `hfids/` and `tfds/` the folder where these libraries keep their data.
        first: List about that many images only, where listing them means decoding them.
        part: Which part.

    Raises:
        DataError: timm cannot open or read it, or its labels are not those of single classes.
    """
    if part == "training":
        return _timm_split(name, root, "train", first)
    refusals = []
    for split in ("test", "validation"):
        try:
            return _timm_split(name, root, split, first)
        except DataError as error:
            refusals.append(f"{split!r}: {str(error).removeprefix(f'{name}: ')}")
    raise DataError(
        f"{name}: no test part; looked for the splits 'test' and 'validation' with labels"
        f" ({'; '.join(refusals)})"
    )


def _timm_split(name: str, root: Path | None, split: str, first: int | None) -> Source:
    prefix = name.partition("/")[0].lower()
    if prefix == "torch" and name.split("/", 2)[-1].lower() in ("folder", "image_folder"):
        raise DataError(f"{name}: name the folder itself as the data set, without the prefix")
    if root is None and prefix in ("torch", "wds"):
        root = Path()
    with _as_data_error(name, root):
        from timm.data import create_dataset

        dataset = create_dataset(name, root=str(root) if root else None, split=split)
        if prefix == "torch":
            targets, classes, read_images, files = _open_torchvision(dataset)
        elif prefix == "hfds":
            targets, classes, read_images, files = _open_hugging_face(dataset)
        else:
            targets, classes, read_images, files = _open_stream(dataset, first)
        labels = np.asarray(targets, dtype=np.int64)
    if len(labels) == 0:
        raise DataError(f"{name}: its split {split!r} holds no images")
    classes = tuple(classes) or tuple(str(label) for label in range(labels.max() + 1))
    if labels.min() < 0 or labels.max() >= len(classes):
        raise DataError(
            f"{name}: its labels run from {labels.min()} to {labels.max()},"
            f" but it has {len(classes)} classes"
        )

    def read(chosen: npt.NDArray[np.int64]) -> Iterator[tuple[int, Encoded]]:
        with _as_data_error(name, root):
            yield from read_images(chosen)

    return Source(
        origin=name,
        classes=classes,
        names=[f"{name}[{index}]" for index in range(len(labels))],
        labels=labels,
        read=read,
        part=None if split == "train" else split,
        file=files.__getitem__ if files else None,
        way_out=None if prefix in _AT_RANDOM else _STREAM_WAY_OUT,
        mirrored=not any(sign in name.lower() for sign in _SIGNS),
        training_part=f"split {split}",
        untouched=("all other splits",),
    )


def _open_torchvision(dataset: Any) -> Opened:
    if hasattr(dataset, "all_categories"):  # INaturalist
        classes = list(dataset.all_categories)
        targets = np.array([label for label, _ in dataset.index])
        files = [Path(dataset.root, classes[label], file) for label, file in dataset.index]
    else:
        # ImageNet's classes have several names each.
        classes = [c if isinstance(c, str) else ", ".join(c) for c in dataset.classes]
        targets = np.asarray(dataset.targets)
        if targets.ndim == 2:
            targets = targets[:, 0]  # QMNIST: the digit, before its writer and other columns
        files = [Path(file) for file, _ in getattr(dataset, "imgs", ())]

    def read(chosen: npt.NDArray[np.int64]) -> Iterator[tuple[int, Encoded]]:
        for position, index in enumerate(chosen.tolist()):
            yield position, files[index] if files else dataset[index][0]

    return targets.tolist(), classes, read, files


def _open_hugging_face(dataset: Any) -> Opened:
    # timm's dataset answers a bad image with the one that follows it. Its reader does not.
    reader = dataset.reader
    lock = Lock()  # nobody says that it may be used by several threads at a time

    def read(chosen: npt.NDArray[np.int64]) -> Iterator[tuple[int, Encoded]]:
        for position, index in enumerate(chosen.tolist()):
            with lock, reader[index][0] as file:
                encoded = file.read()
            yield position, encoded

    return list(reader.dataset[reader.label_key]), _names_by_index(reader.class_to_idx), read, ()


def _open_stream(dataset: Any, first: int | None) -> Opened:
    # Read a first time for the labels, since images are chosen, and memory is set aside, by them.
    targets = [int(target) for _, target in islice(dataset, first)]

    def read(chosen: npt.NDArray[np.int64]) -> Iterator[tuple[int, Encoded]]:
        positions = {index: position for position, index in enumerate(chosen.tolist())}
        for index, (image, target) in enumerate(islice(dataset, first)):
            if index >= len(targets) or int(target) != targets[index]:
                raise RuntimeError("its images come in another order when they are read again")
            if index in positions:
                yield positions.pop(index), image
            if not positions:
                return
        raise RuntimeError("it gave fewer images when it was read again")

    return targets, _names_by_index(dataset.reader.class_to_idx), read, ()


def _names_by_index(class_to_index: dict[str, int]) -> list[str]:
    return sorted(class_to_index, key=class_to_index.__getitem__)


@contextmanager
def _as_data_error(name: str, root: Path | None) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    # Behind timm are five libraries, each with errors of its own.
    except Exception as error:
        # torchvision recommends an option that is not ours.
        reason = str(error).partition("\n")[0].partition(" You can use download=True")[0]
        where = f" below {root}" if root else ""
        raise DataError(
            f"{name}: timm cannot read it{where}: {reason or type(error).__name__};"
            " effnas downloads nothing, so the data must be there already"
        ) from error
