"""Simulated searches: trials end by the clock, and many workers take no longer than one."""

from __future__ import annotations

import numpy as np
import pytest

from effnas import Architecture, InfeasibleError, Rungs, Search, SearchSpace, TrialState
from effnas.errors import ConfigError
from effnas.evaluation.evaluator import FunctionEvaluator, Job
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


def test_64_workers_start_again_as_soon_as_they_are_free() -> None:
    backend = SimulatedBackend(FunctionEvaluator(measure), capacity=64, duration_s=seconds)
    trials = Search(MNASNET, "A - 1e-3 * S", "evolution").run(budget=400, backend=backend)
    assert len({trial.architecture.id for trial in trials}) == 400
    assert trials.count(TrialState.COMPLETE) == 400
    busy_s = sum(trial.duration_s or 0 for trial in trials)
    assert busy_s / 64 <= backend.now_s < busy_s / 64 + 50


def test_a_table_gives_what_was_measured_and_nothing_else() -> None:
    finished = Search(TINY, "A", "random").run(measure, budget=20)
    known = {trial.architecture for trial in finished}
    too_large, unknown = [arch for arch in ARCHS if arch not in known][:2]
    evaluate = TabularEvaluator(
        [*finished, Search(TINY, "A").tell(too_large, reason="out of memory")]
    )
    for trial in finished:
        assert evaluate(Job(0, trial.architecture)) == trial.measurement
    for arch, reason in ((too_large, "out of memory"), (unknown, "does not have")):
        with pytest.raises(InfeasibleError, match=reason):
            evaluate(Job(0, arch))


def test_a_table_of_trials_with_rungs_has_the_accuracies_of_each() -> None:
    def train(arch: Architecture, epochs: int) -> dict[str, float]:
        return {"accuracy": arch.layers / 100 + epochs / 10}

    rungs = Rungs((1, 2, 4))
    finished = Search(TINY, "A", "random", rungs=rungs).run(train, budget=12)
    complete = [trial for trial in finished if trial.state is TrialState.COMPLETE]
    evaluate = TabularEvaluator(finished)
    for trial in complete:
        for epochs in rungs.at:
            expected = train(trial.architecture, epochs)
            found = evaluate(Job(0, trial.architecture, until=epochs)).metrics
            assert found.items() >= expected.items()
    with pytest.raises(ConfigError, match="no accuracy after 3 epochs; it has those after 1, 2, 4"):
        evaluate(Job(0, complete[0].architecture, until=3))
    with pytest.raises(ConfigError, match="has no rungs"):
        FittedEvaluator(TINY, finished)(Job(0, ARCHS[0], until=1))


@pytest.mark.slow
def test_a_fit_foresees_what_trials_of_a_space_measure() -> None:
    finished = Search(MNASNET, "A", "random").run(measure, budget=60)
    evaluate = FittedEvaluator(MNASNET, finished)
    for arch in (MNASNET.sample(np.random.default_rng(n)) for n in range(30)):
        found = evaluate(Job(0, arch)).metrics
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
