"""`effnas train`: the plan, the progress with the time that is left, and the result."""

from __future__ import annotations

import json
import shlex
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from effnas.cli.export import default_folder as export_folder
from effnas.cli.search import INTERRUPTED
from effnas.cli.tables import (
    console,
    duration,
    epochs_text,
    facts,
    progress_on,
)
from effnas.errors import InfeasibleError, SearchFailedError
from effnas.train.progress import EpochRow
from effnas.workflows.train.folder import BEST, LOG
from effnas.workflows.train.launch import launch_training
from effnas.workflows.train.worker import TrainReport

if TYPE_CHECKING:
    from rich.console import Console

    from effnas.train.stages import Stage
    from effnas.workflows.train.settings import TrainingPlan, TrainSettings

#: Stages of a table that are shown one by one.
_MAX_STAGES = 12


def default_folder(network: str, data: str) -> Path:
    """Return where a training is kept by default: runs/train-NETWORK-DATA.

    Raises:
        ConfigError: If the network has no name.
    """
    return Path("runs", f"train-{export_folder(network).name}-{Path(data).name.split('.')[0]}")


def run_train(settings: TrainSettings, *, as_json: bool) -> int:
    """Train a network and show what came of it; return the exit code.

    Raises:
        EffnasError: If something given is wrong, or the training fails.
    """
    screen = console(stderr=as_json)
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[left]}"))
    with progress_on(screen, *columns) as progress:
        display = _Display(screen, progress, settings)
        try:
            with _stop_on_signals(display) as asked:
                report = launch_training(settings, display, stopping=lambda: bool(asked))
        except KeyboardInterrupt:
            report = None
        except InfeasibleError as error:
            raise SearchFailedError(
                f"{error}. The state before it is stored in {settings.out}"
            ) from error
    if report is None:
        screen.print(
            f"\nStopped. The state of the training is stored in {settings.out}; the same command "
            "goes on."
        )
        return INTERRUPTED
    if as_json:
        print(json.dumps(_payload(report, settings), indent=2))
    else:
        _show(console(), report, settings)
    return 0


@contextmanager
def _stop_on_signals(display: _Display) -> Iterator[list[int]]:
    """Note a first Ctrl-C or SIGTERM, so that a step can end; else they interrupt."""
    asked: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        del frame
        if asked or not display.is_training:
            raise KeyboardInterrupt
        asked.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Display:
    """Shows what is going on."""

    def __init__(self, screen: Console, progress: Progress, settings: TrainSettings) -> None:
        self._screen = screen
        self._progress = progress
        self._settings = settings
        self._task = progress.add_task("looking at the network", total=None, left="")
        #: Whether steps are being done.
        self.is_training = False

    def preparing(self, what: str) -> None:
        self._progress.update(self._task, description=what, total=None)

    def planned(self, plan: TrainingPlan) -> None:
        self.is_training = True
        self._screen.print(facts(_plan_rows(plan, self._settings)))
        self._screen.print(_stage_table(plan))
        self._screen.print()
        self._progress.update(
            self._task, description="training", total=plan.steps, completed=plan.first_step
        )

    def stepped(self, step: int, remaining_s: float) -> None:
        self._progress.update(
            self._task, completed=step, left=f"{duration(remaining_s)} left, after"
        )

    def epoch_ended(self, row: EpochRow) -> None:
        accuracy = "" if row.accuracy is None else f"  accuracy {row.accuracy:.4f}"
        self._screen.print(
            f"epoch {row.epoch}  stage {row.stage}  {row.image_size} px  loss {row.train_loss:.4f}"
            f"{accuracy}  {duration(row.train_time_s)}"
        )


def _plan_rows(plan: TrainingPlan, settings: TrainSettings) -> list[tuple[str, str]]:
    recipe = plan.recipe
    batch = f"batch {recipe.batch_size}"
    if plan.workers > 1:
        batch += f" over {plan.workers} workers"
    most = max(plan.parts) // plan.workers
    if most > 1:
        batch += f", in up to {most} parts one after the other"
    treated = ", decoded in every epoch (too many for memory)" if plan.is_streamed else ""
    treated += ", mirrored at random" if plan.mirrored else ", not mirrored"
    minival = f"; {plan.minival:,} more held out" if plan.minival else "; none held out"
    skipped = f"; {len(plan.skipped)} cannot be decoded" if plan.skipped else ""
    rows = [
        ("network", f"{escape(plan.network)}, {plan.params / 1e6:.2f} M params"),
        ("images", f"{plan.images:,} of {len(plan.classes)} classes{treated}{minival}{skipped}"),
        ("training", f"{epochs_text(plan.steps // plan.steps_per_epoch)}, {recipe.regime}; {batch};"
                     f" {recipe.optimizer}, learning rate {recipe.learning_rate:.3g},"
                     f" {recipe.schedule}"),
        ("device", f"{plan.hardware}; {plan.execution}"),
        ("forecast", f"{duration(plan.forecast.train_time_s)} of training, "
                     f"{duration(plan.forecast.total_s)} with measuring accuracy at "
                     f"{plan.eval_image_size} px"),
        ("folder", f"{settings.out} ({LOG} grows with every epoch)"),
    ]  # fmt: skip
    if plan.first_step:
        epoch = plan.first_step / plan.steps_per_epoch
        rows.append(("goes on", f"at step {plan.first_step} of {plan.steps}, epoch {epoch:.1f}"))
    return rows


def _stage_table(plan: TrainingPlan, measured_s: list[float] | None = None) -> Table:
    """Return the stages with their times: forecast, and as measured if that is given."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("stage", "steps", "px"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("strengths")
    for name in ("forecast", *(("measured", "images/s") if measured_s else ())):
        table.add_column(name, justify="right", no_wrap=True)
    for number, stage in enumerate(plan.stages[:_MAX_STAGES]):
        cells = [str(number + 1), str(stage.steps), str(stage.image_size), str(stage.strengths)]
        cells.append(duration(plan.forecast.stage_times_s[number]))
        if measured_s:
            cells += _measured(plan, stage, measured_s[number])
        table.add_row(*cells)
    if len(plan.stages) > _MAX_STAGES:
        table.add_row("...", "", "", f"{len(plan.stages) - _MAX_STAGES} more")
    return table


def _measured(plan: TrainingPlan, stage: Stage, seconds: float) -> list[str]:
    if not seconds:
        return ["-", "-"]
    return [duration(seconds), f"{stage.steps * plan.recipe.batch_size / seconds:,.0f}"]


def _show(screen: Console, report: TrainReport, settings: TrainSettings) -> None:
    plan, progress = report.plan, report.progress
    screen.print(_stage_table(plan, progress.stage_times_s))
    whole = progress.step == plan.steps
    forecast = (
        f"; the forecast was {duration(plan.forecast.train_time_s)} "
        f"({plan.forecast.train_time_s / progress.train_time_s - 1:+.0%})"
        if whole and progress.train_time_s
        else "; it ended early, for accuracy grew no more"
    )
    screen.print(f"\nTrained in {duration(progress.train_time_s)}{forecast}.")
    if progress.best_epoch:
        screen.print(
            f"Best: epoch {progress.best_epoch}, accuracy {progress.best_accuracy:.4f} on the "
            f"{plan.minival:,} images that were held out, and that it was chosen by."
        )
    if report.test:
        test = report.test
        skipped = f", {test.skipped} more cannot be decoded" if test.skipped else ""
        screen.print(
            f"On the part {test.part!r} of {Path(settings.data).name} ({test.images:,} images"
            f"{skipped}): accuracy {test.accuracy:.4f}. It was read once, for that."
        )
    screen.print(f"Weights: {settings.out / BEST}")
    if plan.arch:
        network = shlex.quote(settings.network)
        weights = shlex.quote(str(settings.out / BEST))
        screen.print(f"\nFor other programs:\n  effnas export {network} --weights {weights}")


def _payload(report: TrainReport, settings: TrainSettings) -> dict[str, Any]:
    plan, progress = report.plan, report.progress
    return {
        "network": plan.network,
        "params": plan.params,
        "epochs": len(progress.rows),
        "best_epoch": progress.best_epoch or None,
        "accuracy": progress.best_accuracy if progress.best_epoch else None,
        "test": asdict(report.test) if report.test else None,
        "train_time_s": progress.train_time_s,
        "forecast_s": plan.forecast.train_time_s,
        "weights": str(settings.out / BEST),
        "stages": [
            {
                **asdict(stage),
                "forecast_s": plan.forecast.stage_times_s[number],
                "train_time_s": progress.stage_times_s[number],
            }
            for number, stage in enumerate(plan.stages)
        ],
        "log": [asdict(row) for row in progress.rows],
    }
