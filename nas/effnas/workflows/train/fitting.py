"""How many micro-batches a step's batch is split into so that each fits the device's memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from math import ceil

from torch import nn

from effnas.config.recipe import Recipe
from effnas.config.text import counted
from effnas.errors import ConfigError, InfeasibleError
from effnas.search.cost_estimate import memory_text
from effnas.timing.memory import estimate_peak_memory, largest_batch_size
from effnas.train.stages import Stage

#: Batch norm needs several images; with fewer, its statistics say little.
MIN_IMAGES = 4
#: Share of the available memory that may be planned for; the rest is for workspaces of kernels
#: and for the next images.
_SHARE = 0.8
#: Of more image sizes than this, the largest decides; the smallest is only tried.
_MAX_SIZES = 8


def fit_micro_batches(
    model: nn.Module,
    recipe: Recipe,
    stages: Sequence[Stage],
    *,
    batch_size: int,
    processes: int,
    available_bytes: int,
    device_batch_size: int | None = None,
) -> tuple[int, ...]:
    """Return the number of micro-batches of a step in each stage: a multiple of `processes`.

    Args:
        model: The network, on any device.
        recipe: Its optimizer and weight average take memory.
        stages: Their image sizes decide.
        batch_size: Images in a step, over all processes.
        processes: How many share the batch.
        available_bytes: Memory of each of their devices.
        device_batch_size: The most images of a micro-batch; None takes as many as fit.

    Raises:
        ConfigError: If the batch is too small to be shared, or if the smallest micro-batch, or
            the one that is asked for, does not fit.
    """
    most = batch_size // processes
    if most < min(MIN_IMAGES, batch_size):
        raise ConfigError(
            f"a batch of {batch_size} gives each of {counted(processes, 'worker')} fewer than "
            f"{MIN_IMAGES} images; raise `batch_size` or lower `workers`"
        )
    limit = int(_SHARE * available_bytes)
    average = sum(t.nbytes for t in model.state_dict().values()) if recipe.ema_decay else 0

    @cache
    def needed(image_size: int, images: int) -> int:
        peak = estimate_peak_memory(model, recipe, image_size=image_size, batch_size=images)
        return peak + average

    sizes = sorted({stage.image_size for stage in stages}, reverse=True)
    counts: dict[int, int] = {}
    for size in sizes:
        try:
            if device_batch_size is not None:
                counts[size] = _limited(
                    size, batch_size, processes, device_batch_size, limit, needed
                )
            elif counts and (len(sizes) > _MAX_SIZES or counts[sizes[0]] == processes):
                counts[size] = counts[sizes[0]]
                if len(sizes) <= _MAX_SIZES or size == sizes[-1]:
                    needed(size, batch_size // counts[size])  # it can be trained there, too
            else:
                counts[size] = _fewest(size, batch_size, processes, limit, needed)
        except InfeasibleError as error:
            raise ConfigError(f"at {size} px, the network {error}") from error
    return tuple(counts[stage.image_size] for stage in stages)


def _limited(
    size: int,
    batch_size: int,
    processes: int,
    device_batch_size: int,
    limit: int,
    needed: Callable[[int, int], int],
) -> int:
    """Return the number of micro-batches of at most `device_batch_size` images."""
    count = processes * ceil(batch_size / processes / device_batch_size)
    if count > batch_size:
        raise ConfigError(
            f"`device_batch_size` {device_batch_size}: a batch of {batch_size} cannot be split "
            f"among {counted(processes, 'worker')} into micro-batches of so few images; raise it"
        )
    images = ceil(batch_size / count)
    if needed(size, images) > limit:
        most = largest_batch_size(lambda count: needed(size, count) <= limit, below=images)
        remedy = f"the most that fit are {most}" if most else "not even one fits"
        raise ConfigError(
            f"`device_batch_size` {device_batch_size}: {counted(images, 'image')} at {size} px "
            f"take {memory_text(needed(size, images))}, and there are {memory_text(limit)}; "
            f"{remedy}"
        )
    return count


def _fewest(
    size: int, batch_size: int, processes: int, limit: int, needed: Callable[[int, int], int]
) -> int:
    """Return the fewest micro-batches that fit, in powers of 2 of `processes`."""
    count, most = processes, processes * max(batch_size // processes // MIN_IMAGES, 1)
    while needed(size, images := ceil(batch_size / count)) > limit:
        if count == most:
            raise ConfigError(
                f"the batch does not fit: even {counted(images, 'image')} at {size} px "
                f"take {memory_text(needed(size, images))}, and there are {memory_text(limit)}; "
                "lower `image_size`, take a smaller network, or free some memory"
            )
        count = min(2 * count, most)
    return count
