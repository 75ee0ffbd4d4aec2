"""A command and what came of it."""

from __future__ import annotations

from collections.abc import Callable


class Result:
    """What a command printed, and its exit code."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


Run = Callable[..., Result]
