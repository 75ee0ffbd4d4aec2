"""The step timer, on a clock that the tests set: ratios are right, and it stops when it should."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, repeat
from types import SimpleNamespace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effnas.timing import timer
from effnas.timing.timer import MIN_ROUNDS, median_interval, time_in_turn, warm_up

patient = settings(deadline=None)  # the machine may be busy


class FakeClock:
    """A clock that moves when a run says so; all that runs between two reads is slowed alike."""

    def __init__(self, slowness: Iterator[float] | None = None) -> None:
        self.now = 0.0
        self.slowness = slowness or repeat(1.0)
        self.factor = next(self.slowness)
        self.marks: list[float] = []
        self.ran: list[list[int]] = [[]]

    def pass_time(self, seconds: float) -> None:
        self.now += self.factor * seconds

    def mark(self) -> None:
        self.marks.append(self.now)

    def read(self) -> npt.NDArray[np.float64]:
        found = np.array(self.marks) - self.marks[0]
        self.marks = []
        self.factor = next(self.slowness)
        self.ran.append([])
        return found


class FakeRun:
    """A step whose phases take some seconds each, times what the noise says."""

    def __init__(
        self, clock: FakeClock, *phases: float, noise: Iterator[float] | None = None, name: int = 0
    ) -> None:
        self.clock, self.phases, self.name = clock, phases, name
        self.noise = noise or repeat(1.0)
        self.drawn: list[float] = []

    def __call__(self, mark: Callable[[], None]) -> None:
        self.clock.ran[-1].append(self.name)
        self.drawn.append(next(self.noise))
        for seconds in self.phases:
            self.clock.pass_time(seconds * self.drawn[-1])
            mark()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """A fake clock that tells the timer's time limit, too."""
    fake = FakeClock()
    monkeypatch.setattr(timer, "time", SimpleNamespace(perf_counter=lambda: fake.now))
    return fake


def endless(random: np.random.Generator, spread: float) -> Iterator[float]:
    while True:
        yield float(random.lognormal(0.0, spread))


# -- ratios

phases = st.tuples(*[st.integers(1, 1000)] * 3)


@pytest.mark.slow
@patient
@given(st.lists(phases, min_size=2, max_size=5), st.lists(st.integers(1, 100), min_size=1))
def test_what_slows_all_networks_of_a_round_changes_no_ratio(
    steps: list[tuple[int, int, int]], slowness: list[int]
) -> None:
    cycle = (slowness[n % len(slowness)] for n in range(10**9))
    clock = FakeClock(map(float, cycle))
    found = time_in_turn([FakeRun(clock, *step) for step in steps], clock, time_limit_s=0.0)
    assert all(timing.settled and timing.timed_steps == MIN_ROUNDS for timing in found)
    for step, timing in zip(steps, found, strict=True):
        ratio = sum(step) / sum(steps[0])
        assert (timing.step_time_low, timing.step_time, timing.step_time_high) == (ratio,) * 3
        assert timing.step_time_low_s <= timing.step_time_s <= timing.step_time_high_s
        assert min(slowness) * sum(step) <= timing.step_time_low_s
        assert timing.step_time_high_s <= max(slowness) * sum(step)


def test_networks_go_there_and_back(clock: FakeClock) -> None:
    runs = [FakeRun(clock, 1.0, 1.0, 1.0, name=name) for name in range(3)]
    time_in_turn(runs, clock, fewest_rounds=5)
    rounds = [ran for ran in clock.ran if len(ran) == 3]
    assert rounds == [[0, 1, 2], [2, 1, 0], [0, 1, 2], [2, 1, 0], [0, 1, 2]]
    others = [ran for ran in clock.ran if ran and len(ran) != 3]
    assert others == [[0]] * 3 + [[1]] * 3 + [[2]] * 3  # to warm up, one by one


# -- when it stops


@pytest.mark.parametrize("precision", [0.02, 0.1])
def test_it_stops_as_soon_as_every_ratio_is_known_well_enough(
    clock: FakeClock, precision: float
) -> None:
    rng = np.random.default_rng(0)
    runs = [FakeRun(clock, 1.0, 2.0, 0.5, noise=endless(rng, spread)) for spread in (0, 0.1, 0.02)]
    found = time_in_turn(runs, clock, precision=precision, time_limit_s=1e9)
    count = found[0].timed_steps
    drawn = np.array([run.drawn[-count:] for run in runs])

    def is_known(ratios: npt.NDArray[np.float64]) -> bool:
        middle, low, high = median_interval(ratios)
        return (high - low) / 2 <= precision * middle

    for rounds in range(MIN_ROUNDS, count + 1):
        known = all(is_known(drawn[n, :rounds] / drawn[0, :rounds]) for n in (1, 2))
        assert known == (rounds == count)
    for timing in found:
        assert timing.settled
        assert timing.timed_steps == count
        assert (timing.step_time_high - timing.step_time_low) / 2 <= precision * timing.step_time


@pytest.mark.parametrize("networks", [1, 3])
def test_what_never_settles_ends_with_the_time_limit_and_says_so(
    clock: FakeClock, networks: int
) -> None:
    runs = [
        FakeRun(clock, 1.0, 0.0, 0.0, noise=endless(np.random.default_rng(n), 2.0))
        for n in range(networks)
    ]
    limit = 100.0 * networks
    found = time_in_turn(runs, clock, precision=1e-6, time_limit_s=limit)
    assert not any(timing.settled for timing in found)
    count = found[0].timed_steps
    assert count > MIN_ROUNDS
    seconds = np.array([run.drawn[-count:] for run in runs]).sum(axis=0)
    assert seconds[:-1].sum() <= limit < seconds.sum()  # no round is started after it


# -- warming up and single steps


@pytest.mark.parametrize(
    ("seconds", "count"),
    [
        ([5, 5, 5], 3),
        ([90, 5, 5], 3),
        ([90, 5, 50], 3),
        ([90, 50, 20, 5, 5], 5),
        ([90, 50, 20, 19.9], 4),
        ([0.5**n for n in range(20)], 20),
    ],
    ids=["steady", "compiled", "disturbed", "slow", "hardly-faster", "endless"],
)
def test_warming_up_ends_when_steps_get_no_faster(seconds: Sequence[float], count: int) -> None:
    clock = FakeClock()
    run = FakeRun(clock, 1.0, 1.0, 2.0, noise=iter([*seconds, 0.0]))
    assert warm_up(run, clock) == count == len(run.drawn)


# -- the median and its interval


def rank_by_definition(count: int) -> int:
    """The largest r for which P(fewer than r of `count` fair coins show heads) <= 2.5 %."""
    # In whole numbers: ways of `count` coins, of which there are 2^count.
    below: Iterator[int] = accumulate((math.comb(count, k) for k in range(count + 1)), initial=0)
    return sum(40 * ways <= 1 << count for ways in below) - 1


def test_the_interval_is_that_of_the_sign_test() -> None:
    for count in (*range(1, 40), 100, 333):
        values = np.random.default_rng(count).permutation(np.arange(count, dtype=float))
        median, low, high = median_interval(values)
        rank = rank_by_definition(count)
        assert median == (count - 1) / 2
        assert (low, high) == (max(rank - 1, 0), count - 1 - max(rank - 1, 0))
        assert (rank == 0) == (count < 6)  # where there is none, it is the whole range


@patient
@given(
    st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=60),
    st.sampled_from([0.25, 0.5, 2.0, 1024.0]),
)
def test_the_interval_holds_the_median_and_scales(values: list[float], factor: float) -> None:
    median, low, high = median_interval(np.array(values))
    assert min(values) <= low <= median <= high <= max(values)
    assert median == pytest.approx(float(np.median(values)))
    backwards = median_interval(np.array(values[::-1]) * factor)
    assert backwards == (median * factor, low * factor, high * factor)


def test_the_interval_of_many_values_is_found() -> None:
    count = 5000  # 0.5**count is 0
    median, low, high = median_interval(np.arange(count, dtype=float))
    # The normal approximation of the binomial.
    half_width = 1.96 * math.sqrt(count) / 2
    assert median == (count - 1) / 2
    assert low == pytest.approx(median - half_width, abs=2)
    assert high == pytest.approx(median + half_width, abs=2)
