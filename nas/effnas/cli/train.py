"""`effnas train`: the plan, the progress with the time that is left, and the result."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effnas.cli.data_facts import data_rows
from effnas.cli.pages import after_training, training_page
from effnas.cli.report import ReportingCommand
from effnas.cli.tables import counted, duration, params_text, table, with_error
from effnas.cli.wording import guessing_text, hardly_beats_guessing
from effnas.errors import InfeasibleError, SearchFailedError
from effnas.report.parts import Page, against_forecast
from effnas.report.training_facts import TrainingFacts
from effnas.train.progress import EpochRow
from effnas.trials.store import LOG
from effnas.workflows.train.folder import BEST
from effnas.workflows.train.launch import launch_training
from effnas.workflows.train.settings import TrainingPlan, TrainSettings
from effnas.workflows.train.worker import TrainReport

if TYPE_CHECKING:
    from effnas.cli.tables import Table

#: Stages of a table that are shown one by one.
_MAX_STAGES = 12


class TrainCommand(ReportingCommand[TrainSettings, TrainReport]):
    """Shows the plan, a line per epoch, a bar with the time left, and the accuracy."""

    begins = "looking at the network"
    stored = "The state of the training"

    def work(self) -> TrainReport:
        try:
            report = launch_training(self.settings, self, stopping=lambda: self.is_stopping)
        except InfeasibleError as error:
            raise SearchFailedError(
                f"{error}. The state before it is stored in {self.settings.out}"
            ) from error
        if report is None:
            raise KeyboardInterrupt
        self.write_report(report)
        return report

    def planned(self, plan: TrainingPlan) -> None:
        self.ends_step = True
        self._steps = plan.steps
        self.plan(*_plan_rows(plan, self.settings))
        self.screen.print(_stage_table(plan))
        self.screen.print()
        self.progress("training", plan.first_step, plan.steps)

    def stepped(self, step: int, remaining_s: float) -> None:
        self.progress("training", step, self._steps, f"{duration(remaining_s)} left, after")

    def epoch_ended(self, row: EpochRow) -> None:
        accuracy = "" if row.accuracy is None else f"  accuracy {row.accuracy:.4f}"
        self.say(
            f"epoch {row.epoch}  stage {row.stage}  {row.image_size} px  loss {row.train_loss:.4f}"
            f"{accuracy}  {duration(row.train_time_s)}"
        )

    def payload(self, report: TrainReport) -> dict[str, Any]:
        plan, made, progress = report.plan, report.plan.manifest, report.progress
        return {
            "network": plan.network,
            "params": made.params,
            "epochs": len(progress.rows),
            "best_epoch": progress.best_epoch or None,
            "accuracy": progress.best_accuracy if progress.best_epoch else None,
            "test": asdict(report.test) if report.test else None,
            "train_time_s": progress.train_time_s,
            "forecast_s": made.forecast.train_time_s,
            "weights": str(self.settings.out / BEST),
            "stages": [
                {**asdict(stage), "forecast_s": forecast, "train_time_s": measured}
                for stage, forecast, measured in zip(
                    made.stages, made.forecast.stage_times_s, progress.stage_times_s, strict=True
                )
            ],
            "log": [asdict(row) for row in progress.rows],
        }

    def page(self, report: TrainReport) -> Page:
        del report
        return training_page(self.settings.out)

    def show(self, report: TrainReport) -> None:
        plan, made, progress = report.plan, report.plan.manifest, report.progress
        measured = TrainingFacts.read(self.settings.out)
        held_out, tested = measured.held_out, measured.test
        self.screen.print(_stage_table(plan, progress.stage_times_s))
        whole = progress.step == plan.steps
        forecast_s = made.forecast.train_time_s
        how = "; it ended early, as accuracy no longer rose"
        if whole:
            how = f", {against_forecast(progress.train_time_s, forecast_s)}" if forecast_s else ""
        self.say(f"\nTrained in {duration(progress.train_time_s)}{how}.")
        if held_out:
            self.say(
                f"Best: epoch {progress.best_epoch}, accuracy "
                f"{with_error(held_out.accuracy, held_out.error)} (± its standard error) on the "
                f"{counted(held_out.images, 'image')} held out, which it was chosen by."
            )
        if (test := report.test) and tested:
            skipped = f", {test.skipped} more cannot be decoded" if test.skipped else ""
            self.say(
                f"On the part {test.part!r} of {Path(self.settings.data).name} ("
                f"{counted(test.images, 'image')}{skipped}): accuracy "
                f"{with_error(tested.accuracy, tested.error)}. It was read once, for that."
            )
        for found in (held_out, tested):
            if found:
                self.say(guessing_text(found.guessing, found.part))
                if found.beats_guessing is False:
                    self.note(hardly_beats_guessing(found.part), "Warning")
        self.say(f"Weights: {self.settings.out / BEST}")
        self.say_report()
        if following := after_training(measured):
            self.next(*(words for _, words in following))


def _plan_rows(plan: TrainingPlan, settings: TrainSettings) -> list[tuple[str, str]]:
    made, data, recipe = plan.manifest, plan.manifest.data, plan.manifest.recipe
    batch = f"batch {recipe.batch_size}"
    if made.workers > 1:
        batch += f" over {counted(made.workers, 'worker')}"
    most = max(made.parts) // made.workers
    if most > 1:
        batch += f", in up to {most} parts one after the other"
    treated = "decoded in every epoch (too many for memory), " if data.streamed else ""
    treated += "mirrored at random" if data.mirrored else "not mirrored"
    treated += f"; {len(data.skipped)} cannot be decoded" if data.skipped else ""
    warmup = ""
    if recipe.warmup_epochs < plan.asked_warmup_epochs:
        warmup = (f"{recipe.warmup_epochs:g} instead of {plan.asked_warmup_epochs:g} of the "
                  "epochs, which the training does not outlast")  # fmt: skip
    rows = [
        ("network", f"{plan.network}, {params_text(made.params)} params"),
        *data_rows(
            plan.found,
            train_images=data.images,
            holdout_images=data.minival,
            class_names=data.class_names,
            holdout_class_counts=plan.holdout_class_counts,
            image_sizes=plan.image_sizes,
            image_size=made.stages[-1].image_size,
            treated=treated,
        ),
        ("training", f"{_length_text(plan)}, {recipe.regime}; "
                     f"{batch}; {recipe.optimizer}, learning rate {recipe.learning_rate:.3g},"
                     f" {recipe.schedule}"),
        ("warm-up", warmup),
        ("device", f"{made.hardware}; {made.execution}"),
        ("forecast", f"{duration(made.forecast.train_time_s)} of training, "
                     f"{duration(made.forecast.total_s)} with measuring accuracy at "
                     f"{made.eval_image_size} px"),
        ("folder", f"{settings.out} ({LOG} grows with every epoch)"),
    ]  # fmt: skip
    if plan.first_step:
        epoch = plan.first_step / plan.steps_per_epoch
        rows.append(
            ("continues", f"at step {plan.first_step:,} of {plan.steps:,}, epoch {epoch:.1f}")
        )
    return rows


def _length_text(plan: TrainingPlan) -> str:
    """Return how long a training is: `30 epochs`, or `60 s: 412 steps, 1.2 epochs`."""
    recipe = plan.manifest.recipe
    epochs = counted(recipe.epochs if recipe.epochs % 1 else int(recipe.epochs), "epoch")
    if recipe.train_time_s is None:
        return epochs if recipe.epochs % 1 else counted(plan.steps // plan.steps_per_epoch, "epoch")
    return f"{recipe.train_time_s:g} s: {counted(plan.steps, 'step')}, {epochs}"


def _stage_table(plan: TrainingPlan, measured_s: list[float] | None = None) -> Table:
    """Return the stages with their times: forecast, and as measured if that is given."""
    more = ("measured", "images/s") if measured_s else ()
    found = table("stage", "steps", "px", "strengths", "forecast", *more, left=["strengths"])
    for number, stage in enumerate(plan.manifest.stages[:_MAX_STAGES]):
        cells = [str(number + 1), f"{stage.steps:,}", str(stage.image_size), str(stage.strengths)]
        cells.append(duration(plan.manifest.forecast.stage_times_s[number]))
        if seconds := measured_s and measured_s[number]:
            per_s = stage.steps * plan.manifest.recipe.batch_size / seconds
            cells += [duration(seconds), f"{per_s:,.0f}"]
        found.add_row(*cells, *["-"] * (len(found.names) - len(cells)))
    if len(plan.manifest.stages) > _MAX_STAGES:
        found.add_row("...", "", "", f"{len(plan.manifest.stages) - _MAX_STAGES} more")
    return found
