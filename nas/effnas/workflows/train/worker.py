"""One process of a training: it prepares, trains, and keeps what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

from torch import nn

from effnas.arch.weights import ARCHITECTURE, read_weights, write_weights
from effnas.config.codec import dump_json
from effnas.data.loading import check_test_part, load_test_part
from effnas.timing import lock
from effnas.train.checkpoints import Checkpoint
from effnas.train.process_group import ProcessGroup
from effnas.train.progress import EpochRow, Progress
from effnas.train.training import Training
from effnas.workflows.trackers.base import Tracker
from effnas.workflows.trackers.registry import open_trackers
from effnas.workflows.train.folder import (
    BEST,
    CHECKPOINT,
    LAST,
    TestResult,
    TrainingManifest,
    describe,
    write_log,
)
from effnas.workflows.train.prepare import PreparedTraining
from effnas.workflows.train.settings import TrainingPlan, TrainSettings


class TrainObserver(Protocol):
    """Is told what happens, to show it."""

    def preparing(self, what: str) -> None:
        """Something that takes a while has begun."""
        ...

    def planned(self, plan: TrainingPlan) -> None:
        """The first step is about to be done."""
        ...

    def stepped(self, step: int, remaining_s: float) -> None:
        """So many steps have ended, and it will take so long until the end."""
        ...

    def epoch_ended(self, row: EpochRow) -> None:
        """An epoch has ended."""
        ...


@dataclass(frozen=True, kw_only=True)
class TrainReport:
    """What came of a training.

    Attributes:
        plan: What was settled before.
        progress: How it went.
        test: What was found on the test part, if that was read.
    """

    plan: TrainingPlan
    progress: Progress
    test: TestResult | None = None


def train_here(
    settings: TrainSettings,
    group: ProcessGroup,
    observer: TrainObserver,
    stopping: Callable[[], bool] = lambda: False,
) -> TrainReport | None:
    """Do one process's share of a training, from where its folder has come to.

    Args:
        settings: What the user asked for; the folder is there, and no other command writes there.
        group: Which process; connected if there are several.
        observer: Is told how it goes; by the first process, if there are several.
        stopping: Whether to stop, asked behind each step.

    Returns:
        What came of it; None if it was stopped, and the same settings go on.

    Raises:
        UserError: If something given is wrong; what is stored already stays.
        InfeasibleError: If the training diverges.
    """
    stored = group.broadcast_object(lambda: TrainingManifest.stored(settings.out))
    job = PreparedTraining.begin(settings, group, stored, observer.preparing)
    if settings.test and not (stored and stored.test):
        classes = job.images.train.classes
        group.broadcast_object(
            lambda: check_test_part(settings.data, classes=classes, root=settings.data_root)
        )
    plan, training = job.prepare(stored, observer.preparing)
    manifest = describe(settings, plan, job.images)
    if stored:
        manifest.check_continues(stored, settings.out)
        manifest = replace(
            manifest, created=stored.created, progress=stored.progress, test=stored.test
        )
    is_first = group.rank == 0
    if is_first:
        manifest.write(settings.out)
    if manifest.progress:
        training.progress = manifest.progress
    else:
        waiting = "waiting for the device: another process times on it"
        with lock.training(job.device, lambda: observer.preparing(waiting)):
            if not _train(job, plan, training, observer, stopping):
                return None
        if is_first:
            manifest = _finish(job, training, manifest)
    test = _test(job, training, manifest, observer) if is_first else None
    return TrainReport(plan=plan, progress=training.progress, test=test)


def _train(
    job: PreparedTraining,
    plan: TrainingPlan,
    training: Training,
    observer: TrainObserver,
    stopping: Callable[[], bool],
) -> bool:
    """Train; return whether the training has come to its end."""
    settings = job.settings
    checkpoint = _checkpoint(job)
    training.resume(checkpoint)
    step = training.progress.step
    watcher = _Nobody()
    trackers: list[Tracker] = []
    if job.group.rank == 0:
        observer.planned(replace(plan, first_step=step))
        write_log(settings.out, training.progress.rows)
        trackers = open_trackers(
            settings.trackers,
            settings.out,
            run_name=settings.out.resolve().name,
            settings=_flat(plan),
            step=step,
            notify=observer.preparing,
        )
        watcher = _Recorder(job, plan, trackers, observer)
    failed = True
    try:
        ended = training.run(
            watcher, checkpoint, every_s=settings.checkpoint_every_s, stopping=stopping
        )
        failed = False
    finally:
        for tracker in trackers:
            tracker.close(failed=failed)
    return ended


def _finish(
    job: PreparedTraining, training: Training, manifest: TrainingManifest
) -> TrainingManifest:
    """Keep the weights, note that the training has come to its end, and drop its state."""
    folder = job.settings.out
    write_weights(folder / LAST, training.model, _metadata(job))
    if job.images.minival is None:
        write_weights(folder / BEST, training.model, _metadata(job))
    manifest = replace(manifest, progress=training.progress)
    manifest.write(folder)
    _checkpoint(job).delete()
    return manifest


def _test(
    job: PreparedTraining, training: Training, manifest: TrainingManifest, observer: TrainObserver
) -> TestResult | None:
    """Return what the best epoch's weights reach on the test part, which is read once."""
    settings = job.settings
    if manifest.test or not settings.test:
        return manifest.test
    observer.preparing("reading the test part")
    assert job.recipe.eval_image_size is not None
    images = load_test_part(
        settings.data,
        image_size=job.recipe.eval_image_size,
        classes=job.images.train.classes,
        on_bad_image=settings.on_bad_image,
        root=settings.data_root,
    )
    read_weights(
        training.model,
        settings.out / BEST,
        architecture_id=job.architecture_id,
        remedy="put back the file that the training wrote",
    )
    training.group = ProcessGroup()  # the other processes have ended
    found = TestResult(
        part=images.part or "",
        images=len(images),
        skipped=len(images.skipped),
        accuracy=training.measure(images),
    )
    replace(manifest, test=found).write(settings.out)
    return found


class _Nobody:
    """The watcher of all processes but the first."""

    def stepped(self, progress: Progress) -> None:
        """Do nothing."""

    def epoch_ended(self, progress: Progress) -> None:
        """Do nothing."""

    def improved(self, model: nn.Module) -> None:
        """Do nothing."""


class _Recorder(_Nobody):
    """Writes down how a training goes, and passes it on."""

    def __init__(
        self,
        job: PreparedTraining,
        plan: TrainingPlan,
        trackers: Sequence[Tracker],
        observer: TrainObserver,
    ) -> None:
        self._folder: Path = job.settings.out
        self._metadata = _metadata(job)
        self._plan, self._trackers, self._observer = plan, trackers, observer

    def stepped(self, progress: Progress) -> None:
        left = self._plan.forecast.remaining_s(progress, self._plan.stages)
        self._observer.stepped(progress.step, left)

    def epoch_ended(self, progress: Progress) -> None:
        row = progress.rows[-1]
        write_log(self._folder, progress.rows)
        values = {name: value for name, value in asdict(row).items() if value is not None}
        for tracker in self._trackers:
            tracker.log(row.step, values)
        self._observer.epoch_ended(row)

    def improved(self, model: nn.Module) -> None:
        write_weights(self._folder / BEST, model, self._metadata)


def _checkpoint(job: PreparedTraining) -> Checkpoint:
    settings = job.settings
    return Checkpoint(
        settings.out / CHECKPOINT,
        {
            "network": job.architecture_id or job.found.name,
            "data": job.images.train.fingerprint,
            "seed": settings.seed,
        },
    )


def _metadata(job: PreparedTraining) -> dict[str, str]:
    # One key only: safetensors would write several in random order.
    identifier = job.architecture_id
    return {ARCHITECTURE: identifier} if identifier else {"model": job.found.name}


def _flat(plan: TrainingPlan) -> dict[str, str | int | float | bool | None]:
    """Return the settings that a tracker shows."""
    flat: dict[str, str | int | float | bool | None] = {
        "network": str(plan.arch or plan.network),
        "params": plan.params,
        "images": plan.images,
        "workers": plan.workers,
        "execution": str(plan.execution),
        "hardware": plan.hardware,
    }
    for name, value in plan.recipe.to_dict().items():
        plain = value is None or isinstance(value, str | int | float | bool)
        flat[name] = value if plain else dump_json(value, indent=None)
    return flat
