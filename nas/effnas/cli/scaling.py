"""`effnas scaling`: the networks that are trained, and the way to scale that they show."""

from __future__ import annotations

import json
import shlex
import signal
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, Progress
from rich.table import Table

from effnas.cli.search import INTERRUPTED, interrupt
from effnas.cli.tables import (
    console,
    duration,
    epochs_text,
    facts,
    macs_text,
    progress_on,
)
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
    from rich.console import Console

    from effnas.workflows.trainings.folder import Result
    from effnas.workflows.trainings.schedule import Schedule


def run_scaling(settings: ScalingSettings, *, as_json: bool) -> int:
    """Search for a way to scale and show what came of it; return the exit code.

    Raises:
        UserError: If something given is wrong.
    """
    screen = console(stderr=as_json)
    signal.signal(signal.SIGTERM, interrupt)
    with progress_on(screen, BarColumn()) as progress:
        display = _Display(screen, progress, settings)
        try:
            report = search_scaling(settings, display)
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
    return 0 if report.best else 1


class _Display(ScalingObserver):
    """Shows what is going on."""

    def __init__(self, screen: Console, progress: Progress, settings: ScalingSettings) -> None:
        self._screen = screen
        self._progress = progress
        self._settings = settings
        self._task = progress.add_task("reading the base", total=None)

    def progress(self, what: str, done: int, total: int) -> None:
        self._progress.update(self._task, description=what, completed=done, total=total)

    def planned(self, networks: Sequence[ScaledNetwork], schedule: Schedule) -> None:
        tried = self._settings.tried
        if isinstance(tried, LayerGrowth):
            what = (
                f"growths of layers for {tried.member} of {tried.rules.name}, all within "
                f"{tried.tolerance:.0%} of its predicted step time"
            )
        else:
            limits = " and ".join(limit.text for limit in tried.limits)
            what = f"of {len(tried.grid)} points of the grid, within {limits}"
        *levels, last = schedule.levels
        stops = f"; after {' and '.join(map(str, levels))} the weaker half stops" if levels else ""
        self._screen.print(
            facts(
                [
                    ("base", self._settings.base),
                    ("networks", f"{len(networks)} {what}"),
                    ("trainings", f"{self._settings.out}: seeds: {schedule.seeds}, "
                                  f"{epochs_text(last)} each{stops}"),
                ]
            )
        )  # fmt: skip
        self._screen.print()
        self._progress.update(
            self._task, description="training", total=len(networks) * schedule.steps, completed=0
        )

    def trained(self, result: Result) -> None:
        self._progress.advance(self._task)
        who = f"{result.candidate}  seed {result.repeat}  {epochs_text(result.epochs)}"
        if result.accuracy is None:
            self._screen.print(f"{who}  [yellow]infeasible[/]: {result.reason}")
        else:
            self._screen.print(f"{who}  accuracy {result.accuracy:.4f}")


def _payload(report: ScalingReport, settings: ScalingSettings) -> dict[str, Any]:
    best = report.best
    return {
        "best": best.name if best else None,
        "how": dict(best.how) if best else None,
        "command": _command(report, settings) if best else None,
        "epochs": report.schedule.levels[-1],
        "seeds": report.schedule.seeds,
        "standings": [
            {
                **to_plain(report.networks[each.name]),
                "epochs": each.epochs,
                "accuracies": list(each.accuracies),
                "chance": each.chance,
                "train_time_s": each.train_time_s,
                "reason": each.reason,
            }
            for each in report.standings
        ],
    }


def _command(report: ScalingReport, settings: ScalingSettings) -> str:
    """Return the command that scales the base so."""
    best = report.best
    assert best is not None
    tried = settings.tried
    if isinstance(tried, LayerGrowth):
        how = ["--family", str(report.rules)]
    else:
        how = [part for name, value in best.how.items() for part in (f"--{name}", f"{value:g}")]
        how += ["--phi", "1,2,3", "--round-limit", f"{tried.round_limit:g}"]
    return shlex.join(["effnas", "scale", settings.base, *how])


def _show(screen: Console, report: ScalingReport, settings: ScalingSettings) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    costs = report.networks[report.standings[0].name].costs
    names = ["", "layers", "px", "params", "MACs"]
    names += ["memory"] * ("peak_memory_bytes" in costs) + ["S"] * ("step_time" in costs)
    for name in (*names, "epochs", "accuracy", "best with", "training"):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    for each in report.standings:
        network = report.networks[each.name]
        cells = [
            each.name,
            " ".join(str(stage.r) for stage in network.architecture.stages),
            str(network.image_size),
            f"{network.costs['params'] / 1e6:,.2f} M",
            macs_text(network.costs["macs"]),
        ]
        if "peak_memory_bytes" in costs:
            cells.append(memory_text(network.costs["peak_memory_bytes"]))
        if "step_time" in costs:
            cells.append(f"{network.costs['step_time']:.2f}")
        table.add_row(
            *cells,
            str(each.epochs),
            "-" if each.accuracy is None else f"{each.accuracy:.4f} ±{each.spread:.4f}",
            f"{each.chance:.0%}" if each.epochs == report.schedule.levels[-1] else "-",
            duration(each.train_time_s),
        )
    screen.print(table)
    for each in report.standings:
        if each.reason:
            screen.print(f"\n{each.name}: {each.reason}")
    best = report.best
    if best is None:
        screen.print("\nNone could be trained to the end, so none is picked.")
        return
    first = report.standings[0]
    screen.print(
        f"\nPicked: {best.name}, accuracy {first.mean:.4f} ±{first.spread:.4f} over "
        f"{report.schedule.seeds} seeds; the best of those trained to the end with a probability "
        f"of {first.chance:.0%}.\nTo scale the base so: {_command(report, settings)}"
    )
