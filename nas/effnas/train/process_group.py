"""The processes that train one network together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar, cast

import torch
import torch.distributed as dist

from effnas.errors import EffnasError

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ProcessGroup:
    """One of the processes.

    Attributes:
        rank: Its number, from 0.
        size: Number of processes.
        connected: Whether they communicate; if not, each method acts as for a single process.
    """

    rank: int = 0
    size: int = 1
    connected: bool = False

    def sum(self, value: torch.Tensor) -> torch.Tensor:
        """Return the sum of a tensor over all processes, in place."""
        if self.connected:
            dist.all_reduce(value)
        return value

    def broadcast_flag(self, ask: Callable[[], bool], device: torch.device) -> bool:
        """Return the answer of the first process, which alone is asked."""
        if not self.connected:
            return ask()
        flag = torch.tensor([int(self.rank == 0 and ask())], device=device)
        dist.broadcast(flag, src=0)
        return bool(flag.item())

    def broadcast_object(self, make: Callable[[], T]) -> T:
        """Return what the first process makes, or raise the error that it meets."""
        if not self.connected:
            return make()
        values: list[T | EffnasError | None] = [None]
        if self.rank == 0:
            try:
                values = [make()]
            except EffnasError as error:  # else the others would wait for it
                values = [error]
        dist.broadcast_object_list(values, src=0)
        if isinstance(values[0], EffnasError):
            raise values[0]
        return cast("T", values[0])

    def average(self, buffers: Iterable[torch.Tensor]) -> None:
        """Set running statistics to their mean over all processes."""
        if not self.connected:
            return
        for buffer in buffers:
            if buffer.is_floating_point():
                self.sum(buffer).div_(self.size)
