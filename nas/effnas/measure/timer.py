"""The step timer: whole training steps, beside those of the reference network.

The two networks take turns, so that whatever slows the device down for a while (heat, clocks,
another process) slows both, and their ratio S stays.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from effnas.training import TrainingStep

#: Timed steps of each network, whatever they take; 6 is the least that a 95 % interval of a median
#: can be had from.
FEWEST_STEPS = 7
#: Values from which on the normal approximation of the binomial is used; 0.5**1075 is 0.
_MANY = 500


@dataclass(frozen=True)
class StepTiming:
    """Seconds of training steps, and their ratio to the reference network's.

    Attributes:
        step_time_s: Median seconds of a step.
        step_time_low_s: Lower end of its 95 % interval.
        step_time_high_s: Upper end.
        step_time: Median ratio of a step to the reference's step beside it; S of the reward.
        step_time_low: Lower end of its 95 % interval.
        step_time_high: Upper end.
        steps: Timed steps of each network.
    """

    step_time_s: float
    step_time_low_s: float
    step_time_high_s: float
    step_time: float
    step_time_low: float
    step_time_high: float
    steps: int


def time_training_step(
    step: TrainingStep,
    reference: TrainingStep,
    *,
    batch_size: int,
    image_size: int,
    num_classes: int,
    precision: float = 0.02,
    time_limit_s: float = 4.0,
) -> StepTiming:
    """Time steps of a network and of the reference in turn, until the ratio is known well enough.

    The networks are trained on noise meanwhile: time fresh ones, and throw them away.

    Args:
        step: The network's training step.
        reference: The reference network's, on the same device.
        batch_size: Images in a step.
        image_size: Height and width in pixels.
        num_classes: Classes of both networks.
        precision: Wanted half-width of the ratio's 95 % interval, a share of the ratio.
        time_limit_s: Seconds after which no further step is started.
    """
    images, labels = noise_batch(step.device, batch_size, image_size, num_classes)
    _warm_up(step, images, labels)
    _warm_up(reference, images, labels)
    mine: list[float] = []
    theirs: list[float] = []
    started = time.perf_counter()
    while True:
        mine.append(timed(step, images, labels))
        theirs.append(timed(reference, images, labels))
        if len(mine) < FEWEST_STEPS:
            continue
        ratio, low, high = median_interval(np.array(mine) / np.array(theirs))
        known = (high - low) / 2 <= precision * ratio
        if known or time.perf_counter() - started > time_limit_s:
            break
    seconds, low_s, high_s = median_interval(np.array(mine))
    return StepTiming(seconds, low_s, high_s, ratio, low, high, len(mine))


def noise_batch(
    device: torch.device, batch_size: int, image_size: int, num_classes: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return normal noise [N, 3, H, W] and labels [N] on the device, always the same."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch_size, 3, image_size, image_size, generator=generator)
    labels = torch.randint(max(num_classes, 1), (batch_size,), generator=generator)
    return images.to(device), labels.to(device)


def timed(step: TrainingStep, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the seconds of one whole step, waited for."""
    step.synchronize()
    started = time.perf_counter()
    step(images, labels)
    step.synchronize()
    return time.perf_counter() - started


def median_interval(values: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the median and its 95 % interval from order statistics, without assuming a shape.

    The interval is that of the sign test: below 6 values it is their whole range.
    """
    ordered = np.sort(values)
    count = len(ordered)
    # Cumulative binomial(count, 1/2): the largest rank whose tail holds at most 2.5 %.
    if count > _MANY:
        rank = int(count / 2 - 0.98 * count**0.5)
    else:
        tail, rank, term = 0.0, 0, 0.5**count
        while tail + term <= 0.025:
            tail += term
            rank += 1
            term *= (count - rank + 1) / rank
    low = max(rank - 1, 0)
    return float(np.median(ordered)), float(ordered[low]), float(ordered[count - 1 - low])


def _warm_up(step: TrainingStep, images: torch.Tensor, labels: torch.Tensor) -> None:
    """Run steps until one is not clearly faster than the one before it, four at most."""
    last = timed(step, images, labels)
    for _ in range(3):
        this = timed(step, images, labels)
        if this > 0.95 * last:
            return
        last = this
