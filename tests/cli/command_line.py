"""Running a command in a process of its own, to its end or until a signal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

#: The file of a space of small networks, as a `--space`.
SMALL = str(Path(__file__).with_name("small.yaml"))
#: A search whose trials take little, in this process.
QUICK = ["--space", SMALL, "--backend", "inline", "--epochs", "1", "--data-share", "0.3",
         "--threads", "1", "--batch-size", "32"]  # fmt: skip

#: Searches whose baselines and report do not matter are quicker without.
NO_BASELINES = ["--baseline", "none", "--no-report"]


class Result(NamedTuple):
    """The exit code of a command, and what it printed."""

    code: int
    out: str
    err: str


Run = Callable[..., Result]


def run_until(arguments: list[str], lines: Path, count: int, number: signal.Signals) -> Result:
    """Run a command until a file has this many lines, then send it a signal."""
    process = subprocess.Popen(
        [sys.executable, "-m", "effnas", *arguments], text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=_hear_interrupts,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not lines.exists() or lines.read_bytes().count(b"\n") < count:
        assert time.monotonic() < deadline, "the command did not get this far"
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)
    (os.killpg if number == signal.SIGKILL else os.kill)(process.pid, number)
    out, err = process.communicate(timeout=60)
    return Result(process.returncode, out, err)


def _hear_interrupts() -> None:
    """Have the command hear SIGINT, also where what runs the tests does not (`make test &`)."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
