"""What a page is made of: sections, figures and tables, as plain values."""

from __future__ import annotations

import csv
import io
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from effnas.config.text import counted as counted
from effnas.config.text import share_text as share_text
from effnas.trials.guessing import Guessing

#: What stands for images in a command, where it is not known which they are.
UNKNOWN_DATA = "DATA"
_DATE = re.compile(r"(\d{4})-(0[1-9]|1[0-2])-(\d\d)T(\d\d:\d\d)(?::\d\d)?Z")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
#: What is not known, in a table.
UNKNOWN = "–"

Cell = str | int | float | bool | None


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: What the file formats call it.
        form: How numbers look, as Python's format says: `.3f`, `,d`, `.1%`; empty for text.
        title: What the page calls it; the name by default.
    """

    name: str
    form: str = ""
    title: str = ""

    def text(self, value: Cell) -> str:
        """Return a value as the page shows it."""
        if value is None:
            return UNKNOWN
        if isinstance(value, bool):
            return "yes" if value else ""
        if isinstance(value, str) or not self.form:
            return str(value)
        return format(int(value) if self.form.endswith("d") else value, self.form)


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table, which the page also offers as CSV and as JSON.

    Attributes:
        name: Of its files, without ending.
        columns: Its columns.
        rows: Cells in the order of the columns; numbers that are not finite are None.
        is_open: Whether the page shows it at once.
        is_turned: Whether the page shows its rows as columns: few things, with many figures.
        is_long: Whether it may have many rows: the reader may sort and filter them.
    """

    name: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    is_open: bool = False
    is_turned: bool = False
    is_long: bool = False

    def records(self) -> list[dict[str, Cell]]:
        """Return a mapping for each row."""
        names = [column.name for column in self.columns]
        return [dict(zip(names, row, strict=True)) for row in self.rows]

    def to_csv(self) -> str:
        """Return the table as CSV (RFC 4180)."""
        out = io.StringIO()
        writer = csv.writer(out)
        writer.writerow([column.name for column in self.columns])
        writer.writerows([["" if cell is None else cell for cell in row] for row in self.rows])
        return out.getvalue()


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure of plotly's, as data.

    Colours are names after an `@`, such as `@accent`, which the page turns into those of its theme.

    Attributes:
        name: Unique on the page.
        label: What it shows, for those who cannot see it.
        data: Its traces.
        layout: Its layout, besides what all figures share.
        height: Pixels.
    """

    name: str
    label: str
    data: Sequence[Mapping[str, Any]]
    layout: Mapping[str, Any] = field(default_factory=dict)
    height: int = 360


@dataclass(frozen=True, kw_only=True)
class Section:
    """An answer to one question.

    Attributes:
        name: Unique on the page.
        question: The title.
        answer: In a sentence or two.
        sure: How sure that is, what it is compared with, and what is not known.
        figures: Figures.
        tables: Tables.
        extra: A further part of the page, by the name of its template block.
        content: What that part shows.
    """

    name: str
    question: str
    answer: str
    sure: str = ""
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    extra: str = ""
    content: Any = None


@dataclass(frozen=True, kw_only=True)
class Page:
    """A whole report.

    Attributes:
        kind: Of what it is a report, in two or three words.
        title: The verdict in a sentence.
        facts: Names and values below it.
        tiles: Key figures: what, value, what it is compared with.
        sections: In the order in which they are read.
    """

    kind: str
    title: str
    facts: Sequence[tuple[str, str]]
    tiles: Sequence[tuple[str, str, str]]
    sections: Sequence[Section]

    @property
    def tables(self) -> list[Table]:
        """All tables."""
        return [table for section in self.sections for table in section.tables]

    @property
    def figures(self) -> list[Figure]:
        """All figures."""
        return [figure for section in self.sections for figure in section.figures]


def next_section(commands: Sequence[tuple[str, str]] | None) -> list[Section]:
    """Return the section on what to do next, with why and the command, if there is anything."""
    if not commands:
        return []
    is_ready = not any(UNKNOWN_DATA in shlex.split(command) for _, command in commands)
    answer = "Ready to paste:" if is_ready else f"Put your images for {UNKNOWN_DATA}, and paste:"
    return [Section(name="next", question="What comes next?", answer=answer, extra="commands",
                    content=commands)]  # fmt: skip


def finite(value: object) -> Cell:
    """Return a cell of a table; None for a number that is not finite."""
    if isinstance(value, float) and not isfinite(value):
        return None
    return value if isinstance(value, (str, int, float)) or value is None else str(value)


def duration(seconds: float) -> str:
    """Return seconds as text such as `85 ms`, `48 s`, `12 min`, `3 h 05 min` or `2.4 days`."""
    if seconds < 0.095:
        return f"{seconds * 1e3:z.0f} ms" if seconds > 0 else "0 s"
    if seconds < 99.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes = seconds / 60
    if minutes < 99.5:
        return f"{minutes:.1f} min" if minutes < 9.95 else f"{minutes:.0f} min"
    if minutes < 2 * 24 * 60 - 0.5:
        return f"{round(minutes) // 60} h {round(minutes) % 60:02d} min"
    return f"{seconds / 86_400:,.1f} days"


def date_text(date: str | None) -> str:
    """Return `31 Jan 2026, 12:00 UTC` of `2026-01-31T12:00:00Z`; what is no such date stays."""
    match = _DATE.fullmatch(date or "?")
    if match is None:
        return date or "?"
    return f"{int(match[3])} {_MONTHS[int(match[2]) - 1]} {match[1]}, {match[4]} UTC"


def against_forecast(measured_s: float, forecast_s: float) -> str:
    """Return how what was measured stands against its forecast: `36% less than the forecast 14 s`.

    Args:
        measured_s: Seconds.
        forecast_s: Seconds, above 0.
    """
    off = measured_s / forecast_s - 1
    if abs(off) < 0.005:
        return f"as the forecast {duration(forecast_s)}"
    return (
        f"{abs(off):.0%} {'more' if off > 0 else 'less'} than the forecast {duration(forecast_s)}"
    )


def guessing_text(guessing: Guessing, part: str = "held-out") -> str:
    """Return what guessing reaches on the images of a part, as a sentence."""
    if guessing.chance is None:
        return "What guessing would give is not known."
    if guessing.largest is None:
        return (
            f"Guessing gives {guessing.chance:.1%} where classes are equally frequent; how many of "
            f"the {part} images are of the largest one is not known."
        )
    return (
        f"Always guessing the largest class gives {guessing.largest:.1%} of the {part} images, "
        f"guessing at random {guessing.chance:.1%}."
    )


def count_text(number: float) -> str:
    """Return `512`, `79 k`, `4.1 M`, `1.3 G`."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.0f}"


def value_text(metric: str, value: float) -> str:
    """Return a value of a metric of trials: `62.5%`, `0.54×`, `29.7 k`, `1.2 s`."""
    if metric == "accuracy":
        return f"{value:.1%}"
    if metric in ("step_time", "params_ratio"):
        return f"{value:.2f}×"
    if metric in ("params", "macs", "activations"):
        return count_text(value)
    return duration(value) if metric.endswith("_s") else f"{value:.4g}"


def size_text(number: float) -> str:
    """Return `20,736`, `4.03 × 10⁷`."""
    if number < 10**7:
        return f"{number:,.0f}"
    digits, _, power = f"{number:.2e}".partition("e+")
    return f"{digits} × 10{str(int(power)).translate(str.maketrans('0123456789', '⁰¹²³⁴⁵⁶⁷⁸⁹'))}"


def shortened(text: str, length: int = 28) -> str:
    """Return a text of limited length, as labels of figures need it."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def plain(text: str) -> str:
    """Return a text as plotly shows it: it reads `<b>` and the like in labels as markup."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def chance_text(probability: float) -> str:
    """Return `55%`; nothing is said to be sure, as it is known from draws."""
    return share_text(min(max(probability, 1e-9), 1 - 1e-9))


def trials_text(numbers: Sequence[int], most: int = 6) -> str:
    """Return `trial 3`, `trials 3, 5 and 2 more`."""
    which = listed([str(number) for number in numbers], most)
    return f"{'trial' if len(numbers) == 1 else 'trials'} {which}"


def listed(names: Sequence[str], most: int = 6) -> str:
    """Return `a, b and c`; of many the first ones, and how many more there are."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)
