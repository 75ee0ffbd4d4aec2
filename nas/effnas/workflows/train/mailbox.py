"""A Ray actor between a command and its workers.

It stands alone and does not unpickle what it passes on, so that its process need not import torch.
"""

from __future__ import annotations


class Mailbox:
    """The workers' messages, in order, and whether the workers must stop."""

    def __init__(self) -> None:
        self._messages: list[bytes] = []
        self._stop = False
        self._failed = False

    def send(self, message: bytes) -> None:
        """Store a message for the command."""
        self._messages.append(message)

    def fail(self, message: bytes) -> None:
        """Store the last message: workers that Ray starts again have nothing to do."""
        self._failed = True
        self.send(message)

    def has_failed(self) -> bool:
        """Return whether a worker met an error that ends all of them."""
        return self._failed

    def take(self) -> list[bytes]:
        """Return the messages since the last call."""
        messages, self._messages = self._messages, []
        return messages

    def stop(self) -> None:
        """Ask the workers to stop."""
        self._stop = True

    def is_stopping(self) -> bool:
        """Return whether the workers must stop."""
        return self._stop
