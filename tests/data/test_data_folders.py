"""Class folders, on disk and in archives: which parts are read, and what is refused."""

from __future__ import annotations

import io
import os
import random
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from image_trees import NOT_AN_IMAGE, load_all, write_archive, write_classes, write_image
from PIL import Image

from effnas.data.loading import (
    check_test_part,
    find_source,
    load_search_images,
    load_test_part,
    native_image_size,
)
from effnas.data.source import uneven_class
from effnas.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable

    from image_trees import TouchedFiles

    from effnas.data.images import ImageSet

    Pack = Callable[[Path], Path]

OTHER_PARTS = ["val", "valid", "validation", "test", "testing", "eval", "Test"]
SUFFIXES = [".tar", ".tgz", ".tar.xz", ".tar.bz2"]
CLASSES = ("ant", "bee", "cat")


def load_test(path: Path, **options: Any) -> ImageSet:
    return load_test_part(str(path), image_size=8, classes=CLASSES, **options)


def noted(monkeypatch: pytest.MonkeyPatch, name: str) -> list[Any]:
    """The first arguments of a method of archives, whenever it is called from here on."""
    calls: list[Any] = []
    original = getattr(tarfile.TarFile, name)

    def noting(self: tarfile.TarFile, *arguments: Any) -> Any:
        calls.append(arguments[0] if arguments else None)
        return original(self, *arguments)

    monkeypatch.setattr(tarfile.TarFile, name, noting)
    return calls


def write_all_parts(root: Path, training: str) -> None:
    """Two images of each class to train on, and other parts with one that cannot be decoded."""
    write_classes(root / training, count=2)
    for other in OTHER_PARTS:
        write_classes(root / other, count=1)
        (root / other / "ant" / "0.png").write_bytes(NOT_AN_IMAGE)


# -- which files are read


@pytest.mark.parametrize(("leading", "training"), [("mydata", "training"), ("", "Train")])
def test_no_other_part_of_a_folder_is_ever_opened_or_listed(
    tmp_path: Path, touched_files: TouchedFiles, training: str, leading: str
) -> None:
    root = tmp_path / "data"
    write_all_parts(root / leading, training)
    with touched_files() as touched:
        images = load_all(root)
        native_image_size(str(root))
    below = [Path(path).relative_to(root / leading).parts for path in touched if "ant" in path]
    assert len(images) == 6
    assert {parts[0] for parts in below} == {training}  # the record does work
    assert not [path for path in touched if set(OTHER_PARTS) & set(Path(path).parts)]


def test_members_are_extracted_in_order_and_none_of_another_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / "tree"
    write_all_parts(tree / "mydata", "train")
    archive = write_archive(tmp_path / "data.tar.gz", tree, order=lambda files: files[::-1])
    extracted = noted(monkeypatch, "extractfile")
    assert len(load_all(archive)) == len(extracted) == 6
    assert [m.offset for m in extracted] == sorted(m.offset for m in extracted)
    native_image_size(str(archive))
    assert len(extracted) == 12
    assert not [m.name for m in extracted if set(OTHER_PARTS) & set(m.name.split("/"))]


def test_a_test_part_is_read_without_the_training_part(
    tmp_path: Path, touched_files: TouchedFiles
) -> None:
    for part in ("train", "test"):
        write_classes(tmp_path / "data" / part)
    (tmp_path / "data" / "test" / "bee" / "2.png").write_bytes(NOT_AN_IMAGE)
    with touched_files() as touched:
        found = load_test(tmp_path / "data", on_bad_image="skip")
    assert (found.part, found.skipped) == ("test", ("test/bee/2.png",))
    assert not [path for path in touched if "train" in Path(path).parts]
    with pytest.raises(DataError, match=r"test/bee/2\.png cannot be .*; repair or remove it$"):
        load_test(tmp_path / "data")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_archive_holds_the_same_images_as_its_folder_in_any_order(
    tmp_path: Path, pets: Path, suffix: str
) -> None:
    def shuffled(files: list[Path]) -> list[Path]:
        return random.Random(suffix).sample(files, len(files))

    write_image(pets / "train" / "bee" / "more" / "deep" / "x.PNG", seed=77)
    archive = write_archive(tmp_path / f"pets{suffix}", pets, order=shuffled)
    assert load_all(archive).fingerprint == load_all(pets).fingerprint
    assert native_image_size(str(archive)) == 8


def test_classes_and_images_are_in_the_order_of_their_names(tmp_path: Path) -> None:
    root = tmp_path / "data"
    colours = {"b/1.png": 3, "a/2.png": 2, "c/1.png": 4, "a/10.png": 0, "a/1/9.png": 1}
    for name, colour in colours.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (colour, 0, 0)).save(root / name)
    images = load_all(root)
    assert images.classes == ("a", "b", "c")
    # Names are compared as text: 1/9 before 10 before 2.
    assert images.images[:, 0, 0, 0].tolist() == [1, 0, 2, 3, 4]
    assert images.labels.tolist() == [0, 0, 0, 1, 2]


@pytest.mark.parametrize("leading", ["", "mydata", "mydata/train", "train"])
def test_parts_are_found_and_hidden_and_other_files_ignored(
    tmp_path: Path, leading: str, pack: Pack
) -> None:
    tree = tmp_path / "tree"
    expected = load_all(write_classes(tree / leading)).fingerprint
    for name in ("README.md", "ant/._0.png", "ant/notes.txt", "ant/.cache/0.png", "__MACOSX/0.png"):
        (tree / leading / name).parent.mkdir(exist_ok=True)
        (tree / leading / name).write_bytes(b"no image")
    images = load_all(pack(tree))
    assert images.classes == CLASSES
    assert images.fingerprint == expected


@pytest.mark.parametrize(
    ("parts", "read"), [(["test"], "test"), (["Testing", "val"], "Testing"), (["Valid"], "Valid")]
)
def test_the_test_part_is_read_else_the_validation_part(
    tmp_path: Path, parts: list[str], read: str, pack: Pack
) -> None:
    tree = tmp_path / "tree"
    for n, part in enumerate(["train", *parts]):
        write_classes(tree / "mydata" / part, count=n + 1)
    if read == "Valid":  # labels of some test parts are secret
        write_image(tree / "mydata" / "test" / "1.png")
    found = load_test(pack(tree))
    assert (found.part, len(found)) == (read, 3 * (parts.index(read) + 2))


def test_paths_out_of_an_archive_are_ignored_and_nothing_is_written(
    tmp_path: Path, pets: Path
) -> None:
    expected = load_all(pets).fingerprint
    archive = tmp_path / "box" / "pets.tar"
    archive.parent.mkdir()
    picture = (pets / "train" / "ant" / "0.png").read_bytes()
    with tarfile.open(archive, "w") as tar:
        tar.add(pets, ".")
        for name in ("../evil.png", "train/../../ant/evil.png"):
            member = tarfile.TarInfo(name)
            member.size = len(picture)
            tar.addfile(member, io.BytesIO(picture))
        for kind, target in (
            (tarfile.SYMTYPE, "/etc/passwd"), (tarfile.SYMTYPE, "../../../evil.png"),
            (tarfile.LNKTYPE, "../evil.png"), (tarfile.FIFOTYPE, ""),
        ):  # fmt: skip
            member = tarfile.TarInfo(f"train/ant/link{len(target)}.png")
            member.type, member.linkname = kind, target
            tar.addfile(member)
    before = sorted(tmp_path.rglob("*"))
    assert load_all(archive).fingerprint == expected
    found = find_source(str(archive), None).found
    assert (found.passed_over, found.passed_example) == (4, "train/ant/link0.png")
    assert sorted(tmp_path.rglob("*")) == before


def test_an_archive_and_its_folder_give_the_same_images_of_all_kinds_of_files(
    tmp_path: Path,
) -> None:
    root = write_classes(tmp_path / "data")
    ant = root / "ant"
    for name, kind in (("5.jfif", "JPEG"), ("6", "PNG"), ("7.img", "WEBP"), ("8.dib", "BMP"),
                       ("9.pnm", "PPM"), ("10.x", "GIF"), ("11.tiff2", "TIFF")):  # fmt: skip
        Image.open(ant / "0.png").save(ant / name, kind)
    os.link(ant / "1.png", root / "bee" / "hard.png")
    (root / "cat" / "soft.png").symlink_to("../ant/2.png")
    for name in ("notes.txt", "BM25 is a ranking.md", "empty"):
        (ant / name).write_text(name)
    (ant / "0.CR2").write_bytes(b"II*\0\x10\0\0\0CR")
    (ant / "gone.png").symlink_to("nothing.png")
    os.mkfifo(ant / "pipe.png")
    for name in ("@eaDir", "$RECYCLE.BIN", ".git", "lost+found"):
        write_image(root / name / "0.png")
    archive = write_archive(tmp_path / "data.tar", root)
    found, packed = (find_source(str(path), None) for path in (root, archive))
    assert found.classes == packed.classes == CLASSES
    assert found.names == packed.names
    assert len(found.names) == 15 + 7 + 2
    assert found.passed_over == packed.passed_over
    assert {Path(name).name for name in found.passed_over} == {
        "notes.txt", "BM25 is a ranking.md", "empty", "gone.png", "pipe.png", "0.CR2",
    }  # fmt: skip
    assert load_all(root).fingerprint == load_all(archive).fingerprint


def test_a_link_to_a_folder_is_followed_unless_there_is_no_end(tmp_path: Path) -> None:
    elsewhere = write_classes(tmp_path / "elsewhere", ["cat"])
    root = write_classes(tmp_path / "data", ["ant", "bee"])
    (root / "cat").symlink_to(elsewhere / "cat")
    for link, target in (
        ("ant/up", "../.."), ("ant/here", "."), ("ant/b", "../bee"), ("bee/a", "../ant"),
    ):  # fmt: skip
        (root / link).symlink_to(target)
    assert load_all(root).classes == CLASSES
    assert len(load_all(root)) == 25  # the ants and the bees twice


@pytest.mark.parametrize(
    ("folders", "classes", "untouched"),
    [
        ("bus car train", "bus car train", ""),
        ("bus car train/steam train/diesel", "diesel steam", "bus car"),
        ("extra/ant train/ant train/bee test/ant", "ant bee", "test extra"),
        ("ant bee train/ant train/bee", "ant bee", "ant bee"),
    ],
)
def test_a_class_may_be_called_as_parts_are(
    tmp_path: Path, folders: str, classes: str, untouched: str, pack: Pack
) -> None:
    path = pack(write_classes(tmp_path / "data", folders.split()))
    found = find_source(str(path), None)
    assert " ".join(found.classes) == classes
    assert " ".join(name.rstrip("/") for name in found.untouched) == untouched


def test_the_native_size_of_an_archive_is_taken_from_its_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_classes(tmp_path / "tree" / "train", count=40)
    archive = write_archive(tmp_path / "data.tar.gz", tmp_path / "tree")
    seen = noted(monkeypatch, "next")
    assert native_image_size(str(archive)) == 8
    assert len(seen) < 20


def test_a_folder_named_train_inside_a_class_is_no_part(tmp_path: Path, pack: Pack) -> None:
    for name in ("ant", "bee"):
        write_classes(tmp_path / "data" / name, ["train", "test"], count=10)
    path = pack(tmp_path / "data")
    images = load_all(path)
    assert (images.classes, len(images)) == (("ant", "bee"), 40)
    assert native_image_size(str(path)) == 8


# -- what is refused

LOOKED_FOR = r"no test part.*test or testing, then for val, valid, validation or eval"
ALL = " ".join(f"{name}/0.png" for name in CLASSES)
TRAIN = " ".join(f"train/{name}/0.png" for name in CLASSES)
WRONG_TRAINING = [  # files, of which those with numbers are images, and what the error says
    ("1.png", "the images lie directly in it"),
    ("train/1.png", "train: the images lie directly in it"),
    ("train/ val/", "train: nothing in it; expected class folders"),
    ("train/ant/0.png", "one class folder only, 'ant'"),
    ("ant/red/1.png ant/black/1.png ant/1.png", "one class folder only, 'ant'"),
    (f"{ALL} dog/readme.txt", "class folder 'dog' holds no images"),
    (f"{ALL} test/ant/0.png", "part 'test' but none named 'train'"),
    (f"{TRAIN} training/ant/0.png", "train and training are both training parts"),
    (f"{TRAIN} train/bee/bad.png", "train/bee/bad.png cannot be decoded .*`on_bad_image` skip"),
]
WRONG_TEST = [
    (ALL, LOOKED_FOR),
    ("train/ant/1.png test/1.png", LOOKED_FOR),
    ("test/ant/0.png test/bee/0.png", "part 'test' lacks the class folder 'cat' of the training"),
    (
        TRAIN.replace("train", "test") + " test/bear/0.png",
        "'test' has class folder 'bear' where the training part has 'bee'",
    ),
    (
        TRAIN.replace("train", "test") + " test/dog/0.png",
        "'test' has class folder 'dog' where the training part has none",
    ),
    ("test/ant/0.png test/bee/0.png test/cat/", "class folder 'cat' holds no images"),
    ("test/ant/0.png testing/ant/0.png", "test and testing are both test parts"),
]


@pytest.mark.parametrize(
    ("read", "files", "said"),
    [(load_all, *each) for each in WRONG_TRAINING] + [(load_test, *each) for each in WRONG_TEST],
)
def test_a_wrong_layout_is_refused_in_a_line_that_names_the_place(
    tmp_path: Path, read: Callable[[Path], object], files: str, said: str, pack: Pack
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in files.split():
        if name.endswith("/"):
            (tree / name).mkdir(parents=True)
        elif name.endswith(("0.png", "1.png")):
            write_image(tree / name)
        else:
            (tree / name).parent.mkdir(exist_ok=True)
            (tree / name).write_bytes(NOT_AN_IMAGE if name.endswith(".png") else b"a text")
    path = pack(tree)
    with pytest.raises(DataError, match=said) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04" + bytes(600)])
def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "data.zip"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"data\.zip: neither a folder nor a tar archive"):
        load_all(path)


def test_what_may_not_be_read_is_refused(
    pets: Path, monkeypatch: pytest.MonkeyPatch, pack: Pack
) -> None:
    def refuse(path: object, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    path = pack(pets)
    monkeypatch.setattr(tarfile, "open", refuse)
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"p.*: cannot be read: Permission denied"):
        load_all(path)


@pytest.mark.parametrize("suffix", [".tar", ".tgz"])
def test_an_archive_that_was_cut_short_never_passes_for_a_smaller_data_set(
    tmp_path: Path, pets: Path, suffix: str
) -> None:
    whole = write_archive(tmp_path / f"whole{suffix}", pets)
    expected = load_all(whole).fingerprint
    content = whole.read_bytes()
    cut = tmp_path / f"cut{suffix}"

    def outcome(length: int) -> str:
        cut.write_bytes(content[:length])
        try:
            return load_all(cut).fingerprint
        except DataError as error:
            return str(error)

    outcomes = [outcome(length) for length in np.linspace(1, len(content) - 1, 12).astype(int)]
    # Some of the padding after an archive's end may be missing.
    refusals = [each for each in outcomes if each != expected]
    assert len(refusals) > 6
    assert all(each.startswith(f"{cut}: ") and "\n" not in each for each in refusals)


def test_damage_in_the_middle_of_an_archive_is_refused(tmp_path: Path, pets: Path) -> None:
    archive = write_archive(tmp_path / "pets.tar", pets)
    with tarfile.open(archive) as tar:
        header = tar.getmembers()[8].offset
    content = bytearray(archive.read_bytes())
    content[header : header + 512] = b"x" * 512
    archive.write_bytes(content)
    with pytest.raises(DataError, match=r"pets\.tar: the archive is damaged"):
        load_all(archive)


# -- the digits


@pytest.mark.slow
def test_the_digits_of_the_test_part_are_those_that_no_search_has() -> None:
    from sklearn.datasets import load_digits

    test = load_test_part("digits", image_size=8, classes=tuple("0123456789"))
    training = load_all("digits")
    assert (test.part, len(training), len(test)) == ("test", 1438, 359)
    # Together they are all digits, each class in its order: the test part is the end of it.
    digits = load_digits()
    every = np.rint(digits.images / 16 * 255)
    for label in range(10):
        both = [each.images[each.labels == label] for each in (training, test)]
        found = np.concatenate(both)
        assert np.array_equal(found, np.repeat(every[digits.target == label, ..., None], 3, axis=3))
    assert np.allclose(np.bincount(test.labels) / np.bincount(digits.target), 0.2, atol=0.005)
    assert native_image_size("digits") == 8
    assert load_all("digits", 32).images.shape[1:] == (32, 32, 3)
    search = load_search_images("digits", image_size=8, holdout_share=0.1, most_train_images=600)
    assert not search.mirrored
    for part, about in ((search.train, 600), (search.holdout, 144)):
        assert abs(len(part) - about) <= 5  # each of ten classes is rounded
        drawn = {image.tobytes() for image in part.images}
        assert not drawn & {image.tobytes() for image in test.images}


def test_what_was_found_names_the_part_and_those_that_are_not_read(tmp_path: Path) -> None:
    for part in ("train", "val"):
        write_classes(tmp_path / "pets" / part)
    found = find_source(str(tmp_path / "pets"), None).found
    assert (found.name, found.part, found.untouched) == ("pets", "train/", ("val/",))
    assert found.images == len(load_all(tmp_path / "pets" / "train"))
    assert find_source(str(tmp_path / "pets" / "train"), None).found.part == ""


def test_a_missing_test_part_is_found_out_before_images_are_opened(
    tmp_path: Path, touched_files: TouchedFiles
) -> None:
    write_classes(tmp_path / "train")
    with (
        touched_files() as touched,
        pytest.raises(DataError, match=r"add one, or leave out `test`"),
    ):
        check_test_part(str(tmp_path))
    assert not [path for path in touched if path.endswith(".png")]
    write_classes(tmp_path / "test")
    check_test_part(str(tmp_path))


@pytest.mark.parametrize(
    ("counts", "uneven"),
    [((50, 2), (0, 50 / 52)), ((10, 30, 3, 2), (1, 30 / 45)), ((9, 10), None), ((6, 4, 2), None),
     ((), None)],
)  # fmt: skip
def test_classes_are_uneven_where_guessing_one_gives_much(
    counts: tuple[int, ...], uneven: tuple[int, float] | None
) -> None:
    assert uneven_class(counts) == uneven
