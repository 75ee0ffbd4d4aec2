"""`effnas proxy`: how well a short training ranks networks, on the terminal."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
)
from rich.table import Table

from effnas.cli.search import INTERRUPTED, interrupt
from effnas.cli.tables import (
    console,
    duration,
    facts,
    progress_on,
)
from effnas.cli.wording import with_options
from effnas.workflows.proxy.launch import (
    Grid,
    ProxyObserver,
    ProxySettings,
    launch_check,
    launch_search,
)
from effnas.workflows.proxy.report import FidelityFigures, ProxyReport, Verdict
from effnas.workflows.proxy.search import SearchReport
from effnas.workflows.proxy.statistics import Estimate
from effnas.workflows.proxy.trainings import Training


def run_check(settings: ProxySettings, *, as_json: bool) -> int:
    """Check a proxy and show the report; return the exit code.

    Raises:
        UserError: If something given is wrong.
    """
    with _observed(settings, as_json) as observer:
        try:
            study, trainings = launch_check(settings, observer)
        except KeyboardInterrupt:
            return observer.stopped()
    report = study.report(trainings)
    return show_check(report, out=settings.out, asked_networks=settings.networks, as_json=as_json)


def run_proxy_search(settings: ProxySettings, grid: Grid, *, as_json: bool) -> int:
    """Search for a proxy and show the report; return the exit code.

    Raises:
        UserError: If something given is wrong.
    """
    with _observed(settings, as_json) as observer:
        try:
            study, trainings = launch_search(settings, grid, observer)
        except KeyboardInterrupt:
            return observer.stopped()
    return show_search(study.report(trainings), out=settings.out, as_json=as_json)


@contextmanager
def _observed(settings: ProxySettings, as_json: bool) -> Iterator[_Display]:
    screen = console(stderr=as_json)
    signal.signal(signal.SIGTERM, interrupt)
    with progress_on(screen, BarColumn(), MofNCompleteColumn()) as progress:
        yield _Display(screen, progress, settings)


class _Display(ProxyObserver):
    """Shows what is being trained, a line for each training."""

    def __init__(self, screen: Console, progress: Progress, settings: ProxySettings) -> None:
        self._screen = screen
        self._progress = progress
        self._settings = settings
        self._task = progress.add_task("starting", total=None)

    def preparing(self, what: str) -> None:
        self._progress.update(self._task, description=what)

    def planned(self, trainings: int, seconds: float) -> None:
        self._screen.print(f"{trainings} trainings to do, about {duration(seconds)}")
        self._progress.reset(self._task, total=trainings, description="training")

    def trained(self, training: Training) -> None:
        outcome = training.outcome
        came = outcome.reason or f"accuracy {outcome.accuracy:.4f}"
        took = f"  {duration(outcome.train_time_s)}" if outcome.train_time_s else ""
        self._screen.print(
            f"{training.fidelity}, seed {training.repeat}: {came}{took}  {training.architecture}",
            soft_wrap=True,
        )
        self._progress.update(self._task, advance=1, description="training")

    def stopped(self) -> int:
        self._screen.print(
            f"\nStopped. What was trained is stored in {self._settings.out}; the same command goes "
            "on."
        )
        return INTERRUPTED


def show_check(
    report: ProxyReport,
    *,
    out: Path,
    asked_networks: int,
    as_json: bool,
    screen: Console | None = None,
) -> int:
    """Print the report of a check; return the exit code.

    Args:
        report: What was found.
        out: The folder of the trainings.
        asked_networks: How many networks the user asked for.
        as_json: Print JSON instead.
        screen: Where to print; the terminal by default.

    Returns:
        0, or 1 if nothing can be said: fewer than 4 networks, or no tau.
    """
    failed = report.verdict in (Verdict.TOO_FEW, Verdict.UNDEFINED)
    if as_json:
        print(json.dumps({"folder": str(out), **report.to_dict()}, indent=2))
        return int(failed)
    screen = screen or console()
    screen.print(facts([("folder", str(out)), *_report_rows(report, asked_networks)]))
    if report.proxy_figures and report.high_figures:
        screen.print()
        screen.print(_fidelities(report.proxy_figures, report.high_figures))
        screen.print()
        screen.print(_agreements(report))
    screen.print()
    _print_verdict(report, screen)
    return int(failed)


def show_search(
    report: SearchReport, *, out: Path, as_json: bool, screen: Console | None = None
) -> int:
    """Print the report of a search; return the exit code.

    Args:
        report: What was found.
        out: The folder of the trainings.
        as_json: Print JSON instead.
        screen: Where to print; the terminal by default.

    Returns:
        0, or 1 if no setting keeps tau.
    """
    if as_json:
        print(json.dumps({"folder": str(out), **report.to_dict()}, indent=2))
        return int(report.chosen is None)
    screen = screen or console()
    screen.print(_tried(report))
    screen.print()
    chosen, best = report.chosen, report.best
    if chosen is not None:
        fidelity = chosen.proxy
        screen.print(
            f"[bold green]Cheapest that keeps tau >= {report.threshold:g}:[/] {fidelity}: "
            f"--epochs {fidelity.epochs} --image-size {fidelity.image_size} "
            f"--data-share {fidelity.data_share:.6g}"
        )
        screen.print(f"tau {_interval(chosen.tau)}. {_lower_end(chosen)}")
        if report.untried:
            screen.print(
                f"{len(report.untried)} dearer settings were not tried; all cheaper ones were."
            )
        return 0
    screen.print(f"[bold yellow]Warning:[/] no setting reaches tau {report.threshold:g}.")
    if best is None:
        screen.print("No setting has a tau at all.")
        best = report.tried[0] if report.tried else None
    else:
        screen.print(f"The best was {best.proxy}, tau {_interval(best.tau)}.")
    for advice in best.advice if best else ():
        screen.print(f"- {with_options(advice)}")
    return 1


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
        cost += f"; one at the proxy takes {report.cost_ratio:.1%} of one at the higher fidelity"
    if len(report.hardware) > 1:
        cost += f"; on different devices, so times do not compare: {', '.join(report.hardware)}"
    return [*rows, ("cost", cost)]


def _fidelities(proxy: FidelityFigures, high: FidelityFigures) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("accuracies")
    table.add_column("proxy", justify="right")
    table.add_column("compared with", justify="right")
    columns = [
        [
            str(f.seeds),
            f"{f.accuracy:.4f}",
            f"{f.accuracy_low:.4f} to {f.accuracy_high:.4f}",
            _interval(f.seed_deviation_points, " points"),
            _number(f.network_deviation_points, "{:.2f} points"),
            _number(f.reliability, "{:.0%}"),
            f"{f.holdout_error_points:.2f} points",
            duration(f.train_time_s) if f.train_time_s else "-",
        ]
        for f in (proxy, high)
    ]
    names = (
        "seeds of a network",
        "mean",
        "networks' means",
        "deviation over seeds",
        "deviation between networks",
        "variance between networks",
        "standard error of the hold-out",
        "time of a training",
    )
    for name, *cells in zip(names, *columns, strict=True):
        table.add_row(name, *cells)
    return table


def _agreements(report: ProxyReport) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("agreement (95 % interval)", "Kendall's tau", "Spearman's rho"):
        table.add_column(name, justify="left" if "(" in name else "right")
    assert report.proxy_figures is not None
    rows = [("one seed, as in a search", report.single)]
    if report.proxy_figures.seeds > 1:
        rows.append((f"mean of {report.proxy_figures.seeds} seeds", report.averaged))
    for name, agreement in rows:
        table.add_row(name, _interval(agreement.kendall), _interval(agreement.spearman))
    if report.noise_limit is not None:
        table.add_row("one seed, if noise were all", f"{report.noise_limit:.2f}", "")
    return table


def _print_verdict(report: ProxyReport, screen: Console) -> None:
    tau, threshold = report.tau, report.threshold
    if report.verdict is Verdict.KEPT:
        screen.print(
            f"[bold green]tau {tau.value:.2f} is at least {threshold:g}.[/] {_lower_end(report)}"
        )
    elif report.verdict is Verdict.LOW:
        screen.print(
            f"[bold yellow]Warning:[/] tau {tau.value:.2f} is below {threshold:g}: what this proxy "
            "ranks first need not be best."
        )
    else:
        screen.print("[bold yellow]Warning:[/] nothing can be said of this proxy.")
    for advice in report.advice:
        screen.print(f"- {with_options(advice)}")


def _lower_end(report: ProxyReport) -> str:
    low = report.tau.low
    if low is not None and low >= report.threshold:
        return "So is the lower end of its interval."
    return "The lower end of its interval is not."


def _tried(report: SearchReport) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("epochs", "image", "share", "time", "of the higher", "tau", "networks", ""):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    for tried in report.tried:
        fidelity, figures = tried.proxy, tried.proxy_figures
        kept = tried.verdict is Verdict.KEPT
        table.add_row(
            str(fidelity.epochs),
            f"{fidelity.image_size} px",
            f"{fidelity.data_share:.3g}",
            duration(figures.train_time_s) if figures and figures.train_time_s else "-",
            _number(tried.cost_ratio, "{:.1%}"),
            _interval(tried.tau),
            str(tried.networks),
            "[green]keeps tau[/]" if kept else tried.verdict.lower().replace("_", " "),
        )
    return table


def _interval(estimate: Estimate, unit: str = "") -> str:
    if estimate.value is None:
        return "undefined"
    if estimate.low is None:
        return f"{estimate.value:.2f}{unit}"
    return f"{estimate.value:.2f} ({estimate.low:.2f} to {estimate.high:.2f}){unit}"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)
