"""Measurements: the device, step times, and peak memory."""

from effnas.measure.clock import clock_of
from effnas.measure.conditions import Conditions
from effnas.measure.device import (
    available_memory_bytes,
    describe_device,
    hardware_id,
    open_device,
    resident_memory_bytes,
)
from effnas.measure.execution import choose_execution
from effnas.measure.layer_times import LayerTimes, SizedNetwork
from effnas.measure.memory import MemoryTracker, estimate_peak_memory, largest_batch_size
from effnas.measure.networks import MeasuredStepTimes, time_networks
from effnas.measure.profiling import make_profile, model_error
from effnas.measure.runs import NetworkRun, PartRun, noise_batch
from effnas.measure.timer import (
    FEWEST_ROUNDS,
    PRECISION,
    StepTiming,
    median_interval,
    time_in_turn,
    timed,
    warm_up,
)

__all__ = [
    "FEWEST_ROUNDS",
    "PRECISION",
    "Conditions",
    "LayerTimes",
    "MeasuredStepTimes",
    "MemoryTracker",
    "NetworkRun",
    "PartRun",
    "SizedNetwork",
    "StepTiming",
    "available_memory_bytes",
    "choose_execution",
    "clock_of",
    "describe_device",
    "estimate_peak_memory",
    "hardware_id",
    "largest_batch_size",
    "make_profile",
    "median_interval",
    "model_error",
    "noise_batch",
    "open_device",
    "resident_memory_bytes",
    "time_in_turn",
    "time_networks",
    "timed",
    "warm_up",
]
