"""One lock per device, across a user's processes: timings never share it, nor with trainings.

The files are in a folder of the user's own: in one that all users share, others could plant links.
What other users run is therefore not kept away, as other programs are not.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from effnas.errors import ConfigError

if TYPE_CHECKING:
    import torch

#: Called once if a device has to be waited for, with who uses it.
Waiting: TypeAlias = Callable[[str], None]

#: Characters of the command that a holder signs with, at most.
_LONGEST = 80
_UNKNOWN = "another process"


def timing(device: torch.device, waiting: Waiting = lambda _: None) -> AbstractContextManager[None]:
    """Have exclusive use of a device.

    The lock is not reentrant: its holder, for timing or for training, must not ask for it again.

    Args:
        device: The device; all of a machine's CPUs are one.
        waiting: Called once if others hold it.

    Raises:
        ConfigError: If the lock's file cannot be opened, or its file system has no locks.
    """
    return _held(device, fcntl.LOCK_EX, waiting)


def training(
    device: torch.device, waiting: Waiting = lambda _: None
) -> AbstractContextManager[None]:
    """Share a device with other trainings, and with no timing; arguments as for `timing`."""
    return _held(device, fcntl.LOCK_SH, waiting)


def folder() -> Path:
    """Return where the files are: of this user alone."""
    return Path(tempfile.gettempdir()) / f"effnas-locks-{os.getuid()}"


@contextmanager
def _held(device: torch.device, mode: int, waiting: Waiting) -> Iterator[None]:
    name = _name(device)
    # To get the lock, a process first takes a gate, which one at a time may hold while it waits.
    # Without it, further trainings would keep sharing the lock, and a timing would never get it.
    gate, lock = _open(f"{name}.gate"), _open(f"{name}.lock")
    try:
        waited = _lock(gate, fcntl.LOCK_EX, lambda: waiting(_holder(gate, lock)))
        _lock(lock, mode, (lambda: None) if waited else lambda: waiting(_holder(lock)))
        _sign(gate, lock)
        fcntl.flock(gate, fcntl.LOCK_UN)
        yield
    finally:
        os.close(lock)  # which frees it, as the end of the process would
        os.close(gate)


def _lock(descriptor: int, mode: int, waiting: Callable[[], None]) -> bool:
    """Take a lock; return whether it had to be waited for."""
    try:
        try:
            fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(descriptor, mode)
            return True
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL):
            raise
        raise ConfigError(
            f"{folder()}: its file system has no locks ({os.strerror(error.errno)}), which keep "
            "timings apart; set TMPDIR to a folder on a disk of this machine"
        ) from error
    return False


def _sign(*descriptors: int) -> None:
    """Say in files who has taken the lock."""
    command = " ".join(Path(word).name if n == 0 else word for n, word in enumerate(sys.argv))
    text = f"process {os.getpid()} ({command[:_LONGEST]})".encode(errors="replace")
    for descriptor in descriptors:
        with suppress(OSError):  # a full disk: it is not known who it is
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, text, 0)


def _holder(*descriptors: int) -> str:
    """Return who has signed last, if that is still there."""
    for descriptor in descriptors:
        text = os.pread(descriptor, 2 * _LONGEST, 0).decode(errors="replace")
        words = text.split()
        if len(words) > 1 and words[1].isdecimal() and Path("/proc", words[1]).exists():
            return text
    return _UNKNOWN


def _open(name: str) -> int:
    """Open a file in the folder, both made where they are missing; no link is followed."""
    place = folder()
    try:
        with suppress(FileExistsError):
            place.mkdir(0o700)
        directory = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            found = os.fstat(directory)
            if found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o022:
                raise PermissionError(errno.EPERM, "others can write there")
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            return os.open(name, flags, 0o600, dir_fd=directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise ConfigError(
            f"{place}: the device's lock cannot be opened ({error.strerror}); remove that, or set "
            "TMPDIR to a folder of your own"
        ) from error


def _name(device: torch.device) -> str:
    if device.type != "cuda":
        return device.type
    import torch

    # The number of a GPU depends on CUDA_VISIBLE_DEVICES; its UUID does not.
    return f"cuda-{torch.cuda.get_device_properties(device).uuid}"
