"""Tables and figures as the terminal shows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rich.console import Console
from rich.progress import Progress, ProgressColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from effnas.trials.trial import Trial, Trials


def leaderboard(trials: Trials, top: int) -> Table:
    """Return the best trials as a table; the metrics are those that `--json` gives in full."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("rank", "trial", "reward", "accuracy", "S", "P", "params", "step", "training"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("architecture", overflow="fold", min_width=30)
    for rank, trial in enumerate(trials.ranked()[:top], start=1):
        m = trial.metrics
        table.add_row(
            str(rank),
            str(trial.number),
            f"{trial.reward:.4f}",
            _of(m, "accuracy", "{:.4f}"),
            _of(m, "step_time", "{:.3f}") + _spread(trial) + source_text(trial),
            _of(m, "params_ratio", "{:.3f}"),
            f"{m['params'] / 1e6:.2f} M" if "params" in m else "-",
            f"{m['step_time_s'] * 1e3:.1f} ms" if "step_time_s" in m else "-",
            duration(m["train_time_s"]) if "train_time_s" in m else "-",
            str(trial.architecture),
        )
    return table


def facts(rows: Iterable[tuple[str, str]]) -> Table:
    """Return names and values as a table of two columns."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, value)
    return table


def duration(seconds: float) -> str:
    """Return seconds as text such as `48 s`, `12 min`, `3 h 05 min` or `2.4 days`."""
    if seconds < 99.5:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    if minutes < 2 * 24 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{seconds / 86_400:,.1f} days"


def macs_text(macs: float) -> str:
    """Return `385.8 M`, `8.366 G`."""
    return f"{macs / 1e9:,.3f} G" if macs >= 1e9 else f"{macs / 1e6:,.1f} M"


def epochs_text(epochs: int) -> str:
    """Return `1 epoch`, `4 epochs`."""
    return f"{epochs} epoch{'s' * (epochs != 1)}"


def console(*, stderr: bool = False) -> Console:
    """Return a console that folds nothing away when its output goes to a file."""
    found = Console(stderr=stderr, highlight=False)
    return found if found.is_terminal else Console(stderr=stderr, highlight=False, width=160)


def progress_on(screen: Console, *columns: ProgressColumn) -> Progress:
    """Return a line that says what is going on, with further columns, and vanishes at the end."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        *columns,
        TimeElapsedColumn(),
        console=screen,
        transient=True,
        disable=not screen.is_terminal,
        refresh_per_second=2,  # every redraw takes time from the CPU that is being timed
    )


def source_text(trial: Trial) -> str:
    """Return where S is from, unless it was measured, as it stands behind it."""
    source = trial.measurement.step_time_source
    return "" if source in ("", "measured") else f" {source}"


def _of(metrics: Mapping[str, float], name: str, form: str) -> str:
    value = metrics.get(name)
    return form.format(value) if value is not None else "-"


def _spread(trial: Trial) -> str:
    m = trial.metrics
    if "step_time_low" not in m:
        return ""
    return f" ±{(m['step_time_high'] - m['step_time_low']) / 2:.3f}"
