"""The memory that is left: the machine's, or what control groups leave of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from effnas.data import memory
from effnas.timing.device import available_memory_bytes

MACHINE = 5_000 * 1024


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without control groups, as the system tells it."""
    monkeypatch.setattr(memory, "_PROCESSES", tmp_path / "proc")
    monkeypatch.setattr(memory, "_GROUPS", tmp_path / "groups")
    write(tmp_path, {"proc/meminfo": "MemTotal: 9000 kB\nMemAvailable:    5000 kB\n"})
    return tmp_path


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def group(folder: str, limit: str, used: str, cached: int = 0) -> dict[str, str]:
    """The files of a group of version 2."""
    return {f"{folder}/memory.max": f"{limit}\n", f"{folder}/memory.current": f"{used}\n",
            f"{folder}/memory.stat": f"anon 7\ninactive_file {cached}\n"}  # fmt: skip


@pytest.mark.parametrize(
    ("files", "left"),
    [
        ({}, MACHINE),
        (group("groups", "3000000", "1000000"), 2_000_000),
        (group("groups", "3000000", "1000000", cached=400_000), 2_400_000),
        (group("groups", "max", "1000000"), MACHINE),
        (group("groups", "1000", "2000"), 0),
        (group("groups/a/b", "3000000", "1000000"), 2_000_000),
        (group("groups/a", "3000000", "2000000") | group("groups/a/b", "max", "1"), 1_000_000),
        (group("groups/c", "3000", "1000"), MACHINE),  # in which this process is not
    ],
)
def test_groups_of_version_2_limit_what_is_in_them(
    system: Path, files: dict[str, str], left: int
) -> None:
    write(system, {"proc/self/cgroup": "0::/a/b\n", **files})
    assert memory.available_memory_bytes() == left
    assert available_memory_bytes(torch.device("cpu")) == left


@pytest.mark.parametrize("place", ["groups/memory", "groups/memory/docker/1f"])
@pytest.mark.parametrize(("limit", "left"), [(3_000_000, 2_500_000), (2**63 - 4096, MACHINE)])
def test_groups_of_version_1_limit_what_is_in_them(
    system: Path, place: str, limit: int, left: int
) -> None:
    files = {"limit_in_bytes": limit, "usage_in_bytes": 1_000_000}
    write(system, {f"{place}/memory.{name}": f"{value}\n" for name, value in files.items()})
    write(system, {f"{place}/memory.stat": "inactive_file 3\ntotal_inactive_file 500000\n"})
    write(system, {"proc/self/cgroup": "5:cpu,cpuacct:/x\n4:memory:/docker/1f\n0::/\n"})
    assert memory.available_memory_bytes() == left


def test_without_anything_said_it_is_all_memory(system: Path) -> None:
    (system / "proc/meminfo").unlink()
    assert memory.available_memory_bytes() > 100_000_000
