"""One lock per device, across processes: timings never share it, nor overlap with trainings."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from effnas.errors import ConfigError

if TYPE_CHECKING:
    import torch

_FOLDER = "effnas-locks"


def timing(
    device: torch.device, waiting: Callable[[], None] = lambda: None
) -> AbstractContextManager[None]:
    """Have exclusive use of a device.

    The lock is not reentrant: its holder, for timing or for training, must not ask for it again.

    Args:
        device: The device; all of a machine's CPUs are one.
        waiting: Called once if others hold it.

    Raises:
        ConfigError: If the lock's file cannot be opened.
    """
    return _held(device, fcntl.LOCK_EX, waiting)


def training(
    device: torch.device, waiting: Callable[[], None] = lambda: None
) -> AbstractContextManager[None]:
    """Share a device with other trainings, and with no timing; arguments as for `timing`."""
    return _held(device, fcntl.LOCK_SH, waiting)


@contextmanager
def _held(device: torch.device, mode: int, waiting: Callable[[], None]) -> Iterator[None]:
    name = _name(device)
    # To get the lock, a process first takes a gate, which one at a time may hold while it waits.
    # Without it, further trainings would keep sharing the lock, and a timing would never get it.
    gate, lock = _open(f"{name}.gate"), _open(f"{name}.lock")
    try:
        waited = _lock(gate, fcntl.LOCK_EX, waiting)
        _lock(lock, mode, (lambda: None) if waited else waiting)
        fcntl.flock(gate, fcntl.LOCK_UN)
        yield
    finally:
        os.close(lock)  # which frees it, as the end of the process would
        os.close(gate)


def _lock(descriptor: int, mode: int, waiting: Callable[[], None]) -> bool:
    """Take a lock; return whether it had to be waited for."""
    try:
        fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        waiting()
        fcntl.flock(descriptor, mode)
        return True
    return False


def _open(name: str) -> int:
    folder = Path(tempfile.gettempdir()) / _FOLDER
    path = folder / name
    try:
        if not path.exists():
            folder.mkdir(exist_ok=True)
            _share(folder, 0o1777)
            path.touch()
            _share(path, 0o666)
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError(
            f"{path}: the device's lock cannot be opened ({error.strerror}); make it readable, or "
            "set TMPDIR to a folder that all users of the device share"
        ) from error


def _share(path: Path, mode: int) -> None:
    """Let other users of the machine take the lock."""
    if path.stat().st_uid == os.getuid():
        path.chmod(mode)


def _name(device: torch.device) -> str:
    if device.type != "cuda":
        return device.type
    import torch

    # The number of a GPU depends on CUDA_VISIBLE_DEVICES; its UUID does not.
    return f"cuda-{torch.cuda.get_device_properties(device).uuid}"
