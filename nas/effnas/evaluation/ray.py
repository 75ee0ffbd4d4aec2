"""The back end of Ray workers: warm actors, one per accelerator, that load the data once."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

if "ray" not in sys.modules and not os.environ.get("RAY_ADDRESS"):
    # Nobody else may hand work to these workers. Ray reads it when it is imported: later it would
    # ask for a token that it does not give. One of its own making would stay in the home folder.
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    if "RAY_AUTH_TOKEN_PATH" not in os.environ:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    # Whatever its name says, it decides on every system whether Ray listens on loopback alone.
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")

import ray
from ray.exceptions import OutOfMemoryError, RayActorError, RayError

from effnas.errors import ConfigError, SearchFailedError, UserError
from effnas.evaluation.backend import MakeEvaluator, Outcome, Worker
from effnas.evaluation.evaluator import Evaluator, Job

if TYPE_CHECKING:
    from ray.actor import ActorHandle

    from effnas.config.recipe import Recipe

T = TypeVar("T")

#: Seconds in which a cluster answers.
_ANSWER_S = 10.0
#: Seconds for which a worker may be stopped, as by Ctrl-Z, before it is given up.
_STOPPED_S = 20.0
#: Seconds that another program is given to leave memory that it has filled.
_FULL_S = 10.0
#: Seconds in which a worker begins with a job: it may have to be started first, on a busy machine.
_BEGINS_S = 300.0
#: Seconds after which it is looked again whether there are machines.
_CHECKED_S = 5.0
#: Of the store in which Ray passes large objects; the least that Ray takes, since ours are small.
_OBJECT_STORE_BYTES = 80 * 1024 * 1024


def _init_ray(**settings: Any) -> None:
    """Start Ray, and once more where its node did not start in time: the machine may be busy."""
    try:
        ray.init(**settings)
    except Exception as error:
        if "timed out during startup" not in str(error):
            raise
        ray.shutdown()
        ray.init(**settings)


def _check_answers(address: str) -> None:
    """Find out at once that no cluster is where RAY_ADDRESS says: Ray itself tries for minutes.

    Raises:
        ConfigError: If nothing answers.
    """
    host, _, port = address.partition("://")[2 if "://" in address else 0].rpartition(":")
    if not host or not port.isdecimal():
        return  # "auto", and what Ray may know
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_S):
            pass
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"RAY_ADDRESS is {address!r}, and no cluster answers there ({reason.lower()}): start "
            "it, or unset RAY_ADDRESS to use this machine"
        ) from error


def start_ray() -> tuple[int, int]:
    """Start Ray on this machine, or join the cluster that RAY_ADDRESS names.

    Returns:
        The numbers of its CPUs and of its GPUs.

    Raises:
        ConfigError: If no cluster is where RAY_ADDRESS says.
        SearchFailedError: If Ray does not start.
    """
    address = os.environ.get("RAY_ADDRESS", "").strip()
    if not ray.is_initialized():
        # Workers without a GPU of Ray's may still have to use a certain one.
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        local: dict[str, Any] = {}
        if address and address != "local":
            _check_answers(address)
        else:
            local = {
                "address": "local",
                "num_cpus": len(os.sched_getaffinity(0)),
                "include_dashboard": False,
                "object_store_memory": _OBJECT_STORE_BYTES,
                "_system_config": {
                    # Ray's workers give way to all other programs, which step times would show.
                    "worker_niceness": 0,
                    # Without its server this process ends, with a message; Ray waits for a minute.
                    "gcs_rpc_server_reconnect_timeout_s": 30,
                },
            }
        on_sigterm = signal.getsignal(signal.SIGTERM)
        try:
            _init_ray(**quiet, **local)
        except Exception as error:  # when a node starts too slowly, Ray raises no other kind
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise SearchFailedError(
                f"Ray does not start ({reason}); what works without it: `backend` inline for a "
                "search, and trainings with one worker"
            ) from error
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_sigterm)  # Ray puts its own crash handler there
    total = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return int(total.get("CPU", 1)), int(total.get("GPU", 0))


def _here() -> str:
    """Return what is the same for two processes that see each other's numbers: boot and container.

    Empty where the system does not say.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8")
        return f"{boot.strip()} {os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115 - no path
    except OSError:
        return ""


def _end_with(parent: int) -> None:
    """End this process when the one that started it has ended: nobody waits for its trial then."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os.kill(os.getpid(), signal.SIGKILL)


class _RayWorker(Worker):
    """A worker that says where it is, and ends with Ray's process there."""

    def __init__(self, make_evaluator: MakeEvaluator) -> None:
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
        super().__init__(make_evaluator)

    def place(self) -> tuple[str, int]:
        """Return where its process is, and its number there."""
        return _here(), os.getpid()


class _Running:
    """A job under way, and the signs that it will never end."""

    def __init__(
        self, actor: ActorHandle[Any], job: Job, place: ray.ObjectRef[tuple[str, int]]
    ) -> None:
        self.actor, self.job = actor, job
        self._place = place
        self._process: int | None = None
        self._asked_s = self._last_seen_s = time.monotonic()
        self._worked_s = 0.0

    @property
    def has_begun(self) -> bool:
        """Whether its worker has said where it is, as far as it was asked by now."""
        return self._process is not None

    def hangs(self) -> str:
        """Return why its worker is to be given up; nothing if it is not."""
        now_s, limit_s = time.monotonic(), self.job.limit_s
        # What was long ago was a stop of this process itself; to wait for a device is no work.
        passed_s, self._asked_s = now_s - self._asked_s, now_s
        if passed_s > _STOPPED_S:
            self._last_seen_s = now_s
        elif not self._waits_for_lock():
            self._worked_s += passed_s
        if limit_s is not None and self._worked_s > limit_s:
            return (
                f"the worker was not back after {limit_s:,.0f} s and was given up; a longer "
                "`trial_timeout` waits"
            )
        if self._process is None and self._worked_s > _BEGINS_S:
            return f"the worker did not begin within {_BEGINS_S:,.0f} s"
        if not self._is_stopped():
            self._last_seen_s = now_s
        if now_s - self._last_seen_s > _STOPPED_S:
            return f"the worker, process {self._process}, was stopped by another program"
        return ""

    def _waits_for_lock(self) -> bool:
        """Return whether its process waits for a lock of a file, such as that of a device."""
        if not self._process:
            return False
        try:
            locks = Path("/proc/locks").read_text(encoding="utf-8").splitlines()
        except OSError:
            return False
        waiting = (line.split() for line in locks if "->" in line)
        return any(str(self._process) in words for words in waiting)

    def end(self) -> None:
        """End its process, where that is here: one that is stopped does not do so by itself."""
        if self._process:
            with contextlib.suppress(OSError):
                os.kill(self._process, signal.SIGKILL)

    def _is_stopped(self) -> bool:
        """Return whether its process does nothing, as far as that can be seen from here."""
        if self._process is None:
            ready, _ = ray.wait([self._place], timeout=0)
            if not ready:
                return False
            try:
                place, process = ray.get(self._place)
            except RayError:
                return False  # the job's outcome will say it
            self._process = process if place and place == _here() else 0
        if not self._process:
            return False
        try:
            status = Path(f"/proc/{self._process}/stat").read_text(encoding="utf-8")
        except OSError:
            return False
        return status.rpartition(")")[2].split()[0] in ("T", "t")


class RayBackend:
    """Runs jobs on Ray actors; an actor that is lost is replaced, its job reported as failed.

    Args:
        make_evaluator: Called once in every worker.
        workers: Number of actors.
        cpus: CPUs of each.
        gpus: GPUs of each.
    """

    def __init__(
        self, make_evaluator: MakeEvaluator, *, workers: int = 1, cpus: float = 1, gpus: float = 0
    ) -> None:
        start_ray()
        self._make = make_evaluator
        self._actor: Any = ray.remote(num_cpus=cpus, num_gpus=gpus)(_RayWorker)
        self._idle: list[ActorHandle[Any]] = [self._start() for _ in range(workers)]
        self._busy: dict[ray.ObjectRef[Outcome], _Running] = {}
        self._checked_s = 0.0
        self.capacity = workers

    def ask(self, question: Callable[[Evaluator], T], recipe: Recipe | None = None) -> T:
        """Ask the first worker's evaluator something, such as what it has prepared.

        Args:
            question: Takes the evaluator; runs in the worker.
            recipe: Of the first job, if it has one of its own.

        Raises:
            UserError: If the evaluator cannot be made because of a mistake of the user's.
            SearchFailedError: If the worker is lost.
        """
        try:
            answer = cast("T | UserError", ray.get(self._idle[0].ask.remote(question, recipe)))
        except RayError as error:
            raise SearchFailedError(f"the first worker failed: {_last_line(error)}") from error
        if isinstance(answer, UserError):
            raise answer
        return answer

    def grow(self, make_evaluator: MakeEvaluator, workers: int) -> None:
        """Add idle workers until there are `workers`; evaluators to come are made otherwise."""
        self._make = make_evaluator
        for actor in self._idle:
            actor.use.remote(make_evaluator)
        self._idle += [self._start() for _ in range(workers - self.capacity)]
        self.capacity = workers

    def submit(self, job: Job) -> None:
        """Hand a job to an idle worker."""
        actor = self._idle.pop(0)
        # Answered before the job begins.
        place: ray.ObjectRef[tuple[str, int]] = actor.place.remote()
        self._busy[actor.run.remote(job)] = _Running(actor, job, place)

    def next_done(self) -> Outcome:
        """Wait for the next job to end."""
        ready: list[ray.ObjectRef[Outcome]] = []
        while not ready:  # in slices, so that an interrupt ends it, and what hangs is noticed
            ready, _ = ray.wait(list(self._busy), num_returns=1, timeout=1.0)
            self._check_waiting()
            for reference, running in [] if ready else [*self._busy.items()]:
                if reason := running.hangs():
                    del self._busy[reference]
                    running.end()
                    self._idle.append(self._replace(running.actor))
                    return Outcome(trial=running.job.trial, failure=reason)
        running = self._busy.pop(ready[0])
        actor, job = running.actor, running.job
        try:
            outcome: Outcome = ray.get(ready[0])
        except OutOfMemoryError:
            # What a network needs is estimated before, so that others may have filled the memory.
            time.sleep(_FULL_S)
            actor = self._replace(actor)
            failure = "the memory of the machine was full, and Ray ended the worker"
            outcome = Outcome(trial=job.trial, failure=failure)
        except RayActorError as error:
            _check_nodes()
            actor = self._replace(actor)
            outcome = Outcome(trial=job.trial, failure=f"the worker was lost: {_last_line(error)}")
        except RayError as error:
            outcome = Outcome(trial=job.trial, failure=_last_line(error))
        self._idle.append(actor)
        return outcome

    def _check_waiting(self) -> None:
        """Find out now and then whether what waits for a worker waits in vain."""
        if all(running.has_begun for running in self._busy.values()):
            return
        if time.monotonic() - self._checked_s > _CHECKED_S:
            self._checked_s = time.monotonic()
            _check_nodes()

    def close(self) -> None:
        """Stop all workers at once."""
        for actor in [*self._idle, *(running.actor for running in self._busy.values())]:
            ray.kill(actor)
        self._idle, self._busy = [], {}

    def _start(self) -> ActorHandle[Any]:
        handle: ActorHandle[Any] = self._actor.remote(self._make)
        return handle

    def _replace(self, lost: ActorHandle[Any]) -> ActorHandle[Any]:
        with contextlib.suppress(RayError):
            ray.kill(lost)
        return self._start()


def _check_nodes() -> None:
    """Find out whether a worker can be started anywhere.

    Raises:
        SearchFailedError: If no machine is left.
    """
    if not any(node["Alive"] for node in ray.nodes()):  # type: ignore[no-untyped-call]
        raise SearchFailedError(
            "Ray has no machine left: its own process there, raylet, was ended; all trials are "
            "stored, and the same command continues"
        )


def _last_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
