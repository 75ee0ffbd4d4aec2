"""Peak memory, predicted without running anything, and the largest batch that fits."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from effnas import Architecture, SearchSpace
from effnas.arch.models import build
from effnas.config.recipe import Recipe
from effnas.config.regularization import Ramp
from effnas.config.settings import Execution
from effnas.errors import InfeasibleError
from effnas.timing.memory import MemoryTracker, estimate_peak_memory, largest_batch_size
from effnas.timing.network_run import noise_batch
from effnas.train.step import TrainingStep

patient = settings(deadline=None)  # the machine may be busy
CPU = torch.device("cpu")
TINY = SearchSpace.load("tiny")
SMALL = Architecture.parse(["fused_r1_k3_s2_e1_c8"], stem=8, head=16)
#: The update of its large layers, one after the other, takes more than what comes before.
REPEATED = Architecture.parse(["fused_r3_k3_s2_e1_c128"], stem=8, head=16)
RECIPE = Recipe()


def network(arch: Architecture) -> nn.Module:
    return build(arch, num_classes=10, device="meta")


def estimate(arch: Architecture, batch_size: int, image_size: int = 16) -> int:
    return estimate_peak_memory(network(arch), RECIPE, image_size=image_size, batch_size=batch_size)


# -- the tracker


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_what_is_alive_is_counted_until_it_is_freed(device: str) -> None:
    there = torch.zeros(1000, device=device)
    with MemoryTracker([there, there.view(10, 100)]) as tracker:
        assert (tracker.live_bytes, tracker.peak_bytes) == (4_000, 4_000)
        doubled = there * 2
        doubled.add_(1)  # in place
        view = doubled[:10].view(5, 2)
        assert (tracker.live_bytes, tracker.peak_bytes) == (8_000, 8_000)
        del doubled
        assert tracker.live_bytes == 8_000  # the view holds it
        del view
        assert (tracker.live_bytes, tracker.peak_bytes) == (4_000, 8_000)
        three = [torch.empty(100, device=device, dtype=torch.float64) for _ in range(3)]
        assert (tracker.live_bytes, tracker.peak_bytes) == (6_400, 8_000)
        del three
    after = there * 2  # the tracker is off
    assert after.nbytes == 4_000
    assert (tracker.live_bytes, tracker.peak_bytes) == (4_000, 8_000)


@pytest.mark.parametrize(
    ("arch", "optimizer"),
    [
        (SMALL, "sgd"),
        pytest.param(TINY.reference, "rmsproptf", marks=pytest.mark.slow),
        (REPEATED, "nadamw"),
    ],
    ids=["small-sgd", "reference-rmsprop", "repeated"],
)
def test_a_dry_run_takes_what_a_real_step_takes(arch: Architecture, optimizer: str) -> None:
    recipe = Recipe(optimizer=optimizer)
    with torch.random.fork_rng([]):
        model = build(arch, num_classes=10)
        step = TrainingStep(model, recipe, Execution(), CPU)
        images, labels = noise_batch(CPU, 4, 16, 10)
        before = [*model.parameters(), *model.buffers(), images, labels]
        with MemoryTracker(before) as tracker:
            for _ in range(2):
                step(images, labels)
    estimated = estimate_peak_memory(network(arch), recipe, image_size=16, batch_size=4)
    assert tracker.peak_bytes == estimated


# -- the estimate


@pytest.mark.slow
def test_memory_grows_linearly_with_the_batch() -> None:
    arch = SMALL
    per_image = estimate(arch, 2001) - estimate(arch, 2000)
    assert per_image > 4 * 3 * 16**2
    fixed = estimate(arch, 2000) - 2000 * per_image
    weights = 4 * sum(parameter.numel() for parameter in network(arch).parameters())
    assert weights < fixed < 6 * weights
    assert estimate(arch, 10**6) == fixed + 10**6 * per_image
    assert estimate(arch, 2) >= fixed + 2 * per_image  # there the optimizer may take the most


def test_an_estimate_leaves_the_network_and_torchs_random_state_alone() -> None:
    model = build(SMALL, num_classes=10).eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.manual_seed(20)
    state = torch.get_rng_state()
    estimate_peak_memory(model, Recipe(dropout=Ramp(0.5, 0.5)), image_size=16, batch_size=4)
    assert torch.equal(torch.get_rng_state(), state)
    assert not model.training
    for name, tensor in model.state_dict().items():
        assert tensor.device == CPU
        assert torch.equal(tensor, before[name])
    assert all(parameter.grad is None for parameter in model.parameters())


def test_what_cannot_be_trained_at_a_size_is_infeasible() -> None:
    with pytest.raises(InfeasibleError, match=r"^cannot be trained: ") as caught:
        estimate(Architecture.parse(["fused_r1_k3_s2_e1_c8"] * 4, stem=8), 1, 16)
    assert "\n" not in str(caught.value)


# -- the largest batch


@patient
@given(st.integers(0, 500), st.integers(1, 500))
def test_the_largest_batch_is_that_of_trying_them_all(limit: int, below: int) -> None:
    asked: list[int] = []

    def fits(batch_size: int) -> bool:
        asked.append(batch_size)
        return batch_size <= limit

    brute = max((size for size in range(1, below) if size <= limit), default=0)
    assert largest_batch_size(fits, below=below) == brute
    assert len(asked) <= below.bit_length()
    assert all(0 < size < below for size in asked)
