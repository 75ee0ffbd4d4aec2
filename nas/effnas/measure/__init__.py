"""Measurements: the device, step time, and peak memory."""

from effnas.measure.device import (
    available_memory_bytes,
    describe_device,
    hardware_id,
    open_device,
    resident_memory_bytes,
)
from effnas.measure.execution import choose_execution
from effnas.measure.memory import estimate_peak_memory
from effnas.measure.timer import (
    FEWEST_STEPS,
    StepTiming,
    median_interval,
    noise_batch,
    time_training_step,
    timed,
)

__all__ = [
    "FEWEST_STEPS",
    "StepTiming",
    "available_memory_bytes",
    "choose_execution",
    "describe_device",
    "estimate_peak_memory",
    "hardware_id",
    "median_interval",
    "noise_batch",
    "open_device",
    "resident_memory_bytes",
    "time_training_step",
    "timed",
]
