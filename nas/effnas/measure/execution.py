"""Memory format and precision, chosen by measuring the reference network on the device."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from effnas.config import Execution, Recipe
from effnas.measure.timer import noise_batch, timed
from effnas.training import TrainingStep

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
    recipe: Recipe,
    device: torch.device,
    *,
    batch_size: int,
    image_size: int,
    num_classes: int,
) -> tuple[Execution, dict[Execution, float]]:
    """Measure every candidate on fresh models and return the fastest.

    Args:
        make_model: Makes the reference network.
        recipe: Its optimizer takes part in the step.
        device: The device to measure.
        batch_size: The largest batch that may be used; a smaller one is if it is long enough.
        image_size: Height and width in pixels.
        num_classes: Outputs of the network.

    Returns:
        The fastest, and the seconds per image of each.
    """
    size = min(8, batch_size)
    seconds: dict[Execution, float] = {}
    for execution in candidates(device):
        step = TrainingStep(make_model(), recipe, execution, device)
        while True:
            batch = noise_batch(device, size, image_size, num_classes)
            timed(step, *batch)
            spent = timed(step, *batch)
            if spent >= _LONG_ENOUGH_S or size >= batch_size or seconds:
                break
            size = min(2 * size, batch_size)  # the first candidate settles the size for all
        if seconds and spent > 3 * size * min(seconds.values()):
            seconds[execution] = spent / size  # hopeless: not worth repeating
            continue
        repeats = max(1, min(3, round(_REPEAT_S / spent)))
        best = min(spent, *(timed(step, *batch) for _ in range(repeats)))
        seconds[execution] = best / size
    return min(seconds, key=lambda execution: seconds[execution]), seconds
