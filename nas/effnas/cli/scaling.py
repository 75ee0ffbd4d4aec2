"""`effnas scaling`: the networks that are trained, and the way to scale that they show."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from effnas.cli import tables
from effnas.cli.session import LongCommand
from effnas.cli.tables import counted, macs_text, networks, params_text, reasons
from effnas.config.codec import to_plain
from effnas.search.cost_estimate import memory_text
from effnas.workflows.scaling.candidates import ScaledNetwork
from effnas.workflows.scaling.launch import (
    LayerGrowth,
    ScalingObserver,
    ScalingReport,
    ScalingSettings,
    search_scaling,
)

if TYPE_CHECKING:
    from effnas.workflows.trainings.folder import Result
    from effnas.workflows.trainings.forecast import Forecast
    from effnas.workflows.trainings.standings import Schedule


#: Of a network's standing, in JSON.
_SHOWN = ("epochs", "chance", "train_time_s", "reason")


class ScalingCommand(LongCommand[ScalingSettings, ScalingReport], ScalingObserver):
    """Shows the plan, a line per training, the networks, and the command that scales so."""

    begins = "reading the base"
    stored = "What was trained"

    def work(self) -> ScalingReport:
        return search_scaling(self.settings, self)

    def planned(
        self, networks: Sequence[ScaledNetwork], schedule: Schedule, forecast: Forecast | None
    ) -> None:
        tried = self.settings.tried
        if isinstance(tried, LayerGrowth):
            what = (
                f"growths of layers for {tried.member} of {tried.rules.name}, all within "
                f"{tried.tolerance:.0%} of its predicted step time"
            )
        else:
            limits = " and ".join(limit.text for limit in tried.limits)
            what = f"of {counted(len(tried.grid), 'point')} of the grid, within {limits}"
        stops = f"; {schedule.stops}" if schedule.stops else ""
        self.plan(
            ("base", self.settings.base),
            ("networks", f"{len(networks)} {what}"),
            ("trainings", f"{self.settings.out}: {counted(schedule.seeds, 'seed')}, "
                          f"{counted(schedule.levels[-1], 'epoch')} each{stops}"),
            ("forecast", tables.forecast_text(forecast, "from the time of the base's trial")),
        )  # fmt: skip
        self.progress("training", 0, len(networks) * schedule.steps)

    def trained(self, result: Result) -> None:
        self.training_ended(result.candidate, result)

    def payload(self, report: ScalingReport) -> dict[str, Any]:
        best = report.best
        return {
            "best": best.name if best else None,
            "how": dict(best.how) if best else None,
            "command": shlex.join(self._command(report, best)) if best else None,
            "epochs": report.schedule.levels[-1],
            "seeds": report.schedule.seeds,
            "standings": [
                {
                    **to_plain(report.networks[each.name]),
                    **{name: getattr(each, name) for name in _SHOWN},
                    "accuracies": list(each.accuracies),
                }
                for each in report.standings
            ],
        }

    def _command(self, report: ScalingReport, best: ScaledNetwork) -> list[str]:
        """Return the command that scales the base as the best was scaled, as words."""
        tried = self.settings.tried
        if isinstance(tried, LayerGrowth):
            how = ["--family", str(report.rules)]
        else:
            how = [part for name, value in best.how.items() for part in (f"--{name}", f"{value:g}")]
            how += ["--phi", "1,2,3", "--round-limit", f"{tried.round_limit:g}"]
        return ["effnas", "scale", self.settings.base, *how]

    def show(self, report: ScalingReport) -> None:
        costs = report.networks[report.standings[0].name].costs
        more = ["memory"] * ("peak_memory_bytes" in costs) + ["S"] * ("step_time" in costs)
        standing = tables.standing_columns("accuracy")
        found = tables.table("network", "px", "params", "MACs", *more, *standing, "layers",
                             left=["network", "layers"], spare=["training", "layers"])  # fmt: skip
        for each in report.standings:
            network = report.networks[each.name]
            cells = [
                each.name,
                str(network.image_size),
                params_text(network.costs["params"]),
                macs_text(network.costs["macs"]),
            ]
            if "peak_memory_bytes" in costs:
                cells.append(memory_text(network.costs["peak_memory_bytes"]))
            if "step_time" in costs:
                cells.append(f"{network.costs['step_time']:.2f}")
            cells += tables.standing_cells(each)
            layers = " ".join(str(stage.r) for stage in network.architecture.stages)
            found.add_row(*cells, layers)
        self.screen.print(found)
        self.screen.print()
        shown = (report.networks[each.name] for each in report.standings[: tables.SHOWN_NETWORKS])
        self.screen.print(networks((each.name, each.architecture) for each in shown))
        self.say(reasons((each.name, each.reason) for each in report.standings))
        best, first = report.best, report.standings[0]
        if best is None:
            self.say("None could be trained to the end, so none is picked.")
            return
        self.say(
            f"\nPicked: {best.name}, accuracy {tables.with_spread(first.mean, first.spread)} over "
            f"{counted(report.schedule.seeds, 'seed')}; probability that it is the best of those "
            f"trained to the end: {tables.best_with(report.whole)}."
        )
        self.next(self._command(report, best))

    def succeeded(self, report: ScalingReport) -> bool:
        return report.best is not None
