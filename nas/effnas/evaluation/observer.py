"""What a long command reports while it works."""

from __future__ import annotations


class Observer:
    """Receives what a long command does, to show it; by default it shows nothing.

    Each command has its own subclass with the events of that command.
    """

    def preparing(self, what: str) -> None:
        """Something that takes a while has begun, such as loading the images."""

    def progress(self, what: str, done: int, total: int) -> None:
        """`done` of `total` steps of something are complete."""
