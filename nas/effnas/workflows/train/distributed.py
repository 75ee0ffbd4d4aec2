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

#: Seconds between two looks at what the workers say, and between two things that they say.
_LOOK_EVERY_S, _TELL_EVERY_S = 0.1, 0.5
#: Times that lost workers are started anew; they go on from the last checkpoint.
_MAX_FAILURES = 2
#: Train prints what it does with boxes, and makes a folder of its own, unless it is told not to.
_SETTINGS = {"RAY_TRAIN_ENABLE_STATE_TRACKING": "0", "RAY_CHDIR_TO_TRIAL_DIR": "0"}


def train_together(
    settings: TrainSettings,
    workers: int,
    observer: TrainObserver,
    stopping: Callable[[], bool],
) -> TrainReport | None:
    """Train in several processes, each with its share of every batch.

    Arguments and errors are those of `effnas.workflows.train.launch.launch_training`.
    """
    os.environ.update({name: os.environ.get(name, value) for name, value in _SETTINGS.items()})
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    observer.preparing("starting Ray")
    share = divide_resources(
        Workers(device=settings.device, count=workers, threads=settings.threads)
    )
    channel: Any = ray.remote(num_cpus=0)(Mailbox).remote()
    theirs = replace(settings, device=share.device, threads=share.threads)
    with tempfile.TemporaryDirectory(prefix="effnas-train-", ignore_cleanup_errors=True) as scrap:
        trainer = TorchTrainer(
            _work,
            train_loop_config={"settings": theirs, "channel": channel, "folder": Path.cwd()},
            torch_config=TorchConfig(backend="nccl" if share.gpus else "gloo"),
            scaling_config=ScalingConfig(
                num_workers=workers,
                use_gpu=bool(share.gpus),
                resources_per_worker={"CPU": share.cpus, "GPU": share.gpus},
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
        listener = _Listener(observer)
        asked = False
        # Ray would start the workers anew before it lets an error of theirs pass.
        while thread.is_alive() and listener.error is None:
            time.sleep(_LOOK_EVERY_S)
            listener.hear(ray.get(channel.take.remote()))
            if stopping() and not asked:
                asked = True
                channel.stop.remote()
        listener.hear(ray.get(channel.take.remote()))
    ray.kill(channel)  # without it, workers that are started anew end at once
    if listener.error is not None:
        raise listener.error
    if failures:
        raise SearchFailedError(
            f"the workers failed {_MAX_FAILURES + 1} times, the last with: "
            f"{str(failures[0]).strip().splitlines()[-1]}; the training's state is stored, and the "
            "same command goes on"
        )
    return listener.report


class _Listener:
    """Passes on what the workers say."""

    def __init__(self, observer: TrainObserver) -> None:
        self._observer = observer
        self.report: TrainReport | None = None
        self.error: EffnasError | None = None

    def hear(self, said: list[bytes]) -> None:
        for what, value in map(cloudpickle.loads, said):
            if what == "report":
                self.report = value
            elif what == "error":
                self.error = value
            elif what == "stepped":
                self._observer.stepped(*value)
            else:
                getattr(self._observer, what)(value)


class _Teller:
    """The observer of a worker: the first one says all to the command, steps not too often."""

    def __init__(self, channel: Any, rank: int) -> None:
        self._channel = channel
        self._is_first = rank == 0
        self._last = 0.0

    def preparing(self, what: str) -> None:
        if self._is_first:
            _say(self._channel, "preparing", what)

    def planned(self, plan: TrainingPlan) -> None:
        _say(self._channel, "planned", plan)

    def stepped(self, step: int, remaining_s: float) -> None:
        now = time.monotonic()
        if now - self._last >= _TELL_EVERY_S:
            self._last = now
            _say(self._channel, "stepped", (step, remaining_s))

    def epoch_ended(self, row: EpochRow) -> None:
        _say(self._channel, "epoch_ended", row)


def _say(channel: Any, what: str, value: object) -> Any:
    return channel.say.remote(_packed(what, value))


def _packed(what: str, value: object) -> bytes:
    # Plain pickle refuses read-only mappings, which plans hold.
    return cast("bytes", cloudpickle.dumps((what, value)))  # type: ignore[no-untyped-call]


def _fit(trainer: TorchTrainer, failures: list[Exception]) -> None:
    try:
        trainer.fit()
    except Exception as error:  # noqa: BLE001  # the command raises it
        failures.append(error)


def _work(config: dict[str, Any]) -> None:
    """Do the share of one worker; what the user can mend is told and ends all of them."""
    configure_process()
    os.chdir(config["folder"])  # else paths would be those of the folder that Ray was started in
    context = get_context()
    rank, size = context.get_world_rank(), context.get_world_size()
    channel = config["channel"]
    if ray.get(channel.has_failed.remote()):
        return
    group = ProcessGroup(rank=rank, size=size, connected=True)
    try:
        report = train_here(
            cast("TrainSettings", config["settings"]),
            group,
            _Teller(channel, rank),
            lambda: bool(ray.get(channel.is_stopping.remote())),
        )
    except EffnasError as error:
        ray.get(channel.fail.remote(_packed("error", error)))
        raise  # which ends the others, that may wait for this one; they begin anew, and see it
    if rank == 0 and report is not None:
        ray.get(_say(channel, "report", report))
