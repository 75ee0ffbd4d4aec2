"""Step times and their sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from effnas.arch.architecture import Architecture

#: Bounds of a plausible step time, in seconds or as a ratio; quotients of two such are finite.
_MIN_S, _MAX_S = 1e-12, 1e12


@dataclass(frozen=True, kw_only=True)
class StepTime:
    """The step time of one network.

    Attributes:
        metrics: `step_time` (S: over the reference network's, no unit) and, where they are known,
            `step_time_s` (seconds) and the ends of the 95 % intervals, `step_time_low`,
            `step_time_high`, `step_time_low_s` and `step_time_high_s`.
        source: How it was found.
        hardware: One line that names the device.
    """

    metrics: Mapping[str, float]
    source: Literal["table", "command", "measured", "predicted"]
    hardware: str


class StepTimeSource(Protocol):
    """Gives the step times of networks."""

    @property
    def description(self) -> str:
        """The source in words; equal for sources that give the same."""

    def __call__(self, arch: Architecture) -> StepTime:
        """Return the step time of one network.

        Raises:
            InfeasibleError: This network cannot be timed; a result with a reason.
            UserError: No network can be timed.
        """


def positive_number(value: object) -> float:
    """Return a number above 0, given as a number or as decimal text.

    Raises:
        ValueError: It is something else; the text continues the value: `is not a number`.
    """
    is_text = isinstance(value, str) and value.isascii() and "_" not in value
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_text and not is_number:
        raise ValueError("is not a number")
    try:
        number = float(value)  # type: ignore[arg-type]  # a text or a number
    except (OverflowError, ValueError):
        raise ValueError("is not a number") from None
    if not _MIN_S <= number <= _MAX_S:
        raise ValueError(f"is not a number above 0 ({_MIN_S:g} to {_MAX_S:g})")
    return number
