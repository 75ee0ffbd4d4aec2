"""Tables of images: one label or several, parts, and all that may be wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from image_trees import NOT_AN_IMAGE, load_all, write_image

import effnas.data.images
import effnas.data.tables
from effnas.data.loading import (
    load_search_images,
    load_test_part,
    load_train_images,
    native_image_size,
)
from effnas.data.streaming import StreamedSet
from effnas.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

SEVERAL = {
    "a/0.png": "dog|animal|pet",
    "a/1.png": "cat|animal",
    "a/2.png": "dog",
    "b/3.png": "animal|cat",
    "b/4.png": "car",
    "b/5.png": "cat|pet|animal",
    "b/6.png": "dog|pet",
}


def write_table(
    folder: Path,
    rows: Mapping[str, str],
    *,
    parts: Mapping[str, str] | None = None,
    name: str = "images.csv",
) -> Path:
    lines = ["image,labels" + (",part" if parts else "")]
    for n, (image, labels) in enumerate(rows.items()):
        write_image(folder / image, seed=n)
        lines.append(f"{image},{labels}" + (f",{parts[image]}" if parts else ""))
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_single(folder: Path) -> Path:
    return write_table(folder, {f"{n:02}.png": ("cat", "ant", "bee")[n % 3] for n in range(30)})


def test_a_table_says_which_classes_each_image_has(tmp_path: Path) -> None:
    images = load_all(write_table(tmp_path, SEVERAL))
    assert images.classes == ("animal", "car", "cat", "dog", "pet")
    assert images.label_lists is not None
    lists = [
        [images.classes[v] for v in images.label_lists.take(np.array([n])).values] for n in range(7)
    ]
    assert lists == [labels.split("|") for labels in SEVERAL.values()]
    assert [images.classes[label] for label in images.labels] == [each[0] for each in lists]
    targets = images.label_lists.targets(np.array([3, 2, 0, 3]), 5)
    third = 1 / 3
    expected = [[0.5, 0, 0.5, 0, 0], [0, 0, 0, 1, 0], [third, 0, 0, third, third]]
    assert targets.dtype == np.float32
    assert np.allclose(targets, [*expected, expected[0]])
    assert np.array_equal(images.label_lists.take(np.array([3, 2])).first, images.labels[[3, 2]])


def test_images_of_several_labels_are_split_by_the_first(tmp_path: Path) -> None:
    rows = {f"{n:02}.png": f"{('x', 'y')[n % 2]}|z" for n in range(20)} | {"lone.png": "w"}
    found = load_train_images(
        str(write_table(tmp_path, rows)), image_size=8, eval_image_size=12, minival_share=0.3
    )
    assert found.minival is not None
    assert found.train.classes == found.minival.classes == ("w", "x", "y", "z")
    assert np.bincount(found.minival.labels).tolist() == [0, 3, 3]
    assert np.bincount(found.train.labels).tolist() == [1, 7, 7]
    for part in (found.train, found.minival):
        assert part.label_lists is not None
        assert len(part.label_lists) == len(part)
        assert np.array_equal(part.label_lists.first, part.labels)


def test_streamed_images_of_a_table_are_those_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = write_table(tmp_path, SEVERAL)
    old = load_all(table)
    monkeypatch.setattr(effnas.data.images, "available_memory_bytes", lambda: 0)
    options: Any = {"image_size": 8, "eval_image_size": 8, "minival_share": 0}
    new = load_train_images(str(table), **options).train
    assert isinstance(new, StreamedSet)
    assert np.array_equal(next(new.batches([np.arange(7)])), old.images)
    assert old.label_lists is not None
    assert new.label_lists is not None
    assert np.array_equal(new.label_lists.values, old.label_lists.values)
    assert np.array_equal(new.label_lists.borders, old.label_lists.borders)
    table.write_text(table.read_text().replace("dog|animal|pet", "dog|pet|animal"))
    assert load_train_images(str(table), **options).train.fingerprint != new.fingerprint


def test_a_bad_image_takes_its_labels_with_it(tmp_path: Path) -> None:
    table = write_table(tmp_path, SEVERAL)
    whole = load_all(table)
    (tmp_path / "a" / "1.png").write_bytes(NOT_AN_IMAGE)
    (tmp_path / "b" / "4.png").unlink()  # a table may list what is not there
    found = load_all(table, on_bad_image="skip")
    kept = np.array([0, 2, 3, 5, 6])
    assert found.skipped == ("a/1.png", "b/4.png")
    assert whole.label_lists is not None
    assert found.label_lists is not None
    assert np.array_equal(found.label_lists.values, whole.label_lists.take(kept).values)
    assert np.array_equal(found.images, whole.images[kept])
    with pytest.raises(DataError, match=r"images\.csv: a/1\.png cannot be decoded"):
        load_all(table)


def test_a_search_takes_a_table_with_one_label_a_row(tmp_path: Path) -> None:
    table = write_single(tmp_path)
    images = load_all(table)
    assert images.classes == ("ant", "bee", "cat")
    assert images.labels.tolist() == [2, 0, 1] * 10
    assert images.label_lists is None
    found = load_search_images(str(table), image_size=8, holdout_share=0.2)
    assert np.bincount(found.holdout.labels).tolist() == [2, 2, 2]
    assert native_image_size(str(table)) == 8


def test_a_search_refuses_images_of_several_labels(tmp_path: Path) -> None:
    table = str(write_table(tmp_path, {"0.png": "dog", "1.png": "cat", "2.png": "cat|pet"}))
    with pytest.raises(DataError, match=r"2\.png has several labels.*one class each") as caught:
        load_search_images(table, image_size=8, holdout_share=0.2)
    assert str(caught.value).startswith(table)


def with_parts(folder: Path, other: str, **labels: str) -> Path:
    rows = {"0.png": "dog|pet", "1.png": "cat", "2.png": "dog"}
    more = {f"{name}.png": label for name, label in labels.items()}
    parts = dict.fromkeys(rows, "Train") | dict.fromkeys(more, other)
    return write_table(folder, rows | more, parts=parts)


@pytest.mark.parametrize("part", ["Testing", "val"])
def test_the_parts_of_a_table_are_named_as_folders_are(tmp_path: Path, part: str) -> None:
    table = with_parts(tmp_path, part, x="pet|dog", y="dog")
    (tmp_path / "0.png").rename(tmp_path / "0")  # the test part reads nothing of the training part
    found = load_test_part(str(table), image_size=8, classes=("cat", "dog", "pet"))
    assert found.part == part.lower()
    # It need not have every class.
    assert found.labels.tolist() == [2, 1]
    assert found.label_lists is not None
    assert found.label_lists.values.tolist() == [2, 1, 1]
    (tmp_path / "0").rename(tmp_path / "0.png")
    for name in ("x.png", "y.png"):
        (tmp_path / name).unlink()
    assert len(load_all(table)) == 3


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("image,labels,part\n0.png,cat,train\n1.png,dog,train\n", r"no test part"),
        ("image,labels,part\n0.png,cat,test\n", r"no row of a part named 'train'"),
        (
            "image,labels,part\n0.png,cat,train\n1.png,dog,train\n2.png,cow,test\n",
            r":4: no image of the training part has the class 'cow'",
        ),
        (
            "image,labels,part\n0.png,cat,train\n1.png,dog,train\n2.png,cat,val\n3.png,cat,eval\n",
            r"eval and val are both validation parts",
        ),
        (
            "image,labels,part\n0.png,cat,train\n1.png,cow,train\n2.png,cat,val\n",
            r"lacks the class 'dog' of the training part",
        ),
    ],
)
def test_a_wrong_test_part_is_refused(tmp_path: Path, table: str, said: str) -> None:
    path = tmp_path / "images.csv"
    path.write_text(table)
    with pytest.raises(DataError, match=said) as caught:
        load_test_part(str(path), image_size=8, classes=("cat", "dog"))
    assert str(caught.value).startswith(str(path))


HEADER = b"image,labels\n"
GOOD = b"0.png,cat\n1.png,dog\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", r":1: the header lacks the column 'image'"),
        (b"file,labels\n", r":1: there is a column 'file'"),
        (b"image,labels,image\n", r":1: the column 'image' is there twice"),
        (HEADER, r"no row below the header"),
        (HEADER + GOOD + b"2.png\n", r":4: 1 cells, and the header has 2"),
        (HEADER + b'"0.png","a\nb"\n' + b"2.png,a|\n", r":4: labels: 'a\|' has an empty label"),
        (HEADER + GOOD + b"2.png,a|b| a\n", r":4: labels: .* has a label twice"),
        (HEADER + GOOD + b"\n./0.png,cat\n", r":5: the image '0\.png' is in line 2, too"),
        (HEADER + GOOD + b",cat\n", r":4: image: '' is no path"),
        (HEADER + GOOD + b"a/../../2.png,cat\n", r":4: image: .* leads out"),
        (HEADER + GOOD + b"/etc/2.png,cat\n", r":4: image: '/etc/2\.png' leads out"),
        (HEADER + GOOD + b'"2.png,cat\n', r":4: not valid CSV"),
        (HEADER + GOOD + b"2.png,c\xe4t\n", r":4: not UTF-8 text \(byte 8 of the line\)"),
        (HEADER + GOOD + b"2.png," + b"x" * 200_000, r":4: a line of 100,000 bytes or more"),
        (b"image,labels,part\n0.png,cat,holdout\n", r":2: part: 'holdout' is none of eval, test"),
        (b"image,labels,part\n0.png,a,train\n1.png,b,training\n", r"are both training parts"),
        (b"image,labels,part\n0.png,a,train\n0.png,a,test\n", r":3: the image .* in line 2, too"),
    ],
)
def test_a_wrong_table_is_refused_with_file_and_line(
    tmp_path: Path, content: bytes, said: str
) -> None:
    path = tmp_path / "images.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        load_all(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300 + len(str(path))


def test_what_a_spreadsheet_makes_of_a_table_is_read(tmp_path: Path) -> None:
    expected = load_all(write_table(tmp_path, SEVERAL)).fingerprint
    lines = [f'"{labels}",{image} ' for image, labels in SEVERAL.items()]
    text = "\r\n".join(["labels , image", *lines, "", ""])
    path = tmp_path / "OTHER.CSV"
    path.write_text(text, encoding="utf-8-sig", newline="")
    assert load_all(path).fingerprint == expected
