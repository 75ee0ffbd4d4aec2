"""Devices: what is here, what it is, and how much memory it has."""

from __future__ import annotations

import json
import mmap

import pytest
import torch

from effnas.errors import ConfigError
from effnas.timing.device import (
    describe_device,
    hardware_id,
    open_device,
    resident_memory_bytes,
)

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["tpu", "", "meta", "cuda:99", "cuda:-1", "cpu:x"])
def test_a_device_that_is_not_here_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(ConfigError, match="device") as caught:
        open_device(name)
    assert "cpu" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("gpus", [0, 1])
def test_auto_is_a_gpu_where_there_is_one(gpus: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert open_device("auto").type == ("cuda" if gpus else "cpu")


def test_the_facts_of_a_device_are_plain_and_include_its_threads() -> None:
    facts = describe_device(CPU)
    assert json.loads(json.dumps(facts)) == facts
    assert facts["threads"] == torch.get_num_threads()
    assert hardware_id(facts) == hardware_id(describe_device(CPU))
    assert hardware_id(facts) != hardware_id({**facts, "threads": 77})
    assert torch.__version__ in hardware_id(facts)


def test_resident_memory_grows_by_what_is_written() -> None:
    size = 20_000_000
    with mmap.mmap(-1, size) as held:  # pages that no allocator has had before
        before = resident_memory_bytes()
        held.write(b"x" * size)
        grown = resident_memory_bytes() - before
    assert size - 1_000_000 < grown < size + 25_000_000
