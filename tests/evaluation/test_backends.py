"""Back ends: wherever an evaluation runs, the same comes of it."""

from __future__ import annotations

import os
import pickle
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from effnas import Architecture, InfeasibleError, Measurement, Search, SearchSpace, TrialState
from effnas.errors import ConfigError, DataError, SearchFailedError, UserError
from effnas.evaluation.backend import Backend, InlineBackend, Job, Outcome, run_job
from effnas.evaluation.evaluator import Evaluator, FunctionEvaluator, Task

if TYPE_CHECKING:
    from effnas.evaluation.ray import RayBackend

TINY = SearchSpace.load("tiny")
RNG = np.random.default_rng(0)
ARCHS = [TINY.sample(RNG) for _ in range(12)]
MEASUREMENT = Measurement(
    metrics={"accuracy": 0.5}, fidelity="4 epochs", seed=2**47 + 1, hardware="a CPU, 2 threads"
)
#: Longer than anything here takes: what waits for so long has failed.
PATIENCE_S = 60.0


def job(number: int, task: Task = Task.EVALUATE, repeat: int = 0, epochs: int | None = None) -> Job:
    return Job(number, ARCHS[number], task, repeat, epochs)


@dataclass(frozen=True)
class Fates:
    """Does with an architecture what its place in the list says."""

    folder: Path

    def __call__(
        self,
        arch: Architecture,
        task: Task = Task.EVALUATE,
        repeat: int = 0,
        epochs: int | None = None,
    ) -> Measurement:
        number = ARCHS.index(arch)
        if number == 1:
            raise InfeasibleError("out of memory: needs 5.0 GB", metrics={"largest_batch_size": 3})
        if number == 2:
            raise ZeroDivisionError("a bug\nin two lines")
        if number == 3:
            raise ConfigError("recipe: no such optimizer")
        if number == 4:
            return FunctionEvaluator(lambda _: {"accuracy": float("nan")})(arch)
        if number == 5:
            os._exit(7)
        if number in (6, 7):  # each is there until the other one is
            (self.folder / f"{number}").touch()
            wait_for(self.folder / f"{13 - number}")
        if number == 8:
            wait_for(self.folder / "go")
        return replace(
            MEASUREMENT,
            metrics={"accuracy": number / 10, "process": float(os.getpid())},
            step_time_source=f"{task} {repeat} {epochs}",
        )


def wait_for(path: Path) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while not path.exists():
        if time.monotonic() > give_up:
            raise TimeoutError(f"{path.name} never came")
        time.sleep(0.01)


@pytest.fixture(scope="module")
def fates(tmp_path_factory: pytest.TempPathFactory) -> Fates:
    return Fates(tmp_path_factory.mktemp("fates"))


@pytest.fixture(scope="module")
def on_ray(fates: Fates) -> Iterator[RayBackend]:
    """Two workers of a real Ray."""
    import ray

    from effnas.evaluation.ray import RayBackend

    # The workers cannot import a test module: they are sent what is in it.
    ray.cloudpickle.register_pickle_by_value(  # type: ignore[no-untyped-call]
        sys.modules[__name__]
    )
    backend = RayBackend(lambda: fates, workers=2)
    yield backend
    backend.close()
    ray.shutdown()


@pytest.fixture(params=["inline", pytest.param("ray", marks=pytest.mark.slow)])
def backend(request: pytest.FixtureRequest, fates: Fates) -> Backend:
    if request.param == "inline":
        return InlineBackend(fates)
    return request.getfixturevalue("on_ray")  # type: ignore[no-any-return]


def outcome_of(backend: Backend, number: int) -> Outcome:
    backend.submit(job(number))
    outcome = backend.next_done()
    said = [outcome.infeasible, outcome.failure, outcome.user_error]
    assert sum(what is not None for what in said) <= 1
    is_measured = not any(said) or outcome.infeasible is not None
    assert (outcome.measurement is not None) == is_measured
    assert outcome.trial == number
    assert outcome.duration_s >= 0
    return outcome


# -- the same everywhere


def test_a_measurement_comes_back_whole(backend: Backend) -> None:
    found = outcome_of(backend, 0).measurement
    assert found is not None
    process = found.metrics["process"]
    assert found == replace(
        MEASUREMENT,
        metrics={"accuracy": 0.0, "process": process},
        step_time_source="evaluate 0 None",
    )
    assert (process == os.getpid()) == isinstance(backend, InlineBackend)


@pytest.mark.parametrize("task", list(Task))
def test_task_repeat_and_epochs_reach_the_evaluator(backend: Backend, task: Task) -> None:
    backend.submit(job(9, task, 3, 2))
    found = backend.next_done().measurement
    assert found is not None
    assert found.step_time_source == f"{task} 3 2"


def test_an_infeasible_architecture_is_no_failure_and_keeps_what_is_known(backend: Backend) -> None:
    found = outcome_of(backend, 1)
    assert found.infeasible == "out of memory: needs 5.0 GB"
    assert found.measurement == Measurement(metrics={"largest_batch_size": 3.0})
    found = outcome_of(backend, 4)
    assert found.infeasible == "accuracy is nan"
    assert found.measurement == Measurement(metrics={})


def test_a_bug_is_a_failure_with_its_place(backend: Backend) -> None:
    failure = outcome_of(backend, 2).failure
    assert failure is not None
    line = Fates.__call__.__code__.co_firstlineno + 11
    assert failure.startswith("ZeroDivisionError: a bug")
    assert failure.endswith(f"{Path(__file__).name}:{line})")


def test_a_mistake_of_the_user_comes_back_as_itself(backend: Backend) -> None:
    error = outcome_of(backend, 3).user_error
    assert type(error) is ConfigError
    assert str(error) == "recipe: no such optimizer"


def test_a_search_finds_the_same_on_every_back_end(backend: Backend) -> None:
    fixed = MeasureById()
    expected = Search("tiny", "A").run(fixed, budget=6)
    if isinstance(backend, InlineBackend):
        backend = InlineBackend(FunctionEvaluator(fixed))
        found = Search("tiny", "A").run(budget=6, backend=backend)
    else:
        from effnas.evaluation.ray import RayBackend

        one = RayBackend(lambda: FunctionEvaluator(fixed), workers=1, cpus=0)
        try:
            found = Search("tiny", "A").run(budget=6, backend=one)
        finally:
            one.close()
    assert [(t.architecture, t.reward) for t in found] == [
        (t.architecture, t.reward) for t in expected
    ]


class MeasureById:
    def __call__(self, arch: Architecture) -> dict[str, float]:
        return {"accuracy": int(arch.id, 16) % 1000 / 1000}


# -- inline


@pytest.mark.parametrize("task", list(Task))
def test_a_job_is_its_architecture_again_and_plain_data(task: Task) -> None:
    for number, arch in enumerate(ARCHS):
        found = job(number, task, 2)
        assert found.architecture == arch
        assert (found.trial, found.task, found.repeat) == (number, task, 2)
        assert pickle.loads(pickle.dumps(found)) == found
        assert Job(number, arch) == job(number)


def test_a_search_stores_what_is_known_of_an_infeasible_architecture() -> None:
    def refuse(arch: Architecture) -> dict[str, float]:
        raise InfeasibleError("out of memory", metrics={"largest_batch_size": 12})

    (trial,) = Search("tiny", "A").run(refuse, budget=1)
    assert (trial.state, trial.reason) == (TrialState.INFEASIBLE, "out of memory")
    assert dict(trial.metrics) == {"largest_batch_size": 12}


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_is_not_taken_for_a_failure(error: type[BaseException]) -> None:
    def interrupt(arch: Architecture) -> dict[str, float]:
        raise error

    with pytest.raises(error):
        run_job(FunctionEvaluator(interrupt), job(0))


def test_inline_runs_jobs_in_their_order_and_forgets_them_when_closed(fates: Fates) -> None:
    backend = InlineBackend(fates)
    for number in (9, 0, 10):
        backend.submit(job(number))
    assert [backend.next_done().trial for _ in range(2)] == [9, 0]
    backend.close()
    with pytest.raises(IndexError):
        backend.next_done()


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (None, "AttributeError"),
        ({"accuracy": "good"}, "ValueError"),
        ({"accuracy": None}, "TypeError"),
        ([0.5], "AttributeError"),
    ],
)
def test_a_function_that_returns_no_metrics_has_failed(returned: object, said: str) -> None:
    evaluator = FunctionEvaluator(lambda arch: returned)  # type: ignore[arg-type, return-value]
    failure = run_job(evaluator, job(0)).failure
    assert failure is not None
    assert failure.startswith(said)


# -- Ray


@pytest.mark.slow
def test_several_workers_run_at_once(on_ray: RayBackend) -> None:
    both = start_together(on_ray)
    assert {outcome.trial for outcome in both} == {6, 7}
    assert len({o.measurement.metrics["process"] for o in both if o.measurement}) == 2


def start_together(backend: RayBackend) -> list[Outcome]:
    """Run two jobs that wait for each other."""
    folder = backend.ask(lambda evaluator: evaluator.folder)  # type: ignore[attr-defined]
    for number in (6, 7):
        (folder / f"{number}").unlink(missing_ok=True)
    for number in (6, 7):
        backend.submit(job(number))
    return [backend.next_done() for _ in range(2)]


@pytest.mark.slow
def test_results_come_when_they_are_there(on_ray: RayBackend, fates: Fates) -> None:
    on_ray.submit(job(8))
    on_ray.submit(job(9))
    assert on_ray.next_done().trial == 9
    on_ray.submit(job(10))
    assert on_ray.next_done().trial == 10
    (fates.folder / "go").touch()
    assert on_ray.next_done().trial == 8


@pytest.mark.slow
def test_a_worker_that_dies_is_a_failure_and_is_replaced(on_ray: RayBackend) -> None:
    for _ in range(2):
        failure = outcome_of(on_ray, 5).failure
        assert failure is not None
        assert failure.startswith("the worker was lost")
        assert "\n" not in failure
    assert on_ray.capacity == 2
    assert all(outcome.measurement for outcome in start_together(on_ray))


def fail_with(error: Exception) -> Callable[[], Evaluator]:
    def make() -> Evaluator:
        raise error

    return make


@pytest.fixture
def make_backend(on_ray: RayBackend) -> Iterator[Callable[[Callable[[], Evaluator]], RayBackend]]:
    """Makes back ends of one worker beside the others, and closes them."""
    from effnas.evaluation.ray import RayBackend

    made: list[RayBackend] = []

    def make(make_evaluator: Callable[[], Evaluator]) -> RayBackend:
        made.append(RayBackend(make_evaluator, workers=1, cpus=0))
        return made[-1]

    yield make
    for backend in made:
        backend.close()


@pytest.mark.slow
@pytest.mark.parametrize("error", [ConfigError("no such device"), DataError("no such images")])
def test_a_mistake_met_while_the_evaluator_is_made_comes_back_as_itself(
    make_backend: Callable[[Callable[[], Evaluator]], RayBackend], error: UserError
) -> None:
    backend = make_backend(fail_with(error))
    with pytest.raises(type(error), match=f"^{error}$"):
        backend.ask(lambda evaluator: 1)
    found = outcome_of(backend, 0).user_error
    assert type(found) is type(error)
    assert str(found) == str(error)


@pytest.mark.slow
def test_the_loss_of_the_first_worker_is_told(
    make_backend: Callable[[Callable[[], Evaluator]], RayBackend],
) -> None:
    backend = make_backend(lambda: os._exit(1))
    with pytest.raises(SearchFailedError, match="the first worker failed"):
        backend.ask(lambda evaluator: 1)


@pytest.mark.slow
def test_workers_that_are_added_use_the_evaluator_of_their_own(
    make_backend: Callable[[Callable[[], Evaluator]], RayBackend],
) -> None:
    backend = make_backend(lambda: FunctionEvaluator(lambda arch: {"maker": 1.0}))
    backend.ask(lambda evaluator: 1)
    backend.grow(lambda: FunctionEvaluator(lambda arch: {"maker": 2.0}), 3)
    assert backend.capacity == 3
    for number in (0, 9, 10):
        backend.submit(job(number))
    found = [backend.next_done().measurement for _ in range(3)]
    assert sorted(m.metrics["maker"] for m in found if m) == [1.0, 2.0, 2.0]


@pytest.mark.slow
def test_closing_ends_the_workers_whatever_they_do(
    make_backend: Callable[[Callable[[], Evaluator]], RayBackend], tmp_path: Path
) -> None:
    def never_end(arch: Architecture) -> dict[str, float]:
        (tmp_path / "process").write_text(str(os.getpid()))
        (tmp_path / "begun").touch()
        time.sleep(2 * PATIENCE_S)
        return {}

    backend = make_backend(lambda: FunctionEvaluator(never_end))
    backend.submit(job(0))
    wait_for(tmp_path / "begun")
    process = Path("/proc", (tmp_path / "process").read_text())
    assert process.exists()
    backend.close()
    give_up = time.monotonic() + PATIENCE_S
    while process.exists() and "Z" not in (process / "stat").read_text().split()[2]:
        assert time.monotonic() < give_up
        time.sleep(0.05)
