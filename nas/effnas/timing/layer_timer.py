"""Timing the parts of networks one by one, in turn and beside a reference network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from effnas.arch.layers import Layer
from effnas.arch.models import build
from effnas.config.settings import Execution
from effnas.errors import InfeasibleError
from effnas.timing.clock import Clock, clock_of
from effnas.timing.memory import MemoryTracker
from effnas.timing.network_run import LayerRun, NetworkRun, fixed_random_state
from effnas.timing.networks import first_steps
from effnas.timing.profile import LayerFigures
from effnas.timing.setup import MeasurementSetup
from effnas.timing.timer import warm_up

if TYPE_CHECKING:
    import numpy.typing as npt

    from effnas.arch.architecture import Architecture

#: Parts that take turns, as the layers of one network would.
_TOGETHER = 16
#: Timed rounds of each time that a part has its turn, and rounds before them.
_ROUNDS, _WARM_UPS = 4, 2


def measure_layers(
    parts: Sequence[Layer],
    reference: Architecture,
    setup: MeasurementSetup,
    rng: np.random.Generator,
    *,
    passes: int,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> tuple[dict[Layer, LayerFigures], float]:
    """Measure parts beside a reference network; return their figures and its seconds.

    Whoever calls it has the device's lock.

    Args:
        parts: What to measure.
        reference: Times are shares of its step's, at the image size of the conditions.
        setup: What to measure under.
        rng: Draws the company that parts have their turns in.
        passes: How often all are gone through, in ever new company, so that minutes in which a
            device is slow fall on all of them alike.
        progress: Is told what is being done and how far it is.

    Raises:
        InfeasibleError: If the reference takes more than half of the memory that is free, or a part
            does not fit.
    """
    clock = clock_of(setup.device)
    shares: dict[Layer, list[npt.NDArray[np.float64]]] = {part: [] for part in parts}
    references: list[npt.NDArray[np.float64]] = []
    with fixed_random_state(setup.device):
        free = setup.available_bytes
        roomy = replace(setup, available_bytes=None if free is None else free // 2)
        run, limit = first_steps(build(reference, num_classes=setup.num_classes), roomy)
        warm_up(run, clock)
        sizes = {part: _layer_bytes(part, setup) for part in parts}
        for part, size in sizes.items():
            if free is not None and size.needed > free - limit:
                raise InfeasibleError(
                    f"out of memory at batch {setup.batch_size}: {part} needs "
                    f"{size.needed / 1e9:.1f} GB, {(free - limit) / 1e9:.1f} GB are free"
                )
        for number in range(passes):
            order = [parts[n] for n in rng.permutation(len(parts))]
            while order:
                done = number * len(parts) + len(parts) - len(order)
                progress("timings of parts", done, passes * len(parts))
                chunk = _chunk(order, sizes, limit)
                runs = [LayerRun(part, setup) for part in chunk]
                seconds, reference_s = _rounds(runs, run, clock, rng)
                references.append(reference_s)
                for n, part in enumerate(chunk):
                    shares[part].append(seconds[:, n] / reference_s[:, None])
    found = {}
    for part in parts:
        forward, backward, optimizer = np.median(np.concatenate(shares[part]), axis=0)
        found[part] = LayerFigures(
            forward=float(forward),
            backward=float(backward),
            optimizer=float(optimizer),
            kept_bytes=float(sizes[part].kept),
            weight_bytes=float(sizes[part].weights),
        )
    return found, float(np.median(np.concatenate(references)))


def _chunk(order: list[Layer], sizes: Mapping[Layer, _LayerBytes], limit: int) -> list[Layer]:
    """Take the next parts off `order`: so many that together they need no more than a network."""
    chunk = [order.pop()]
    taken = sizes[chunk[0]].needed
    while order and len(chunk) < _TOGETHER and taken + sizes[order[-1]].needed <= limit:
        taken += sizes[order[-1]].needed
        chunk.append(order.pop())
    return chunk


def _rounds(
    runs: Sequence[LayerRun], reference: NetworkRun, clock: Clock, rng: np.random.Generator
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Run parts in turn, as layers of one network; return seconds [rounds, parts, 3], and [rounds].

    The second is the reference network's.
    """
    seconds, reference_s = [], []
    for number in range(_WARM_UPS + _ROUNDS):
        order = rng.permutation(len(runs))
        clock.mark()
        reference(clock.mark)
        for n in order:
            runs[n].forward(clock.mark)
        for n in order[::-1]:
            runs[n].backward(clock.mark)
        for n in order:
            runs[n].optimize(clock.mark)
        marks = clock.read()
        if number < _WARM_UPS:
            continue
        phases = marks[4:].reshape(3, len(runs), 2)
        spent = phases[:, :, 1] - phases[:, :, 0]
        by_part = np.empty((len(runs), 3))
        by_part[order, 0], by_part[order[::-1], 1], by_part[order, 2] = spent
        seconds.append(by_part)
        reference_s.append(marks[3])
    return np.array(seconds), np.array(reference_s)


@dataclass(frozen=True)
class _LayerBytes:
    """Bytes of a part: kept for the backward pass, of its weights, and needed to run it alone."""

    kept: int
    weights: int
    needed: int


def _layer_bytes(part: Layer, setup: MeasurementSetup) -> _LayerBytes:
    """Find out by a dry run what a part takes."""
    dry = replace(setup, device=torch.device("meta"), execution=Execution())
    run = LayerRun(part, dry)
    model, optimizer = run.step.model, run.step.optimizer
    with MemoryTracker([*model.parameters(), *model.buffers()]) as tracker:
        before = tracker.live_bytes
        run.forward(lambda: None)
        kept = tracker.live_bytes - before
        run.backward(lambda: None)
        optimizer.step()
    states = [
        value
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, torch.Tensor)
    ]
    # Parameters twice: their gradients are as large.
    tensors = [*model.parameters(), *model.parameters(), *model.buffers(), *states]
    weights = sum(tensor.nbytes for tensor in tensors)
    return _LayerBytes(kept, weights, kept + weights + run.buffer_bytes)
