"""Simulated searches: trials end by the clock, and thousands of them take seconds."""

from __future__ import annotations

import random

import numpy as np
import pytest

from effnas import Architecture, InfeasibleError, Rungs, Search, SearchSpace, TrialState
from effnas.errors import ConfigError
from effnas.evaluation.backend import Job
from effnas.evaluation.evaluator import FunctionEvaluator
from effnas.evaluation.simulated import FittedEvaluator, SimulatedBackend, TabularEvaluator
from effnas.trials.trial import Trial

TINY = SearchSpace.load("tiny")
MNASNET = SearchSpace.load("mnasnet")
ARCHS = [TINY.sample(np.random.default_rng(n)) for n in range(40)]


def measure(arch: Architecture) -> dict[str, float]:
    return {"accuracy": 1 - 1 / (1 + arch.layers), "step_time": 0.1 + arch.layers}


def seconds(job: Job) -> float:
    return 1 + int(job.architecture.id, 16) % 50


def test_trials_end_in_the_order_of_the_clock() -> None:
    took = [5.0, 1.0, 3.0, 1.0]
    backend = SimulatedBackend(
        FunctionEvaluator(measure), capacity=4, duration_s=lambda job: took[job.trial]
    )
    for n in range(4):
        backend.submit(Job(n, ARCHS[n]))
    ends = []
    for _ in range(4):
        outcome = backend.next_done()
        ends.append((outcome.trial, outcome.duration_s, backend.now_s))
    assert ends == [(1, 1, 1), (3, 1, 1), (2, 3, 3), (0, 5, 5)]


@pytest.mark.slow
def test_workers_start_again_as_soon_as_they_are_free() -> None:
    backend = SimulatedBackend(FunctionEvaluator(measure), capacity=3, duration_s=seconds)
    trials = Search(MNASNET, "A", "random").run(budget=300, backend=backend)
    busy_s = sum(trial.duration_s or 0 for trial in trials)
    assert busy_s / 3 <= backend.now_s < busy_s / 3 + 50


@pytest.mark.slow
def test_thousands_of_trials_of_64_workers() -> None:
    backend = SimulatedBackend(FunctionEvaluator(measure), capacity=64, duration_s=seconds)
    trials = Search(MNASNET, "A - 1e-3 * S", "evolution").run(budget=3000, backend=backend)
    assert len({trial.architecture.id for trial in trials}) == 3000
    assert trials.count(TrialState.COMPLETE) == 3000


@pytest.mark.slow
def test_failures_and_what_is_infeasible_come_through() -> None:
    dice = random.Random(0)

    def unreliable(arch: Architecture) -> dict[str, float]:
        if int(arch.id, 16) % 10 == 0:
            raise InfeasibleError("out of memory")
        if dice.random() < 0.1:
            raise OSError("a lost worker")
        return measure(arch)

    backend = SimulatedBackend(FunctionEvaluator(unreliable), capacity=8)
    trials = Search(MNASNET, "A", "evolution").run(budget=500, backend=backend)
    found = {state: trials.count(state) for state in TrialState}
    assert 20 < found[TrialState.INFEASIBLE] < 90
    assert found[TrialState.FAILED] < 25  # twice in a row
    assert sum(found.values()) == 500


def test_a_table_gives_what_was_measured_and_nothing_else() -> None:
    finished = Search(TINY, "A", "random").run(measure, budget=20)
    known = {trial.architecture for trial in finished}
    too_large, unknown = [arch for arch in ARCHS if arch not in known][:2]
    evaluate = TabularEvaluator(
        [*finished, Search(TINY, "A").tell(too_large, reason="out of memory")]
    )
    for trial in finished:
        assert evaluate(trial.architecture) == trial.measurement
    for arch, reason in ((too_large, "out of memory"), (unknown, "does not have")):
        with pytest.raises(InfeasibleError, match=reason):
            evaluate(arch)


def test_a_table_of_trials_with_rungs_has_the_accuracies_of_each() -> None:
    def train(arch: Architecture, epochs: int) -> dict[str, float]:
        return {"accuracy": arch.layers / 100 + epochs / 10}

    rungs = Rungs((1, 2, 4))
    finished = Search(TINY, "A", "random", rungs=rungs).run(train, budget=12)
    complete = [trial for trial in finished if trial.state is TrialState.COMPLETE]
    evaluate = TabularEvaluator(finished)
    for trial in complete:
        for epochs in rungs.epochs:
            expected = train(trial.architecture, epochs)
            assert evaluate(trial.architecture, epochs=epochs).metrics.items() >= expected.items()
    with pytest.raises(ConfigError, match="no accuracy after 3 epochs; it has those after 1, 2, 4"):
        evaluate(complete[0].architecture, epochs=3)
    with pytest.raises(ConfigError, match="knows no rungs"):
        FittedEvaluator(TINY, finished)(ARCHS[0], epochs=1)


@pytest.mark.slow
def test_a_fit_foresees_what_trials_of_a_space_measure() -> None:
    finished = Search(MNASNET, "A", "random").run(measure, budget=60)
    evaluate = FittedEvaluator(MNASNET, finished)
    for arch in (MNASNET.sample(np.random.default_rng(n)) for n in range(30)):
        found = evaluate(arch).metrics
        assert set(found) == {"accuracy", "step_time"}
        assert found["step_time"] == pytest.approx(measure(arch)["step_time"], rel=0.1)
        assert found["accuracy"] == pytest.approx(measure(arch)["accuracy"], abs=0.01)


def test_nothing_is_fitted_to_two_trials() -> None:
    trials = [Trial(number=n, architecture=ARCHS[n]) for n in range(9)]
    with pytest.raises(ConfigError, match="too few to fit; it takes 3 or more"):
        FittedEvaluator(TINY, trials)


def test_it_needs_a_worker() -> None:
    with pytest.raises(ConfigError, match="1 or more"):
        SimulatedBackend(FunctionEvaluator(measure), capacity=0)
