"""The images of a search: two drawn parts of the training part, that have nothing in common."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from image_trees import NOT_AN_IMAGE, write_archive, write_classes, write_image
from PIL import Image

import effnas.data.images
from effnas.data.images import ImageSet
from effnas.data.loading import SearchImages, load_search_images, load_training_part
from effnas.errors import DataError

if TYPE_CHECKING:
    from image_trees import TouchedFiles

PACKED = pytest.mark.parametrize("pack", [False, True], ids=["folder", "archive"])


def load(path: Path, **options: Any) -> SearchImages:
    return load_search_images(str(path), **{"image_size": 8, "holdout_share": 0.2, **options})


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Twenty images of each of three classes, all different."""
    return write_classes(tmp_path / "many", count=20)


def pixels(images: ImageSet) -> list[bytes]:
    return [image.tobytes() for image in images.images]


def labelled(images: ImageSet) -> set[tuple[bytes, int]]:
    return set(zip(pixels(images), images.labels.tolist(), strict=True))


@PACKED
@pytest.mark.parametrize("holdout_share", [0.2, 0.99])
def test_the_parts_are_disjoint_and_cover_the_training_part(
    tmp_path: Path, many: Path, holdout_share: float, pack: bool
) -> None:
    path = write_archive(tmp_path / "many.tgz", many) if pack else many
    whole = load_training_part(str(path), image_size=8)
    found = load(path, holdout_share=holdout_share, data_share=1.0)
    assert not labelled(found.train) & labelled(found.holdout)
    assert labelled(found.train) | labelled(found.holdout) == labelled(whole)
    assert len(found.train) + len(found.holdout) == len(whole) == 60
    held = min(max(round(20 * holdout_share), 1), 19)
    assert np.bincount(found.holdout.labels).tolist() == [held] * 3
    assert found.train.classes == found.holdout.classes == whole.classes
    assert found.nbytes == whole.images.nbytes
    assert (found.data_share, found.skipped) == (1.0, ())


@PACKED
def test_a_share_is_a_part_of_the_whole_with_the_same_proportions(
    tmp_path: Path, many: Path, pack: bool
) -> None:
    path = write_archive(tmp_path / "many.tgz", many) if pack else many
    whole, part = load(path, seed=3), load(path, data_share=0.25, seed=3)
    assert np.bincount(part.train.labels).tolist() == [4, 4, 4]
    assert labelled(part.train) < labelled(whole.train)
    assert part.data_share == 0.25


def test_the_hold_out_does_not_depend_on_the_share(many: Path) -> None:
    whole = load(many)
    for options in ({"data_share": s} for s in (1e-6, 0.1, 0.5, 0.999, 1.0)):
        part = load(many, **options)
        assert part.holdout.fingerprint == whole.holdout.fingerprint
        assert not labelled(part.train) & labelled(part.holdout)
    assert load(many, most_train_images=7).holdout.fingerprint == whole.holdout.fingerprint


def test_the_seed_alone_decides_what_is_drawn(many: Path) -> None:
    found = [load(many, data_share=0.5, seed=seed) for seed in range(8)]
    assert len({each.train.fingerprint for each in found}) == 8
    assert len({each.holdout.fingerprint for each in found}) == 8
    assert load(many, data_share=0.5, seed=5).fingerprint == found[5].fingerprint


def test_only_what_is_drawn_is_opened(many: Path, touched_files: TouchedFiles) -> None:
    with touched_files() as touched:
        found = load(many, data_share=0.25)
    opened = [path for path in touched if path.endswith(".png")]
    assert len(opened) == len(set(opened)) == len(found.train) + len(found.holdout) == 24


def test_only_what_is_drawn_needs_memory(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn_bytes = (12 + 12) * 8 * 8 * 3
    monkeypatch.setattr(effnas.data.images, "_available_memory_bytes", lambda: 2 * drawn_bytes)
    assert load(many, data_share=0.25).nbytes == drawn_bytes
    with pytest.raises(DataError, match="lower `data_share` or `image_size`"):
        load(many, data_share=0.32)


@pytest.mark.parametrize(("most", "expected"), [(1, 3), (6, 6), (24, 24), (48, 48), (500, 48)])
def test_training_images_are_bounded(many: Path, most: int, expected: int) -> None:
    found = load(many, most_train_images=most)
    assert len(found.train) == expected  # a class keeps one image whatever the bound
    assert found.data_share == min(most / 48, 1.0)
    assert len(load(many, data_share=1.0, most_train_images=most).train) == 48


def test_the_share_that_a_bound_came_to_draws_the_same_images_again(many: Path) -> None:
    bounded = load(many, most_train_images=20)
    assert load(many, data_share=bounded.data_share).fingerprint == bounded.fingerprint


def test_a_tiny_share_keeps_one_image_of_each_class(many: Path) -> None:
    found = load(many, data_share=1e-6, holdout_share=1e-6)
    assert np.bincount(found.train.labels).tolist() == [1, 1, 1]
    assert np.bincount(found.holdout.labels).tolist() == [1, 1, 1]


@pytest.mark.slow
@PACKED
@pytest.mark.parametrize("spoilt", ["train", "holdout", "both"])
def test_skipping_bad_images_keeps_the_rest_of_both_parts_as_it_was(
    tmp_path: Path, many: Path, spoilt: str, pack: bool
) -> None:
    before = load(many, data_share=0.5)
    files = {np.asarray(Image.open(file)).tobytes(): file for file in many.rglob("*.png")}
    bad: dict[str, list[int]] = {"train": [], "holdout": []}
    for part in bad if spoilt == "both" else [spoilt]:
        bad[part] = [0, 5, 6, len(getattr(before, part)) - 1]
    names = [
        files[pixels(getattr(before, part))[position]].relative_to(many).as_posix()
        for part, positions in bad.items()
        for position in positions
    ]
    for name in names:
        (many / name).write_bytes(NOT_AN_IMAGE)
    # Another order of the members must not matter.
    path = tmp_path / "many.tar"
    path = write_archive(path, many, order=lambda found: found[::-1]) if pack else many
    after = load(path, data_share=0.5, on_bad_image="skip")
    for part, positions in bad.items():
        old, new = getattr(before, part), getattr(after, part)
        assert np.array_equal(new.images, np.delete(old.images, positions, axis=0))
        assert np.array_equal(new.labels, np.delete(old.labels, positions))
    assert after.skipped == tuple(names)
    with pytest.raises(DataError, match=r"cannot be decoded .*`on_bad_image` skip"):
        load(path, data_share=0.5)


def test_a_bad_image_that_is_not_drawn_is_never_met(many: Path) -> None:
    before = load(many, data_share=0.25)
    drawn = {*pixels(before.train), *pixels(before.holdout)}
    for file in many.rglob("*.png"):
        if np.asarray(Image.open(file)).tobytes() not in drawn:
            file.write_bytes(NOT_AN_IMAGE)
    assert load(many, data_share=0.25).fingerprint == before.fingerprint


@pytest.mark.parametrize("part", ["train", "holdout"])
def test_a_class_that_loses_all_images_of_a_part_is_named(many: Path, part: str) -> None:
    bees = {
        image.tobytes()
        for image, label in zip(
            getattr(load(many), part).images, getattr(load(many), part).labels, strict=True
        )
        if label == 1
    }
    for file in (many / "bee").iterdir():
        if np.asarray(Image.open(file)).tobytes() in bees:
            file.write_bytes(NOT_AN_IMAGE)
    with pytest.raises(DataError, match="no image of class folder 'bee' can be decoded"):
        load(many, on_bad_image="skip")


def test_a_class_with_one_image_is_named(tmp_path: Path) -> None:
    write_classes(tmp_path / "data")
    write_image(tmp_path / "data" / "dog" / "rex.png")
    with pytest.raises(DataError, match=r"data: class folder 'dog' has a single image") as caught:
        load(tmp_path / "data")
    assert "\n" not in str(caught.value)
    write_image(tmp_path / "data" / "dog" / "fido.png", seed=1)
    assert len(load(tmp_path / "data").holdout) == 4


@pytest.mark.parametrize("share", [0, -1, 1.01, float("nan")])
def test_a_share_out_of_range_is_refused(many: Path, share: float) -> None:
    with pytest.raises(DataError, match="`data_share`"):
        load(many, data_share=share)


@pytest.mark.parametrize("share", [0, -1, 1, 1.01, float("nan")])
def test_a_hold_out_out_of_range_is_refused(many: Path, share: float) -> None:
    with pytest.raises(DataError, match="hold out must lie between 0 and 1"):
        load(many, holdout_share=share)


@pytest.mark.parametrize("part", ["train", "holdout"])
def test_the_fingerprint_tells_a_change_of_either_part(many: Path, part: str) -> None:
    found = load(many, data_share=0.5)
    images = getattr(found, part).images.copy()
    images[3, 2, 1, 0] ^= 1
    changed = dataclasses.replace(getattr(found, part), images=images)
    assert dataclasses.replace(found, **{part: changed}).fingerprint != found.fingerprint
    assert load(many, data_share=0.5).fingerprint == found.fingerprint
    swapped = dataclasses.replace(found, train=found.holdout, holdout=found.train)
    assert swapped.fingerprint != found.fingerprint


@pytest.mark.slow
def test_digits_are_split_by_class() -> None:
    found = load_search_images("digits", image_size=8, holdout_share=0.1, most_train_images=600)
    assert len(found.holdout) + len(found.train) < 1438
    assert abs(len(found.train) - 600) <= 5  # each of ten classes is rounded
    assert abs(len(found.holdout) - 144) <= 5
    assert set(np.unique(found.train.labels)) == set(np.unique(found.holdout.labels))
