"""Timings that take no longer than tests can wait."""

from __future__ import annotations

import pytest

from effnas.timing import execution, training_time
from effnas.timing.networks import MeasuredStepTimes


def shorten_timings(patch: pytest.MonkeyPatch) -> None:
    """Timings end with their fewest rounds, however uncertain they are, and use few images."""
    patch.setattr(execution, "_LONGEST_STEP_S", 0.0)
    patch.setattr(execution, "_REPEAT_S", 0.0)
    patch.setattr(training_time, "_ENOUGH_S", 0.0)
    defaults = MeasuredStepTimes.__init__.__kwdefaults__
    assert "time_limit_s" in defaults
    patch.setitem(defaults, "time_limit_s", 0.0)
