"""The lock of a device: what may run beside what, and what happens when a process dies."""

from __future__ import annotations

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
    with hold(SimpleNamespace(type="cpu"), lambda: say("waiting")):
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

    def give_up() -> None:
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
    with pytest.raises(ZeroDivisionError), mode(CPU, lambda: pytest.fail("nobody holds it")):
        fail()
    assert descriptors() == before
    assert not would_wait("timing")


def test_devices_have_locks_of_their_own_which_every_user_may_take(own_locks: Path) -> None:
    with lock.timing(torch.device("mps")):
        assert not would_wait("timing")
    (folder,) = own_locks.iterdir()
    assert folder.stat().st_mode & 0o7777 == 0o1777
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o666}


@pytest.mark.parametrize("kind", ["missing", "locks-are-a-file", "locks-are-a-dead-link"])
def test_a_folder_that_cannot_be_used_is_named_in_one_line(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "temporary"
    if kind != "missing":
        folder.mkdir()
        if kind == "locks-are-a-file":
            (folder / lock._FOLDER).write_text("")
        else:
            (folder / lock._FOLDER).symlink_to(tmp_path / "gone")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with (
        pytest.raises(ConfigError, match="the device's lock cannot be opened") as caught,
        lock.timing(CPU),
    ):
        pytest.fail("it was opened")
    assert str(caught.value).startswith(str(folder))
    assert "TMPDIR" in str(caught.value)
    assert "\n" not in str(caught.value)
