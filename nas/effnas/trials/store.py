"""The run folder: `manifest.json` and the append-only `trials.jsonl`; its format is in runs/README.

Every change of a trial is one line; the last line of a trial number holds. The lines are in the
order in which things happened, so that reading them again *is* resuming.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, ClassVar, Protocol, Self, TypeVar

from effnas.arch.architecture import Architecture
from effnas.errors import StoreError
from effnas.trials.trial import Measurement, Trial, TrialState

FORMAT = 1
MANIFEST = "manifest.json"
TRIALS = "trials.jsonl"
_NEW_MANIFEST = f"{MANIFEST}.tmp"
#: Folder of the paused trainings (`effnas.train.checkpoints`).
CHECKPOINTS = "checkpoints"
_LOCK = ".lock"

T = TypeVar("T")

#: Plain JSON data.
Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


class Store(Protocol):
    """Where a search keeps its trials."""

    def append(self, trial: Trial, *, durable: bool) -> None:
        """Keep the new state of a trial; `durable` survives a power cut, else only a crash."""
        ...


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
            ours = {_LOCK, cls.records_name, _NEW_MANIFEST, CHECKPOINTS}
            if not (path / MANIFEST).exists() and {e.name for e in path.iterdir()} - ours:
                raise StoreError(
                    f"{path}: the folder is not empty and holds no run; choose another `out`"
                )
            lock = (path / _LOCK).open("ab")
        except OSError as error:
            raise StoreError(
                f"{path}: cannot be written ({error.strerror}); choose another `out`"
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            raise StoreError(
                f"{path}: another command is writing there; wait for it, stop it, or choose "
                "another `out`"
            ) from error
        try:
            _cut_torn_line(path / cls.records_name)
            records = (path / cls.records_name).open("ab")
        except OSError as error:
            lock.close()
            raise StoreError(
                f"{path}: cannot be written ({error.strerror}); choose another `out`"
            ) from error
        return cls(path, records, lock)

    def read_manifest(self) -> dict[str, Json] | None:
        """Return the manifest, or None in a new run."""
        return read_manifest(self.path) if (self.path / MANIFEST).exists() else None

    def write_manifest(self, manifest: Mapping[str, Json]) -> None:
        """Replace the manifest in one step: a crash leaves the old one or the new one."""
        write_manifest(self.path, manifest)

    def append(self, trial: Trial, *, durable: bool) -> None:
        """Add one line; `durable` waits until the disk has it.

        Raises:
            StoreError: If the line cannot be written; what is stored already stays.
        """
        self.append_record(to_record(trial), durable=durable)

    def append_record(self, record: Mapping[str, Json], *, durable: bool) -> None:
        """Add plain data as one line; as `append`."""
        line = json.dumps(record, allow_nan=False) + "\n"
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

    def read_records(self, parse: Callable[[dict[str, Any]], T], what: str) -> list[T]:
        """Return what the lines of the file stand for.

        Args:
            parse: Makes it of a line's data.
            what: What a line is, in words.

        Raises:
            StoreError: If a line cannot be read.
        """
        return read_records(self.path / self.records_name, parse, what)

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
                (self.path / _LOCK).unlink()
                self.path.rmdir()
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def write_manifest(path: Path, manifest: Mapping[str, Json]) -> None:
    """Write the manifest of a run, or replace it, in one step; as `RunFolder.write_manifest`.

    Raises:
        StoreError: If it cannot be written.
    """
    write_whole(path / MANIFEST, json.dumps({"format": FORMAT, **manifest}, indent=2))


def write_whole(path: Path, text: str) -> None:
    """Write a file of text, or replace it, in one step: a crash leaves the old one or the new one.

    Raises:
        StoreError: If it cannot be written.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be written ({error.strerror}); make room or free the folder, then "
            "start again"
        ) from error


def read_manifest(path: Path) -> dict[str, Json]:
    """Return the manifest of a run.

    Raises:
        StoreError: If there is none, it cannot be read, or its format is not ours.
    """
    file = path / MANIFEST
    if not file.exists():
        raise StoreError(
            f"{path}: no run there (it has no {MANIFEST}); give the folder that "
            "`effnas search` wrote"
        )
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{file}: cannot be read ({error}); restore it from a copy") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else None
        raise StoreError(
            f"{file}: format {found!r} is not known to this version, which reads {FORMAT}"
        )
    return manifest


def read_events(path: Path, *, stem: int, head: int) -> Iterator[Trial]:
    """Return every stored change of a trial, in the order in which it happened.

    Args:
        path: The run folder.
        stem: Channels of the stem of the run's architectures.
        head: Channels of their head.

    Raises:
        StoreError: If a line other than a torn last one cannot be read.
    """
    return _parsed(path / TRIALS, lambda record: from_record(record, stem=stem, head=head), "trial")


def read_records(file: Path, parse: Callable[[dict[str, Any]], T], what: str) -> list[T]:
    """Return what the lines of a file of records stand for; as `RunFolder.read_records`."""
    return list(_parsed(file, parse, what))


def _parsed(file: Path, parse: Callable[[dict[str, Any]], T], what: str) -> Iterator[T]:
    """Yield what each line stands for; a torn last one is passed over."""
    try:
        lines = file.read_bytes().split(b"\n") if file.exists() else []
    except OSError as error:
        raise StoreError(f"{file}: cannot be read ({error.strerror})") from error
    for number, line in enumerate(lines[:-1], start=1):  # behind the last newline: a torn line
        try:
            found = parse(json.loads(line))
        except (ArithmeticError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreError(
                f"{file}:{number}: not a {what} ({error}); restore the file from a copy, or delete "
                f"this line: that {what} is then run again"
            ) from error
        yield found


def to_record(trial: Trial) -> dict[str, Json]:
    """Return a trial as plain JSON data, without what does not apply to it."""
    measured = trial.measurement
    record: dict[str, Json] = {
        "trial": trial.number,
        "state": str(trial.state),
        "architecture": str(trial.architecture),
        "architecture_id": trial.architecture.id,
    }
    optional: dict[str, Json] = {
        "reward": trial.reward,
        "metrics": dict(measured.metrics) or None,
        "reason": trial.reason,
        "fidelity": measured.fidelity or None,
        "seed": measured.seed,
        "hardware": measured.hardware or None,
        "step_time_source": measured.step_time_source or None,
        "rungs": {str(epochs): value for epochs, value in measured.rungs.items()} or None,
        "duration_s": trial.duration_s,
    }
    return record | {name: value for name, value in optional.items() if value is not None}


def from_record(record: Mapping[str, object], *, stem: int, head: int) -> Trial:
    """Return the trial of a record.

    Raises:
        ValueError: If the record is not one that `to_record` writes.
    """
    arch = Architecture.parse(_typed(record, "architecture", str), stem=stem, head=head)
    if arch.id != record["architecture_id"]:
        raise ValueError("architecture_id does not belong to the architecture")
    metrics = record.get("metrics", {})
    if not isinstance(metrics, dict):
        raise TypeError("metrics is not a mapping")
    rungs = record.get("rungs", {})
    if not isinstance(rungs, dict):
        raise TypeError("rungs is not a mapping")
    return Trial(
        number=_typed(record, "trial", int),
        architecture=arch,
        state=TrialState(_typed(record, "state", str)),
        measurement=Measurement(
            metrics={str(name): float(value) for name, value in metrics.items()},
            fidelity=str(record.get("fidelity", "")),
            seed=_typed(record, "seed", int) if "seed" in record else None,
            hardware=str(record.get("hardware", "")),
            step_time_source=str(record.get("step_time_source", "")),
            rungs={int(epochs): float(value) for epochs, value in rungs.items()},
        ),
        reward=float(_typed(record, "reward", (int, float))) if "reward" in record else None,
        reason=_typed(record, "reason", str) if "reason" in record else None,
        duration_s=float(_typed(record, "duration_s", (int, float)))
        if "duration_s" in record
        else None,
    )


def _typed(record: Mapping[str, object], name: str, kind: type[T] | tuple[type[T], ...]) -> T:
    value = record[name]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}")
    return value


def _cut_torn_line(file: Path) -> None:
    """Cut off what follows the last newline: a line that a crash left unfinished."""
    if not file.exists():
        return
    with file.open("rb+") as handle:
        content = handle.read()
        end = content.rfind(b"\n") + 1
        if end < len(content):
            handle.truncate(end)
