"""A table of step times that were measured beforehand, as CSV or JSON."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from effnas.arch.architecture import Architecture
from effnas.config.codec import parse_json, read_text
from effnas.errors import ConfigError, InfeasibleError, SpaceError, UserError
from effnas.timing.step_time import StepTime, positive_number
from effnas.trials.step_unit import OVER_MEDIAN

if TYPE_CHECKING:
    from effnas.space.search_space import SearchSpace

_NAMES = ("architecture", "architecture_id")
_TIMES = ("step_time_s", "step_time")
_COLUMNS = frozenset((*_NAMES, *_TIMES))
_NEEDED = "it needs architecture or architecture_id, and step_time_s (seconds) or step_time (S)"
_ID = re.compile(r"[0-9a-f]{16}")
#: Characters of a bad cell that are shown.
_SHOWN = 80
_MAX_BYTES = 64_000_000


@dataclass(frozen=True)
class StepTimeTable:
    """Step times by network; a network that is not among them has none.

    Attributes:
        path: The file.
        hardware: One line that names the table and a digest of its content.
        note: That S is relative to the table's median, if the reference network is not in the
            table; else None.
    """

    path: Path
    hardware: str
    note: str | None
    _times: Mapping[str, StepTime] = field(repr=False)
    _architectures: tuple[Architecture, ...] = field(repr=False)

    @classmethod
    def load(cls, path: str | Path, space: SearchSpace) -> StepTimeTable:
        """Read a table.

        A CSV file has the columns `architecture` (block strings separated by white space) or
        `architecture_id`, and `step_time_s` (seconds of one training step) or `step_time` (S). The
        table that `Trials.to_pandas` makes is one. A JSON file is a list of objects with these
        keys, or one object, architecture to seconds. Other columns, and rows without a step time,
        are ignored. Where both times are given, S is `step_time`.

        Args:
            path: A file whose name ends in `.csv` or `.json`.
            space: Gives stem, head and the reference network.

        Raises:
            ConfigError: With file and line (of JSON, the entry, from 1), for anything that cannot
                be read or contradicts itself.
        """
        path = Path(path)
        read = {".csv": _read_csv, ".json": _read_json}.get(path.suffix.lower())
        if read is None:
            raise ConfigError(f"{path}: step times are read from a .csv or a .json file")
        try:
            text = read_text(path, most_bytes=_MAX_BYTES)
        except UserError as error:
            raise ConfigError(f"{path}: {error}") from None
        rows = [row for row in read(path, text) if not row.cells.keys().isdisjoint(_TIMES)]
        if not rows:
            raise ConfigError(f"{path}: no row has a step time; {_NEEDED}")
        basis = "step_time" if any("step_time" in row.cells for row in rows) else "step_time_s"
        entries = _without_repetitions(_entry(row, basis, space) for row in rows)
        divisor, note = 1.0, None
        if basis == "step_time_s":
            divisor, note = _divisor(path, entries, space.reference)
        hardware = f"table: {path.name} (sha256 {hashlib.sha256(text.encode()).hexdigest()[:16]})"
        times = {
            name: StepTime(metrics=entry.metrics(divisor), source="table", hardware=hardware)
            for name, entry in entries.items()
        }
        archs = tuple(entry.arch for entry in entries.values() if entry.arch is not None)
        return cls(path, hardware, note, times, archs)

    def __call__(self, arch: Architecture) -> StepTime:
        """Look up a network, whatever it is trained by.

        Raises:
            InfeasibleError: It is not in the table.
        """
        found = self._times.get(arch.id) or self._times.get(arch.network.id)
        if found is None:
            raise InfeasibleError(f"not in the table {self.path}")
        return found

    def __contains__(self, arch: Architecture) -> bool:
        """Return whether a network is in the table."""
        return arch.id in self._times or arch.network.id in self._times

    @property
    def description(self) -> str:
        """The table in a few words, with the note on its S."""
        return f"{self.hardware}; {self.note}" if self.note else self.hardware

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that every network of the table has."""
        common = set.intersection(*(set(found.metrics) for found in self._times.values()))
        return tuple(sorted(common))

    def architectures(self) -> tuple[Architecture, ...]:
        """Return the networks that the table names by their blocks, in its order, each once.

        They need not be in the space. Those that the table names by id alone are left out.
        """
        return self._architectures


@dataclass(frozen=True)
class _Row:
    """The cells of a row in known columns; `place` is its file and line."""

    place: str
    cells: Mapping[str, object]


@dataclass(frozen=True)
class _Entry:
    """A valid row: S or seconds as `value`, and the seconds where they are given."""

    place: str
    id: str
    arch: Architecture | None
    value: float
    seconds: float | None

    def metrics(self, divisor: float) -> dict[str, float]:
        metrics = {"step_time": self.value / divisor}
        return metrics if self.seconds is None else metrics | {"step_time_s": self.seconds}


def _read_csv(path: Path, text: str) -> Iterator[_Row]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    start = 1
    try:
        header = [name.strip() for name in next(reader)]
        _check_header(header, f"{path}:1")
        start = reader.line_num + 1
        for cells in reader:
            place = f"{path}:{start}"
            start = reader.line_num + 1
            if not cells:
                continue
            if len(cells) != len(header):
                raise ConfigError(
                    f"{place}: {len(cells)} cells, and the header has {len(header)}; "
                    "a text with commas needs quotes"
                )
            filled = {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
            yield _Row(place, {n: cell for n, cell in filled.items() if n in _COLUMNS and cell})
    except csv.Error as error:
        raise ConfigError(f"{path}:{start}: not valid CSV ({error})") from None


def _check_header(header: list[str], place: str) -> None:
    for name in _COLUMNS:
        if header.count(name) > 1:
            raise ConfigError(f"{place}: the column {name} is there twice")
    if any(set(header).isdisjoint(wanted) for wanted in (_NAMES, _TIMES)):
        found = repr(", ".join(header)[:_SHOWN])
        raise ConfigError(f"{place}: the header {found} lacks a column; {_NEEDED}")


def _read_json(path: Path, text: str) -> Iterator[_Row]:
    try:
        content = parse_json(text)
    except UserError as error:
        raise ConfigError(f"{path}: {error}") from None
    if isinstance(content, dict):
        content = [{"architecture": name, "step_time_s": time} for name, time in content.items()]
    if not isinstance(content, list):
        raise ConfigError(f"{path}: neither a list nor an object, architecture to seconds")
    for number, entry in enumerate(content, start=1):
        place = f"{path}: entry {number}"
        if not isinstance(entry, dict):
            raise ConfigError(f"{place}: not an object; {_NEEDED}")
        filled = {name: entry[name] for name in _COLUMNS & entry.keys()}
        yield _Row(place, {name: cell for name, cell in filled.items() if cell not in (None, "")})


def _entry(row: _Row, basis: str, space: SearchSpace) -> _Entry:
    if basis not in row.cells:
        raise ConfigError(
            f"{row.place}: step_time_s without step_time, which other rows have; fill in both, or "
            "leave one out everywhere"
        )
    times: dict[str, float] = {}
    for name in _TIMES:
        if name in row.cells:
            try:
                times[name] = positive_number(row.cells[name])
            except ValueError as error:
                shown = repr(row.cells[name])[:_SHOWN]
                raise ConfigError(f"{row.place}: {name}: {shown} {error}") from None
    name, arch = _network(row, space)
    return _Entry(row.place, name, arch, times[basis], times.get("step_time_s"))


def _network(row: _Row, space: SearchSpace) -> tuple[str, Architecture | None]:
    """Return the id of a row's network, and the network if its blocks are given."""
    blocks, name = (row.cells.get(column) for column in _NAMES)
    if name is not None and not (isinstance(name, str) and _ID.fullmatch(name)):
        shown = repr(name)[:_SHOWN]
        raise ConfigError(f"{row.place}: architecture_id: {shown} is not 16 hexadecimal digits")
    if blocks is None:
        if name is None:
            raise ConfigError(f"{row.place}: a step time without architecture or architecture_id")
        return str(name), None
    if not isinstance(blocks, str):
        raise ConfigError(f"{row.place}: architecture: not a text of block strings")
    try:
        arch = space.parse_blocks(blocks)
    except SpaceError as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{row.place}: architecture: {reason}") from None
    if name is not None and name != arch.id:
        raise ConfigError(
            f"{row.place}: architecture_id is {name}, but the blocks with "
            f"{arch.ends_text} are {arch.id}; is the table one of another space?"
        )
    return arch.id, arch


def _without_repetitions(entries: Iterable[_Entry]) -> dict[str, _Entry]:
    """Return the entries by id; a network may occur twice if both rows agree."""
    found: dict[str, _Entry] = {}
    for entry in entries:
        first = found.setdefault(entry.id, entry)
        if (first.value, first.seconds) != (entry.value, entry.seconds):
            raise ConfigError(
                f"{entry.place}: another step time of this network is at {first.place} "
                f"({entry.value:g} here, {first.value:g} there); keep one of them"
            )
        if first.arch is None:
            found[entry.id] = entry
    return found


def _divisor(
    path: Path, entries: Mapping[str, _Entry], reference: Architecture
) -> tuple[float, str | None]:
    """Return the seconds that S is relative to, and a note if they are not the reference's."""
    if reference.id in entries:
        return entries[reference.id].value, None
    middle = median(entry.value for entry in entries.values())
    return middle, (
        f"the reference network is not in {path}: {OVER_MEDIAN}, "
        f"{middle:g} s, which changes no ranking under a reward such as v2"
    )
