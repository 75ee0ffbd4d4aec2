"""A folder of trainings: `manifest.json`, the append-only `trainings.jsonl`, and weights."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isfinite

from effnas.errors import StoreError
from effnas.trials.store import CHECKPOINTS, Json, RunFolder

TRAININGS = "trainings.jsonl"
#: Where the weights of whole trainings are, below the folder.
WEIGHTS = "weights"


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one training has come to.

    Attributes:
        candidate: Name of what was trained.
        repeat: Which of its trainings with other seeds, from 0.
        epochs: How far.
        accuracy: Share of the held-out images that were named rightly, 0 to 1; None if it failed.
        train_time_s: Seconds of training in all.
        reason: Why it cannot be trained so, if it failed.
    """

    candidate: str
    repeat: int
    epochs: int
    accuracy: float | None = None
    train_time_s: float = 0.0
    reason: str | None = None

    def __post_init__(self) -> None:
        if (self.accuracy is None) == (self.reason is None):
            raise ValueError("a result has either an accuracy or a reason for having none")
        if self.accuracy is not None and not 0 <= self.accuracy <= 1:
            raise ValueError(f"accuracy is {self.accuracy}, it must be 0 to 1")
        if not (isfinite(self.train_time_s) and self.train_time_s >= 0):
            raise ValueError(f"train_time_s is {self.train_time_s}, it must be 0 or more")


class TrainingsFolder(RunFolder):
    """Results of trainings on disk, locked against other drivers.

    Use as a context manager, or call `close`.
    """

    records_name = TRAININGS

    def begin(self, kind: str, manifest: Mapping[str, Json]) -> list[Result]:
        """Note what the trainings are for, or see that it is the same as before.

        Args:
            kind: What they are, for people, in the plural.
            manifest: What they are made with.

        Returns:
            The results that are stored.

        Raises:
            StoreError: If the folder holds something else; names what differs.
        """
        content: dict[str, Json] = {"kind": kind, **manifest}
        stored = self.read_manifest()
        if stored is None:
            self.write_manifest(content)
            return []
        if stored.get("kind") != kind:
            raise StoreError(f"{self.path}: the folder holds no {kind}; choose another `out`")
        differing = [name for name, value in content.items() if stored.get(name) != value]
        if differing:
            raise StoreError(
                f"{self.path}: these {kind} were begun with another {', '.join(differing)}. Give "
                "the same again to go on with them, or choose another `out`"
            )
        return self.read_records(lambda record: Result(**record), "result")

    def is_finished(self, judged_by: str) -> bool:
        """Say whether all trainings have come to their end, judged by the same as now."""
        return (self.read_manifest() or {}).get("finished") == judged_by

    def finish(self, judged_by: str) -> None:
        """Note that all trainings have come to their end; checkpoints are of no more use.

        Args:
            judged_by: What decided on which of them went on, such as the text of a reward.

        Raises:
            StoreError: If it cannot be written; what is stored already stays.
        """
        self.write_manifest({**(self.read_manifest() or {}), "finished": judged_by})
        shutil.rmtree(self.path / CHECKPOINTS, ignore_errors=True)

    def add(self, result: Result) -> None:
        """Store one result; the disk has it when this returns.

        Raises:
            StoreError: If it cannot be written; what is stored already stays.
        """
        self.append_record(asdict(result), durable=True)
