"""A training from settings to stored results: in this process, or as one of several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Protocol

from torch import nn

from effnas.arch.weights import read_weights, write_weights
from effnas.config.codec import dump_json
from effnas.data.images import single_class_counts
from effnas.data.loading import load_test_part
from effnas.timing import lock
from effnas.train.process_group import ProcessGroup
from effnas.train.progress import EpochRow, Progress, Watcher
from effnas.workflows.trackers import Setting, TrackedTraining, Tracker, open_trackers
from effnas.workflows.train.folder import (
    BEST,
    LAST,
    TestResult,
    TrainingManifest,
    write_log,
)
from effnas.workflows.train.prepare import PreparedTraining
from effnas.workflows.train.settings import TrainingPlan, TrainSettings


class TrainObserver(Protocol):
    """Receives what happens, to show it."""

    def preparing(self, what: str) -> None:
        """Something that takes a while has begun."""

    def planned(self, plan: TrainingPlan) -> None:
        """The first step comes next."""

    def stepped(self, step: int, remaining_s: float) -> None:
        """A step has ended: their number from 1, and the seconds until the end of the training."""

    def epoch_ended(self, row: EpochRow) -> None:
        """An epoch has ended."""


@dataclass(frozen=True, kw_only=True)
class TrainReport:
    """A finished training.

    Attributes:
        plan: As it was settled before the first step.
        progress: How it went.
        test: The result on the test part, if that was read.
    """

    plan: TrainingPlan
    progress: Progress
    test: TestResult | None = None


def train_here(
    settings: TrainSettings,
    group: ProcessGroup,
    observer: TrainObserver,
    stopping: Callable[[], bool],
) -> TrainReport | None:
    """Do one process's share of a training; see `effnas.workflows.train.launch.launch_training`.

    Args:
        settings: What the user asked for; the folder exists, and no other command writes there.
        group: Which process this is; connected if there are several.
        observer: Receives what happens in the first process.
        stopping: Whether to stop, asked after each step.
    """
    prepared = PreparedTraining(settings, group, observer.preparing)
    training, manifest = prepared.training, prepared.manifest
    is_first = group.rank == 0
    if is_first:
        manifest.write(settings.out)
    if manifest.progress:
        training.progress = manifest.progress
    else:

        def waiting(holder: str) -> None:
            observer.preparing(f"waiting for the device, which {holder} uses")

        with lock.training(prepared.device, waiting):
            if not _train(prepared, observer, stopping):
                return None
        if is_first:
            manifest = _finish(prepared)
    test = _test(prepared, manifest, observer) if is_first else None
    return TrainReport(plan=prepared.plan, progress=training.progress, test=test)


def _train(
    prepared: PreparedTraining, observer: TrainObserver, stopping: Callable[[], bool]
) -> bool:
    """Train; return whether the training has ended."""
    settings, training = prepared.settings, prepared.training
    training.resume(prepared.checkpoint)
    step = training.progress.step
    watcher = Watcher()
    trackers: list[Tracker] = []
    if prepared.group.rank == 0:
        observer.planned(replace(prepared.plan, first_step=step))
        write_log(settings.out, training.progress.rows)
        tracked = TrackedTraining(
            folder=settings.out,
            run_name=settings.out.resolve().name,
            settings=_flat(prepared.plan),
            step=step,
            notify=observer.preparing,
        )
        trackers = open_trackers(settings.trackers, tracked)
        watcher = _Recorder(prepared, trackers, observer)
    failed = True
    try:
        ended = training.run(
            watcher, prepared.checkpoint, every_s=settings.checkpoint_every_s, stopping=stopping
        )
        failed = False
    finally:
        for tracker in trackers:
            tracker.close(failed=failed)
    return ended


def _finish(prepared: PreparedTraining) -> TrainingManifest:
    """Store the weights, note that the training has ended, and delete its state."""
    folder, training = prepared.settings.out, prepared.training
    for name in (LAST,) if prepared.images.minival else (LAST, BEST):
        write_weights(folder / name, training.model, prepared.metadata)
    manifest = replace(prepared.manifest, progress=training.progress)
    manifest.write(folder)
    prepared.checkpoint.delete()
    return manifest


def _test(
    prepared: PreparedTraining, manifest: TrainingManifest, observer: TrainObserver
) -> TestResult | None:
    """Return what the best epoch's weights reach on the test part, which is read once."""
    settings, training, arch = prepared.settings, prepared.training, prepared.network.arch
    if manifest.test or not settings.test:
        return manifest.test
    observer.preparing("reading the test part")
    images = load_test_part(
        settings.data,
        image_size=manifest.eval_image_size,
        classes=manifest.data.class_names,
        on_bad_image=settings.on_bad_image,
        root=settings.data_root,
    )
    read_weights(
        training.model,
        settings.out / BEST,
        architecture_id=arch.id if arch else None,
        remedy="put back the file that the training wrote",
    )
    training.group = ProcessGroup()  # the other processes have ended
    found = TestResult(
        part=images.part or "",
        images=len(images),
        skipped=len(images.skipped),
        accuracy=training.measure(images),
        class_counts=single_class_counts(images),
    )
    replace(manifest, test=found).write(settings.out)
    return found


class _Recorder(Watcher):
    """Stores how a training goes, and passes it on."""

    def __init__(
        self, prepared: PreparedTraining, trackers: Sequence[Tracker], observer: TrainObserver
    ) -> None:
        self._prepared, self._trackers, self._observer = prepared, trackers, observer

    def stepped(self, progress: Progress) -> None:
        made = self._prepared.manifest
        self._observer.stepped(progress.step, made.forecast.remaining_s(progress, made.stages))

    def epoch_ended(self, progress: Progress) -> None:
        row = progress.rows[-1]
        write_log(self._prepared.settings.out, progress.rows)
        values = {name: value for name, value in asdict(row).items() if value is not None}
        for tracker in self._trackers:
            tracker.log(row.step, values)
        self._observer.epoch_ended(row)

    def improved(self, model: nn.Module) -> None:
        write_weights(self._prepared.settings.out / BEST, model, self._prepared.metadata)


def _flat(plan: TrainingPlan) -> dict[str, Setting]:
    """Return the settings that a tracker shows."""
    made = plan.manifest
    flat: dict[str, Setting] = {
        "network": str(plan.arch or plan.network),
        "params": made.params,
        "images": made.data.images,
        "workers": made.workers,
        "execution": str(made.execution),
        "hardware": made.hardware,
    }
    for name, value in made.recipe.to_dict().items():
        plain = value is None or isinstance(value, str | int | float | bool)
        flat[name] = value if plain else dump_json(value, indent=None)
    return flat
