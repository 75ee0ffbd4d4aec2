"""Clocks of devices: marks are set while the device works, and read when it has finished."""

from __future__ import annotations

import time
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from effnas.train.step import synchronize


class Clock(Protocol):
    """Takes the times of marks on a device."""

    def mark(self) -> None:
        """Note the moment at which the device finishes its work so far."""

    def read(self) -> npt.NDArray[np.float64]:
        """Wait for the device; return the seconds from the first mark to each, and clear them."""


def clock_of(device: torch.device) -> Clock:
    """Return the clock of a device."""
    return _CudaClock(device) if device.type == "cuda" else _HostClock(device)


class _HostClock:
    """Takes times on the host, which waits for an asynchronous device at every mark."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._marks: list[float] = []

    def mark(self) -> None:
        synchronize(self._device)
        self._marks.append(time.perf_counter())

    def read(self) -> npt.NDArray[np.float64]:
        marks = np.array(self._marks)
        self._marks.clear()
        seconds: npt.NDArray[np.float64] = marks - marks[:1]
        return seconds


class _CudaClock:
    """Takes times on the GPU with events, so that the host can run ahead as in training."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._events: list[torch.cuda.Event] = []

    def mark(self) -> None:
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        self._events.append(event)

    def read(self) -> npt.NDArray[np.float64]:
        synchronize(self._device)
        first = self._events[0]
        seconds = [first.elapsed_time(event) / 1e3 for event in self._events]
        self._events.clear()
        return np.array(seconds)
