"""`effnas runs`: the folders that effnas wrote below another one, a line each."""

from __future__ import annotations

import json
import time
from calendar import timegm
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.text import Text

from effnas.cli.folder_state import FolderState
from effnas.cli.folders import find_folders, read_folder
from effnas.cli.tables import console, duration, number, table
from effnas.errors import EffnasError


def show_runs(top: Path, *, as_json: bool) -> None:
    """Print what a folder holds; what cannot be read is a line with the reason.

    Raises:
        StoreError: If there is no such folder.
    """
    found = list(_read(top))
    if as_json:
        print(
            json.dumps(
                {"folder": str(top), "runs": [state_json(*each) for each in found]}, indent=2
            )
        )
        return
    screen = console()
    if not found:
        screen.print(f"{top} holds nothing that effnas wrote.")
        return
    shown = table("folder", "kind", "state", "best", "", "done", "begun",
                 left=("folder", "kind", "state", ""), spare=("begun", "", "kind"))  # fmt: skip
    for path, state in found:
        name = str(path.relative_to(top))
        if isinstance(state, FolderState):
            shown.add_row(
                name,
                state.kind,
                state.state,
                number(state.best, "{:.4f}"),
                state.best_is if state.best is not None else "",
                f"{state.done} of {'?' if state.total is None else state.total} {state.unit}",
                _age(path, state.created),
            )
        else:
            shown.add_row(name, "", Text("unreadable", style="red"))
    screen.print(shown)
    for path, state in found:
        if not isinstance(state, FolderState):
            screen.print(f"{path.relative_to(top)}: {state}")


def state_json(path: Path, state: FolderState | str) -> dict[str, Any]:
    """Return a folder, or why it cannot be read, as plain data."""
    if isinstance(state, str):
        return {"path": str(path), "kind": None, "reason": state}
    plain = asdict(state)
    del plain["command"], plain["table"], plain["is_settled"]
    return plain | {"path": str(path)}


def _read(top: Path) -> Iterator[tuple[Path, FolderState | str]]:
    for path in find_folders(top):
        try:
            yield path, read_folder(path)
        except (EffnasError, OSError) as error:
            yield path, " ".join(str(error).split())


def _age(path: Path, created: str) -> str:
    """Return how long ago something was begun, else was last written."""
    try:
        then = float(timegm(time.strptime(created, "%Y-%m-%dT%H:%M:%SZ")))
    except ValueError:
        then = path.stat().st_mtime
    return f"{duration(max(time.time() - then, 0.0))} ago"
