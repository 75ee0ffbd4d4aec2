"""Class folders, on disk and in archives: what is read, and what must never be."""

from __future__ import annotations

import io
import os
import random
import tarfile
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
import pytest
from image_trees import NOT_AN_IMAGE, write_archive, write_classes, write_image
from PIL import Image

from effnas.data.images import ImageSet
from effnas.data.loading import load_training_part, native_image_size
from effnas.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from image_trees import TouchedFiles

OTHER_PARTS = ["val", "valid", "validation", "test", "testing", "eval", "Test"]
SUFFIXES = [".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2"]


def load(path: Path) -> ImageSet:
    return load_training_part(str(path), image_size=8)


def write_all_parts(root: Path, training: str) -> None:
    """Two images of each class to train on, and other parts with one that cannot be decoded."""
    write_classes(root / training, count=2)
    for other in OTHER_PARTS:
        write_classes(root / other, count=1)
        (root / other / "ant" / "0.png").write_bytes(NOT_AN_IMAGE)


@pytest.mark.parametrize("leading", ["", "mydata"])
@pytest.mark.parametrize("training", ["train", "training", "Train"])
def test_no_other_part_of_a_folder_is_ever_opened_or_listed(
    tmp_path: Path, touched_files: TouchedFiles, training: str, leading: str
) -> None:
    root = tmp_path / "data"
    write_all_parts(root / leading, training)
    with touched_files() as touched:
        images = load(root)
        native_image_size(str(root))
    below = [Path(path).relative_to(root / leading).parts for path in touched if "ant" in path]
    assert len(images) == 6
    assert {parts[0] for parts in below} == {training}  # the record does work
    assert not [path for path in touched if set(OTHER_PARTS) & set(Path(path).parts)]


@pytest.mark.parametrize("leading", ["", "mydata"])
def test_no_member_of_another_part_of_an_archive_is_ever_extracted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leading: str
) -> None:
    tree = tmp_path / "tree"
    write_all_parts(tree / leading, "train")
    archive = write_archive(tmp_path / "data.tar.gz", tree)
    extracted: list[str] = []
    original = tarfile.TarFile.extractfile

    def noting(self: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes] | None:
        extracted.append(member.name)
        return original(self, member)

    monkeypatch.setattr(tarfile.TarFile, "extractfile", noting)
    assert len(load(archive)) == 6
    native_image_size(str(archive))
    assert len(extracted) == 12
    assert not [name for name in extracted if set(OTHER_PARTS) & set(name.split("/"))]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_archive_holds_the_same_images_as_its_folder(
    tmp_path: Path, pets: Path, suffix: str
) -> None:
    write_image(pets / "train" / "bee" / "more" / "deep" / "x.PNG", seed=77)
    archive = write_archive(tmp_path / f"pets{suffix}", pets)
    assert load(archive).fingerprint == load(pets).fingerprint


@pytest.mark.parametrize("seed", range(3))
def test_the_order_in_an_archive_does_not_matter(tmp_path: Path, pets: Path, seed: int) -> None:
    def shuffled(files: list[Path]) -> list[Path]:
        return random.Random(seed).sample(files, len(files))

    archive = write_archive(tmp_path / "pets.tar.gz", pets, order=shuffled)
    assert load(archive).fingerprint == load(pets).fingerprint
    assert native_image_size(str(archive)) == 8


def test_members_are_extracted_in_the_order_of_the_archive(
    tmp_path: Path, pets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = write_archive(tmp_path / "pets.tar.gz", pets, order=lambda files: files[::-1])
    offsets: list[int] = []
    original = tarfile.TarFile.extractfile

    def noting(self: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes] | None:
        offsets.append(member.offset)
        return original(self, member)

    monkeypatch.setattr(tarfile.TarFile, "extractfile", noting)
    load(archive)
    assert len(offsets) == 15
    assert offsets == sorted(offsets)


def test_the_order_in_which_a_folder_is_listed_does_not_matter(
    pets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = load(pets).fingerprint
    original = os.scandir

    class Reversed:
        def __init__(self, path: Path) -> None:
            with original(path) as entries:
                self.entries = sorted(entries, key=lambda entry: entry.name, reverse=True)

        def __enter__(self) -> Iterator[os.DirEntry[str]]:
            return iter(self.entries)

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(os, "scandir", Reversed)
    assert load(pets).fingerprint == expected


def test_classes_and_images_are_in_the_order_of_their_names(tmp_path: Path) -> None:
    root = tmp_path / "data"
    colours = {"b/1.png": 3, "a/2.png": 2, "c/1.png": 4, "a/10.png": 0, "a/1/9.png": 1}
    for name, colour in colours.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (colour, 0, 0)).save(root / name)
    images = load(root)
    assert images.classes == ("a", "b", "c")
    # Names are compared as text: 1/9 before 10 before 2.
    assert images.images[:, 0, 0, 0].tolist() == [1, 0, 2, 3, 4]
    assert images.labels.tolist() == [0, 0, 0, 1, 2]


@pytest.mark.parametrize("leading", ["", "mydata", "mydata/train", "train"])
@pytest.mark.parametrize("pack", [False, True], ids=["folder", "archive"])
def test_parts_and_a_leading_folder_are_found(tmp_path: Path, leading: str, pack: bool) -> None:
    tree = tmp_path / "tree"
    write_classes(tree / leading)
    (tree / leading / "README.md").write_text("about")
    images = load(write_archive(tmp_path / "data.tar", tree) if pack else tree)
    assert images.classes == ("ant", "bee", "cat")
    assert np.bincount(images.labels).tolist() == [5, 5, 5]
    assert images.images.shape == (15, 8, 8, 3)


@pytest.mark.parametrize("pack", [False, True], ids=["folder", "archive"])
def test_hidden_files_and_other_files_are_passed_over(
    tmp_path: Path, pets: Path, pack: bool
) -> None:
    expected = load(pets).fingerprint
    (pets / "train" / "ant" / "._0.png").write_bytes(NOT_AN_IMAGE)
    (pets / "train" / "ant" / "notes.txt").write_text("x")
    (pets / "train" / "ant" / ".cache").mkdir()
    (pets / "train" / "ant" / ".cache" / "0.png").write_bytes(NOT_AN_IMAGE)
    (pets / "train" / "__MACOSX").mkdir()
    path = write_archive(tmp_path / "pets.tar", pets) if pack else pets
    assert load(path).fingerprint == expected


def test_links_and_paths_out_of_an_archive_are_passed_over_and_nothing_is_written(
    tmp_path: Path, pets: Path
) -> None:
    expected = load(pets).fingerprint
    archive = tmp_path / "box" / "pets.tar"
    archive.parent.mkdir()
    picture = (pets / "train" / "ant" / "0.png").read_bytes()
    with tarfile.open(archive, "w") as tar:
        tar.add(pets, ".")
        for name in ("../evil.png", "train/../../ant/evil.png"):
            member = tarfile.TarInfo(name)
            member.size = len(picture)
            tar.addfile(member, io.BytesIO(picture))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
            member = tarfile.TarInfo(f"train/ant/link{kind.decode()}.png")
            member.type, member.linkname = kind, "train/ant/0.png"
            tar.addfile(member)
        member = tarfile.TarInfo("train/ant/pipe.png")
        member.type = tarfile.FIFOTYPE
        tar.addfile(member)
    before = sorted(tmp_path.rglob("*"))
    assert load(archive).fingerprint == expected
    assert sorted(tmp_path.rglob("*")) == before


def test_the_native_size_of_an_archive_is_told_from_its_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / "tree"
    write_classes(tree / "train", count=40)
    archive = write_archive(tmp_path / "data.tar.gz", tree)
    seen: list[int] = []
    original = tarfile.TarFile.next

    def noting(self: tarfile.TarFile) -> tarfile.TarInfo | None:
        seen.append(1)
        return original(self)

    monkeypatch.setattr(tarfile.TarFile, "next", noting)
    assert native_image_size(str(archive)) == 8
    assert len(seen) < 20


def test_a_folder_named_train_inside_a_class_is_no_part(tmp_path: Path) -> None:
    for name in ("ant", "bee"):
        write_classes(tmp_path / "data" / name, ["train", "test"], count=10)
    archive = write_archive(tmp_path / "data.tar", tmp_path / "data")
    for path in (tmp_path / "data", archive):
        assert load(path).classes == ("ant", "bee")
        assert len(load(path)) == 40
        assert native_image_size(str(path)) == 8


def test_the_native_size_is_the_median_of_shorter_sides(tmp_path: Path) -> None:
    for i, size in enumerate([(30, 10), (12, 40), (50, 14)]):
        write_image(tmp_path / "a" / f"{i}.png", size=size)
    write_image(tmp_path / "b" / "0.png", size=(12, 12))
    (tmp_path / "a" / "bad.png").write_bytes(NOT_AN_IMAGE)
    assert native_image_size(str(tmp_path)) == 12


# What is wrong with a folder, or with an archive of it, and what the error must say.
def images_at_the_root(root: Path) -> None:
    write_image(root / "1.png")


def images_at_the_root_of_the_training_part(root: Path) -> None:
    write_image(root / "train" / "1.png")


def nothing(root: Path) -> None:
    root.mkdir(exist_ok=True)


def an_empty_training_part(root: Path) -> None:
    (root / "train").mkdir(parents=True)
    (root / "val").mkdir()


def one_class(root: Path) -> None:
    write_classes(root, ["ant"])


def one_class_with_folders_in_it(root: Path) -> None:
    write_classes(root / "ant", ["red", "black"])
    write_image(root / "ant" / "1.png")


def one_class_below_train(root: Path) -> None:
    write_classes(root / "train", ["ant"])


def an_empty_class(root: Path) -> None:
    write_classes(root / "train")
    (root / "train" / "dog").mkdir()


def a_class_without_images(root: Path) -> None:
    write_classes(root)
    (root / "dog").mkdir()
    (root / "dog" / "readme.txt").write_text("later")


def no_training_part(root: Path) -> None:
    write_classes(root / "val")
    write_classes(root / "test")


def no_training_part_but_classes(root: Path) -> None:
    write_classes(root)
    write_classes(root / "test")


def only_a_test_part(root: Path) -> None:
    write_classes(root / "test")


def two_training_parts(root: Path) -> None:
    write_classes(root / "train")
    write_classes(root / "training")


def a_corrupt_image(root: Path) -> None:
    write_classes(root / "train")
    (root / "train" / "bee" / "2.png").write_bytes(NOT_AN_IMAGE)


@pytest.mark.parametrize("pack", [False, True], ids=["folder", "archive"])
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (images_at_the_root, r"the images lie directly in it"),
        (images_at_the_root_of_the_training_part, r"train: the images lie directly in it"),
        (nothing, r"nothing in it; expected class folders"),
        (an_empty_training_part, r"train: nothing in it; expected class folders"),
        (one_class, r"one class folder only, 'ant'"),
        (one_class_with_folders_in_it, r"one class folder only, 'ant'"),
        (one_class_below_train, r"one class folder only, 'ant'"),
        (an_empty_class, r"class folder 'dog' holds no images"),
        (a_class_without_images, r"class folder 'dog' holds no images"),
        (no_training_part, r"none named 'train'"),
        (no_training_part_but_classes, r"part 'test' but none named 'train'"),
        (only_a_test_part, r"part 'test' but none named 'train'"),
        (two_training_parts, r"train and training are both training parts"),
        (a_corrupt_image, r"train/bee/2.png cannot be decoded .*`on_bad_image` skip"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_wrong_is_told_in_a_line_that_names_the_place(
    tmp_path: Path, make: Callable[[Path], object], said: str, pack: bool
) -> None:
    tree = tmp_path / "tree"
    make(tree)
    path = write_archive(tmp_path / "data.tar.gz", tree) if pack else tree
    with pytest.raises(DataError, match=said) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"some text\n", b"PK\x03\x04" + bytes(600)])
def test_a_file_that_is_no_archive_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "data.zip"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"data\.zip: neither a folder nor a tar archive") as caught:
        load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("pack", [False, True], ids=["folder", "archive"])
def test_what_may_not_be_read_is_told(
    tmp_path: Path, pets: Path, monkeypatch: pytest.MonkeyPatch, pack: bool
) -> None:
    def refuse(path: object, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    path = write_archive(tmp_path / "pets.tar", pets) if pack else pets
    monkeypatch.setattr(tarfile, "open", refuse)
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"pets.*: cannot be read: Permission denied"):
        load(path)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_archive_that_was_cut_short_never_passes_for_a_smaller_data_set(
    tmp_path: Path, pets: Path, suffix: str
) -> None:
    whole = write_archive(tmp_path / f"whole{suffix}", pets)
    expected = load(whole).fingerprint
    content = whole.read_bytes()
    cut = tmp_path / f"cut{suffix}"

    def outcome(length: int) -> str:
        cut.write_bytes(content[:length])
        try:
            return load(cut).fingerprint
        except DataError as error:
            return str(error)

    outcomes = [outcome(length) for length in np.linspace(1, len(content) - 1, 25).astype(int)]
    # Some of the padding behind an archive's end may be missing.
    refusals = [each for each in outcomes if each != expected]
    assert len(refusals) > 12
    assert all(each.startswith(f"{cut}: ") and "\n" not in each for each in refusals)


def test_damage_in_the_middle_of_an_archive_is_told(tmp_path: Path, pets: Path) -> None:
    archive = write_archive(tmp_path / "pets.tar", pets)
    with tarfile.open(archive) as tar:
        header = tar.getmembers()[8].offset
    content = bytearray(archive.read_bytes())
    content[header : header + 512] = b"x" * 512
    archive.write_bytes(content)
    with pytest.raises(DataError, match=r"pets\.tar: the archive is damaged"):
        load(archive)
