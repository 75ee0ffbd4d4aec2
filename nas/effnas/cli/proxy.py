"""`effnas proxy`: how well a short training ranks networks, on the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from rich.text import Text

from effnas.cli.data_facts import worker_data_rows
from effnas.cli.session import LongCommand
from effnas.cli.tables import Table, counted, duration, facts, number, table
from effnas.cli.wording import with_options
from effnas.config.text import share_text
from effnas.workflows.proxy.launch import (
    Grid,
    ProxyObserver,
    ProxySettings,
    launch_check,
    launch_search,
)
from effnas.workflows.proxy.report import FidelityFigures, ProxyReport, SearchReport, Verdict
from effnas.workflows.proxy.statistics import MIN_RANKED, Estimate
from effnas.workflows.proxy.trainings import Fidelity, Training

#: A time that is longer by a smaller factor is called the same.
_SAME = 1.01

if TYPE_CHECKING:
    from effnas.trials.worker_info import WorkerInfo

Report = TypeVar("Report", ProxyReport, SearchReport)


class ProxyCommand(LongCommand[ProxySettings, Report], ProxyObserver):
    """Shows a line per training, and then a report."""

    stored = "What was trained"

    def prepared(self, ready: WorkerInfo) -> None:
        self.plan(("space", self.settings.source.name), *worker_data_rows(ready))
        if (count := self.settings.networks) < MIN_RANKED:
            self.note(
                f"{count} networks do not tell how well a proxy ranks, which takes {MIN_RANKED} or "
                "more, such as `networks` 8; this shows its accuracies, noise and cost alone.",
                "Warning",
            )

    def planned(self, trainings: int, seconds: float, most_s: float) -> None:
        text = f"{counted(trainings, 'training')} to do, about {duration(seconds)}"
        if most_s > seconds * _SAME:
            text += f"; about {duration(most_s)} if all settings have to be tried"
        self.say(text)
        self.progress("training", 0, trainings)

    def trained(self, training: Training) -> None:
        outcome = training.outcome
        came = outcome.reason or f"accuracy {outcome.accuracy:.4f}"
        took = f"  {duration(outcome.train_time_s)}" if outcome.train_time_s else ""
        self.say(
            f"{training.fidelity}, seed {training.repeat}: {came}{took}  {training.architecture}"
        )
        self.advance()

    def payload(self, report: Report) -> dict[str, Any]:
        return {"folder": str(self.settings.out), **report.to_dict()}

    def say_search(self, proxy: Fidelity) -> None:
        """Print the command that searches with a proxy."""
        asked = self.settings
        self.next(
            ["effnas", "search", "--space", asked.space, "--data", asked.data,
             "--epochs", proxy.epochs, "--image-size", proxy.image_size,
             "--data-share", f"{proxy.data_share:.6g}"]
        )  # fmt: skip

    def advise(self, texts: Iterable[str]) -> None:
        """Print what the user may do about a proxy."""
        for text in texts:
            self.say(f"- {text}")


def _with_options(report: ProxyReport) -> ProxyReport:
    return replace(report, advice=tuple(map(with_options, report.advice)))


class CheckCommand(ProxyCommand[ProxyReport]):
    """Checks one proxy."""

    def work(self) -> ProxyReport:
        study, trainings = launch_check(self.settings, self)
        return _with_options(study.report(trainings))

    def show(self, report: ProxyReport) -> None:
        rows = _report_rows(report, self.settings.networks)
        self.screen.print(facts([("folder", str(self.settings.out)), *rows]))
        if report.proxy_figures and report.high_figures:
            self.screen.print()
            self.screen.print(_fidelities(report.proxy_figures, report.high_figures))
            self.screen.print()
            self.screen.print(_agreements(report))
        self.screen.print()
        tau, threshold = report.tau, report.threshold
        if report.verdict is Verdict.KEPT:
            verdict = f"tau {tau.value:z.2f} is at least {threshold:g}."
            self.screen.print(Text.assemble((verdict, "bold green"), f" {_lower_end(report)}"))
        elif report.verdict is Verdict.LOW:
            nothing = " Its interval includes 0: its ranks tell nothing." * report.says_nothing
            self.note(
                f"tau {tau.value:z.2f} is below {threshold:g}: what this proxy ranks first need "
                f"not be best.{nothing}", "Warning",
            )  # fmt: skip
        elif report.verdict is Verdict.NOT_KNOWN:
            self.note("this check tells nothing of the proxy.", "Warning")
        else:
            self.note("nothing can be said of this proxy.", "Warning")
        self.advise(report.advice)
        if report.verdict is Verdict.KEPT:
            self.say_search(report.proxy)

    def succeeded(self, report: ProxyReport) -> bool:
        return report.verdict not in (Verdict.TOO_FEW, Verdict.UNDEFINED)


class ProxySearchCommand(ProxyCommand[SearchReport]):
    """Searches for the cheapest proxy."""

    def __init__(self, settings: ProxySettings, grid: Grid, *, as_json: bool) -> None:
        super().__init__(settings, as_json=as_json)
        self._grid = grid

    def work(self) -> SearchReport:
        study, trainings = launch_search(self.settings, self._grid, self)
        report = study.report(trainings)
        return replace(report, tried=tuple(map(_with_options, report.tried)))

    def show(self, report: SearchReport) -> None:
        self.screen.print(_tried(report))
        self.screen.print()
        chosen, best = report.chosen, report.best
        if chosen is not None:
            what = f"Cheapest that keeps tau >= {report.threshold:g}:"
            self.screen.print(Text.assemble((what, "bold green"), f" {chosen.proxy}"))
            self.say(f"tau {_interval(chosen.tau)}. {_lower_end(chosen)}")
            if untried := len(report.untried):
                self.say(f"{counted(untried, 'dearer setting')} not tried; all cheaper ones were.")
            self.say_search(chosen.proxy)
            return
        self.note(f"no setting reaches tau {report.threshold:g}.", "Warning")
        if best is None:
            self.say("No setting has a tau at all.")
            best = report.tried[0] if report.tried else None
        else:
            self.say(f"The best was {best.proxy}, tau {_interval(best.tau)}.")
        self.advise(best.advice if best else ())

    def succeeded(self, report: SearchReport) -> bool:
        return report.chosen is not None


def _report_rows(report: ProxyReport, asked_networks: int) -> list[tuple[str, str]]:
    networks = f"{report.networks}, spread over the space"
    found = report.networks + report.unfinished + len(report.infeasible)
    if found < asked_networks:
        networks += f"; the space holds {found} of the {asked_networks} asked for"
    if report.unfinished:
        networks += f"; {report.unfinished} unfinished"
    rows = [
        ("proxy", str(report.proxy)),
        ("compared with", str(report.high)),
        ("networks", networks),
    ]
    if report.infeasible:
        reasons = sorted({reason for _, reason in report.infeasible})
        rows.append(("left out", f"{len(report.infeasible)} infeasible: {'; '.join(reasons[:3])}"))
    cost = f"{duration(report.total_time_s)} of training in all"
    if report.cost_ratio is not None:
        share = share_text(report.cost_ratio, 1)
        cost += f"; one at the proxy takes {share} of one at the higher fidelity"
    if len(report.hardware) > 1:
        cost += f"; on different devices, so times do not compare: {', '.join(report.hardware)}"
    return [*rows, ("cost", cost)]


def _fidelities(proxy: FidelityFigures, high: FidelityFigures) -> Table:
    found = table("accuracies", "proxy", "compared with", left=["accuracies"])
    rows: dict[str, Callable[[FidelityFigures], str]] = {
        "seeds of a network": lambda f: str(f.seeds),
        "mean": lambda f: f"{f.accuracy:.4f}",
        "networks' means": lambda f: f"{f.accuracy_low:.4f} to {f.accuracy_high:.4f}",
        "deviation over seeds": lambda f: _interval(f.seed_deviation_points, " points"),
        "deviation between networks": lambda f: number(f.network_deviation_points, "{:.2f} points"),
        "variance between networks": lambda f: (
            "-" if f.reliability is None else share_text(f.reliability)
        ),
        "standard error of the hold-out": lambda f: f"{f.holdout_error_points:.2f} points",
        "time of a training": lambda f: duration(f.train_time_s) if f.train_time_s else "-",
    }
    for name, text in rows.items():
        found.add_row(name, text(proxy), text(high))
    return found


def _agreements(report: ProxyReport) -> Table:
    first = "agreement (95% interval)"
    found = table(first, "Kendall's tau", "Spearman's rho", left=[first])
    assert report.proxy_figures is not None
    rows = [("one seed, as in a search", report.single)]
    if report.proxy_figures.seeds > 1:
        rows.append((f"mean of {report.proxy_figures.seeds} seeds", report.averaged))
    for name, agreement in rows:
        both = (agreement.kendall, agreement.spearman)
        unknown = f"not known from {report.networks} networks"
        found.add_row(name, *(_interval(each) if each.value is not None else unknown
                              for each in both))  # fmt: skip
    if report.noise_limit is not None:
        found.add_row("one seed, if noise were all", f"{report.noise_limit:.2f}", "")
    return found


def _lower_end(report: ProxyReport) -> str:
    low = report.tau.low
    if low is not None and low >= report.threshold:
        return "So is the lower end of its interval."
    return "The lower end of its interval is not."


def _tried(report: SearchReport) -> Table:
    found = table("epochs", "image", "share", "time", "of the higher", "tau", "networks", "",
                  key=3, spare=["of the higher"])  # fmt: skip
    for tried in report.tried:
        fidelity, figures = tried.proxy, tried.proxy_figures
        kept = tried.verdict is Verdict.KEPT
        found.add_row(
            str(fidelity.epochs),
            f"{fidelity.image_size} px",
            f"{fidelity.data_share:.3g}",
            duration(figures.train_time_s) if figures and figures.train_time_s else "-",
            "-" if tried.cost_ratio is None else share_text(tried.cost_ratio, 1),
            _interval(tried.tau),
            str(tried.networks),
            Text("keeps tau", style="green") if kept else tried.verdict.lower().replace("_", " "),
        )
    return found


def _interval(estimate: Estimate, unit: str = "") -> str:
    if estimate.value is None:
        return "undefined"
    if estimate.low is None:
        return f"{estimate.value:z.2f}{unit}"
    return f"{estimate.value:z.2f} ({estimate.low:z.2f} to {estimate.high:z.2f}){unit}"
