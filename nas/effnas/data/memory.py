"""How much memory this process may still take, on a machine or in a container."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

#: Where the system tells: its folders of processes and of control groups.
_PROCESSES, _GROUPS = Path("/proc"), Path("/sys/fs/cgroup")
#: Of a control group of version 2 and of version 1: its limit, what is used of it, and what of that
#: is a cache of files, which gives way.
_VERSION_2 = "memory.max", "memory.current", "inactive_file"
_VERSION_1 = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"


def available_memory_bytes() -> int:
    """Return the memory that is left: the machine's, or less if a control group limits it."""
    found = re.search(r"MemAvailable:\s*(\d+) kB", _read(_PROCESSES / "meminfo"))
    everything = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    available = int(found[1]) * 1024 if found else everything
    return max(min((available, *_left_in_groups())), 0)


def _left_in_groups() -> Iterator[int]:
    """Yield what is left in each control group of this process, as that of a container."""
    for line in _read(_PROCESSES / "self" / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top = _GROUPS / "memory" if controllers else _GROUPS
        names = _VERSION_1 if controllers else _VERSION_2
        # Groups lie in one another, and each limits. Of a container's own group, the path may be
        # that of the machine outside: then the top is all that is seen of it.
        group = Path(os.path.normpath(path.lstrip("/")))
        for folder in {top / group, *(top / parent for parent in group.parents), top}:
            yield from _left_in(folder, *names)


def _left_in(folder: Path, limit: str, used: str, cache: str) -> Iterator[int]:
    texts = [_read(folder / name).strip() for name in (limit, used)]
    if all(text.isdecimal() for text in texts):
        cached = re.search(rf"^{cache} (\d+)$", _read(folder / "memory.stat"), re.MULTILINE)
        yield int(texts[0]) - int(texts[1]) + (int(cached[1]) if cached else 0)


def _read(path: Path) -> str:
    """Return the text of a file of the system's, or nothing where it has none."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
