"""Settings of a process that times training steps, made before torch is imported."""

from __future__ import annotations

import ctypes
import os
import platform

# Parameters of mallopt(3).
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_NEVER = 2**31 - 1

_keeps_freed_memory = False


def configure_process() -> None:
    """Set this process up for steady step times; call it before torch is imported.

    OpenMP's threads sleep while they wait for each other. By default they spin for long first: on
    a machine where anything else runs, a waiting thread then takes the processor from the one that
    it waits for, and a training step may take many times as long.

    Freed memory is kept. By default glibc gives large blocks back to the system, and the next step
    gets them again page by page. How often that happens depends on sizes and history, so that a
    step's time would depend on what ran before it, and the times of a network's layers would not
    add up to that of the network. Other C libraries are not changed.

    docs/measuring.md has figures of both.
    """
    global _keeps_freed_memory  # a property of the process
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    if not _keeps_freed_memory and platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        wanted = ((_M_TRIM_THRESHOLD, _NEVER), (_M_TOP_PAD, 0), (_M_MMAP_MAX, 0))
        _keeps_freed_memory = {mallopt(name, value) for name, value in wanted} == {1}


def keeps_freed_memory() -> bool:
    """Return whether this process keeps the memory that it frees."""
    return _keeps_freed_memory
