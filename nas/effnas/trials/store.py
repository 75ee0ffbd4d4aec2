"""The run folder: `manifest.json` and the append-only `trials.jsonl`; its format is in runs/README.

Every change of a trial is one line; the last line of a trial number holds. The lines are in the
order in which things happened, so that reading them again *is* resuming.
"""

from __future__ import annotations

import contextlib
import csv
import fcntl
import gc
import io
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, ClassVar, Protocol, Self, TypeVar, cast

from effnas.arch.architecture import Architecture
from effnas.config.codec import (
    Amount,
    Count,
    dump_json,
    from_plain,
    open_file,
    parse_json,
    pick,
    read_text,
    replace_file,
    to_plain,
)
from effnas.config.text import Option
from effnas.errors import StoreError, UserError
from effnas.space.decisions import DecisionSpace
from effnas.trials.trial import Measurement, StageTimes, Trial, TrialState

MANIFEST = "manifest.json"
TRIALS = "trials.jsonl"
#: Of finals and studies; of a training, a row for each epoch; of `effnas scale`.
TRAININGS, LOG, FAMILY = "trainings.jsonl", "log.csv", "family.json"
#: What the JSON of a family, and of a device profile, has as `kind`.
FAMILY_KIND, PROFILE_KIND = "effnas model family", "effnas device profile"
_NEW_MANIFEST = f"{MANIFEST}.tmp"
#: Folder of the paused trainings (`effnas.train.checkpoints`).
CHECKPOINTS = "checkpoints"
#: File that the command which writes in a folder holds locked.
LOCK = ".lock"
#: A picture of some of the images trained on.
SAMPLES = "samples.png"

T = TypeVar("T")


class Store(Protocol):
    """Where a search keeps its trials."""

    def append(self, trial: Trial, *, durable: bool) -> None:
        """Keep the new state of a trial; `durable` survives a power cut, else only a crash."""


class MemoryStore:
    """Keeps nothing beyond the process: for `ask` and `tell` without a folder."""

    def append(self, trial: Trial, *, durable: bool) -> None:
        """Do nothing."""


class RunFolder:
    """One run on disk, open for writing and locked against other drivers.

    Use as a context manager, or call `close`.
    """

    #: The file of records, one line each.
    records_name: ClassVar[str] = TRIALS

    def __init__(self, path: Path, records_file: IO[bytes], lock_file: IO[bytes]) -> None:
        self.path = path
        self._records = records_file
        self._lock = lock_file

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a run folder for writing; it is made if there is none.

        A torn last line, as a crash leaves it, is cut off.

        Raises:
            StoreError: If the folder cannot be written, is in use, or holds something else.
        """
        try:
            path.mkdir(parents=True, exist_ok=True)
            ours = {LOCK, cls.records_name, _NEW_MANIFEST, CHECKPOINTS}
            if not (path / MANIFEST).exists() and {e.name for e in path.iterdir()} - ours:
                raise StoreError(
                    f"{path}: the folder is not empty and holds no run; choose another `out`"
                )
            lock = open_file(path / LOCK, "ab")
        except OSError as error:
            raise StoreError(
                f"{path}: cannot be written ({error.strerror}); choose another `out`"
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            if not isinstance(error, BlockingIOError):
                raise StoreError(
                    f"{path}: its file system has no locks ({error.strerror}), so another command "
                    "could write there, too; choose an `out` on another one"
                ) from error
            raise StoreError(
                f"{path}: another command is writing there; wait for it, stop it, or choose "
                "another `out`"
            ) from error
        try:
            _cut_torn_line(path / cls.records_name)
            records = open_file(path / cls.records_name, "ab")
        except OSError as error:
            lock.close()
            raise StoreError(
                f"{path}: cannot be written ({error.strerror}); choose another `out`"
            ) from error
        return cls(path, records, lock)

    def append(self, trial: Trial, *, durable: bool) -> None:
        """Add one line; `durable` waits until the disk has it.

        Raises:
            StoreError: If the line cannot be written; what is stored already stays.
        """
        self.append_record(to_record(trial), durable=durable)

    def append_record(self, record: object, *, durable: bool) -> None:
        """Add plain data, or a dataclass, as one line; as `append`."""
        line = dump_json(record, indent=None) + "\n"
        self._check_is_there()
        try:
            self._records.write(line.encode())
            self._records.flush()
            if durable:
                os.fsync(self._records.fileno())
        except OSError as error:
            raise StoreError(
                f"{self.path / self.records_name}: cannot be written ({error.strerror}); all that "
                "is stored already stays: make room, then start the same command again"
            ) from error

    def _check_is_there(self) -> None:
        """Raise StoreError if the file that is written has been removed: it would be lost."""
        file = self.path / self.records_name
        try:
            is_there = os.path.samestat(file.stat(), os.fstat(self._records.fileno()))
        except OSError:
            is_there = False
        if not is_there:
            raise StoreError(
                f"{file}: it was removed or replaced while a command was writing it; put it back, "
                "then start the same command again"
            )

    def close(self) -> None:
        """Release the folder; one that holds nothing yet is removed."""
        if self._lock.closed:
            return
        with contextlib.suppress(OSError):  # a full disk: append() has said so
            self._records.close()
        records = self.path / self.records_name
        with contextlib.suppress(OSError):
            if not (self.path / MANIFEST).exists() and records.stat().st_size == 0:
                records.unlink()
                (self.path / LOCK).unlink()
                self.path.rmdir()
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file, or replace it, in one step: a crash leaves the old one or the new one.

    Raises:
        StoreError: If it cannot be written.
    """
    if isinstance(content, str):
        content = f"{content}\n".encode(errors="replace")  # names of files need not be UTF-8
    try:
        replace_file(path, content)
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be written ({error.strerror}); make room or free the folder, then "
            "start again"
        ) from error


def append_line(file: Path, record: object) -> None:
    """Add plain data as one line to a file; return when the disk has it.

    What follows the last newline is cut off first: a line that a crash left unfinished.

    Raises:
        StoreError: If it cannot be written; what is stored already stays.
    """
    try:
        _cut_torn_line(file)
        with file.open("ab") as handle:
            handle.write((dump_json(record, indent=None) + "\n").encode())
            handle.flush()
            os.fsync(handle.fileno())
    except OSError as error:
        raise StoreError(
            f"{file}: cannot be written ({error.strerror}); all that is stored already stays: make "
            "room, then start the same command again"
        ) from error


def read_events(path: Path, space: DecisionSpace) -> list[Trial]:
    """Return every stored change of a trial of a run, in order; the space is the run's.

    Raises:
        StoreError: If a line other than a torn last one cannot be read.
    """
    architectures: dict[int, Architecture] = {}

    def parse(record: Any) -> Trial:
        trial = from_record(record, space)
        first = architectures.setdefault(trial.number, trial.architecture)
        if trial.architecture is not first and trial.architecture != first:
            raise ValueError(f"trial {trial.number} is of another architecture above")
        return trial

    return read_records(path / TRIALS, parse, "trial")


def read_records(file: Path, parse: Callable[[Any], T], what: str) -> list[T]:
    """Return what `parse` makes of the plain data of each line; a torn last one is passed over.

    Raises:
        StoreError: If a line cannot be read.
    """
    try:
        if not file.exists():
            return []
        with open_file(file) as opened:
            lines = opened.read().split(b"\n")
    except OSError as error:
        raise StoreError(f"{file}: cannot be read ({error.strerror})") from error
    found = []
    with _no_collection():
        for number, line in enumerate(lines[:-1], start=1):  # after the last newline: a torn line
            try:
                found.append(parse(_parsed(line)))
            except ValueError as error:
                raise StoreError(
                    f"{file}:{number}: not a {what} ({error}); restore the file from a copy, or "
                    f"delete this line: that {what} is then run again"
                ) from error
    return found


def read_log_rows(folder: Path) -> list[dict[str, str]]:
    """Return the cells of each epoch in the log of a training; none if there is no such file.

    Raises:
        StoreError: If it cannot be read.
    """
    file = folder / LOG
    if not file.is_file() or not file.stat().st_size:
        return []
    try:
        return list(csv.DictReader(io.StringIO(read_text(file))))
    except (UserError, csv.Error) as error:
        raise StoreError(f"{file}: {error}; restore it from a copy") from None


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Look for no garbage while thousands of objects are made that stay."""
    is_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if is_on:
            gc.enable()


#: A command reads the same lines twice: to say what a folder holds, and to do something with it.
_parsed = lru_cache(maxsize=4_096)(parse_json)


@dataclass(frozen=True, kw_only=True)
class ArchitectureRecord:
    """A record of an architecture, whose stem and head are those of the folder's space."""

    architecture: str
    architecture_id: str
    recipe: Mapping[str, Option] = field(default_factory=dict)

    def parsed(self, space: DecisionSpace) -> Architecture:
        """Return the architecture; the space gives stem and head.

        Raises:
            ValueError: If it is none, or the id belongs to another one.
        """
        ends = space.stem, space.head, space.stem_stride
        if space.model:
            arch = Architecture((), *ends, model=self.architecture)
        else:
            arch = _architecture(self.architecture, *ends)
        if self.recipe:
            arch = replace(arch, recipe=tuple(self.recipe.items()))
        if arch.id != self.architecture_id:
            raise ValueError("architecture_id does not belong to the architecture")
        return arch


@lru_cache(maxsize=1_000)  # a trial has a line for each of its states
def _architecture(blocks: str, stem: int, head: int, stem_stride: int) -> Architecture:
    return Architecture.parse(blocks, stem=stem, head=head, stem_stride=stem_stride)


@dataclass(frozen=True, kw_only=True)
class _TrialRecord(ArchitectureRecord):
    trial: Count
    state: TrialState
    reward: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    reason: str | None = None
    fidelity: str = ""
    seed: int | None = None
    hardware: str = ""
    step_time_source: str = ""
    rungs: Mapping[int, float] = field(default_factory=dict)
    stages: tuple[StageTimes, ...] = ()
    curve: tuple[tuple[int, float], ...] = ()
    accuracy_deviation: Amount | None = None
    duration_s: float | None = None
    ended: str | None = None


_OF_TRIAL = ("state", "reward", "reason", "duration_s", "ended")


def to_record(trial: Trial) -> dict[str, Any]:
    """Return a trial as plain JSON data, without what does not apply to it."""
    measured = {n: value for n, value in vars(trial.measurement).items() if n != "confusion"}
    record = _TrialRecord(
        **measured,
        **{name: getattr(trial, name) for name in _OF_TRIAL},
        trial=trial.number,
        architecture=str(trial.architecture),
        architecture_id=trial.architecture.id,
        recipe=dict(trial.architecture.recipe),
    )
    return cast("dict[str, Any]", to_plain(record, sparse=True))


def from_record(plain: object, space: DecisionSpace) -> Trial:
    """Return the trial of a record of a run of that space.

    Raises:
        ValueError: If the record is not one that `to_record` writes.
    """
    record = from_plain(plain, _TrialRecord)
    arch = record.parsed(space)
    measurement = pick(Measurement, record, confusion=())
    return pick(Trial, record, number=record.trial, architecture=arch, measurement=measurement)


def _cut_torn_line(file: Path) -> None:
    """Cut off what follows the last newline: a line that a crash left unfinished."""
    if not file.exists():
        return
    with open_file(file, "rb+") as handle:
        content = handle.read()
        end = content.rfind(b"\n") + 1
        if end < len(content):
            handle.truncate(end)


def as_typed(path: Path) -> Path:
    """Return a path from the current folder on, if it is below that."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
