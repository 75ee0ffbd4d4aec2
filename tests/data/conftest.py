"""A small tree of class folders, and a record of which files are touched."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from image_trees import NOT_AN_IMAGE, write_archive, write_classes

import effnas.data.images

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from image_trees import TouchedFiles


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """A folder with a training part of three classes, and two parts that must not be read."""
    root = tmp_path / "pets"
    write_classes(root / "train")
    for part in ("val", "test"):
        (root / part / "ant").mkdir(parents=True)
        (root / part / "ant" / "0.png").write_bytes(NOT_AN_IMAGE)
    return root


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Twenty images of each of three classes, all different."""
    return write_classes(tmp_path / "many", count=20)


@pytest.fixture(params=["folder", "archive"])
def pack(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Path], Path]:
    """Leaves a tree as it is, or packs it into an archive in which its files are reversed."""
    if request.param == "folder":
        return lambda tree: tree
    return lambda tree: write_archive(
        tmp_path / "packed.tar.gz", tree, order=lambda files: files[::-1]
    )


@pytest.fixture
def no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """No image fits into memory."""
    monkeypatch.setattr(effnas.data.images, "available_memory_bytes", lambda: 0)


@pytest.fixture(scope="session")
def touched_files() -> TouchedFiles:
    """A context in which every path that the interpreter opens or lists is noted in a list."""
    records: list[list[str]] = []

    def note(event: str, arguments: tuple[object, ...]) -> None:
        if records and event in ("open", "os.scandir", "os.listdir"):
            path = arguments[0]
            if isinstance(path, (str, bytes, os.PathLike)):
                records[-1].append(os.fsdecode(path))

    sys.addaudithook(note)

    @contextmanager
    def recording() -> Iterator[list[str]]:
        records.append([])
        try:
            yield records[-1]
        finally:
            records.pop()

    return recording
