"""The driver's own cost of a trial: ask, submit, collect, score, store with fsync, tell.

    python benchmarks/driver.py

The evaluator returns at once, so that what is left is the search itself. Wanted: 5 ms a trial or
less inline, 10 ms or less over Ray.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from effnas import Architecture, Search, Trial
from effnas.evaluation.backend import Backend, InlineBackend
from effnas.evaluation.evaluator import FunctionEvaluator
from effnas.evaluation.ray import RayBackend
from effnas.trials.store import RunFolder

TRIALS = 500
REPEATS = 5


def at_once(arch: Architecture) -> dict[str, float]:
    return {"accuracy": 0.5 + 0.001 * arch.layers, "step_time": 1.0}


def make_evaluator() -> FunctionEvaluator:
    return FunctionEvaluator(at_once)


def milliseconds_per_trial(make_backend: Callable[[], Backend], controller: str) -> float:
    """Return the mean milliseconds of a trial, without the start of the back end."""
    with tempfile.TemporaryDirectory() as scratch, RunFolder.open(Path(scratch) / "run") as folder:
        search = Search("v2", controller=controller, store=folder)
        backend = make_backend()
        ends: list[float] = []

        def note(trial: Trial) -> None:
            del trial
            ends.append(time.perf_counter())

        search.run(budget=TRIALS + 1, backend=backend, on_trial=note)
        backend.close()
    # The first trial waits for the worker to be warm.
    return (ends[-1] - ends[0]) / (len(ends) - 1) * 1e3


def main() -> None:
    """Print the table."""
    backends: dict[str, Callable[[], Backend]] = {
        "inline": lambda: InlineBackend(make_evaluator()),
        "ray": lambda: RayBackend(make_evaluator, cpus=2),
    }
    print(f"{'back end':10} {'controller':12} {'median ms':>10} {'min':>7} {'max':>7}   per trial, "
          f"{REPEATS} runs of {TRIALS}")  # fmt: skip
    for name, make_backend in backends.items():
        for controller in ("random", "evolution"):
            times = [milliseconds_per_trial(make_backend, controller) for _ in range(REPEATS)]
            print(
                f"{name:10} {controller:12} {statistics.median(times):10.2f} "
                f"{min(times):7.2f} {max(times):7.2f}"
            )


if __name__ == "__main__":
    main()
