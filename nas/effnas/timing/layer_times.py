"""Step times of any networks, predicted from their layers, each timed when it first occurs.

A device profile covers the networks of one space at one image size. A network that was scaled has
other channels and images, so its layers are timed here, beside the network that it was scaled from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from effnas.arch.layers import Layer, layers_of
from effnas.timing.layer_timer import measure_layers
from effnas.timing.lock import Waiting, timing
from effnas.timing.setup import MeasurementSetup

if TYPE_CHECKING:
    from effnas.arch.architecture import Architecture


#: How often each new layer is measured.
_PASSES = 2


@dataclass(frozen=True)
class SizedNetwork:
    """A network at an image size in pixels."""

    arch: Architecture
    image_size: int


class LayerTimes:
    """Predicts step times as the sum of those of the layers, over that sum for the base.

    Args:
        base: Step times are ratios to its own.
        setup: The image size is the base's, the batch size that of all networks.
        progress: As in `measure_layers`.
        waiting: As of `effnas.timing.lock.timing`.
    """

    def __init__(
        self,
        base: Architecture,
        setup: MeasurementSetup,
        *,
        progress: Callable[[str, int, int], None] = lambda what, done, total: None,
        waiting: Waiting = lambda _: None,
    ) -> None:
        self._base = SizedNetwork(base, setup.image_size)
        self._setup = setup
        self._progress = progress
        self._waiting = waiting
        self._rng = np.random.default_rng(0)
        self._ratios: dict[Layer, float] = {}
        self._base_s: list[float] = []

    @property
    def base_step_time_s(self) -> float:
        """Median seconds of the base's step; NaN before the first prediction."""
        return float(np.median(self._base_s)) if self._base_s else float("nan")

    def __call__(self, networks: Sequence[SizedNetwork]) -> list[float]:
        """Return the ratios of the networks' step times to that of the base.

        Raises:
            InfeasibleError: If the base, or a layer, does not fit the device's memory.
        """
        classes = self._setup.num_classes
        layers = [
            layers_of(network.arch, image_size=network.image_size, num_classes=classes)
            for network in (self._base, *networks)
        ]
        new = [
            layer for layer in dict.fromkeys(p for each in layers for p in each)
            if layer not in self._ratios
        ]  # fmt: skip
        if new:
            with timing(self._setup.device, self._waiting):
                found, base_s = measure_layers(
                    new,
                    self._base.arch,
                    self._setup,
                    self._rng,
                    passes=_PASSES,
                    progress=self._progress,
                )
            self._ratios |= {layer: figures.step_time for layer, figures in found.items()}
            self._base_s.append(base_s)
        base, *others = (sum(n * self._ratios[p] for p, n in each.items()) for each in layers)
        return [other / base for other in others]
