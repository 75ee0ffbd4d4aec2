"""Ctrl-C and SIGTERM, which end a command at any time with exit code 130."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

#: What a shell makes of a program that SIGINT has ended.
STOPPED = 130


@contextmanager
def on_signals(handle: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Have a function hear Ctrl-C and SIGTERM, which a cluster's scheduler sends before it kills.

    A signal that this process was started to ignore, as in a background job, stays ignored.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    heard = {n: old for n, old in before.items() if old not in (signal.SIG_IGN, None)}
    for number in heard:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, old in heard.items():
            signal.signal(number, old)


def run_until_stopped(work: Callable[[], int | None]) -> int:
    """Run a command; return its exit code, 130 if a signal has stopped it."""
    try:
        with on_signals(interrupt):
            return work() or 0
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return STOPPED


def interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """End what is going on as Ctrl-C does."""
    del number, frame
    raise KeyboardInterrupt
