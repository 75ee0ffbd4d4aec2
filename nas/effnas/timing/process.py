"""Running a program that may hang, flood its output, or leave processes behind."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from effnas.errors import ConfigError

#: Bytes at the end of an output stream that are kept.
_KEPT = 65_536
#: Seconds between looks at whether a program that prints nothing has ended.
_POLL_S = 0.2
#: Seconds that a killed program may take to end.
_LAST_WAIT_S = 10.0
# Reads a process group in one line and the all-clear in another. If its input ends before that,
# its parent is dead. The reader is a child of the shell, since Ray kills the direct children of a
# worker together with it.
_WATCHDOG = """
(
  read -r group && read -r line || {
    [ -n "$group" ] && kill -s KILL -- "-$group"
    rm -rf -- "$1"
  }
)
:
"""


@dataclass(frozen=True)
class Finished:
    """A program that has ended: its exit code (-n: killed by signal n) and the ends of its output.

    The output is decoded as UTF-8; invalid bytes are replaced.
    """

    code: int
    output: str
    errors: str


def run(words: list[str], folder: str, timeout_s: float) -> Finished:
    """Run a program, without input.

    Neither it nor its children outlive the call, however that ends, unless they leave its process
    group. If this process is killed meanwhile, the program is killed too and `folder` removed.

    Args:
        words: The program and its arguments.
        folder: Temporary folder of the call.
        timeout_s: The most seconds that it may take.

    Raises:
        OSError: It cannot be started.
        subprocess.TimeoutExpired: It takes longer.
        ConfigError: It cannot be killed.
    """
    with _watchdog(folder) as watchdog, ExitStack() as stack:
        with _signals_held_back():  # an interrupt within Popen would lose the process
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
            stack.enter_context(_killed_at_the_end(process))
        assert watchdog.stdin is not None
        watchdog.stdin.write(f"{process.pid}\n".encode())
        watchdog.stdin.flush()
        output, errors = _follow(process, timeout_s)
    return Finished(process.returncode, output, errors)


def _follow(process: subprocess.Popen[bytes], timeout_s: float) -> tuple[str, str]:
    """Wait for a program; return the ends of its output and of its error stream."""
    assert process.stdout is not None
    assert process.stderr is not None
    deadline = time.monotonic() + timeout_s
    ends = {process.stdout.fileno(): b"", process.stderr.fileno(): b""}
    with selectors.DefaultSelector() as selector:
        for descriptor in ends:
            selector.register(descriptor, selectors.EVENT_READ)
        has_ended = False
        while selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                raise subprocess.TimeoutExpired(process.args, timeout_s)
            ready = selector.select(min(left, _POLL_S))
            for key, _ in ready:
                chunk = os.read(key.fd, _KEPT)
                ends[key.fd] = (ends[key.fd] + chunk)[-_KEPT:]
                if not chunk:
                    selector.unregister(key.fd)
            if not ready:
                # It may have written and ended since the streams were read.
                if has_ended:
                    break  # only children that it left hold the streams
                has_ended = process.poll() is not None
    process.wait(max(deadline - time.monotonic(), 0))
    output, errors = (end.decode(errors="replace") for end in ends.values())
    return output, errors


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """Delay SIGINT and SIGTERM until the block ends; other threads receive none anyway."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for kind in before:
        signal.signal(kind, lambda number, frame: arrived.append(number))
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler or signal.SIG_DFL)
    for number in arrived:
        signal.raise_signal(number)


@contextmanager
def _killed_at_the_end(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Kill the process group of a program when the block ends."""
    try:
        yield
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        try:
            process.wait(_LAST_WAIT_S)
        except subprocess.TimeoutExpired:
            raise ConfigError(
                f"process {process.pid} cannot be killed (it belongs to another user, or waits for "
                "its device); stop it, then start the same search again"
            ) from None
        finally:
            for stream in (process.stdout, process.stderr):
                if stream:
                    stream.close()


@contextmanager
def _watchdog(folder: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process that cleans up if this one is killed within the block."""
    watchdog = subprocess.Popen(
        ["sh", "-c", _WATCHDOG, "sh", folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield watchdog
    finally:
        watchdog.communicate(b"\n\n")  # two lines: it may not have had the first
