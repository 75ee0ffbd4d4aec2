"""When a training stores its state: not too often, and all of its processes at the same step."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from effnas.train.checkpoints import Checkpoint, State
from effnas.train.process_group import ProcessGroup

#: Steps between two times that several processes agree on whether to stop or save.
_AGREE_EVERY = 16
#: Share of the time that writing checkpoints takes at most.
_CHECKPOINT_SHARE = 0.05


class Checkpointer:
    """Stores the state of a training, not too often.

    Args:
        checkpoint: The file; None stores nothing.
        every_s: The least seconds between two checkpoints.
    """

    def __init__(self, checkpoint: Checkpoint | None, every_s: float) -> None:
        self._checkpoint = checkpoint
        self._every_s = every_s
        self._last = time.monotonic()

    def is_due(self) -> bool:
        """Return whether the next checkpoint is due."""
        return self._checkpoint is not None and time.monotonic() - self._last >= self._every_s

    def may_save(self, step: int, group: ProcessGroup) -> bool:
        """Return whether the processes agree on it after this step, which costs them time."""
        return not group.connected or step % _AGREE_EVERY == 0

    def save(self, state: Callable[[], Mapping[str, State]]) -> None:
        """Store what the function returns, which is called only where it is stored."""
        if self._checkpoint is None:
            return
        begun = time.monotonic()
        self._checkpoint.save(state())
        self._last = time.monotonic()
        self._every_s = max(self._every_s, (self._last - begun) / _CHECKPOINT_SHARE)
