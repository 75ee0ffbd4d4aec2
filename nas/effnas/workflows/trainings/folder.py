"""A folder of trainings: `manifest.json`, the append-only `trainings.jsonl`, and weights."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from typing import ClassVar

from effnas.config.codec import Amount, Count, Share, Size, from_plain, to_plain
from effnas.trials.manifest import Manifest
from effnas.trials.store import CHECKPOINTS, TRAININGS, RunFolder, read_records

#: Where the weights of whole trainings are, below the folder.
WEIGHTS = "weights"


@dataclass(frozen=True, kw_only=True)
class Result:
    """The result of one training.

    Attributes:
        candidate: Name of what was trained.
        repeat: Which of its trainings with other seeds, from 0.
        epochs: Epochs that it has been trained for.
        accuracy: Share of the held-out images classified correctly, 0 to 1; None if it failed.
        train_time_s: Seconds of training in all.
        reason: Why it cannot be trained so, if it failed.
        confusion: As `effnas.trials.trial.Measurement.confusion`; empty for many classes, for
            trainings that are not whole, and in folders of earlier versions.
    """

    candidate: str
    repeat: Count
    epochs: Size
    accuracy: Share | None = None
    train_time_s: Amount = 0.0
    reason: str | None = None
    confusion: tuple[tuple[Count, ...], ...] = ()

    def __post_init__(self) -> None:
        if (self.accuracy is None) == (self.reason is None):
            raise ValueError("a result has either an accuracy or a reason for having none")
        if any(len(row) != len(self.confusion) for row in self.confusion):
            raise ValueError("confusion has as many rows as columns")


def parse_result(plain: object) -> Result:
    """Return the result of a record, or raise ValueError."""
    return from_plain(plain, Result)


@dataclass(frozen=True, kw_only=True)
class TrainingsManifest(Manifest):
    """What trainings were made with.

    Attributes:
        finished: Once all have ended: what decided which of them continue, such as the text of a
            reward.
    """

    later: ClassVar[tuple[str, ...]] = ("finished",)

    finished: str | None = None


class TrainingsFolder(RunFolder):
    """Results of trainings on disk, locked against other drivers.

    Use as a context manager, or call `close`.
    """

    records_name = TRAININGS
    _manifest: TrainingsManifest

    def begin(self, manifest: TrainingsManifest) -> list[Result]:
        """Store what the trainings are made with, or check that it is the same as before.

        Returns:
            The results that are stored.

        Raises:
            StoreError: If the folder holds something else; names what differs.
        """
        if stored := manifest.stored(self.path):
            manifest.check_continues(stored, self.path)
            manifest = replace(manifest, finished=stored.finished)
        else:
            manifest.write(self.path)
        self._manifest = manifest
        return list(read_records(self.path / TRAININGS, parse_result, "result"))

    def is_finished(self, judged_by: str) -> bool:
        """Return whether all trainings have ended, judged by the same as now."""
        return self._manifest.finished == judged_by

    def finish(self, judged_by: str) -> None:
        """Store that all trainings have ended, judged so; their checkpoints are deleted."""
        replace(self._manifest, finished=judged_by).write(self.path)
        shutil.rmtree(self.path / CHECKPOINTS, ignore_errors=True)

    def add(self, result: Result) -> None:
        """Store one result; the disk has it when this returns.

        Raises:
            StoreError: If it cannot be written; what is stored already stays.
        """
        plain = to_plain(result)
        if not result.confusion:
            del plain["confusion"]
        self.append_record(plain, durable=True)
