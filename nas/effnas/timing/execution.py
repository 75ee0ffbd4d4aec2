"""Memory format and precision, chosen by measuring the reference network on the device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from effnas.config.settings import Execution, MemoryFormat, Precision
from effnas.timing.clock import clock_of
from effnas.timing.device import available_memory_bytes
from effnas.timing.memory import estimate_peak_memory
from effnas.timing.network_run import NetworkRun
from effnas.timing.setup import MeasurementSetup
from effnas.timing.timer import timed

#: The fewest images that are measured, unless the batch has fewer.
_MIN_IMAGES = 8
#: Part of a batch is measured where a step of all of it would take longer than about this. The
#: larger the part the better: on two CPU cores, an EfficientNetV2-B0 of half the width gains a
#: factor of 1.2 from channels_last with 8 images and of 1.8 with 64.
_LONGEST_STEP_S = 1.0
#: Share of the free memory that the compared networks may take.
_MEMORY_SHARE = 0.5
#: Seconds spent on the repetitions of one candidate.
_REPEAT_S = 0.5
#: A candidate that takes this many times as long as the best so far is not repeated.
_HOPELESS = 3


def worthwhile_precisions(device: torch.device) -> list[Precision]:
    """Return the precisions that may be the fastest on a device.

    A CPU without instructions for bfloat16 is 3 to 30 times as slow with it as with float32 (one
    with AVX2), and finding that out takes long.
    """
    if device.type == "cuda":
        return ["float32", "bfloat16" if torch.cuda.is_bf16_supported() else "float16"]
    if device.type == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return ["float32", "bfloat16"]
    return ["float32"]


def choose_execution(
    make_model: Callable[[], nn.Module],
    setup: MeasurementSetup,
    *,
    precision: Precision | None = None,
    memory_format: MemoryFormat | None = None,
) -> tuple[Execution, dict[Execution, float]]:
    """Measure every candidate on fresh models and return the fastest.

    The caller holds the device's lock.

    Args:
        make_model: Makes the reference network.
        setup: Its execution is ignored. Part of the batch is used where a step of all of it would
            take longer than about a second, or more than half of the free memory.
        precision: The only one to consider, if given.
        memory_format: The only one to consider, if given.

    Returns:
        The fastest, and the seconds per image of each; none if there was no choice.
    """
    device = setup.device
    formats: list[MemoryFormat] = ["contiguous", "channels_last"]
    ways = [
        Execution(precision=one, memory_format=layout)
        for one in ([precision] if precision else worthwhile_precisions(device))
        for layout in ([memory_format] if memory_format else formats)
    ]
    if precision and memory_format:
        return Execution(precision=precision, memory_format=memory_format), {}
    clock = clock_of(device)
    size = _images_to_compare(make_model(), replace(setup, execution=ways[0]))
    seconds: dict[Execution, float] = {}
    runs: dict[Execution, NetworkRun] = {}
    for execution in ways:
        run = NetworkRun(make_model(), replace(setup, execution=execution, batch_size=size))
        timed(run, clock)
        spent = timed(run, clock)
        seconds[execution] = spent / size
        if spent <= _HOPELESS * size * min(seconds.values()):
            runs[execution] = run
    # In turn, so that a disturbance of the machine affects all of them.
    spent = size * min(seconds.values())
    for _ in range(max(2, min(5, round(_REPEAT_S / spent)))):
        for execution, run in runs.items():
            seconds[execution] = min(seconds[execution], timed(run, clock) / size)
    return min(seconds, key=lambda execution: seconds[execution]), seconds


def _images_to_compare(model: nn.Module, setup: MeasurementSetup) -> int:
    """Return the number of images that take about a second, within the batch and the memory."""
    few = min(_MIN_IMAGES, setup.batch_size)
    run, clock = NetworkRun(model, replace(setup, batch_size=few)), clock_of(setup.device)
    timed(run, clock)
    images = min(few * int(_LONGEST_STEP_S / timed(run, clock)), setup.batch_size)
    limit = _MEMORY_SHARE * available_memory_bytes(setup.device)
    while images > few and limit < estimate_peak_memory(
        model, setup.recipe, image_size=setup.image_size, batch_size=images
    ):
        images //= 2
    return max(images, few)
