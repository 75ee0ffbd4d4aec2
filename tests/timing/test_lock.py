"""The lock of a device: what may run beside what, and what happens when a process dies."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch

from effnas.errors import ConfigError
from effnas.timing import lock

CPU = torch.device("cpu")
#: Longer than anything here takes: what waits for so long has failed.
PATIENCE_S = 60.0

#: Takes the lock in the given mode, and says what happens; a line on its input lets it continue.
#: Without torch, whose import takes seconds: the lock needs the type of a device alone.
HOLDER = """
import sys
from types import SimpleNamespace
from effnas.timing import lock

def say(text):
    print(text, flush=True)

hold = getattr(lock, sys.argv[1])
for line in sys.stdin:
    with hold(SimpleNamespace(type="cpu"), lambda who: say("waiting")):
        say("holding")
        sys.stdin.readline()
    say("done")
"""


class Process:
    """Another process that takes the lock when it is asked to."""

    def __init__(self, mode: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, mode],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def proceed(self) -> None:
        """Have it ask for the lock, or give it back."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def says(self) -> str:
        """Wait for its next line."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


@pytest.fixture(scope="module")
def processes(own_locks: Path) -> Iterator[Callable[[str], Process]]:
    """Starts processes, and ends them after all tests."""
    started: list[Process] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(own_locks))

        def start(mode: str) -> Process:
            started.append(Process(mode))
            return started[-1]

        yield start
    for process in started:
        process.close()


@pytest.fixture(scope="module")
def timer(processes: Callable[[str], Process]) -> Process:
    return processes("timing")


@pytest.fixture(scope="module")
def trainer(processes: Callable[[str], Process]) -> Process:
    return processes("training")


@pytest.fixture(scope="module")
def other_trainer(processes: Callable[[str], Process]) -> Process:
    return processes("training")


def hold(process: Process) -> None:
    process.proceed()
    assert process.says() == "holding"


def release(process: Process) -> None:
    process.proceed()
    assert process.says() == "done"


def would_wait(mode: str) -> bool:
    """Whether this process would have to wait for the lock."""

    def give_up(_: str) -> None:
        raise TimeoutError

    try:
        with getattr(lock, mode)(CPU, give_up):
            return False
    except TimeoutError:
        return True


# -- several processes


def test_a_timing_excludes_timings_and_trainings_of_other_processes(timer: Process) -> None:
    assert not would_wait("timing")
    hold(timer)
    assert would_wait("timing")
    assert would_wait("training")
    release(timer)
    assert not would_wait("timing")


def test_trainings_share_a_device_and_exclude_timings(
    trainer: Process, other_trainer: Process
) -> None:
    hold(trainer)
    hold(other_trainer)
    assert not would_wait("training")
    assert would_wait("timing")
    release(trainer)
    assert would_wait("timing")
    release(other_trainer)
    assert not would_wait("timing")


def test_a_timing_that_waits_comes_before_trainings_that_ask_after_it(
    timer: Process, trainer: Process, other_trainer: Process
) -> None:
    hold(trainer)
    timer.proceed()
    assert timer.says() == "waiting"  # once
    other_trainer.proceed()
    assert other_trainer.says() == "waiting"  # though the lock is shared now
    assert would_wait("training")
    release(trainer)
    assert timer.says() == "holding"
    release(timer)
    assert other_trainer.says() == "holding"
    release(other_trainer)


@pytest.mark.parametrize("mode", ["timing", "training"])
def test_a_process_that_is_killed_holds_nothing(
    mode: str, processes: Callable[[str], Process]
) -> None:
    victim = processes(mode)
    hold(victim)
    assert would_wait("timing")
    victim.kill()
    assert not would_wait("timing")


def test_a_process_that_is_killed_while_it_waits_keeps_nobody_waiting(
    processes: Callable[[str], Process], trainer: Process
) -> None:
    hold(trainer)
    victim = processes("timing")
    victim.proceed()
    assert victim.says() == "waiting"
    assert would_wait("training")
    victim.kill()
    give_up = time.monotonic() + PATIENCE_S
    while would_wait("training"):
        assert time.monotonic() < give_up
    release(trainer)
    assert not would_wait("timing")


# -- one process


@pytest.mark.parametrize("mode", [lock.timing, lock.training])
def test_an_error_frees_the_lock_and_no_file_stays_open(
    mode: Callable[..., AbstractContextManager[None]],
) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    def fail() -> None:
        assert descriptors() == before + 2
        raise ZeroDivisionError

    before = descriptors()
    with pytest.raises(ZeroDivisionError), mode(CPU, lambda _: pytest.fail("nobody holds it")):
        fail()
    assert descriptors() == before
    assert not would_wait("timing")


def test_who_is_waited_for_is_said(timer: Process, trainer: Process) -> None:
    for process, mode in ((timer, "training"), (trainer, "timing")):
        holders = []

        def give_up(holder: str, holders: list[str] = holders) -> None:
            holders.append(holder)
            raise TimeoutError

        hold(process)
        with pytest.raises(TimeoutError), getattr(lock, mode)(CPU, give_up):
            pytest.fail("it is held")
        assert holders[0].startswith(f"process {process.process.pid} (-c ")
        release(process)


def test_devices_have_locks_of_their_own_in_a_folder_of_this_user_alone(own_locks: Path) -> None:
    with lock.timing(torch.device("mps")):
        assert not would_wait("timing")
    (folder,) = own_locks.iterdir()
    assert folder.stat().st_mode & 0o7777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o600}


KINDS = ("missing", "a file", "a dead link", "a link", "writable by others", "a linked file")


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_that_cannot_be_trusted_is_named_in_one_line(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary, other = tmp_path / "temporary", tmp_path / "other"
    other.mkdir(0o700)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    folder = lock.folder()
    if kind != "missing":
        temporary.mkdir()
    if kind == "a file":
        folder.write_text("")
    if "link" in kind and kind != "a linked file":
        folder.symlink_to(tmp_path / "gone" if "dead" in kind else other)
    if kind == "writable by others":
        folder.mkdir()
        folder.chmod(0o777)
    if kind == "a linked file":
        folder.mkdir(0o700)
        (other / "mine").write_text("kept")
        (folder / "cpu.lock").symlink_to(other / "mine")
    with (
        pytest.raises(ConfigError, match="the device's lock cannot be opened") as caught,
        lock.timing(CPU),
    ):
        pytest.fail("it was opened")
    assert str(caught.value).startswith(str(folder))
    assert "TMPDIR" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [file.read_text() for file in other.iterdir()] == (
        ["kept"] if kind == "a linked file" else []
    )


def test_a_file_system_without_locks_is_said(
    own_locks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(descriptor: int, mode: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    with (
        pytest.raises(ConfigError, match=r"has no locks \(No locks available\).*TMPDIR"),
        lock.timing(CPU),
    ):
        pytest.fail("it was held")
