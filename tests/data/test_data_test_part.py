"""The test part: which one it is, that it is read as the training part is, and when it is not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pytest
from image_trees import NOT_AN_IMAGE, write_archive, write_classes, write_image

from effnas.data.images import ImageSet
from effnas.data.loading import load_search_images, load_test_part, load_training_part
from effnas.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable

    from image_trees import TouchedFiles

CLASSES = ("ant", "bee", "cat")


def load(path: Path, on_bad_image: Literal["refuse", "skip"] = "refuse") -> ImageSet:
    return load_test_part(str(path), image_size=8, classes=CLASSES, on_bad_image=on_bad_image)


@pytest.mark.parametrize("pack", [False, True], ids=["folder", "archive"])
@pytest.mark.parametrize("leading", ["", "mydata"])
@pytest.mark.parametrize(
    ("parts", "read"),
    [
        (["test"], "test"),
        (["Testing", "val"], "Testing"),
        (["validation", "test"], "test"),
        (["val"], "val"),
        (["eval"], "eval"),
        (["Valid"], "Valid"),
    ],
)
def test_the_test_part_is_read_else_the_validation_part(
    tmp_path: Path, parts: list[str], read: str, leading: str, pack: bool
) -> None:
    tree = tmp_path / "tree"
    write_classes(tree / leading / "train")
    for n, part in enumerate(parts, start=1):
        write_classes(tree / leading / part, count=n)
    found = load(write_archive(tmp_path / "data.tar", tree) if pack else tree)
    assert found.part == read
    assert len(found) == 3 * (parts.index(read) + 1)


@pytest.mark.parametrize("pack", [False, True], ids=["folder", "archive"])
def test_a_test_part_whose_labels_are_kept_secret_is_passed_over(
    tmp_path: Path, pack: bool
) -> None:
    tree = tmp_path / "tree"
    for part in ("train", "val"):
        write_classes(tree / part)
    write_image(tree / "test" / "1.png")
    assert load(write_archive(tmp_path / "data.tar", tree) if pack else tree).part == "val"


def test_the_same_images_are_the_same_whichever_part_they_are(tmp_path: Path, pets: Path) -> None:
    write_classes(tmp_path / "other" / "test")
    other = load(tmp_path / "other")
    training = load_training_part(str(pets), image_size=8)
    assert other.fingerprint == training.fingerprint
    assert (other.part, training.part) == ("test", None)


def test_the_training_part_is_not_touched(tmp_path: Path, touched_files: TouchedFiles) -> None:
    for part in ("train", "test"):
        write_classes(tmp_path / "data" / part)
    with touched_files() as touched:
        load(tmp_path / "data")
    below = {Path(path).relative_to(tmp_path / "data").parts[:1] for path in touched
             if path.startswith(str(tmp_path / "data"))}  # fmt: skip
    assert below == {(), ("test",)}


def test_bad_images_are_refused_or_skipped_and_named(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "data" / "test").parent
    (root / "test" / "bee" / "2.png").write_bytes(NOT_AN_IMAGE)
    with pytest.raises(
        DataError, match=r"test/bee/2\.png cannot be decoded .*; mend or remove it$"
    ):
        load(root)
    found = load(root, on_bad_image="skip")
    assert found.skipped == ("test/bee/2.png",)
    assert np.bincount(found.labels).tolist() == [5, 4, 5]


def nothing_but_classes(root: Path) -> None:
    write_classes(root)


def nothing_but_training(root: Path) -> None:
    write_classes(root / "train")


def images_without_classes(root: Path) -> None:
    write_image(root / "train" / "ant" / "1.png")
    write_image(root / "test" / "1.png")


def a_class_missing(root: Path) -> None:
    write_classes(root / "test", ["ant", "cat"])


def the_last_class_missing(root: Path) -> None:
    write_classes(root / "test", ["ant", "bee"])


def a_class_more(root: Path) -> None:
    write_classes(root / "test", ["ant", "bear", "bee", "cat"])


def a_class_more_at_the_end(root: Path) -> None:
    write_classes(root / "test", ["ant", "bee", "cat", "dog"])


def other_classes(root: Path) -> None:
    write_classes(root / "val", ["images"])


def an_empty_class(root: Path) -> None:
    write_classes(root / "test", ["ant", "bee"])
    (root / "test" / "cat").mkdir()


def two_test_parts(root: Path) -> None:
    write_classes(root / "test")
    write_classes(root / "testing")


def two_validation_parts(root: Path) -> None:
    write_classes(root / "val")
    write_classes(root / "eval")


LOOKED_FOR = r"no test part.*test or testing, then for val, valid, validation or eval"


@pytest.mark.parametrize("pack", [False, True], ids=["folder", "archive"])
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (nothing_but_classes, LOOKED_FOR),
        (nothing_but_training, LOOKED_FOR),
        (images_without_classes, LOOKED_FOR),
        (a_class_missing, "part 'test' lacks the class folder 'bee' of the training part"),
        (the_last_class_missing, "part 'test' lacks the class folder 'cat' of the training part"),
        (a_class_more, "'test' has class folder 'bear' where the training part has 'bee'"),
        (a_class_more_at_the_end, "'test' has class folder 'dog' where the training part has none"),
        (other_classes, "part 'val' lacks the class folder 'ant' of the training part"),
        (an_empty_class, "class folder 'cat' holds no images"),
        (two_test_parts, "test and testing are both test parts"),
        (two_validation_parts, "eval and val are both validation parts"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_wrong_is_told_in_a_line_that_names_the_place(
    tmp_path: Path, make: Callable[[Path], object], said: str, pack: bool
) -> None:
    tree = tmp_path / "tree"
    make(tree)
    path = write_archive(tmp_path / "data.tar", tree) if pack else tree
    with pytest.raises(DataError, match=said) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_digits_of_the_test_part_are_those_that_no_search_has() -> None:
    from sklearn.datasets import load_digits

    classes = tuple(str(label) for label in range(10))
    test = load_test_part("digits", image_size=8, classes=classes)
    training = load_training_part("digits", image_size=8)
    assert test.part == "test"
    assert len(test) + len(training) == 1797
    # Together they are all digits, each class in its order: the test part is the end of it.
    digits = load_digits()
    every = np.rint(digits.images / 16 * 255)
    for label in range(10):
        both = [each.images[each.labels == label][..., 0] for each in (training, test)]
        assert np.array_equal(np.concatenate(both), every[digits.target == label])
    assert np.allclose(np.bincount(test.labels) / np.bincount(digits.target), 0.2, atol=0.005)


def test_digits_that_a_search_draws_are_not_among_those_of_the_test_part() -> None:
    classes = tuple(str(label) for label in range(10))
    test = load_test_part("digits", image_size=8, classes=classes)
    search = load_search_images("digits", image_size=8, holdout_share=0.1)
    seen = {image.tobytes() for part in (search.train, search.holdout) for image in part.images}
    assert not seen & {image.tobytes() for image in test.images}
