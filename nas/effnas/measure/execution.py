"""Memory format and precision, chosen by measuring the reference network on the device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from effnas.config import Execution, MemoryFormat, Precision
from effnas.measure.clock import clock_of
from effnas.measure.conditions import Conditions
from effnas.measure.runs import NetworkRun
from effnas.measure.timer import timed

#: A step of this length is long enough to be compared.
_LONG_ENOUGH_S = 0.1
#: Seconds spent on the repetitions of one candidate.
_REPEAT_S = 0.5


def candidates(device: torch.device) -> list[Execution]:
    """Return the ways in which the device can run a network."""
    precisions = ["float32"]
    if device.type == "cuda":
        precisions.append("bfloat16" if torch.cuda.is_bf16_supported() else "float16")
    elif device.type == "cpu":
        precisions.append("bfloat16")
    return [
        Execution(precision=precision, memory_format=memory_format)  # type: ignore[arg-type]
        for precision in precisions
        for memory_format in ("contiguous", "channels_last")
    ]


def choose_execution(
    make_model: Callable[[], nn.Module],
    conditions: Conditions,
    *,
    precision: Precision | None = None,
    memory_format: MemoryFormat | None = None,
) -> tuple[Execution, dict[Execution, float]]:
    """Measure every candidate on fresh models and return the fastest.

    Whoever calls it has the device's lock.

    Args:
        make_model: Makes the reference network.
        conditions: What to measure under; its execution is passed over, and a smaller batch is used
            if that takes long enough.
        precision: Leaves this one only.
        memory_format: Leaves this one only.

    Returns:
        The fastest, and the seconds per image of each; none if there was nothing to choose.
    """
    device, batch_size = conditions.device, conditions.batch_size
    ways = [
        way
        for way in candidates(device)
        if precision in (None, way.precision) and memory_format in (None, way.memory_format)
    ]
    if precision and memory_format:
        return Execution(precision=precision, memory_format=memory_format), {}
    size = min(8, batch_size)
    seconds: dict[Execution, float] = {}
    clock = clock_of(device)
    for execution in ways:
        model = make_model()
        while True:
            run = NetworkRun(model, replace(conditions, execution=execution, batch_size=size))
            timed(run, clock)
            spent = timed(run, clock)
            if spent >= _LONG_ENOUGH_S or size >= batch_size or seconds:
                break
            size = min(2 * size, batch_size)  # the first candidate settles the size for all
        if seconds and spent > 3 * size * min(seconds.values()):
            seconds[execution] = spent / size  # hopeless: not worth repeating
            continue
        repeats = max(1, min(3, round(_REPEAT_S / spent)))
        best = min(spent, *(timed(run, clock) for _ in range(repeats)))
        seconds[execution] = best / size
    return min(seconds, key=lambda execution: seconds[execution]), seconds
