"""Step times of any networks, predicted from those of their layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from small_setup import SETUP

from effnas import Architecture
from effnas.arch.layers import Layer, layers_of
from effnas.timing import layer_times
from effnas.timing.layer_times import LayerTimes, SizedNetwork
from effnas.timing.profile import LayerFigures

BASE = Architecture.parse("fused_r1_k3_s2_e1_c8 mbconv_r2_k3_s2_e4_c16", stem=8, head=16)
DEEPER = replace(BASE, stages=(BASE.stages[0], replace(BASE.stages[1], r=4)))


def share_of(layer: Layer) -> float:
    """What a layer takes of the base's step: each something else, and not in sum what it takes."""
    return 0.01 * (len(layer.block) + layer.channels + layer.size)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[Layer]]:
    """Layers take what `share_of` says; the list is what was measured at a time."""
    calls: list[Sequence[Layer]] = []
    seconds = iter([0.5, 0.1, 0.3])

    def measure(
        new: Sequence[Layer], reference: Architecture, *_: Any, **__: Any
    ) -> tuple[Mapping[Layer, LayerFigures], float]:
        assert reference == BASE
        calls.append(new)
        found = {
            layer: LayerFigures(
                forward=share_of(layer) / 2,
                backward=share_of(layer) / 4,
                optimizer=share_of(layer) / 4,
                kept_bytes=1.0,
                weight_bytes=1.0,
            )
            for layer in new
        }
        return found, next(seconds)

    monkeypatch.setattr(layer_times, "measure_layers", measure)
    return calls


def expected(network: SizedNetwork) -> float:
    layers = layers_of(network.arch, image_size=network.image_size, num_classes=10)
    return sum(n * share_of(layer) for layer, n in layers.items())


def test_a_network_takes_what_its_layers_take_over_what_the_bases_take(
    measured: list[Sequence[Layer]],
) -> None:
    base, *others = networks = [
        SizedNetwork(BASE, 16),
        SizedNetwork(DEEPER, 16),
        SizedNetwork(BASE, 24),
    ]
    found = LayerTimes(BASE, SETUP)(networks)
    assert found[0] == 1
    assert found[1:] == pytest.approx([expected(other) / expected(base) for other in others])
    assert found[1] > 1


def test_a_layer_is_measured_when_it_first_occurs_and_never_again(
    measured: list[Sequence[Layer]],
) -> None:
    times = LayerTimes(BASE, SETUP)
    assert times.base_step_time_s != times.base_step_time_s  # nothing is known of it yet
    first = times([SizedNetwork(DEEPER, 16)])
    assert times.base_step_time_s == 0.5
    assert times([SizedNetwork(DEEPER, 16), SizedNetwork(BASE, 16)]) == [*first, 1]
    assert len(measured) == 1  # the base has no layer that the deeper one lacks
    times([SizedNetwork(BASE, 24)])
    times([SizedNetwork(DEEPER, 32), SizedNetwork(BASE, 24)])
    assert len(measured) == 3
    layers = [layer for call in measured for layer in call]
    assert len(set(layers)) == len(layers)
    assert times.base_step_time_s == 0.3  # the median
