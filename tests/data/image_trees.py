"""Small trees of class folders, archives of them, and whole training parts."""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from effnas.data.images import ImageSet
from effnas.data.loading import load_train_images

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager
    from pathlib import Path

    TouchedFiles = Callable[[], AbstractContextManager[list[str]]]

NOT_AN_IMAGE = b"\xff\xd8\xff no image"


def write_image(path: Path, *, size: tuple[int, int] = (8, 8), seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def write_classes(
    folder: Path, classes: Iterable[str] = ("ant", "bee", "cat"), *, count: int = 5
) -> Path:
    for c, name in enumerate(classes):
        for i in range(count):
            write_image(folder / name / f"{i}.png", seed=100 * c + i)
    return folder


def write_archive(
    path: Path, folder: Path, *, order: Callable[[list[Path]], list[Path]] = sorted
) -> Path:
    """Write what lies in `folder` into an archive whose compression the suffix tells."""
    modes: dict[str, Any] = {".gz": "w:gz", ".tgz": "w:gz", ".xz": "w:xz", ".bz2": "w:bz2"}
    with tarfile.open(path, modes.get(path.suffix, "w")) as archive:
        for file in order(sorted(folder.rglob("*"))):
            archive.add(file, file.relative_to(folder).as_posix(), recursive=False)
    return path


def load_all(name: Path | str, image_size: int = 8, **options: Any) -> ImageSet:
    """The whole training part of a data set, in memory."""
    found = load_train_images(
        str(name), image_size=image_size, eval_image_size=image_size, minival_share=0, **options
    ).train
    assert isinstance(found, ImageSet)
    return found
