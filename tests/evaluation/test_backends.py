"""Back ends: an evaluation has the same outcome wherever it runs."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from effnas import Architecture, InfeasibleError, Measurement, SearchSpace
from effnas.errors import ConfigError, DataError, SearchFailedError
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
    found = Job(number, ARCHS[number], task, repeat, epochs)
    assert pickle.loads(pickle.dumps(found)) == found
    return found


@dataclass(frozen=True)
class Fates:
    """Does with an architecture what its place in the list says."""

    folder: Path

    def __call__(self, job: Job) -> Measurement:
        number = ARCHS.index(job.architecture)
        if number == 1:
            raise InfeasibleError("out of memory: needs 5.0 GB", metrics={"largest_batch_size": 3})
        if number == 2:
            raise ZeroDivisionError("a bug\nin two lines")
        if number == 3:
            raise ConfigError("recipe: no such optimizer")
        if number == 4:
            return FunctionEvaluator(lambda _: {"accuracy": float("nan")})(job)
        if number == 5:
            os._exit(7)
        if number in (6, 7):  # each is there until the other one is
            (self.folder / f"{number}").touch()
            wait_for(self.folder / f"{13 - number}")
        if number == 8:
            (self.folder / "begun").touch()
            wait_for(self.folder / "go")
        return replace(
            MEASUREMENT,
            metrics={"accuracy": number / 10, "process": float(os.getpid())},
            step_time_source=f"{job.task} {job.repeat} {job.until}",
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
    from effnas.evaluation.ray import RayBackend  # isort: skip  # before ray, as in a search
    import ray

    # The workers cannot import a test module: they are sent what is in it.
    ray.cloudpickle.register_pickle_by_value(  # type: ignore[no-untyped-call]
        sys.modules[__name__]
    )
    backend = RayBackend(lambda: fates, workers=2)
    yield backend
    backend.close()


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
    backend.submit(job(9, Task.TRAIN, 3, 2))
    found = backend.next_done().measurement
    assert found is not None
    assert found.step_time_source == "train 3 2"


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
    line = Fates.__call__.__code__.co_firstlineno + 5
    assert failure.startswith("ZeroDivisionError: a bug")
    assert failure.endswith(f"{Path(__file__).name}:{line})")


def test_a_mistake_of_the_user_comes_back_as_itself(backend: Backend) -> None:
    error = outcome_of(backend, 3).user_error
    assert type(error) is ConfigError
    assert str(error) == "recipe: no such optimizer"


# -- in this process


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_is_not_taken_for_a_failure(error: type[BaseException]) -> None:
    def interrupt(arch: Architecture) -> dict[str, float]:
        raise error

    with pytest.raises(error):
        run_job(FunctionEvaluator(interrupt), job(0))


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


def start_together(backend: RayBackend) -> set[float]:
    """Run two jobs that wait for each other; return their processes."""
    folder = backend.ask(lambda evaluator: evaluator.folder)  # type: ignore[attr-defined]
    for number in (6, 7):
        (folder / f"{number}").unlink(missing_ok=True)
    for number in (6, 7):
        backend.submit(job(number))
    both = [backend.next_done() for _ in range(2)]
    assert {outcome.trial for outcome in both} == {6, 7}
    return {o.measurement.metrics["process"] for o in both if o.measurement}


@pytest.mark.slow
def test_a_worker_that_dies_is_a_failure_and_is_replaced(on_ray: RayBackend) -> None:
    failure = outcome_of(on_ray, 5).failure
    assert failure is not None
    assert failure.startswith("the worker was lost")
    assert "\n" not in failure
    assert on_ray.capacity == 2
    assert len(start_together(on_ray)) == 2


@pytest.mark.slow
def test_memory_that_others_have_filled_is_no_fault_of_a_network(
    on_ray: RayBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    def ended(_: object) -> None:
        raise ray.exceptions.OutOfMemoryError("Task was killed due to the node running low")

    with monkeypatch.context() as patch:
        patch.setattr("effnas.evaluation.ray._FULL_S", 0.0)
        patch.setattr(ray, "get", ended)
        found = outcome_of(on_ray, 9)
    assert found.infeasible is None
    assert found.failure == "the memory of the machine was full, and Ray ended the worker"
    assert outcome_of(on_ray, 9).measurement is not None


@pytest.mark.slow
@pytest.mark.parametrize("how", ["stopped", "too long"])
def test_a_worker_that_hangs_is_given_up_and_replaced(
    on_ray: RayBackend, fates: Fates, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    from effnas.evaluation import ray

    monkeypatch.setattr(ray, "_STOPPED_S", 2.0)
    for name in ("go", "begun"):
        (fates.folder / name).unlink(missing_ok=True)
    if how == "stopped":
        process = outcome_of(on_ray, 9).measurement
        assert process is not None
        on_ray._idle.reverse()  # the same worker again
        on_ray.submit(job(8))
        wait_for(fates.folder / "begun")
        os.kill(int(process.metrics["process"]), signal.SIGSTOP)
    else:
        on_ray.submit(replace(job(8), limit_s=2.0))
    found = on_ray.next_done()
    assert found.trial == 8
    said = {"stopped": "stopped by another program", "too long": "was not back after 2 s"}[how]
    assert said in str(found.failure)
    assert len(start_together(on_ray)) == 2


@pytest.mark.slow
@pytest.mark.parametrize("form", ["127.0.0.1:{0}", "ray://127.0.0.1:{0}", "[::1]:{0}"])
def test_a_cluster_that_is_gone_is_said_at_once(form: str) -> None:
    from effnas.evaluation.ray import _check_answers

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        _check_answers(f"ray://127.0.0.1:{port}")
    with pytest.raises(ConfigError, match=r"RAY_ADDRESS is '.*no cluster answers there .*unset"):
        _check_answers(form.format(port))
    with pytest.raises(ConfigError, match="no cluster answers there"):
        _check_answers(form.format(10**7))
    _check_answers("auto")


@pytest.mark.slow
def test_results_come_when_they_are_there(on_ray: RayBackend, fates: Fates) -> None:
    on_ray.submit(job(8))
    on_ray.submit(job(9))
    assert on_ray.next_done().trial == 9
    (fates.folder / "go").touch()
    assert on_ray.next_done().trial == 8


@pytest.mark.slow
def test_why_an_evaluator_cannot_be_made_reaches_the_driver(on_ray: RayBackend) -> None:
    from effnas.evaluation.ray import RayBackend

    def refuse() -> Evaluator:
        raise DataError("no such images")

    backend = RayBackend(refuse, cpus=0)
    with pytest.raises(DataError, match=r"^no such images$"):
        backend.ask(lambda evaluator: 1)
    assert type(outcome_of(backend, 0).user_error) is DataError
    backend.close()
    backend = RayBackend(lambda: os._exit(1), cpus=0)
    with pytest.raises(SearchFailedError, match="the first worker failed"):
        backend.ask(lambda evaluator: 1)
    backend.close()


@pytest.mark.slow
def test_workers_that_are_added_have_their_own_evaluator_and_closing_ends_all(
    on_ray: RayBackend, tmp_path: Path
) -> None:
    from effnas.evaluation.ray import RayBackend

    def never_end(arch: Architecture) -> dict[str, float]:
        (tmp_path / "process").write_text(str(os.getpid()))
        (tmp_path / "begun").touch()
        time.sleep(2 * PATIENCE_S)
        return {}

    backend = RayBackend(lambda: FunctionEvaluator(lambda arch: {"maker": 1.0}), cpus=0)
    backend.ask(lambda evaluator: 1)
    backend.grow(lambda: FunctionEvaluator(never_end), 2)
    for number in (0, 9):
        backend.submit(job(number))
    found = backend.next_done().measurement
    assert found is not None
    assert found.metrics == {"maker": 1.0}
    wait_for(tmp_path / "begun")
    process = Path("/proc", (tmp_path / "process").read_text())
    backend.close()
    give_up = time.monotonic() + PATIENCE_S
    while process.exists() and "Z" not in (process / "stat").read_text().split()[2]:
        assert time.monotonic() < give_up
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.usefixtures("on_ray")
def test_ray_listens_on_loopback_alone_and_asks_for_a_token() -> None:
    import ray

    session = Path(ray._private.worker._global_node.get_session_dir_path()).name
    sockets = set()
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if session in (process / "cmdline").read_text(errors="replace"):
                links = (str(link.readlink()) for link in (process / "fd").iterdir())
                sockets |= {link[8:-1] for link in links if link.startswith("socket:")}
    listening = [
        row[1].partition(":")[0]
        for table in ("tcp", "tcp6")
        for row in map(str.split, Path("/proc/net", table).read_text().splitlines()[1:])
        if row[3] == "0A" and row[9] in sockets
    ]
    assert listening
    loopback = {"0100007F", "0000000000000000FFFF00000100007F", f"{0:024X}01000000"}
    assert set(listening) <= loopback
    assert os.environ["RAY_AUTH_MODE"] == "token"
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64


#: A program with a trial under way on a Ray of its own; it says which session and which worker.
WAITING = """
import os, time
from effnas import SearchSpace
from effnas.evaluation.evaluator import FunctionEvaluator, Job
from effnas.evaluation.ray import RayBackend
import ray

def slow(arch):
    time.sleep(100)
    return {"accuracy": 0.5}

backend = RayBackend(lambda: FunctionEvaluator(slow))
job = Job(0, SearchSpace.load("tiny").reference)
backend.submit(job)
worker = ray.get(next(iter(backend._busy.values()))._place)[1]
print(ray._private.worker._global_node.get_session_dir_path(), worker, flush=True)
while backend.next_done().failure:  # which is tried again
    backend.submit(job)
"""


@pytest.mark.slow
@pytest.mark.parametrize("killed", ["this program", "raylet"])
def test_what_is_left_of_a_ray_that_was_killed_ends(killed: str) -> None:
    program = subprocess.Popen(
        [sys.executable, "-c", WAITING], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert program.stdout is not None
    session, worker = program.stdout.readline().split()
    if killed == "raylet":
        for process in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                words = (process / "cmdline").read_text(errors="replace").split("\0")
                if words[0].endswith("raylet") and Path(session).name in words[1]:
                    os.kill(int(process.name), signal.SIGKILL)
    else:
        program.kill()
    errors = program.communicate(timeout=60)[1]
    assert killed != "raylet" or "Ray has no machine left" in errors
    ends = time.monotonic() + 20
    while Path(f"/proc/{worker}").exists() and time.monotonic() < ends:
        time.sleep(0.2)
    assert not Path(f"/proc/{worker}").exists()
