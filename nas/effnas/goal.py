"""What a search is after, and what it knows of an architecture before it is tried."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from effnas.architecture import Architecture
    from effnas.reward import Reward


def _nothing(arch: Architecture) -> Mapping[str, float]:
    del arch
    return {}


@dataclass(frozen=True)
class Goal:
    """What controllers may use beside the trials that they are told of.

    Attributes:
        reward: What is to be made large. A trial carries its reward; knowing how it follows from
            metrics lets a controller guess the one that is unknown rather than all of it.
        known: Returns metrics of an architecture that are known before it is tried, such as a step
            time that a device profile predicts. Those that a space counts need not be among them.
    """

    reward: Reward
    known: Callable[[Architecture], Mapping[str, float]] = _nothing
