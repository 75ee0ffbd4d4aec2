"""What a long command reports while it works."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from effnas.trials.worker_info import WorkerInfo


class Observer:
    """Receives what a long command does, to show it; by default it shows nothing.

    Each command has its own subclass with the events of that command.
    """

    def preparing(self, what: str) -> None:
        """Something that takes a while has begun, such as loading the images."""

    def prepared(self, ready: WorkerInfo) -> None:
        """The first worker has loaded the images and looked at the device."""

    def progress(self, what: str, done: int, total: int) -> None:
        """`done` of `total` steps of something are complete."""
