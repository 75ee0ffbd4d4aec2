"""What step times S are over: the step of the reference network, or the median of a table."""

from __future__ import annotations

from enum import Enum

#: What a source of step times says in its description, which manifests store as `step_times`.
OVER_MEDIAN = "S is relative to the median of the table"

#: What it says where S is of the steps of trainings by time.
IN_TRAININGS = "measured in trainings"


class StepUnit(Enum):
    """The training step that S is a multiple of; the value names it, before "step" or "= 1".

    Values of S, and rewards that depend on it, compare only where all are over the reference's.
    """

    REFERENCE = "the reference's"
    TABLE_MEDIAN = "the table's median"

    @classmethod
    def of(cls, step_times: str) -> StepUnit:
        """Return what S is over by the description of where it is from."""
        return cls.TABLE_MEDIAN if OVER_MEDIAN in step_times else cls.REFERENCE
