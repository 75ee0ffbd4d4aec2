"""The work loop: every job once, failures again, and mistakes of the user at once."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from effnas import Architecture, InfeasibleError, Measurement, SearchSpace
from effnas.config.recipe import Recipe
from effnas.errors import ConfigError, SearchFailedError
from effnas.evaluation.backend import InlineBackend, Outcome, Worker
from effnas.evaluation.evaluator import FunctionEvaluator, Job
from effnas.evaluation.simulated import SimulatedBackend
from effnas.evaluation.work import drain

TINY = SearchSpace.load("tiny")
ARCHS = [TINY.sample(np.random.default_rng(n)) for n in range(6)]
JOBS = [Job(number, arch) for number, arch in enumerate(ARCHS)]


class Fails:
    """Fails with an error a number of times at each of some architectures."""

    def __init__(self, error: Exception, times: int, *numbers: int) -> None:
        self.error, self.times = error, times
        self.archs = {ARCHS[n] for n in numbers}
        self.calls: Counter[Architecture] = Counter()

    def __call__(self, arch: Architecture) -> dict[str, float]:
        self.calls[arch] += 1
        if arch in self.archs and self.calls[arch] <= self.times:
            raise self.error
        return {"accuracy": 0.5}


def outcomes(fails: Fails, capacity: int = 2) -> list[Outcome]:
    jobs, found = iter(JOBS), list[Outcome]()
    backend = SimulatedBackend(FunctionEvaluator(fails), capacity=capacity)
    drain(backend, lambda: next(jobs, None), found.append)
    return found


def test_a_job_that_fails_runs_once_more_and_every_other_one_once() -> None:
    fails = Fails(ZeroDivisionError("a bug"), 1, 1, 4)
    assert sorted(outcome.trial for outcome in outcomes(fails)) == list(range(6))
    assert [fails.calls[arch] for arch in ARCHS] == [1, 2, 1, 1, 2, 1]


def test_what_is_infeasible_is_an_outcome_and_what_fails_twice_an_error() -> None:
    fails = Fails(InfeasibleError("out of memory"), 9, 3)
    assert [o.infeasible for o in sorted(outcomes(fails), key=lambda o: o.trial)] == [
        *[None] * 3, "out of memory", None, None,
    ]  # fmt: skip
    with pytest.raises(SearchFailedError, match=r"failed 2 times, the last with: Zero.*: a bug"):
        outcomes(Fails(ZeroDivisionError("a bug"), 2, 3), capacity=1)


def test_a_mistake_of_the_user_ends_the_work() -> None:
    fails = Fails(ConfigError("no such optimizer"), 9, 1)
    with pytest.raises(ConfigError, match=r"^no such optimizer$"):
        outcomes(fails, capacity=1)
    assert fails.calls.total() == 2


def test_a_worker_makes_an_evaluator_for_each_recipe_it_comes_to() -> None:
    made: list[int | None] = []

    def make(recipe: Recipe | None = None) -> FunctionEvaluator:
        made.append(recipe and recipe.last_image_size)
        if recipe and recipe.last_image_size == 7:
            raise ConfigError("`image_size` is 7")
        return FunctionEvaluator(lambda arch: {"size": made[-1] or 0})

    backend = InlineBackend(Worker(make))
    sizes: list[float] = []
    for size in (None, None, 16, 16, 24, 7, 24):
        recipe = None if size is None else Recipe(image_size=(size, size))
        backend.submit(replace(JOBS[0], recipe=recipe))
        outcome = backend.next_done()
        found = outcome.measurement or Measurement(metrics={"size": -1})
        assert (outcome.user_error is None) == (size != 7)
        sizes.append(found.metrics["size"])
    assert made == [None, 16, 24, 7, 24]
    assert sizes == [0, 0, 16, 16, 24, -1, 24]
