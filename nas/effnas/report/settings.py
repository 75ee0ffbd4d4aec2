"""All that a folder was made with, as a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass

from effnas.config.codec import to_plain
from effnas.report.parts import Cell, Column, Table, date_text, finite

#: What is too long for a table, or stands elsewhere on the page.
_LEFT_OUT = frozenset({
    "space text", "data class names", "data skipped images", "reference architecture",
    "data skipped", "progress rows",
})  # fmt: skip


def settings_table(value: object) -> Table:
    """Return the settings of a manifest, or of plain data, with those of their parts."""
    rows: list[list[Cell]] = []

    def add(name: str, value: object) -> None:
        if is_dataclass(value) and not isinstance(value, type):
            value = {one.name.replace("_", " "): getattr(value, one.name) for one in fields(value)}
        if name in _LEFT_OUT or value in (None, "", (), []):
            return
        if isinstance(value, Mapping):
            for key, each in value.items():
                add(f"{name} {key}".strip(), each)
            return
        plain = to_plain(value)
        if isinstance(plain, list):
            if any(isinstance(each, (dict, list)) for each in plain):
                for n, each in enumerate(value, start=1):  # type: ignore[arg-type]
                    add(f"{name} {n}", each)
                return
            plain = ", ".join(map(str, plain))
        rows.append([name, date_text(str(finite(plain)))])

    add("", value)
    return Table(name="provenance", columns=[Column("setting"), Column("value")], rows=rows)
