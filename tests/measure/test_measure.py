"""Measurements: intervals that keep their promise, step times that compare, memory foretold."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from effnas import Architecture, SearchSpace
from effnas.config import Execution, Recipe
from effnas.errors import ConfigError
from effnas.measure import (
    StepTiming,
    available_memory_bytes,
    choose_execution,
    describe_device,
    estimate_peak_memory,
    hardware_id,
    median_interval,
    noise_batch,
    open_device,
    time_training_step,
    timed,
)
from effnas.measure.timer import FEWEST_STEPS
from effnas.models import build
from effnas.training import TrainingStep

patient = settings(deadline=None)  # the machine may be busy
CPU = torch.device("cpu")
TINY = SearchSpace.load("tiny")
SMALL = Architecture.parse(["fused_r1_k3_s2_e1_c8"], stem=8, head=16)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Several threads would wait for each other wherever anything else runs."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@contextmanager
def torch_random_state_kept() -> Iterator[None]:
    """What happens inside does not change torch's global random state."""
    torch.manual_seed(20)
    before = torch.get_rng_state()
    yield
    assert torch.equal(torch.get_rng_state(), before)


def step_of(arch: Architecture, classes: int = 10) -> TrainingStep:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return TrainingStep(build(arch, num_classes=classes), Recipe(), Execution(), CPU)


# -- the median and its interval


def rank_by_definition(count: int) -> int:
    """The largest r for which P(fewer than r of `count` fair coins show heads) <= 2.5 %."""
    # In whole numbers: ways of `count` coins, of which there are 2^count.
    below: Iterator[int] = accumulate((math.comb(count, k) for k in range(count + 1)), initial=0)
    return sum(40 * ways <= 1 << count for ways in below) - 1


@pytest.mark.parametrize("count", [*range(1, 40), 100, 333, 1000])
def test_the_interval_is_that_of_the_sign_test(count: int) -> None:
    values = np.random.default_rng(count).permutation(np.arange(count, dtype=float))
    median, low, high = median_interval(values)
    rank = rank_by_definition(count)
    assert median == (count - 1) / 2
    assert (low, high) == (max(rank - 1, 0), count - 1 - max(rank - 1, 0))
    assert (rank == 0) == (count < 6)  # where there is none, it is the whole range


@pytest.mark.parametrize("count", [6, 7, 25])
@pytest.mark.parametrize("shape", ["exponential", "standard_cauchy"])
def test_the_interval_covers_the_true_median_as_often_as_it_should(count: int, shape: str) -> None:
    truth = {"exponential": math.log(2), "standard_cauchy": 0.0}[shape]
    draws = 2000
    samples = getattr(np.random.default_rng(count), shape)(size=(draws, count))
    covered = sum(low <= truth <= high for _, low, high in map(median_interval, samples))
    below = rank_by_definition(count)
    chance = 1 - 2 * sum(math.comb(count, k) for k in range(below)) / 2**count
    assert chance >= 0.95
    assert abs(covered - draws * chance) < 5 * math.sqrt(draws * chance * (1 - chance))


@patient
@given(
    st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=60),
    st.sampled_from([0.25, 0.5, 2.0, 1024.0]),
    st.randoms(use_true_random=False),
)
def test_the_interval_holds_the_median_and_scales(
    values: list[float], factor: float, random: object
) -> None:
    median, low, high = median_interval(np.array(values))
    assert min(values) <= low <= median <= high <= max(values)
    assert median == pytest.approx(float(np.median(values)))
    backwards = median_interval(np.array(values[::-1]) * factor)
    assert backwards == (median * factor, low * factor, high * factor)


@pytest.mark.parametrize("count", [1075, 5000])
def test_the_interval_of_many_values_is_found(count: int) -> None:
    def stop(*_: object) -> None:
        pytest.fail("the interval is never found")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        median, low, high = median_interval(np.arange(count, dtype=float))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    # The normal approximation of the binomial.
    half_width = 1.96 * math.sqrt(count) / 2
    assert median == (count - 1) / 2
    assert low == pytest.approx(median - half_width, abs=2)
    assert high == pytest.approx(median + half_width, abs=2)


# -- the step timer


def time_against_reference(arch: Architecture, time_limit_s: float) -> StepTiming:
    return time_training_step(
        step_of(arch),
        step_of(TINY.reference),
        batch_size=8,
        image_size=16,
        num_classes=10,
        time_limit_s=time_limit_s,
    )


@pytest.mark.slow
def test_the_reference_takes_as_long_as_itself() -> None:
    found = time_against_reference(TINY.reference, 0.5)
    assert 0.5 < found.step_time < 2
    assert 0 < found.step_time_low <= found.step_time <= found.step_time_high
    assert 0 < found.step_time_low_s <= found.step_time_s <= found.step_time_high_s
    assert found.steps >= FEWEST_STEPS


@pytest.mark.slow
def test_a_network_of_a_layer_is_faster_than_the_reference() -> None:
    found = time_against_reference(SMALL, 0.0)
    assert found.step_time < 1
    assert found.steps == FEWEST_STEPS  # no more than it must, once the time is up


@pytest.mark.parametrize("classes", [0, 1, 10])
def test_noise_is_always_the_same_and_of_the_size_asked_for(classes: int) -> None:
    with torch_random_state_kept():
        images, labels = noise_batch(CPU, 6, 16, classes)
    torch.manual_seed(1)
    again = noise_batch(CPU, 6, 16, classes)
    assert images.shape == (6, 3, 16, 16)
    assert labels.shape == (6,)
    assert 0 <= int(labels.min()) <= int(labels.max()) < max(classes, 1)
    assert torch.equal(images, again[0])
    assert torch.equal(labels, again[1])


@pytest.mark.slow
def test_timing_leaves_torchs_random_state_alone() -> None:
    mine, reference = step_of(SMALL), step_of(TINY.reference)
    with torch_random_state_kept():
        time_training_step(
            mine, reference, batch_size=4, image_size=16, num_classes=10, time_limit_s=0.0
        )


@pytest.mark.slow
def test_a_timed_step_is_a_whole_training_step() -> None:
    step = step_of(SMALL)
    before = [p.detach().clone() for p in step.model.parameters()]
    assert timed(step, *noise_batch(CPU, 4, 16, 10)) > 0
    after = list(step.model.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.slow
def test_the_fastest_way_of_running_is_chosen() -> None:
    chosen, seconds = choose_execution(
        lambda: build(TINY.reference, num_classes=10),
        Recipe(),
        CPU,
        batch_size=8,
        image_size=16,
        num_classes=10,
    )
    assert {(way.precision, way.memory_format) for way in seconds} == {
        (precision, memory_format)
        for precision in ("float32", "bfloat16")
        for memory_format in ("contiguous", "channels_last")
    }
    assert min(seconds.values()) == seconds[chosen] > 0


# -- memory


def estimate(arch: Architecture, batch_size: int, image_size: int = 16) -> int:
    return estimate_peak_memory(arch, image_size=image_size, batch_size=batch_size, num_classes=10)


@pytest.mark.slow
@pytest.mark.parametrize("arch", [SMALL, TINY.reference], ids=["small", "reference"])
def test_memory_grows_linearly_with_the_batch(arch: Architecture) -> None:
    weights = 16 * sum(p.numel() for p in build(arch, num_classes=10).parameters())
    per_image = (estimate(arch, 1000) - weights) / 1000
    assert per_image > 0
    for batch_size in (1, 2, 7, 64, 10**6):
        assert estimate(arch, batch_size) == pytest.approx(
            weights + batch_size * per_image, rel=1e-3
        )


@pytest.mark.slow
def test_memory_grows_with_the_area_of_the_images() -> None:
    small, large = (estimate(TINY.reference, 1000, size) for size in (32, 64))
    assert 3.5 < large / small < 4.01


@pytest.mark.slow
def test_larger_networks_need_more_memory() -> None:
    text = "{0}_r{1}_k3_s2_e{2}_c16"
    sizes = [("mbconv", 1, 1), ("mbconv", 1, 4), ("mbconv", 3, 4), ("mbconv", 3, 6)]
    archs = [Architecture.parse([text.format(*size)], stem=8, head=16) for size in sizes]
    found = [estimate(arch, 64) for arch in archs]
    assert found == sorted(set(found))


@pytest.mark.slow
def test_an_estimate_leaves_torchs_random_state_alone() -> None:
    with torch_random_state_kept():
        estimate(SMALL, 4)


GROWTH = """
import json, resource, sys
import torch
from effnas import SearchSpace
from effnas.config import Execution, Recipe
from effnas.measure import noise_batch
from effnas.models import build
from effnas.training import TrainingStep

def train(arch, batch_size, image_size):
    step = TrainingStep(build(arch, num_classes=1000), Recipe(), Execution(), torch.device("cpu"))
    batch = noise_batch(torch.device("cpu"), batch_size, image_size, 1000)
    for _ in range(2):
        step(*batch)

torch.set_num_threads(1)
train(SearchSpace.load("tiny").reference, 2, 16)  # all code is loaded
with open("/proc/self/statm") as file:
    before = int(file.read().split()[1]) * resource.getpagesize()
train(SearchSpace.load(sys.argv[1]).reference, 32, 96)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("space", ["mnasnet", "v2-b0"])
def test_the_estimate_is_near_what_a_step_takes(space: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", GROWTH, space], capture_output=True, text=True, check=True
    )
    estimated = estimate_peak_memory(
        SearchSpace.load(space).reference, image_size=96, batch_size=32, num_classes=1000
    )
    assert estimated == pytest.approx(int(done.stdout), rel=0.3)


# -- devices


@pytest.mark.parametrize("name", ["tpu", "", "gpu", "meta", "xpu", "cuda:99", "cuda:-1", "cpu:x"])
def test_a_device_that_is_not_here_is_told_in_a_line(name: str) -> None:
    with pytest.raises(ConfigError, match="device") as caught:
        open_device(name)
    assert "cpu" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_cpu_is_always_here() -> None:
    assert open_device("cpu") == CPU


def test_the_facts_of_a_device_are_plain_and_tell_its_threads() -> None:
    facts = describe_device(CPU)
    assert json.loads(json.dumps(facts)) == facts
    assert facts["device"] == "cpu"
    assert facts["threads"] == torch.get_num_threads()
    assert facts["name"]
    assert hardware_id(facts) == hardware_id(describe_device(CPU))
    assert hardware_id(facts) != hardware_id({**facts, "threads": 77})
    assert torch.__version__ in hardware_id(facts)
    assert "\n" not in hardware_id(facts)


def test_available_memory_is_a_part_of_what_there_is() -> None:
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < available_memory_bytes(CPU) <= total
