"""The step timer: whole training steps of several networks in turn, the reference among them.

Networks take turns, so that whatever slows the device down for a while (heat, clocks, another
process) slows all of them, and the ratio S to the reference network's step is unchanged.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from effnas.timing.clock import Clock

#: The fewest timed rounds; a 95 % interval of a median needs at least 6.
MIN_ROUNDS = 7
#: Half-width of the 95 % interval of S, a share of S, at which a timing is settled.
PRECISION = 0.02
#: The fewest and the most steps of a warm-up.
_MIN_WARM_UPS, _MAX_WARM_UPS = 3, 20
#: A step that takes less than this share of the fastest before it still belongs to the warm-up.
_CLEARLY_FASTER = 0.97
#: Above this number of values, the binomial is approximated by a normal; 0.5**1075 is 0.
_MANY = 500
#: Forward pass with the loss, backward pass, optimizer.
PHASES = 3

#: Runs one training step and calls its argument after each of the three phases.
Run = Callable[[Callable[[], None]], object]


@dataclass(frozen=True, kw_only=True)
class StepTiming:
    """Seconds of one network's training steps, and their ratio to the reference network's.

    Attributes:
        step_time: Median ratio of a step to the reference's step of the same round; S of the
            reward.
        step_time_low: Lower end of its 95 % interval.
        step_time_high: Upper end of its 95 % interval.
        step_time_s: Median seconds of a step.
        step_time_low_s: Lower end of its 95 % interval.
        step_time_high_s: Upper end of its 95 % interval.
        forward_time_s: Median seconds of the forward pass with the loss.
        backward_time_s: Median seconds of the backward pass.
        optimizer_time_s: Median seconds of the optimizer's step.
        timed_steps: Number of timed steps.
        warm_up_steps: Number of steps before them.
        settled: Whether the wanted precision was reached before the time limit.
    """

    step_time: float
    step_time_low: float
    step_time_high: float
    step_time_s: float
    step_time_low_s: float
    step_time_high_s: float
    forward_time_s: float
    backward_time_s: float
    optimizer_time_s: float
    timed_steps: int
    warm_up_steps: int
    settled: bool


def time_in_turn(
    runs: Sequence[Run],
    clock: Clock,
    *,
    precision: float = PRECISION,
    time_limit_s: float = 4.0,
    fewest_rounds: int = MIN_ROUNDS,
) -> list[StepTiming]:
    """Time training steps of several networks in turn until all ratios are known well enough.

    Args:
        runs: One callable for each network; the first is the reference.
        clock: Of the device.
        precision: Wanted half-width of each ratio's 95 % interval, a share of the ratio.
        time_limit_s: Seconds after the warm-up at which no further round is started.
        fewest_rounds: Rounds that are timed whatever they take.

    Returns:
        One timing for each of `runs`. The first one's ratio is 1.
    """
    warm_ups = [warm_up(run, clock) for run in runs]
    rounds: list[npt.NDArray[np.float64]] = []
    started = time.perf_counter()
    while True:
        # In alternating order, so that no network always runs after the same one.
        rounds.append(_round(runs, clock, backwards=len(rounds) % 2 == 1))
        if len(rounds) < fewest_rounds:
            continue
        seconds = np.array(rounds)
        settled = _is_settled(seconds, precision)
        if settled or time.perf_counter() - started > time_limit_s:
            break
    return [_timing(seconds, n, warm_ups[n], settled) for n in range(len(runs))]


def warm_up(run: Run, clock: Clock) -> int:
    """Run steps until one is not clearly faster than all before it; return their number."""
    fastest = float("inf")
    for count in range(1, _MAX_WARM_UPS + 1):
        seconds = timed(run, clock)
        if count >= _MIN_WARM_UPS and seconds > _CLEARLY_FASTER * fastest:
            return count
        fastest = min(fastest, seconds)
    return _MAX_WARM_UPS


def timed(run: Run, clock: Clock) -> float:
    """Return the seconds of one step."""
    return float(_round([run], clock).sum())


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


def _round(
    runs: Sequence[Run], clock: Clock, *, backwards: bool = False
) -> npt.NDArray[np.float64]:
    """Run each network once; return seconds [networks, phases]."""
    order = list(range(len(runs)))[:: -1 if backwards else 1]
    for n in order:
        clock.mark()
        runs[n](clock.mark)
    marks = clock.read().reshape(len(runs), PHASES + 1)
    seconds = np.empty((len(runs), PHASES))
    seconds[order] = np.diff(marks, axis=1)
    return seconds


def _is_settled(seconds: npt.NDArray[np.float64], precision: float) -> bool:
    """Return whether every ratio (or the only network's seconds) is known to `precision`."""
    steps = seconds.sum(axis=2)
    values = steps[:, 1:] / steps[:, :1] if steps.shape[1] > 1 else steps
    for column in values.T:
        middle, low, high = median_interval(column)
        if (high - low) / 2 > precision * middle:
            return False
    return True


def _timing(
    seconds: npt.NDArray[np.float64], n: int, warm_up_steps: int, settled: bool
) -> StepTiming:
    steps = seconds.sum(axis=2)
    step_s, low_s, high_s = median_interval(steps[:, n])
    ratio, low, high = median_interval(steps[:, n] / steps[:, 0])
    forward_s, backward_s, optimizer_s = np.median(seconds[:, n], axis=0)
    return StepTiming(
        step_time=ratio,
        step_time_low=low,
        step_time_high=high,
        step_time_s=step_s,
        step_time_low_s=low_s,
        step_time_high_s=high_s,
        forward_time_s=float(forward_s),
        backward_time_s=float(backward_s),
        optimizer_time_s=float(optimizer_s),
        timed_steps=len(seconds),
        warm_up_steps=warm_up_steps,
        settled=settled,
    )
