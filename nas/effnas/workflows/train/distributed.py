"""Several processes that train one network: Ray Train starts them, torch averages gradients."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any, cast

import ray
from ray import cloudpickle
from ray.train import FailureConfig, RunConfig, ScalingConfig, get_context
from ray.train.torch import TorchConfig, TorchTrainer

from effnas.errors import EffnasError, SearchFailedError
from effnas.evaluation.workers import Workers, divide_resources
from effnas.timing.runtime import configure_process
from effnas.train.process_group import ProcessGroup
from effnas.train.progress import EpochRow
from effnas.workflows.train.mailbox import Mailbox
from effnas.workflows.train.settings import TrainingPlan, TrainSettings
from effnas.workflows.train.worker import TrainObserver, TrainReport, train_here

#: Seconds between two looks into the mailbox, and between two steps that are reported.
_LOOK_EVERY_S, _REPORT_EVERY_S = 0.1, 0.5
#: Times that lost workers are started again; they resume from the last checkpoint.
_MAX_FAILURES = 2
#: Without these, Ray Train prints boxes and changes to a folder of its own.
_SETTINGS = {"RAY_TRAIN_ENABLE_STATE_TRACKING": "0", "RAY_CHDIR_TO_TRIAL_DIR": "0"}


def train_distributed(
    settings: TrainSettings, workers: int, observer: TrainObserver, stopping: Callable[[], bool]
) -> TrainReport | None:
    """Train in several processes, each with its share of every batch.

    Arguments and errors are those of `effnas.workflows.train.launch.launch_training`.
    """
    os.environ.update({name: os.environ.get(name, value) for name, value in _SETTINGS.items()})
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    observer.preparing("starting Ray")
    resources = divide_resources(
        Workers(device=settings.device, count=workers, threads=settings.threads)
    )
    settings = replace(settings, device=resources.device, threads=resources.threads)
    mailbox: Any = ray.remote(num_cpus=0)(Mailbox).remote()
    with tempfile.TemporaryDirectory(prefix="effnas-train-", ignore_cleanup_errors=True) as scrap:
        trainer = TorchTrainer(
            _work,
            train_loop_config={"settings": settings, "mailbox": mailbox, "folder": Path.cwd()},
            torch_config=TorchConfig(backend="nccl" if resources.gpus else "gloo"),
            scaling_config=ScalingConfig(
                num_workers=workers,
                use_gpu=bool(resources.gpus),
                resources_per_worker={"CPU": resources.cpus, "GPU": resources.gpus},
            ),
            run_config=RunConfig(
                name="training",
                storage_path=scrap,
                failure_config=FailureConfig(max_failures=_MAX_FAILURES),
            ),
        )
        failures: list[Exception] = []
        thread = Thread(target=lambda: _fit(trainer, failures), daemon=True)
        thread.start()
        reader = _Reader(observer)
        asked = False
        # An error of the user's is raised at once: Ray would start the workers again first.
        while thread.is_alive() and reader.error is None:
            time.sleep(_LOOK_EVERY_S)
            reader.read(ray.get(mailbox.take.remote()))
            if stopping() and not asked:
                asked = True
                mailbox.stop.remote()
        reader.read(ray.get(mailbox.take.remote()))
    ray.kill(mailbox)  # without it, workers that are started again end at once
    if reader.error is not None:
        raise reader.error
    if failures:
        raise SearchFailedError(
            f"the workers failed {_MAX_FAILURES + 1} times, the last with: "
            f"{str(failures[0]).strip().splitlines()[-1]}; the training's state is stored, and the "
            "same command resumes it"
        )
    return reader.report


def _fit(trainer: TorchTrainer, failures: list[Exception]) -> None:
    try:
        trainer.fit()
    except Exception as error:  # noqa: BLE001  # the command raises it
        failures.append(error)


class _Reader:
    """Passes the workers' messages to the observer; keeps the report and the error."""

    def __init__(self, observer: TrainObserver) -> None:
        self._observer = observer
        self.report: TrainReport | None = None
        self.error: EffnasError | None = None

    def read(self, messages: list[bytes]) -> None:
        for event, values in map(cloudpickle.loads, messages):
            if event in ("report", "error"):
                setattr(self, event, *values)
            else:
                getattr(self._observer, event)(*values)


class _Sender:
    """A worker's observer: sends the first worker's events, and not every step."""

    def __init__(self, mailbox: Any, rank: int) -> None:
        self._mailbox = mailbox
        self._is_first = rank == 0
        self._last_step_s = 0.0

    def preparing(self, what: str) -> None:
        if self._is_first:
            self.send("preparing", what)

    def planned(self, plan: TrainingPlan) -> None:
        self.send("planned", plan)

    def stepped(self, step: int, remaining_s: float) -> None:
        now = time.monotonic()
        if now - self._last_step_s >= _REPORT_EVERY_S:
            self._last_step_s = now
            self.send("stepped", step, remaining_s)

    def epoch_ended(self, row: EpochRow) -> None:
        self.send("epoch_ended", row)

    def send(self, event: str, *values: object) -> Any:
        return self._mailbox.send.remote(_pack(event, *values))


def _pack(event: str, *values: object) -> bytes:
    # Plain pickle refuses read-only mappings, which plans hold.
    return cast("bytes", cloudpickle.dumps((event, values)))  # type: ignore[no-untyped-call]


def _work(config: dict[str, Any]) -> None:
    """Be one of the workers; an error that the user can fix ends all of them."""
    configure_process()
    os.chdir(config["folder"])  # else paths would start at the folder that Ray was started in
    context = get_context()
    rank, size = context.get_world_rank(), context.get_world_size()
    mailbox = config["mailbox"]
    if ray.get(mailbox.has_failed.remote()):
        return
    sender = _Sender(mailbox, rank)
    try:
        report = train_here(
            config["settings"],
            ProcessGroup(rank=rank, size=size, connected=True),
            sender,
            lambda: bool(ray.get(mailbox.is_stopping.remote())),
        )
    except EffnasError as error:
        ray.get(mailbox.fail.remote(_pack("error", error)))
        raise  # ends the others, which may wait for this one; started again, they see the failure
    if rank == 0 and report is not None:
        ray.get(sender.send("report", report))
