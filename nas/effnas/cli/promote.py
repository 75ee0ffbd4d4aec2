"""`effnas promote`: the finals of a search, and the network that they pick."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from effnas.cli.finals import after_finals, finals_json, say_finals
from effnas.cli.following import pasted
from effnas.cli.report import ReportingCommand
from effnas.cli.tables import counted, forecast_text
from effnas.config.text import share_text
from effnas.report.about_finals import report_finals
from effnas.report.parts import Page
from effnas.trials.learning_curve import predicted_text
from effnas.workflows.finals.finalists import Finalist
from effnas.workflows.finals.launch import FinalsObserver, FinalsSettings, launch_finals
from effnas.workflows.finals.stored import StoredFinals
from effnas.workflows.trainings.folder import Result

if TYPE_CHECKING:
    from effnas.config.recipe import Recipe
    from effnas.trials.run import Run
    from effnas.workflows.trainings.forecast import Forecast
    from effnas.workflows.trainings.standings import Schedule


class PromoteCommand(ReportingCommand[FinalsSettings, StoredFinals], FinalsObserver):
    """Shows the plan, a line per training, the finalists, and the one that is picked."""

    begins = "reading the run"
    stored = "What was trained"
    _recipe: Recipe | None = None

    def work(self) -> StoredFinals:
        finals = launch_finals(self.settings, self)
        self.write_report(finals)
        return finals

    def planned(
        self,
        run: Run,
        finalists: Sequence[Finalist],
        recipe: Recipe,
        schedule: Schedule,
        forecast: Forecast | None,
    ) -> None:
        self._recipe = recipe
        share = share_text(recipe.data_share or 1.0)
        reasons = Counter(finalist.reason for finalist in finalists)
        by_curve = ", 1 by its learning curve" if reasons["curve"] else ""
        stops = f"; {schedule.stops}" if schedule.stops else ""
        self.plan(
            ("search", f"{run.path}: {counted(len(run.trials), 'trial')}"),
            ("accuracies", predicted_text(run.trials)),
            ("finals", f"{self.settings.out}: {counted(len(finalists), 'network')}, "
                       f"{reasons['reward']} by reward{by_curve} and {reasons['front']} more from "
                       f"the Pareto front; {counted(schedule.seeds, 'seed')} each"),
            ("training", f"{recipe.length_text()} of {share} of the "
                         f"images at {recipe.sizes_text}{stops}"),
            ("forecast", forecast_text(forecast, "from the times of these trials")),
        )  # fmt: skip
        self.progress("training", 0, len(finalists) * schedule.steps)

    def testing(self) -> None:
        self.preparing("reading the test part")

    def trained(self, finalist: Finalist, result: Result, reward: float | None) -> None:
        scores = "" if reward is None else f"  reward {reward:z.4f}"
        length = self._recipe.length_text(result.epochs) if self._recipe else ""
        self.training_ended(f"trial {finalist.trial.number}", result, scores, length)

    def payload(self, finals: StoredFinals) -> dict[str, Any]:
        return finals_json(finals)

    def page(self, finals: StoredFinals) -> Page:
        return report_finals(finals, lambda finals: pasted(after_finals(finals)))

    def show(self, finals: StoredFinals) -> None:
        say_finals(self.screen, finals)
        self.say_report()
        self.next(*(words for _, words in after_finals(finals)))

    def succeeded(self, finals: StoredFinals) -> bool:
        return finals.report.base is not None
