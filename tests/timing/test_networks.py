"""Timing whole networks: what it gives, what it leaves alone, and what does not fit."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from torch import nn

from effnas import Architecture
from effnas.arch.models import build
from effnas.config.recipe import Recipe
from effnas.config.regularization import Ramp
from effnas.config.settings import Execution
from effnas.errors import InfeasibleError
from effnas.evaluation.evaluator import TIMING_METRICS
from effnas.timing.execution import choose_execution
from effnas.timing.memory import estimate_peak_memory
from effnas.timing.networks import MeasuredStepTimes, time_networks
from effnas.timing.setup import MeasurementSetup
from effnas.timing.timer import MIN_ROUNDS

CPU = torch.device("cpu")
SMALL = Architecture.parse(["fused_r1_k3_s2_e1_c8"], stem=8, head=16)
OTHER = Architecture.parse(["mbconv_r1_k3_s2_e4_c8"], stem=8, head=16)
SETUP = MeasurementSetup(
    device=CPU, recipe=Recipe(), execution=Execution(), batch_size=4, image_size=8, num_classes=10
)


def network(arch: Architecture = SMALL) -> nn.Module:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return build(arch, num_classes=10)


@contextmanager
def torch_random_state_kept() -> Iterator[None]:
    """What happens inside does not change torch's global random state."""
    torch.manual_seed(20)
    before = torch.get_rng_state()
    yield
    assert torch.equal(torch.get_rng_state(), before)


def peak_of(arch: Architecture, batch_size: int, image_size: int = 8) -> int:
    return estimate_peak_memory(
        network(arch), Recipe(), image_size=image_size, batch_size=batch_size
    )


# -- what a timing gives


@pytest.mark.slow
def test_a_timing_gives_every_metric_in_the_order_of_the_networks() -> None:
    archs = [SMALL, OTHER, SMALL]
    found = time_networks(
        [lambda arch=arch: network(arch) for arch in archs],  # type: ignore[misc]
        SETUP,
        time_limit_s=0.0,
    )
    for arch, metrics in zip(archs, found, strict=True):
        assert isinstance(metrics, dict)
        assert set(metrics) == {"step_time", *TIMING_METRICS}
        assert all(math.isfinite(value) for value in metrics.values())
        for unit in ("", "_s"):
            low, middle, high = (metrics[f"step_time{end}{unit}"] for end in ("_low", "", "_high"))
            assert 0 < low <= middle <= high
        assert metrics["timed_steps"] == MIN_ROUNDS
        assert metrics["peak_memory_bytes"] == peak_of(arch, 4)
    assert isinstance(found[0], dict)
    assert found[0]["step_time"] == 1


def test_a_network_that_cannot_be_built_leaves_the_others_in_their_places() -> None:
    def refuse() -> nn.Module:
        raise InfeasibleError("cannot be built: no stage has a layer")

    found = time_networks([network, refuse, network], SETUP, time_limit_s=0.0)
    assert [type(metrics) for metrics in found] == [dict, InfeasibleError, dict]
    with pytest.raises(InfeasibleError, match="no stage has a layer"):
        time_networks([refuse, network], SETUP, time_limit_s=0.0)


# -- what it leaves alone


@pytest.mark.slow
def test_a_timing_leaves_the_networks_as_they_were() -> None:
    execution = Execution(precision="bfloat16", memory_format="channels_last")
    models = [network().eval(), network(OTHER).train()]
    for model in models:
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, 0.5)
    states = [
        {name: tensor.clone() for name, tensor in model.state_dict().items()} for model in models
    ]
    strides = [[p.stride() for p in model.parameters()] for model in models]
    threads, grad = torch.get_num_threads(), torch.is_grad_enabled()
    with torch_random_state_kept():
        found = time_networks(
            [lambda: models[0], lambda: models[1]],
            replace(SETUP, execution=execution, recipe=Recipe(dropout=Ramp(0.5, 0.5))),
            time_limit_s=0.0,
        )
    assert all(isinstance(metrics, dict) for metrics in found)
    assert [model.training for model in models] == [False, True]
    assert (torch.get_num_threads(), torch.is_grad_enabled()) == (threads, grad)
    for model, state, stride in zip(models, states, strides, strict=True):
        for name, tensor in model.state_dict().items():  # weights, and batch norm's statistics
            assert torch.equal(tensor, state[name]), name
        assert [p.stride() for p in model.parameters()] == stride
        assert all(bool((p.grad == 0.5).all()) for p in model.parameters() if p.grad is not None)
        assert all(p.grad is not None for p in model.parameters())


# -- what does not fit


@pytest.mark.slow
def test_a_network_that_does_not_fit_says_the_largest_batch_that_does() -> None:
    batch_size = 8
    limit = peak_of(SMALL, batch_size)
    assert peak_of(OTHER, batch_size) > limit
    setup = replace(SETUP, batch_size=batch_size, available_bytes=limit)
    with pytest.raises(InfeasibleError, match=r"^out of memory at batch 8 and 8 px") as caught:
        MeasuredStepTimes(SMALL, setup, time_limit_s=0.0)(OTHER)
    largest = int(caught.value.metrics["largest_batch_size"])
    assert set(caught.value.metrics) == {"largest_batch_size"}
    assert peak_of(OTHER, largest) <= limit < peak_of(OTHER, largest + 1)
    assert str(caught.value).endswith(f"the largest batch that fits is {largest}")
    with pytest.raises(InfeasibleError) as caught:
        time_networks([network], replace(SETUP, available_bytes=1), time_limit_s=0.0)
    assert caught.value.metrics == {"largest_batch_size": 0.0}


# -- precision and memory format


@pytest.mark.parametrize("start", [0, 2, 4, 7])
def test_what_slows_the_machine_for_a_while_does_not_decide(
    monkeypatch: pytest.MonkeyPatch, start: int
) -> None:
    calls = iter(range(100))
    seconds = {"contiguous": 0.2, "channels_last": 0.15}

    def timed(run: Execution, clock: object) -> float:
        return seconds[run.memory_format] * (2 if start <= next(calls) < start + 4 else 1)

    monkeypatch.setattr("effnas.timing.execution.timed", timed)
    monkeypatch.setattr("effnas.timing.execution.NetworkRun", lambda model, setup: setup.execution)
    chosen, _ = choose_execution(network, SETUP, precision="float32")
    assert chosen.memory_format == "channels_last"


@pytest.mark.parametrize(("image_time_s", "images"), [(0.002, 256), (0.02, 48), (1.0, 8)])
def test_as_much_of_the_batch_is_compared_as_takes_a_second(
    monkeypatch: pytest.MonkeyPatch, image_time_s: float, images: int
) -> None:
    compared: dict[str, int] = {}

    def timed(run: MeasurementSetup, clock: object) -> float:
        """With few images contiguous is ahead, with many it is behind."""
        memory_format = run.execution.memory_format
        compared[memory_format] = run.batch_size
        few = run.batch_size < images
        return (
            image_time_s * run.batch_size * (1.2 if few == (memory_format != "contiguous") else 1)
        )

    monkeypatch.setattr("effnas.timing.execution.timed", timed)
    monkeypatch.setattr("effnas.timing.execution.NetworkRun", lambda model, setup: setup)
    setup = replace(SETUP, batch_size=256)
    chosen, _ = choose_execution(network, setup, precision="float32")
    assert chosen.memory_format == "channels_last"
    assert compared == {"contiguous": images, "channels_last": images}
