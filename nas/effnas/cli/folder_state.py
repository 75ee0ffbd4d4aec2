"""The state of a folder that effnas wrote, whatever it holds."""

from __future__ import annotations

import fcntl
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from effnas.config.codec import from_plain, open_file
from effnas.trials.manifest import CommandPart
from effnas.trials.store import LOCK, read_records

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class FolderState:
    """What a folder holds, and how far it is.

    Attributes:
        path: The folder, or a file.
        kind: `search`, `retargeted`, `finals`, `coefficients`, `layers`, `proxy`, `training`,
            `family` or `profile`.
        what: The same in words, with what it was made of.
        state: `running`: a command is writing there; `unfinished` or `finished`.
        unit: What is counted, such as `trials`.
        done: How many have ended.
        total: How many there will be; None where that is not known.
        is_settled: Of a search: whether nothing is under way, so that only more trials are more
            to do.
        best: Its best reward, accuracy, or the like; None where there is none yet.
        best_is: What that is.
        best_of: Whose it is.
        cost_s: Seconds of work so far; None where that is not known.
        left_s: Seconds of work that are left, at the same mean; None where that is not known.
        created: When it began, UTC; empty where that is not stored.
        command: The command line behind it.
        continued_by: The command that continues it, or in words what does; empty where nothing is
            left to do, or another command is writing there.
        table: Names of columns, then rows.
        guessing: What guessing reaches on the images of `best`, as a sentence.
        warning: Why `best` says nothing, if so.
    """

    path: Path
    kind: str
    what: str
    state: str = "finished"
    unit: str = ""
    done: int = 0
    total: int | None = None
    is_settled: bool = True
    best: float | None = None
    best_is: str = ""
    best_of: str = ""
    cost_s: float | None = None
    left_s: float | None = None
    created: str = ""
    command: CommandPart | None = None
    continued_by: str = ""
    table: tuple[tuple[str, ...], ...] = ()
    guessing: str = ""
    warning: str = ""

    @property
    def count_text(self) -> str:
        """Return `24 of 60 trials done`."""
        total = "?" if self.total is None else self.total
        return f"{self.done} of {total} {self._unit(self.total)} done"

    @property
    def all_done_text(self) -> str:
        """Return `all 60 trials of FOLDER are done`."""
        if self.done == 1:
            return f"the only {self._unit(1)} of {self.path} is done"
        return f"all {self.done} {self.unit} of {self.path} are done"

    def _unit(self, count: int | None) -> str:
        return self.unit.removesuffix("s") if count == 1 else self.unit


def is_running(folder: Path) -> bool:
    """Return whether a command is writing in a folder."""
    try:
        with open_file(folder / LOCK) as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


@dataclass(frozen=True)
class Named:
    """What is known by its name."""

    name: str = "?"


@dataclass(frozen=True)
class StoredCommand:
    """When a folder was begun, and by which command."""

    created: str | None = None
    asked: CommandPart | None = None


def records(file: Path, kind: type[T], what: str) -> list[T]:
    """Return the records of a file as views, each called `what` in errors."""
    return read_records(file, lambda plain: from_plain(plain, kind), what)
