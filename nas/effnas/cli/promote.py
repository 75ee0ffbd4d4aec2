"""`effnas promote`: the finals of a search, and the network that they pick."""

from __future__ import annotations

import json
import shlex
import signal
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, Progress
from rich.table import Table

from effnas.cli.search import INTERRUPTED, interrupt
from effnas.cli.tables import (
    console,
    duration,
    epochs_text,
    facts,
    progress_on,
)
from effnas.train.checkpoints import weights_file
from effnas.workflows.finals.evaluate_test import FinalTest
from effnas.workflows.finals.finalists import Finalist
from effnas.workflows.finals.launch import FinalsObserver, FinalsSettings, launch_finals
from effnas.workflows.finals.report import FinalistStanding, FinalsReport
from effnas.workflows.trainings.folder import WEIGHTS, Result

if TYPE_CHECKING:
    from rich.console import Console

    from effnas.config.settings import Recipe
    from effnas.trials.run import Run
    from effnas.workflows.trainings.schedule import Schedule


def run_promote(settings: FinalsSettings, *, as_json: bool) -> int:
    """Hold the finals and show what came of them; return the exit code.

    Raises:
        UserError: If something given is wrong.
    """
    screen = console(stderr=as_json)
    signal.signal(signal.SIGTERM, interrupt)
    with progress_on(screen, BarColumn()) as progress:
        display = _Display(screen, progress, settings)
        try:
            report = launch_finals(settings, display)
        except KeyboardInterrupt:
            screen.print(
                f"\nStopped. What was trained is stored in {settings.out}; the same command goes "
                "on."
            )
            return INTERRUPTED
    if as_json:
        print(json.dumps(_payload(report, settings), indent=2))
    else:
        _show(console(), report, settings)
    return 0 if report.base else 1


class _Display(FinalsObserver):
    """Shows what is going on."""

    def __init__(self, screen: Console, progress: Progress, settings: FinalsSettings) -> None:
        self._screen = screen
        self._progress = progress
        self._settings = settings
        self._task = progress.add_task("reading the run", total=None)

    def planned(
        self, run: Run, finalists: Sequence[Finalist], recipe: Recipe, schedule: Schedule
    ) -> None:
        by_front = sum(finalist.reason == "front" for finalist in finalists)
        levels = ", ".join(map(str, schedule.levels))
        self._screen.print(
            facts(
                [
                    ("search", f"{run.path}: {len(run.trials)} trials"),
                    ("finals", f"{self._settings.out}: {len(finalists)} networks, "
                               f"{len(finalists) - by_front} by reward and {by_front} more from "
                               f"the front; {schedule.seeds} seeds each"),
                    ("training", f"{epochs_text(recipe.epochs)} of {recipe.data_share:.0%} of "
                                 f"the images at {recipe.image_size} px; compared after {levels}, "
                                 "where the weaker half stops"),
                ]
            )
        )  # fmt: skip
        self._screen.print()
        self._progress.update(
            self._task, description="training", total=len(finalists) * schedule.steps, completed=0
        )

    def testing(self) -> None:
        self._progress.update(self._task, description="reading the test part", total=None)

    def trained(self, finalist: Finalist, result: Result, reward: float | None) -> None:
        self._progress.advance(self._task)
        who = f"trial {finalist.trial.number}  seed {result.repeat}  {epochs_text(result.epochs)}"
        if result.accuracy is None or reward is None:
            self._screen.print(f"{who}  [yellow]infeasible[/]: {result.reason}")
        else:
            self._screen.print(f"{who}  accuracy {result.accuracy:.4f}  reward {reward:.4f}")


def _payload(report: FinalsReport, settings: FinalsSettings) -> dict[str, Any]:
    base = report.base
    return {
        "epochs": report.epochs,
        "seeds": report.seeds,
        "proxy_correlation": asdict(report.correlation),
        "proxy_correlation_epochs": report.correlation_epochs,
        "base": base.finalist.trial.number if base else None,
        "weights": str(_weights(base, settings)) if base else None,
        "test": report.test.to_dict() if report.test else None,
        "standings": [standing.to_row() for standing in report.standings],
    }


def _weights(base: FinalistStanding, settings: FinalsSettings) -> Path:
    """Return the weights of the base's seed of middle accuracy: the best would owe it to luck."""
    order = sorted(range(len(base.accuracies)), key=lambda n: base.accuracies[n])
    middle = order[(len(order) - 1) // 2]
    return weights_file(settings.out / WEIGHTS, base.finalist.trial.architecture, middle)


def _show(screen: Console, report: FinalsReport, settings: FinalsSettings) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("rank", "trial", "by", "epochs", "reward", "accuracy", "proxy", "best with",
                 "training"):  # fmt: skip
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("architecture", overflow="fold", min_width=30)
    for rank, each in enumerate(report.standings, start=1):
        trial = each.finalist.trial
        table.add_row(
            str(rank),
            str(trial.number),
            each.finalist.reason,
            str(each.epochs),
            f"{each.mean:.4f} ±{each.spread:.4f}" if each.scores else "-",
            "-" if each.accuracy is None else f"{each.accuracy:.4f}",
            f"{trial.reward:.4f}",
            f"{each.chance:.0%}" if each.epochs == report.epochs else "-",
            duration(each.train_time_s),
            str(trial.architecture),
        )
    screen.print(table)
    for each in report.standings:
        if each.reason:
            screen.print(f"\ntrial {each.finalist.trial.number}: {each.reason}")
    screen.print(f"\n{_correlation_text(report)}")
    base = report.base
    if base is None:
        screen.print("None could be trained to the end, so no network is picked.")
        return
    screen.print(
        f"Picked: trial {base.finalist.trial.number}, reward {base.mean:.4f} ±{base.spread:.4f} "
        f"over {report.seeds} seeds; the best of the finals with a probability of "
        f"{base.chance:.0%}.\nIts weights (the seed of middle accuracy): "
        f"{_weights(base, settings)}\n{_test_text(base, report.test)}"
    )
    network = shlex.quote(f"{settings.run}:{base.finalist.trial.number}")
    weights = shlex.quote(str(_weights(base, settings)))
    screen.print(f"\nFor other programs:\n  effnas export {network} --weights {weights}")


def _test_text(base: FinalistStanding, test: FinalTest | None) -> str:
    if test is None:
        return (
            "Its accuracy is that on held-out images, which it was picked by; the test part of the "
            "data was not read (--test reads it, once)."
        )
    if test.architecture_id != base.finalist.trial.architecture.id:
        return (
            f"The test part of the data was read for trial {test.trial}, which was picked before."
        )
    seeds = len(test.accuracies)
    skipped = f", {len(test.skipped)} more cannot be decoded" if test.skipped else ""
    return (
        f"On the part {test.part!r} of {test.data} ({test.images:,} images{skipped}): accuracy "
        f"{test.mean:.4f} ±{test.spread:.4f} over {seeds} seed{'s' * (seeds != 1)}. It was read "
        f"once, on {test.date[:10]}."
    )


def _correlation_text(report: FinalsReport) -> str:
    found = report.correlation
    if found.value is None:
        return "Too few networks to say whether the search's short trainings rank as these do."
    interval = ""
    if found.low is not None and found.high is not None:
        interval = f" (95 % interval {found.low:.2f} to {found.high:.2f})"
    return (
        f"The search's short trainings rank these networks as those of "
        f"{epochs_text(report.correlation_epochs)} do with a rank correlation of "
        f"{found.value:.2f}{interval}. They are the best of the search, which differ little: "
        "expect less than what `effnas proxy check` says of all."
    )
