"""The device at hand: its identity, its threads, and its memory."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

import torch

from effnas.config.text import counted
from effnas.data import memory
from effnas.errors import ConfigError
from effnas.timing.runtime import keeps_freed_memory


def open_device(name: str) -> torch.device:
    """Return the torch device of that name; `auto` is the first GPU, or the CPU if there is none.

    Raises:
        ConfigError: If this machine has no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(
            f"unknown device {name!r}; known: auto, cpu, cuda, cuda:N, mps"
        ) from error
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if (device.index or 0) >= count:
            raise ConfigError(
                f"device {name}: PyTorch sees {count} CUDA devices here; choose `device` cpu or "
                "install a CUDA build and driver"
            )
    elif device.type == "mps":
        if not torch.backends.mps.is_available():
            raise ConfigError(f"device {name}: PyTorch finds no MPS here; choose `device` cpu")
    elif device.type != "cpu":
        raise ConfigError(f"unknown device {name!r}; known: auto, cpu, cuda, cuda:N, mps")
    return device


def describe_device(device: torch.device) -> dict[str, str | int]:
    """Return what a step time depends on: the device, its driver, threads and library versions."""
    facts: dict[str, str | int] = {"device": device.type, "torch": str(torch.__version__)}
    if device.type == "cuda":
        facts["name"] = torch.cuda.get_device_name(device)
        facts["driver"] = _nvidia_driver()
        facts["cuda"] = str(torch.version.cuda)
        facts["cudnn"] = int(torch.backends.cudnn.version() or 0)  # type: ignore[no-untyped-call]
    else:
        facts["name"] = _cpu_name()
        facts["system"] = f"{platform.system()} {platform.release()}"
        facts["threads"] = torch.get_num_threads()
        facts["instructions"] = torch.backends.cpu.get_cpu_capability()
        facts["onednn"] = _onednn_version()
        facts["freed_memory"] = "kept" if keeps_freed_memory() else "given back"
    return facts


def hardware_id(facts: dict[str, str | int]) -> str:
    """Return one line that identifies a kind of hardware in the records."""
    threads = f", {counted(int(facts['threads']), 'thread')}" if "threads" in facts else ""
    return f"{facts['name']}{threads}, torch {facts['torch']}"


def resident_memory_bytes() -> int:
    """Return the memory that this process holds now, in bytes; 0 where the system does not say."""
    fields = _read("/proc/self/statm").split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") if fields else 0


def available_memory_bytes(device: torch.device) -> int:
    """Return the memory that the device has left for a search, in bytes."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free)
    return memory.available_memory_bytes()


def _cpu_name() -> str:
    found = re.search(r"^model name[^:]*:(.*)", _read("/proc/cpuinfo"), re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


def _nvidia_driver() -> str:
    """Return the version of NVIDIA's kernel driver."""
    found = re.search(r"\s(\d+\.\d+(?:\.\d+)?)\s", _read("/proc/driver/nvidia/version"))
    return found[1] if found else "unknown"


def _onednn_version() -> str:
    """Return the version of oneDNN, which computes convolutions on a CPU."""
    found = re.search(r"(?:MKL-DNN|oneDNN) v([\d.]+\d)", torch.__config__.show())
    return found[1] if found else "none"


def _read(path: str) -> str:
    """Return the text of a file of the system's, or nothing where it has none."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""
