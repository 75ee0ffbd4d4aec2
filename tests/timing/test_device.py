"""Devices: what is here, what it is, and how much memory it has."""

from __future__ import annotations

import json
import mmap
import os
from pathlib import Path

import pytest
import torch

from effnas.errors import ConfigError
from effnas.timing.device import (
    available_memory_bytes,
    describe_device,
    hardware_id,
    open_device,
    resident_memory_bytes,
)

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["tpu", "", "gpu", "meta", "xpu", "cuda:99", "cuda:-1", "cpu:x"])
def test_a_device_that_is_not_here_is_told_in_a_line(name: str) -> None:
    with pytest.raises(ConfigError, match="device") as caught:
        open_device(name)
    assert "cpu" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_cpu_is_always_here() -> None:
    assert open_device("cpu") == CPU


@pytest.mark.parametrize("gpus", [0, 1])
def test_auto_is_a_gpu_where_there_is_one(gpus: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert open_device("auto").type == ("cuda" if gpus else "cpu")


def test_the_facts_of_a_device_are_plain_and_tell_its_threads() -> None:
    facts = describe_device(CPU)
    assert json.loads(json.dumps(facts)) == facts
    assert facts["device"] == "cpu"
    assert facts["threads"] == torch.get_num_threads()
    assert facts["name"]
    assert hardware_id(facts) == hardware_id(describe_device(CPU))
    assert hardware_id(facts) != hardware_id({**facts, "threads": 77})
    assert torch.__version__ in hardware_id(facts)
    assert "\n" not in hardware_id(facts)


def test_available_memory_is_a_part_of_what_there_is() -> None:
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < available_memory_bytes(CPU) <= total


def test_a_containers_limit_bounds_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from effnas.timing import device

    files = {"max": "3000000\n", "current": "1000000\n", "meminfo": "MemAvailable: 5000 kB\n"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    places = {
        "/sys/fs/cgroup/memory.max": tmp_path / "max",
        "/sys/fs/cgroup/memory.current": tmp_path / "current",
        "/proc/meminfo": tmp_path / "meminfo",
    }
    monkeypatch.setattr(device, "Path", lambda path: places[path])
    assert available_memory_bytes(CPU) == 2_000_000
    (tmp_path / "max").write_text("max\n")  # no limit
    assert available_memory_bytes(CPU) == 5_000 * 1024


def test_resident_memory_grows_by_what_is_written() -> None:
    size = 50_000_000
    with mmap.mmap(-1, size) as held:  # pages that no allocator has had before
        before = resident_memory_bytes()
        for start in range(0, size, 1_000_000):
            held.seek(start)
            held.write(b"x" * 1_000_000)
        grown = resident_memory_bytes() - before
    assert size - 1_000_000 < grown < size + 5_000_000
