"""What a tracker is, and what it receives of a training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

#: MLflow experiment and W&B project, unless the user's environment names another.
PROJECT = "effnas"

#: A setting of a training, as trackers show it.
Setting = str | int | float | bool | None


class Tracker(Protocol):
    """Stores the figures of one training."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Write values of a step, by name; those that are not finite are left out."""
        ...

    def close(self, *, failed: bool = False) -> None:
        """Write the rest, and whether the training failed."""
        ...


@dataclass(frozen=True, kw_only=True)
class TrackedTraining:
    """The training that a tracker is opened for.

    Attributes:
        folder: Its folder, which exists.
        run_name: Shown to people.
        settings: Shown beside its figures.
        step: The last step whose figures are valid, 0 at the start. TensorBoard deletes those of
            later steps; MLflow and W&B cannot, and receive them a second time.
        notify: Receives where W&B writes, and once for each tracker that it fails.
        runs: Ids of its runs, by tracker; a tracker that starts one adds it.
    """

    folder: Path
    run_name: str
    settings: Mapping[str, Setting]
    step: int
    notify: Callable[[str], None]
    runs: dict[str, str] = field(default_factory=dict)
