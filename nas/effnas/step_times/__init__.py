"""Step times from elsewhere than the timer: a device profile, a table, or a command."""

from effnas.step_times.base import StepTime, StepTimeSource
from effnas.step_times.command import StepTimeCommand
from effnas.step_times.profile import (
    DeviceProfile,
    ModelError,
    NetworkFigures,
    PartFigures,
    PredictedOrMeasured,
    StepTimeModel,
)
from effnas.step_times.table import StepTimeTable

__all__ = [
    "DeviceProfile",
    "ModelError",
    "NetworkFigures",
    "PartFigures",
    "PredictedOrMeasured",
    "StepTime",
    "StepTimeCommand",
    "StepTimeModel",
    "StepTimeSource",
    "StepTimeTable",
]
