"""TensorBoard: event files in the training's folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from effnas.workflows.trackers.base import TrackedTraining

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

#: Folder of the event files, in that of the training.
FOLDER = "tensorboard"


class TensorBoard:
    """Writes scalars to disk after each step."""

    def __init__(self, writer: SummaryWriter) -> None:
        self._writer = writer

    @classmethod
    def open(cls, training: TrackedTraining) -> TensorBoard:
        """Start a further file of events, which deletes those of later steps in the others."""
        from torch.utils.tensorboard import SummaryWriter

        folder = training.folder / FOLDER
        is_new = not folder.exists()
        first_void = training.step + 1 if training.step else 0
        writer = SummaryWriter(folder, purge_step=first_void)
        if is_new:
            rows = (f"| {name} | {value} |" for name, value in training.settings.items())
            table = "\n".join(["| setting | value |", "| --- | --- |", *rows])
            writer.add_text("settings", table, 0)
        writer.flush()
        return cls(writer)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Write a scalar for each value."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self, *, failed: bool = False) -> None:
        """Close the file; TensorBoard knows no failures."""
        self._writer.close()
