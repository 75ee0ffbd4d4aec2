"""Tables and figures as the terminal shows them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from rich import progress
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from effnas.trials.trial import Trial, Trials, TrialState

if TYPE_CHECKING:
    from effnas.search.search import Search
    from effnas.workflows.trainings.standings import Standing


def table(*names: str, left: Collection[str] = ("",)) -> Table:
    """Return a table with these columns.

    Numbers stand on the right of their column and are never folded; architectures and networks
    stand on the left and are; further columns of text stand on the `left`.
    """
    found = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        if name in ("architecture", "network"):
            found.add_column(name, overflow="fold", min_width=24)
        else:
            found.add_column(name, justify="left" if name in left else "right", no_wrap=True)
    return found


def leaderboard(trials: Trials, top: int) -> Table:
    """Return the best trials as a table; the metrics are those that `--json` gives in full."""
    found = table(
        "rank", "trial", "reward", "accuracy", "S", "P", "params", "step", "training",
        "architecture",
    )  # fmt: skip
    for rank, trial in enumerate(trials.ranked()[:top], start=1):
        m = trial.metrics
        found.add_row(
            str(rank),
            str(trial.number),
            f"{trial.reward:.4f}",
            number(m.get("accuracy"), "{:.4f}"),
            number(m.get("step_time"), "{:.3f}") + _spread(trial) + source_text(trial),
            number(m.get("params_ratio"), "{:.3f}"),
            f"{m['params'] / 1e6:.2f} M" if "params" in m else "-",
            f"{m['step_time_s'] * 1e3:.1f} ms" if "step_time_s" in m else "-",
            duration(m["train_time_s"]) if "train_time_s" in m else "-",
            str(trial.architecture),
        )
    return found


def facts(rows: Iterable[tuple[str, str]]) -> Table:
    """Return names and values, as they are, as a table; rows without a value are left out."""
    found = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    found.add_column(style="bold", no_wrap=True)
    found.add_column(overflow="fold")
    for name, value in rows:
        if value:
            found.add_row(name, escape(value))
    return found


def standing_columns(score: str) -> tuple[str, ...]:
    """Return the names of the columns of `standing_cells`."""
    return "epochs", score, "best with", "training"


def standing_cells(standing: Standing) -> list[str]:
    """Return how a candidate of several trainings stands."""
    return [
        str(standing.epochs),
        with_spread(standing.mean, standing.spread) if standing.scores else "-",
        number(standing.chance, "{:.0%}"),
        duration(standing.train_time_s),
    ]


def with_spread(mean: float, spread: float | None) -> str:
    """Return a mean and its standard deviation over seeds, `-` where one seed has none."""
    return f"{mean:.4f} ±{number(spread, '{:.4f}')}"


def best_with(standings: Sequence[Standing]) -> str:
    """Return how likely the first of those trained to the end is the best of them, in words."""
    first = standings[0]
    if first.chance is not None:
        return f"{first.chance:.0%}"
    if len(standings) == 1:
        return "unknown (one network was trained to the end)"
    return "unknown (one seed of each does not tell)"


def reasons(names: Iterable[tuple[str, str | None]]) -> str:
    """Return why things could not be done, by their names; nothing for those without a reason."""
    return "".join(f"\n{name}: {reason}\n" for name, reason in names if reason)


def trial_line(trial: Trial, search: Search | None, text: str, *, best: str = "best so far") -> str:
    """Return how a trial ended in one line.

    A complete one is shown as `text`, and `best` follows if it is the best of its search.
    """
    if trial.state is not TrialState.COMPLETE or trial.reward is None:
        return f"[yellow]{trial.state.lower()}[/]: {escape(trial.reason or '')}"
    is_best = search and search.best and search.best.number == trial.number
    return text + (f"  [green]{best}[/]" if is_best else "")


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


def counted(count: int, noun: str) -> str:
    """Return `1 epoch`, `4 epochs`."""
    return f"{count} {noun}{'s' * (count != 1)}"


def console(*, stderr: bool = False) -> Console:
    """Return a console that folds nothing away when its output goes to a file."""
    found = Console(stderr=stderr, highlight=False)
    return found if found.is_terminal else Console(stderr=stderr, highlight=False, width=160)


class _Count(progress.MofNCompleteColumn):
    """How much is done, where it is known how much there is."""

    def render(self, task: progress.Task) -> Text:
        return Text() if task.total is None else super().render(task)


def progress_on(screen: Console) -> progress.Progress:
    """Return a line that says what is going on, and vanishes at the end."""
    return progress.Progress(
        progress.SpinnerColumn(),
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        _Count(),
        progress.TextColumn("{task.fields[left]}"),
        progress.TimeElapsedColumn(),
        console=screen,
        transient=True,
        disable=not screen.is_terminal,
        refresh_per_second=2,  # every redraw takes time from the CPU that is being timed
    )


def source_text(trial: Trial) -> str:
    """Return where S is from, as text that follows it; nothing if it was measured."""
    source = trial.measurement.step_time_source
    return "" if source in ("", "measured") else f" {source}"


def scores_text(trial: Trial) -> str:
    """Return reward, accuracy, S and P of a complete trial; nothing of another."""
    m = trial.metrics
    if trial.state is not TrialState.COMPLETE or trial.reward is None:
        return ""
    return (
        f"reward {trial.reward:.4f}  accuracy {m['accuracy']:.4f}  S {m['step_time']:.3f}"
        f"{source_text(trial)}  P {m['params_ratio']:.3f}"
    )


def number(value: float | None, form: str) -> str:
    """Return a number in a form such as `{:.3f}`, and `-` for none."""
    return "-" if value is None else form.format(value)


def _spread(trial: Trial) -> str:
    m = trial.metrics
    if "step_time_low" not in m:
        return ""
    return f" ±{(m['step_time_high'] - m['step_time_low']) / 2:.3f}"
