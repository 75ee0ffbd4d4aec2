"""`effnas promote`: the finals of a search, and the network that they pick."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effnas.cli.pages import finals_page
from effnas.cli.report import ReportingCommand
from effnas.cli.tables import (
    SHOWN_NETWORKS,
    best_with,
    counted,
    duration,
    forecast_text,
    networks,
    number,
    reasons,
    standing_cells,
    standing_columns,
    table,
    with_spread,
)
from effnas.report.parts import Page
from effnas.train.checkpoints import weights_file
from effnas.trials.reward import Reward
from effnas.trials.run import load_run
from effnas.workflows.finals.evaluate_test import FinalTest
from effnas.workflows.finals.finalists import Finalist
from effnas.workflows.finals.launch import FinalsObserver, FinalsSettings, launch_finals
from effnas.workflows.finals.report import FinalistStanding, FinalsReport
from effnas.workflows.trainings.folder import WEIGHTS, Result

if TYPE_CHECKING:
    from effnas.config.settings import Recipe
    from effnas.trials.run import Run
    from effnas.workflows.trainings.forecast import Forecast
    from effnas.workflows.trainings.standings import Schedule


class PromoteCommand(ReportingCommand[FinalsSettings, FinalsReport], FinalsObserver):
    """Shows the plan, a line per training, the finalists, and the one that is picked."""

    begins = "reading the run"
    stored = "What was trained"

    def work(self) -> FinalsReport:
        report = launch_finals(self.settings, self)
        self.write_report(report)
        return report

    def planned(
        self,
        run: Run,
        finalists: Sequence[Finalist],
        recipe: Recipe,
        schedule: Schedule,
        forecast: Forecast | None,
    ) -> None:
        by_front = sum(finalist.reason == "front" for finalist in finalists)
        levels = ", ".join(map(str, schedule.levels))
        self.plan(
            ("search", f"{run.path}: {counted(len(run.trials), 'trial')}"),
            ("finals", f"{self.settings.out}: {counted(len(finalists), 'network')}, "
                       f"{len(finalists) - by_front} by reward and {by_front} more from the "
                       f"Pareto front; {counted(schedule.seeds, 'seed')} each"),
            ("training", f"{counted(recipe.epochs, 'epoch')} of {recipe.data_share:.0%} of the "
                         f"images at {recipe.image_size} px; compared after {levels}, where "
                         "the weaker half stops"),
            ("forecast", forecast_text(forecast, "from the times of these trials")),
        )  # fmt: skip
        self.progress("training", 0, len(finalists) * schedule.steps)

    def testing(self) -> None:
        self.preparing("reading the test part")

    def trained(self, finalist: Finalist, result: Result, reward: float | None) -> None:
        scores = "" if reward is None else f"  reward {reward:z.4f}"
        self.training_ended(f"trial {finalist.trial.number}", result, scores)

    def payload(self, report: FinalsReport) -> dict[str, Any]:
        base = report.base
        return {
            "epochs": report.epochs,
            "seeds": report.seeds,
            "proxy_correlation": asdict(report.correlation),
            "proxy_correlation_epochs": report.correlation_epochs,
            "base": base.finalist.trial.number if base else None,
            "weights": str(_weights(base, self.settings)) if base else None,
            "test": report.test.to_dict() if report.test else None,
            "standings": [standing.to_row() for standing in report.standings],
        }

    def page(self, report: FinalsReport) -> Page:
        del report
        given = self.settings.reward
        return finals_page(self.settings.out, Reward.load(given) if given else None)

    def show(self, report: FinalsReport) -> None:
        if report.whole:
            self._show_standings(report.whole)
        if report.stopped:
            self.say("Stopped early, so not to be compared with those trained to the end:")
            self._show_standings(report.stopped, ranked=False)
        self.say(reasons((f"trial {s.finalist.trial.number}", s.reason) for s in report.standings))
        self.say(_correlation_text(report))
        base = report.base
        if base is None:
            self.say("None could be trained to the end, so no network is picked.")
            self.say_report()
            return
        weights = _weights(base, self.settings)
        self.say(
            f"Picked: trial {base.finalist.trial.number}, reward "
            f"{with_spread(base.mean, base.spread)} over {counted(report.seeds, 'seed')}; "
            f"probability that it is the best of those trained to the end: "
            f"{best_with(report.whole)}.\nIts weights (the seed of middle accuracy): {weights}\n"
            f"{_test_text(base, report.test)}"
        )
        self._show_guessing(base)
        picked = base.finalist.trial.number
        network = f"{self.settings.run}:{picked}"
        self.say_report()
        self.next(
            ["effnas", "export", network, "--weights", weights],
            ["effnas", "scale", network, "--out", f"families/{self.settings.run.name}-{picked}"],
        )

    def _show_guessing(self, base: FinalistStanding) -> None:
        """Print what guessing gives, and warn if the network is hardly better."""
        data = load_run(self.settings.run).manifest.data
        guessing, images = data.majority_share or data.chance, data.holdout_images
        if guessing is None or not images or base.accuracy is None:
            return
        self.say(f"Always guessing the largest class gives {guessing:.4f}.")
        if base.accuracy <= guessing + 2 * sqrt(guessing * (1 - guessing) / images):
            self.note(
                f"{base.accuracy:.4f} on {counted(images, 'held-out image')} is not clearly more "
                "than that: the pick says nothing. What helps: `epochs`, more images, or another "
                "`learning_rate`.",
                "Warning",
            )

    def _show_standings(
        self, standings: Sequence[FinalistStanding], *, ranked: bool = True
    ) -> None:
        found = table(
            "rank", "trial", "by", "proxy", "accuracy", *standing_columns("reward"), key=2,
            left=["by"], spare=["training"],
        )  # fmt: skip
        for rank, each in enumerate(standings, start=1):
            trial = each.finalist.trial
            found.add_row(
                str(rank) if ranked else "-",
                str(trial.number),
                each.finalist.reason,
                number(trial.reward, "{:z.4f}"),
                number(each.accuracy, "{:.4f}"),
                *standing_cells(each),
            )
        self.screen.print(found)
        if any(each.spread is not None for each in standings):
            self.screen.print("±: the standard deviation over seeds", style="dim")
        self.screen.print()
        for each in standings[:SHOWN_NETWORKS]:
            trial = each.finalist.trial
            name = f"trial {trial.number} · {duration(each.train_time_s)} of training"
            self.screen.print(networks([(name, trial.architecture)]))
        self.screen.print()

    def succeeded(self, report: FinalsReport) -> bool:
        return report.base is not None


def _weights(base: FinalistStanding, settings: FinalsSettings) -> Path:
    arch = base.finalist.trial.architecture
    return weights_file(settings.out / WEIGHTS, arch, base.middle_seed)


def _test_text(base: FinalistStanding, test: FinalTest | None) -> str:
    if test is None:
        return (
            "Its accuracy is that on held-out images, which it was picked by; the test part of the "
            "data was not read (--test reads it, once)."
        )
    if test.architecture_id != base.finalist.trial.architecture.id:
        return f"The test part of the data was read for trial {test.trial}, picked before."
    seeds = len(test.accuracies)
    skipped = f", {len(test.skipped)} more cannot be decoded" if test.skipped else ""
    return (
        f"On the part {test.part!r} of {test.data} ({counted(test.images, 'image')}{skipped}): "
        f"accuracy {with_spread(test.mean, test.spread)} over {counted(seeds, 'seed')}. It was "
        f"read once, on {test.date[:10]}."
    )


def _correlation_text(report: FinalsReport) -> str:
    found = report.correlation
    if found.value is None:
        return (
            "Whether the search's short trainings rank as these do is not known from "
            f"{counted(report.correlated, 'network')}."
        )
    interval = f" (95 % interval {found.low:z.2f} to {found.high:z.2f})"
    return (
        f"The search's short trainings rank these networks as those of "
        f"{counted(report.correlation_epochs, 'epoch')} do with a rank correlation of "
        f"{found.value:z.2f}{interval}. They are the best of the search, which differ little: "
        "expect less than what `effnas proxy check` says of all."
    )
