"""What a tracker is, and what it is told of a training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

#: MLflow experiment and W&B project, where the user's environment names none.
PROJECT = "effnas"

#: A setting of a training, as trackers show it.
Setting = str | int | float | bool | None


class Tracker(Protocol):
    """Where the figures of one training go."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Write values of a step, by name; those that are not finite are left out."""
        ...

    def close(self, *, failed: bool = False) -> None:
        """Write what is left, and whether the training broke off (`failed`) or is whole."""
        ...


@dataclass(frozen=True, kw_only=True)
class Training:
    """The training that a tracker is opened for.

    Attributes:
        folder: Its own; it is there.
        run_name: What people see.
        settings: Shown beside its figures.
        step: The last step whose figures hold, 0 at the start.
        runs: Ids of its runs, by tracker; a tracker that begins one adds it.
        notify: Is told what people should know.
    """

    folder: Path
    run_name: str
    settings: Mapping[str, Setting]
    step: int
    runs: dict[str, str]
    notify: Callable[[str], None]
