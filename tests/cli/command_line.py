"""A command and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

#: The file of a space of small networks, as a `--space`.
SMALL = str(Path(__file__).with_name("small.yaml"))


class Result:
    """What a command printed, and its exit code."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


Run = Callable[..., Result]
