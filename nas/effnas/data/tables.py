"""Tables of images: a CSV file that says which classes each image has, and which part it is of."""

from __future__ import annotations

import csv
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from effnas.data.source import (
    OTHER_PARTS,
    TEST_KINDS,
    TRAINING_PARTS,
    LabelLists,
    Source,
    only_part,
    reader_of_files,
    test_part_of,
)
from effnas.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from effnas.data.source import Layer

_NEEDED = ("image", "labels")
_COLUMNS = (*_NEEDED, "part")
_PARTS = TRAINING_PARTS | OTHER_PARTS
#: Characters of a bad cell that are shown.
_SHOWN = 80
# The 14 million images of ImageNet-21k with all their labels take some 2 GB.
_MAX_BYTES = 8_000_000_000
_MAX_LINE_BYTES = 100_000


def is_table_name(path: Path) -> bool:
    """Whether a file has the name of a table."""
    return path.suffix.lower() == ".csv"


def table_source(path: Path, *, part: Layer = "training") -> Source:
    """Return the images of one part of a table.

    It is UTF-8 CSV with a header and the columns `image` (path relative to the table's folder),
    `labels` (names of classes separated by `|`) and, if there are other parts than the training
    part, `part` (named as folders are). The classes are those of the training part, sorted. The
    test part need not have all of them.

    Raises:
        DataError: With file and line: it breaks these rules, or lacks the part.
    """
    parts = _read_parts(path)
    name = only_part(sorted(parts), TRAINING_PARTS, "training", path)
    if name is None:
        raise DataError(f"{path}: no row of a part named 'train', which gives the classes")
    training = parts[name]
    classes = tuple(sorted(training.lines))
    rows = training if part == "training" else _test_part(path, parts)
    lists = rows.label_lists(path, classes)
    folder = path.parent

    def file(index: int) -> Path:
        return folder / rows.images[index]

    return Source(
        origin=str(path),
        classes=classes,
        names=rows.images,
        labels=lists.first,
        read=reader_of_files(file),
        part=None if part == "training" else rows.name,
        label_lists=lists if len(lists.values) > len(lists) else None,
        every_class=part == "training" and len(lists.values) == len(lists),
        file=file,
        training_part=f"part {training.name}" if len(parts) > 1 else "",
        untouched=tuple(sorted(f"part {each}" for each in parts if parts[each] is not training)),
        test_part=test_part_of(sorted(parts)),
    )


@dataclass
class _Rows:
    """The rows of a part: paths of images, and labels as positions in `lines`."""

    name: str
    images: list[str] = field(default_factory=list)
    values: array[int] = field(default_factory=lambda: array("q"))
    borders: array[int] = field(default_factory=lambda: array("q", [0]))
    lines: dict[str, int] = field(default_factory=dict)  # class to where it is met first
    _positions: dict[str, int] = field(default_factory=dict)

    def add(self, image: str, labels: list[str], line: int) -> None:
        self.images.append(image)
        for label in labels:
            self.lines.setdefault(label, line)
            self.values.append(self._positions.setdefault(label, len(self._positions)))
        self.borders.append(len(self.values))

    def label_lists(self, path: Path, classes: tuple[str, ...]) -> LabelLists:
        numbers = {name: number for number, name in enumerate(classes)}
        for name, line in self.lines.items():
            if name not in numbers:
                raise DataError(
                    f"{path}:{line}: no image of the training part has the class {_shown(name)}"
                )
        order = np.array([numbers[name] for name in self.lines], np.int64)
        return LabelLists(order[np.array(self.values)], np.array(self.borders))


def _test_part(path: Path, parts: dict[str, _Rows]) -> _Rows:
    for names, kind in TEST_KINDS:
        if name := only_part(sorted(parts), names, kind, path):
            return parts[name]
    raise DataError(
        f"{path}: no test part; looked for rows of a part named test or testing, then val, valid,"
        " validation or eval: add some"
    )


def _read_parts(path: Path) -> dict[str, _Rows]:
    """Return the rows of each part, by its name in lower case."""
    if (size := path.stat().st_size) > _MAX_BYTES:
        raise DataError(f"{path}: {size:,} bytes; a table has at most {_MAX_BYTES:,}")
    reader = csv.reader(_lines(path), strict=True)
    parts: dict[str, _Rows] = {}
    lines: dict[str, int] = {}
    start = 1
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_header(header, f"{path}:1")
        start = reader.line_num + 1
        for cells in reader:
            line, start = start, reader.line_num + 1
            if not cells:
                continue
            place = f"{path}:{line}"
            if len(cells) != len(header):
                raise DataError(
                    f"{place}: {len(cells)} cells, and the header has {len(header)};"
                    " a text with commas needs quotes"
                )
            row = {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
            image = _image(row["image"], place)
            if (first := lines.setdefault(image, line)) != line:
                raise DataError(f"{place}: the image {_shown(image)} is in line {first}, too")
            part = _part(row.get("part", "train"), place)
            if part not in parts:
                parts[part] = _Rows(part)
            parts[part].add(image, _labels(row["labels"], place), line)
    except csv.Error as error:
        raise DataError(f"{path}:{start}: not valid CSV ({error})") from None
    if not parts:
        raise DataError(f"{path}: no row below the header")
    return parts


def _lines(path: Path) -> Iterator[str]:
    with path.open("rb") as file:
        number = 0
        while line := file.readline(_MAX_LINE_BYTES):
            number += 1
            if len(line) == _MAX_LINE_BYTES:
                raise DataError(
                    f"{path}:{number}: a line of {_MAX_LINE_BYTES:,} bytes or more; is it a table?"
                )
            try:
                # An editor may have put a mark before the first line.
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{path}:{number}: not UTF-8 text (byte {error.start + 1} of the line)"
                ) from None


def _check_header(header: list[str], place: str) -> None:
    for name in header:
        if name not in _COLUMNS:
            raise DataError(
                f"{place}: there is a column {_shown(name)}; a table has the columns image, labels"
                " and, if needed, part"
            )
        if header.count(name) > 1:
            raise DataError(f"{place}: the column {name!r} is there twice")
    for name in _NEEDED:
        if name not in header:
            raise DataError(f"{place}: the header lacks the column {name!r}")


def _image(cell: str, place: str) -> str:
    names = [name for name in cell.split("/") if name not in ("", ".")]
    if not names or "\0" in cell:
        raise DataError(f"{place}: image: {_shown(cell)} is no path")
    if cell.startswith("/") or ".." in names:
        raise DataError(
            f"{place}: image: {_shown(cell)} leads out of the table's folder; put the table above"
            " the images"
        )
    return "/".join(names)


def _labels(cell: str, place: str) -> list[str]:
    labels = [label.strip() for label in cell.split("|")]
    if not all(labels):
        raise DataError(f"{place}: labels: {_shown(cell)} has an empty label")
    if len(set(labels)) < len(labels):
        raise DataError(f"{place}: labels: {_shown(cell)} has a label twice")
    return labels


def _part(cell: str, place: str) -> str:
    part = cell.lower()
    if part not in _PARTS:
        raise DataError(f"{place}: part: {_shown(cell)} is none of {', '.join(sorted(_PARTS))}")
    return part


def _shown(cell: str) -> str:
    return repr(cell[:_SHOWN])
