"""The images of a search: two drawn parts of the training part, that have nothing in common."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from image_trees import NOT_AN_IMAGE, load_all, write_classes
from PIL import Image

import effnas.data.images
from effnas.data.images import ImageSet
from effnas.data.loading import SearchImages, load_search_images, native_image_size
from effnas.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable

    from image_trees import TouchedFiles

    Pack = Callable[[Path], Path]

ARCHIVES = Path(__file__).resolve().parents[3] / "shared" / "data"


def load(path: Path, **options: Any) -> SearchImages:
    return load_search_images(str(path), **{"image_size": 8, "holdout_share": 0.2, **options})


def pixels(images: ImageSet) -> list[bytes]:
    return [image.tobytes() for image in images.images]


def labelled(images: ImageSet) -> set[tuple[bytes, int]]:
    return set(zip(pixels(images), images.labels.tolist(), strict=True))


@pytest.mark.parametrize("holdout_share", [0.2, 0.99])
def test_the_parts_are_disjoint_and_cover_the_training_part(
    many: Path, holdout_share: float, pack: Pack
) -> None:
    path = pack(many)
    whole = load_all(path)
    found = load(path, holdout_share=holdout_share)
    assert not labelled(found.train) & labelled(found.holdout)
    assert labelled(found.train) | labelled(found.holdout) == labelled(whole)
    assert len(found.train) + len(found.holdout) == len(whole) == 60
    held = min(max(round(20 * holdout_share), 1), 19)
    assert np.bincount(found.holdout.labels).tolist() == [held] * 3
    assert found.train.classes == found.holdout.classes == whole.classes
    assert found.nbytes == whole.images.nbytes
    assert (found.data_share, found.skipped) == (1.0, ())


@pytest.mark.parametrize("data_share", [1e-6, 0.25, 0.999])
def test_a_share_is_a_part_of_the_whole_and_leaves_the_hold_out(
    many: Path, data_share: float
) -> None:
    whole, part = load(many, seed=3), load(many, seed=3, data_share=data_share)
    assert np.bincount(part.train.labels).tolist() == [max(round(16 * data_share), 1)] * 3
    assert labelled(part.train) <= labelled(whole.train)
    assert part.holdout.fingerprint == whole.holdout.fingerprint
    assert part.data_share == data_share


def test_the_seed_alone_decides_what_is_drawn(many: Path) -> None:
    found = [load(many, data_share=0.5, seed=seed) for seed in range(8)]
    assert len({each.train.fingerprint for each in found}) == 8
    assert len({each.holdout.fingerprint for each in found}) == 8
    assert load(many, data_share=0.5, seed=5).fingerprint == found[5].fingerprint


def test_only_what_is_drawn_is_opened_and_needs_memory(
    many: Path, touched_files: TouchedFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn_bytes = (12 + 12) * 8 * 8 * 3
    monkeypatch.setattr(effnas.data.images, "available_memory_bytes", lambda: 2 * drawn_bytes)
    with touched_files() as touched:
        found = load(many, data_share=0.25)
    opened = [path for path in touched if path.endswith(".png")]
    assert len(set(opened)) == len(found.train) + len(found.holdout) == 24
    assert found.nbytes == drawn_bytes
    with pytest.raises(DataError, match=r"0\.0 GB.*lower `data_share` or `image_size`"):
        load(many, data_share=0.32)


@pytest.mark.parametrize(("most", "expected"), [(1, 3), (24, 24), (500, 48)])
def test_training_images_are_bounded(many: Path, most: int, expected: int) -> None:
    found = load(many, most_train_images=most)
    assert len(found.train) == expected  # a class keeps one image whatever the bound
    assert found.data_share == min(most / 48, 1.0)
    assert len(load(many, data_share=1.0, most_train_images=most).train) == 48
    assert load(many, data_share=found.data_share).fingerprint == found.fingerprint


def test_skipping_bad_images_keeps_the_rest_of_both_parts_as_it_was(many: Path, pack: Pack) -> None:
    before = load(many, data_share=0.5)
    files = {np.asarray(Image.open(file)).tobytes(): file for file in many.rglob("*.png")}
    drawn = {*pixels(before.train), *pixels(before.holdout)}
    bad = {part: [0, 5, 6, len(getattr(before, part)) - 1] for part in ("train", "holdout")}
    names = [
        files[pixels(getattr(before, part))[position]].relative_to(many).as_posix()
        for part, positions in bad.items()
        for position in positions
    ]
    for name in names:
        (many / name).write_bytes(NOT_AN_IMAGE)
    for image, file in files.items():
        if image not in drawn:
            file.write_bytes(NOT_AN_IMAGE)  # and is never read
    path = pack(many)
    after = load(path, data_share=0.5, on_bad_image="skip")
    for part, positions in bad.items():
        old, new = getattr(before, part), getattr(after, part)
        assert np.array_equal(new.images, np.delete(old.images, positions, axis=0))
        assert np.array_equal(new.labels, np.delete(old.labels, positions))
    assert after.skipped == tuple(names)
    with pytest.raises(DataError, match=r"cannot be decoded .*`on_bad_image` skip"):
        load(path, data_share=0.5)
    for file in (many / "bee").iterdir():
        file.write_bytes(NOT_AN_IMAGE)
    with pytest.raises(DataError, match="no image of class folder 'bee' can be decoded"):
        load(many, on_bad_image="skip")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        *(({"data_share": share}, "`data_share`") for share in (0, -1, 1.01, float("nan"))),
        ({"holdout_share": 1}, "hold out must lie between 0 and 1"),
        ({"image_size": 0}, "`image_size` must be 1 or more"),
    ],
)
def test_a_value_out_of_range_is_refused(many: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        load(many, **options)


def test_a_fingerprint_changes_with_the_data(many: Path) -> None:
    found = load(many)
    images = found.holdout
    pixel, label = images.images.copy(), images.labels.copy()
    pixel[7, 3, 3, 1] ^= 1
    label[0] = 1
    changed = [
        images,
        dataclasses.replace(images, images=pixel),
        dataclasses.replace(images, labels=label),
        dataclasses.replace(images, classes=("ant", "bee", "cow")),
        dataclasses.replace(images, classes=("ant", "beec", "at")),
    ]
    assert len({each.fingerprint for each in changed}) == 5
    for part in ("train", "holdout"):
        assert dataclasses.replace(found, **{part: changed[1]}).fingerprint != found.fingerprint  # type: ignore[arg-type]
    swapped = dataclasses.replace(found, train=found.holdout, holdout=found.train)
    assert swapped.fingerprint != found.fingerprint
    assert load(many).fingerprint == found.fingerprint
    assert len(images.fingerprint) == 16
    int(images.fingerprint, 16)


# -- names


@pytest.mark.parametrize("name", ["", "mnist", "gone.tar.gz", "wds/"])
def test_a_name_of_nothing_is_refused_with_what_names_look_like(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(write_classes(tmp_path))
    write_classes(tmp_path / "torch" / "cifar10")
    assert load_all("torch/cifar10").classes == ("ant", "bee", "cat")  # a path wins over a name
    for read in (native_image_size, load_all):
        with pytest.raises(DataError) as caught:
            read(name)
        assert repr(name) in str(caught.value)
        assert "torch/cifar10" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_users_images_are_mirrored_whatever_their_path(many: Path) -> None:
    assert load(many.rename(many.parent / "mnist-digits")).mirrored


@pytest.mark.slow
def test_nothing_heavy_is_imported_before_it_is_needed(many: Path) -> None:
    heavy = "{'torch', 'timm', 'sklearn', 'PIL', 'torchvision', 'pandas', 'ray'}"
    code = (
        f"import sys, effnas.data.loading as d; print(sorted({heavy} & set(sys.modules)))\n"
        f"for name in ({str(many)!r}, 'digits'):\n"
        "    d.load_search_images(name, image_size=8, holdout_share=0.5)\n"
        "print('torch' in sys.modules, 'timm' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.splitlines() == ["[]", "False False"]


@pytest.mark.slow
def test_published_images_are_read_from_their_archive() -> None:
    image_size, classes, of_each = 64, 20, 25
    archive = ARCHIVES / "tiny-imagenet-20.tar.gz"
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
