"""Timing single layers of networks, in turn and beside a reference network."""

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

#: Layers that take turns, as the layers of one network would.
_TOGETHER = 16
#: Timed rounds of a layer each time, and rounds before them that are not.
_ROUNDS, _WARM_UPS = 4, 2


def measure_layers(
    layers: Sequence[Layer],
    reference: Architecture,
    setup: MeasurementSetup,
    rng: np.random.Generator,
    *,
    passes: int,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> tuple[dict[Layer, LayerFigures], float]:
    """Measure layers beside a reference network; return their figures and its seconds.

    The caller holds the device's lock.

    Args:
        layers: What to measure.
        reference: Times are ratios to its step's, at the image size of the setup.
        setup: Device, sizes and execution.
        rng: Draws which layers take turns with each other.
        passes: How often each layer is measured, each time among others, so that minutes in which
            the device is slow affect all of them alike.
        progress: Receives what is being done, how much of it is done, and how much there is.

    Raises:
        InfeasibleError: If the reference takes more than half of the free memory, or a layer does
            not fit.
    """
    clock = clock_of(setup.device)
    ratios: dict[Layer, list[npt.NDArray[np.float64]]] = {layer: [] for layer in layers}
    references: list[npt.NDArray[np.float64]] = []
    with fixed_random_state(setup.device):
        free = setup.available_bytes
        roomy = replace(setup, available_bytes=None if free is None else free // 2)
        run, limit = first_steps(build(reference, num_classes=setup.num_classes), roomy)
        warm_up(run, clock)
        sizes = {layer: _layer_bytes(layer, setup) for layer in layers}
        for layer, size in sizes.items():
            if free is not None and size.needed > free - limit:
                raise InfeasibleError(
                    f"out of memory at batch {setup.batch_size}: {layer} needs "
                    f"{size.needed / 1e9:.1f} GB, {(free - limit) / 1e9:.1f} GB are free"
                )
        for number in range(passes):
            order = [layers[n] for n in rng.permutation(len(layers))]
            while order:
                done = number * len(layers) + len(layers) - len(order)
                progress("timings of layers", done, passes * len(layers))
                together = _take(order, sizes, limit)
                runs = [LayerRun(layer, setup) for layer in together]
                seconds, reference_s = _rounds(runs, run, clock, rng)
                references.append(reference_s)
                for n, layer in enumerate(together):
                    ratios[layer].append(seconds[:, n] / reference_s[:, None])
    found = {}
    for layer in layers:
        forward, backward, optimizer = np.median(np.concatenate(ratios[layer]), axis=0)
        found[layer] = LayerFigures(
            forward=float(forward),
            backward=float(backward),
            optimizer=float(optimizer),
            kept_bytes=float(sizes[layer].kept),
            weight_bytes=float(sizes[layer].weights),
        )
    return found, float(np.median(np.concatenate(references)))


def _take(order: list[Layer], sizes: Mapping[Layer, _LayerBytes], limit: int) -> list[Layer]:
    """Take the next layers off `order`; together they need no more than `limit` bytes."""
    taken = [order.pop()]
    needed = sizes[taken[0]].needed
    while order and len(taken) < _TOGETHER and needed + sizes[order[-1]].needed <= limit:
        needed += sizes[order[-1]].needed
        taken.append(order.pop())
    return taken


def _rounds(
    runs: Sequence[LayerRun], reference: NetworkRun, clock: Clock, rng: np.random.Generator
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Run layers in turn, as those of one network would run.

    Returns seconds of the layers [rounds, layers, 3], and of the reference network [rounds].
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
        by_layer = np.empty((len(runs), 3))
        by_layer[order, 0], by_layer[order[::-1], 1], by_layer[order, 2] = spent
        seconds.append(by_layer)
        reference_s.append(marks[3])
    return np.array(seconds), np.array(reference_s)


@dataclass(frozen=True)
class _LayerBytes:
    """Bytes of a layer: kept for its backward pass, of its weights, and needed to run it alone."""

    kept: int
    weights: int
    needed: int


def _layer_bytes(layer: Layer, setup: MeasurementSetup) -> _LayerBytes:
    """Return the bytes of a layer, by a dry run."""
    dry = replace(setup, device=torch.device("meta"), execution=Execution())
    run = LayerRun(layer, dry)
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
