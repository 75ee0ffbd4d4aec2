"""Loading the whole training part: bad images, memory, names, and the real archives."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from image_trees import NOT_AN_IMAGE, write_archive, write_classes

import effnas.data.images
from effnas.data.images import ImageSet
from effnas.data.loading import load_search_images, load_training_part, native_image_size
from effnas.errors import DataError

ARCHIVES = Path(__file__).resolve().parents[3] / "shared" / "data"


def load(path: Path | str, on_bad_image: Literal["refuse", "skip"] = "refuse") -> ImageSet:
    return load_training_part(str(path), image_size=8, on_bad_image=on_bad_image)


@pytest.fixture
def many(tmp_path: Path) -> Path:
    return write_classes(tmp_path / "many", count=20)


@pytest.mark.parametrize("pack", [False, True], ids=["folder", "archive"])
def test_skipping_bad_images_leaves_what_would_be_there_without_them(
    tmp_path: Path, many: Path, pack: bool
) -> None:
    bad = ["ant/0.png", "bee/5.png", "bee/6.png", "cat/9.png"]
    for name in bad:
        (many / name).unlink()
    expected = load(many)
    for name in bad:
        (many / name).write_bytes(NOT_AN_IMAGE)
    archive = write_archive(tmp_path / "many.tar", many, order=lambda files: files[::-1])
    found = load(archive if pack else many, on_bad_image="skip")
    assert found.skipped == tuple(bad)
    assert found.fingerprint == expected.fingerprint
    assert len(found) == len(found.images) == 56


def test_a_class_that_loses_all_its_images_is_an_error(many: Path) -> None:
    for path in (many / "bee").iterdir():
        path.write_bytes(NOT_AN_IMAGE)
    with pytest.raises(DataError, match="no image of class folder 'bee' can be decoded"):
        load(many, on_bad_image="skip")


def test_an_image_size_out_of_range_is_refused(many: Path) -> None:
    with pytest.raises(DataError, match="`image_size`"):
        load_training_part(str(many), image_size=0)


def test_more_than_half_of_the_memory_is_never_taken(
    many: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed_bytes = 60 * 8 * 8 * 3
    monkeypatch.setattr(effnas.data.images, "_available_memory_bytes", lambda: 2 * needed_bytes)
    assert len(load(many)) == 60
    monkeypatch.setattr(effnas.data.images, "_available_memory_bytes", lambda: 2 * needed_bytes - 2)
    with pytest.raises(DataError, match=r"0\.0 GB.*lower `data_share` or `image_size`"):
        load(many)


def test_the_memory_told_is_that_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    told = effnas.data.images._available_memory_bytes()
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: (_ for _ in ()).throw(OSError()))
    total = effnas.data.images._available_memory_bytes()
    assert 1e8 < told <= total


def test_a_fingerprint_tells_any_change_of_the_data(many: Path) -> None:
    images = load(many)
    other_pixel = images.images.copy()
    other_pixel[7, 3, 3, 1] ^= 1
    other_label = images.labels.copy()
    other_label[0] = 1
    changed = [
        dataclasses.replace(images, images=other_pixel),
        dataclasses.replace(images, labels=other_label),
        dataclasses.replace(images, classes=("ant", "bee", "cow")),
        dataclasses.replace(images, classes=("ant", "beec", "at")),
    ]
    assert len({images.fingerprint, *(each.fingerprint for each in changed)}) == 5
    assert (
        dataclasses.replace(images, images=images.images.copy()).fingerprint
        == load(many).fingerprint
    )
    assert len(images.fingerprint) == 16
    int(images.fingerprint, 16)


@pytest.mark.slow
def test_the_digits_are_the_first_four_fifths_of_each_class() -> None:
    from sklearn.datasets import load_digits

    images = load_training_part("digits", image_size=8)
    digits = load_digits()
    expected = np.zeros(len(digits.target), bool)
    for label in range(10):
        members = np.flatnonzero(digits.target == label)
        expected[members[: round(0.8 * len(members))]] = True
    assert len(images) == expected.sum() == 1438
    assert images.num_classes == 10
    assert np.array_equal(images.labels, digits.target[expected])
    assert np.array_equal(images.images[..., 0], np.rint(digits.images[expected] / 16 * 255))
    assert np.array_equal(images.images[..., 0], images.images[..., 2])
    assert native_image_size("digits") == 8


def test_digits_are_enlarged_where_asked() -> None:
    assert load_training_part("digits", image_size=32).images.shape[1:] == (32, 32, 3)


@pytest.mark.parametrize("name", ["", "digit", "no/such/folder", "cifar10", "gone.tar.gz", "wds/"])
def test_a_name_that_is_nothing_is_told_with_what_names_look_like(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(write_classes(tmp_path))
    for read in (native_image_size, lambda name: load_training_part(name, image_size=8)):
        with pytest.raises(DataError) as caught:
            read(name)
        message = str(caught.value)
        assert repr(name) in message
        assert "torch/cifar10" in message
        assert "\n" not in message


def test_an_existing_path_wins_over_a_name_of_timm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_classes(tmp_path / "torch" / "cifar10")
    monkeypatch.chdir(tmp_path)
    assert load_training_part("torch/cifar10", image_size=8).classes == ("ant", "bee", "cat")


def test_a_path_below_the_home_folder_may_be_written_with_a_tilde(
    many: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(many.parent))
    assert len(load("~/many")) == 60


@pytest.mark.slow
def test_importing_the_package_is_cheap() -> None:
    heavy = "{'torch', 'timm', 'sklearn', 'PIL', 'torchvision', 'pandas', 'ray'}"
    code = f"import sys, effnas.data; print(sorted({heavy} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@pytest.mark.slow
def test_torch_is_not_imported_for_folders_and_digits(many: Path) -> None:
    code = (
        "import sys, effnas.data as d\n"
        f"d.load_training_part({str(many)!r}, image_size=8)\n"
        "d.load_training_part('digits', image_size=8)\n"
        "print('torch' in sys.modules, 'timm' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["False", "False"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "image_size", "classes", "of_each"),
    [("cifar10.tar.gz", 32, 10, 250), ("tiny-imagenet-20.tar.gz", 64, 20, 25)],
)
def test_published_images_are_read_from_their_archive(
    file: str, image_size: int, classes: int, of_each: int
) -> None:
    archive = ARCHIVES / file
    if not archive.exists():
        pytest.skip(f"{archive} is not here")
    assert native_image_size(str(archive)) == image_size
    images = load_search_images(
        str(archive), image_size=image_size, holdout_share=0.05, data_share=0.001
    ).holdout
    assert images.images.shape == (classes * of_each, image_size, image_size, 3)
    assert np.bincount(images.labels).tolist() == [of_each] * classes
    # Photographs, not noise or blanks: neighbouring pixels are alike, images are not.
    pixels = images.images.astype(int)
    assert np.abs(np.diff(pixels, axis=2)).mean() < 30
    assert pixels.mean(axis=(1, 2, 3)).std() > 10
