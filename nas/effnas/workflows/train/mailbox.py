"""Between a command and the processes that work for it: an actor of Ray's.

It stands alone and opens nothing that it passes on, so that its process need not import torch.
"""

from __future__ import annotations


class Mailbox:
    """What the workers say, in order, and whether they are to stop."""

    def __init__(self) -> None:
        self._said: list[bytes] = []
        self._stop = False
        self._failed = False

    def say(self, message: bytes) -> None:
        """Keep a message for the command."""
        self._said.append(message)

    def fail(self, message: bytes) -> None:
        """Keep a message that is the last: there is nothing for workers to begin anew."""
        self._failed = True
        self.say(message)

    def has_failed(self) -> bool:
        """Return whether a worker met what ends all of them."""
        return self._failed

    def take(self) -> list[bytes]:
        """Return what was said since this was asked last."""
        said, self._said = self._said, []
        return said

    def stop(self) -> None:
        """Ask the workers to stop."""
        self._stop = True

    def is_stopping(self) -> bool:
        """Return whether the workers are to stop."""
        return self._stop
