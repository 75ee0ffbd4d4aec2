"""Tables, texts and figures as the terminal shows them: within its width, and no word cut."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment
from rich.text import Text

from effnas.config.text import counted as counted
from effnas.config.text import plain
from effnas.report.parts import chance_text
from effnas.report.parts import duration as duration  # what times look like everywhere
from effnas.trials.trial import Trial, TrialState

if TYPE_CHECKING:
    from effnas.search.search import Search
    from effnas.workflows.trainings.forecast import Forecast
    from effnas.workflows.trainings.standings import Standing

#: What `~` before an accuracy means.
PREDICTED = "~ accuracy: predicted from the learning curve for the steps that fit in, not measured"
#: Between two columns.
_GAP = "  "
#: Columns of a file or a pipe, where COLUMNS does not say how many.
_FILE_WIDTH = 160
#: Networks that are shown in full below a table of the best.
SHOWN_NETWORKS = 3
#: What lines do not break in: a word, or a command in backticks.
_WORD = re.compile(r"(?<!\S)`[^`\n]+`\S*|\S+")
_INDENT = re.compile(r"\s*(- )?")


class Screen(Console):
    """A console that wraps between words only: a long path or block string stands whole.

    Strings are printed as they are: what is to look special is a `Text`. Whatever is in them, the
    terminal obeys none of it. Commands that are to be pasted are printed with `soft_wrap`, and so
    in one line.
    """

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(plain(segment.text), segment.style)

    def print(self, *objects: Any, **how: Any) -> None:
        texts = [Text(each) if isinstance(each, str) else each for each in objects]
        if not how.get("soft_wrap"):
            texts = [_Words(each) if isinstance(each, Text) else each for each in texts]
        super().print(*texts, **{"crop": False, **how})


def console(*, stderr: bool = False) -> Screen:
    """Return a screen: as wide as the terminal, as COLUMNS says, or wide for a file or a pipe."""
    found = Screen(stderr=stderr, highlight=False)
    if found.is_terminal or os.environ.get("COLUMNS", "").isdigit():
        return found
    return Screen(stderr=stderr, highlight=False, width=_FILE_WIDTH)


class Table:
    """Rows of figures under the names of their columns, as wide as the terminal or less.

    Numbers stand on the right of their column. A table that does not fit leaves out its spare
    columns; if that is not enough, it is continued below, its key columns repeated. Cells are
    plain text, or rich's.

    Args:
        names: Names of the columns.
        left: Names of columns of text, which stands on the left.
        key: How many columns, from the first, say what a row is about.
        spare: Names of columns that a narrow terminal can do without, the first to go first.
    """

    def __init__(
        self,
        *names: str,
        left: Collection[str] = (),
        key: int = 1,
        spare: Sequence[str] = (),
    ) -> None:
        self.names = names
        self.rows: list[list[Text]] = []
        self._left, self._key, self._spare = left, key, spare

    def add_row(self, *cells: str | Text) -> None:
        """Add a row; cells that it lacks at its end are empty.

        Raises:
            ValueError: It has more cells than there are columns.
        """
        if len(cells) > len(self.names):
            raise ValueError(f"{len(cells)} cells for {len(self.names)} columns")
        row = [cell if isinstance(cell, Text) else Text(cell) for cell in cells]
        self.rows.append(row + [Text()] * (len(self.names) - len(row)))

    def __rich_console__(self, screen: Console, options: ConsoleOptions) -> RenderResult:
        header = [Text(name, style="bold") for name in self.names]
        lines = [header, *self.rows]
        widths = [max(line[n].cell_len for line in lines) for n in range(len(header))]
        for part_number, part in enumerate(self._parts(widths, options.max_width)):
            if part_number:
                yield Text()
            for line in lines:
                yield self._line(line, part, widths)

    def _line(self, cells: Sequence[Text], part: Iterable[int], widths: Sequence[int]) -> Text:
        padded = []
        for n in part:
            space = " " * (widths[n] - cells[n].cell_len)
            is_left = self.names[n] in self._left
            padded.append(Text.assemble(*((cells[n], space) if is_left else (space, cells[n]))))
        line = Text(_GAP).join(padded)
        line.rstrip()
        return _block([line])

    def _parts(self, widths: Sequence[int], available: int) -> Iterator[list[int]]:
        """Return the columns of each table below the other."""
        columns = list(range(len(widths)))

        def fits(chosen: Sequence[int]) -> bool:
            return sum(widths[n] for n in chosen) + len(_GAP) * (len(chosen) - 1) <= available

        for name in self._spare:
            if not fits(columns):
                columns.remove(self.names.index(name))
        key, rest = columns[: self._key], columns[self._key :]
        part = list(key)
        for n in rest:
            if len(part) > len(key) and not fits([*part, n]):
                yield part
                part = list(key)
            part.append(n)
        yield part


def table(
    *names: str, left: Collection[str] = ("",), key: int = 1, spare: Sequence[str] = ()
) -> Table:
    """Return a table with these columns; the arguments are those of `Table`."""
    return Table(*names, left=left, key=key, spare=spare)


def facts(rows: Iterable[tuple[str, str]]) -> RenderableType:
    """Return names beside their values, wrapped; rows without a value are left out."""
    return _Facts(rows)


def networks(rows: Iterable[tuple[str, object]]) -> RenderableType:
    """Return networks in full, each below its name, in lines that break between blocks."""
    return _Networks(rows)


class _Facts:
    def __init__(self, rows: Iterable[tuple[str, str]]) -> None:
        self._rows = [row for row in rows if row[1]]

    def __rich_console__(self, screen: Console, options: ConsoleOptions) -> RenderResult:
        short = options.max_width // 4
        width = max((len(name) for name, _ in self._rows if len(name) <= short), default=0)
        for name, value in self._rows:
            if len(name) > short:
                yield _block([Text(name, style="bold")])
            head = Text((name if len(name) <= short else "").ljust(width) + _GAP, style="bold")
            yield _hanging(head, Text(value), options.max_width)


class _Networks:
    def __init__(self, rows: Iterable[tuple[str, object]]) -> None:
        self._rows = [(name, str(network)) for name, network in rows]

    def __rich_console__(self, screen: Console, options: ConsoleOptions) -> RenderResult:
        for name, network in self._rows:
            yield _hanging(Text(""), Text(name, style="bold"), options.max_width)
            yield _hanging(Text(_GAP), Text(network), options.max_width)


class _Words:
    """A text that is wrapped between words."""

    def __init__(self, text: Text) -> None:
        self._text = text

    def __rich_console__(self, screen: Console, options: ConsoleOptions) -> RenderResult:
        yield _block(_wrapped(self._text, options.max_width))


def _hanging(head: Text, body: Text, width: int) -> Text:
    """Return a text wrapped between words, to stand on the right of its head."""
    lines = _wrapped(body, max(width - head.cell_len, 1))
    indent = Text(" " * head.cell_len)
    return _block([Text.assemble(indent if n else head, line) for n, line in enumerate(lines)])


def _block(lines: Iterable[Text]) -> Text:
    """Return lines as they are as one text."""
    found = Text("\n").join(lines)
    found.no_wrap, found.overflow = True, "ignore"
    return found


def _wrapped(text: Text, width: int) -> list[Text]:
    """Return a text in lines; only a word that is longer by itself exceeds the width.

    Items of a list, and what is indented, stay so in all of their lines.
    """
    found: list[Text] = []
    for paragraph in text.split("\n", allow_blank=True):
        plain = paragraph.plain
        breaks = [0]
        indent = _INDENT.match(plain).end()  # type: ignore[union-attr]  # it matches anything
        for word in _WORD.finditer(plain):
            begins_line = not plain[breaks[-1] : word.start()].strip()
            available = width - indent * (len(breaks) > 1)
            if not begins_line and cell_len(plain[breaks[-1] : word.end()]) > available:
                breaks += [word.start()]
        first, *others = paragraph.divide(breaks[1:])
        found += [first, *(Text.assemble(" " * indent, line) for line in others)]
    for line in found:
        line.rstrip()
    return found


def standing_columns(score: str, unit: str = "epochs") -> tuple[str, ...]:
    """Return the names of the columns of `standing_cells`; `unit` is that of lengths."""
    return unit, score, "best with", "training"


def standing_cells(standing: Standing) -> list[str]:
    """Return how a candidate of several trainings stands."""
    return [
        str(standing.epochs),
        with_spread(standing.mean, standing.spread) if standing.scores else "-",
        "-" if standing.chance is None else chance_text(standing.chance),
        duration(standing.train_time_s),
    ]


def forecast_text(forecast: Forecast | None, source: str) -> str:
    """Return about how long trainings will take, and what that is from; nothing if none are left.

    Args:
        forecast: Of what is left; None where that is not known.
        source: In words.
    """
    if forecast is None or not forecast.epochs:
        return ""
    epoch = duration(forecast.seconds / forecast.epochs)
    return f"about {duration(forecast.seconds)} of training ({epoch} an epoch, {source})"


def with_spread(mean: float, spread: float | None) -> str:
    """Return a mean and its standard deviation over seeds, where several tell that."""
    return f"{mean:z.4f}" + ("" if spread is None else f" ±{spread:.4f}")


def with_error(accuracy: float, error: float | None) -> str:
    """Return an accuracy and its standard error, where that is known."""
    return f"{accuracy:.4f}" + ("" if error is None else f" ±{error:.3f}")


def accuracy_text(trial: Trial, error: float | None = None) -> str:
    """Return a trial's accuracy, behind `~` where it is predicted; `-` where it has none."""
    accuracy = trial.metrics.get("accuracy")
    if accuracy is None:
        return "-"
    return "~" * trial.is_predicted + with_error(accuracy, error)


def best_with(standings: Sequence[Standing]) -> str:
    """Return how likely the first of those trained to the end is the best of them, in words."""
    first = standings[0]
    if first.chance is not None:
        return chance_text(first.chance)
    if len(standings) == 1:
        return "unknown (one network was trained to the end)"
    return "unknown (one seed of each does not tell)"


def reasons(names: Iterable[tuple[str, str | None]]) -> str:
    """Return why things could not be done, by their names; nothing for those without a reason."""
    return "".join(f"\n{name}: {reason}\n" for name, reason in names if reason)


def trial_line(
    trial: Trial, search: Search | None, text: str, *, best: str = "best so far"
) -> Text:
    """Return how a trial ended in one line.

    A complete one is shown as `text`, and `best` follows if it is the best of its search.
    """
    if trial.state is not TrialState.COMPLETE or trial.reward is None:
        return Text.assemble((trial.state.lower(), "red"), f": {trial.reason or ''}")
    is_best = search and search.best and search.best.number == trial.number
    return Text.assemble(text, (f"  {best}" if is_best else "", "green"))


def step_text(seconds: float) -> str:
    """Return the time of a training step as text such as `8.13 ms`, `124 ms` or `1.24 s`."""
    value, unit = (seconds * 1e3, "ms") if seconds < 0.9995 else (seconds, "s")
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:,.{digits}f} {unit}"


def params_text(params: float) -> str:
    """Return a number of parameters: `2.8 k`, `5.29 M`, `118 M`."""
    if params < 99_950:
        return f"{params / 1e3:.1f} k"
    return f"{params / 1e6:,.{2 if params < 99.995e6 else 0}f} M"


def macs_text(macs: float) -> str:
    """Return `385.8 M`, `8.366 G`."""
    return f"{macs / 1e9:,.3f} G" if macs >= 1e9 else f"{macs / 1e6:,.1f} M"


def note(screen: Screen, text: str, word: str = "Note") -> None:
    """Print something that the user should know, as it is."""
    style = "bold red" if word == "Warning" else "bold"
    screen.print(Text.assemble((f"{word}:", style), f" {text}"))


def next_commands(screen: Screen, *commands: Sequence[object]) -> None:
    """Print commands that may come next, as words, each in one line that can be pasted."""
    screen.print(Text("\nNext", style="bold"))
    for words in commands:
        line = shlex.join(map(str, words))
        screen.print(f"  {line}", soft_wrap=True)


def source_text(trial: Trial) -> str:
    """Return where S is from, as text that follows it; nothing if it was measured."""
    source = trial.measurement.step_time_source
    return "" if source in ("", "measured", "training") else f" {source}"


def scores_text(trial: Trial) -> str:
    """Return reward, accuracy, S and P of a complete trial; nothing of another."""
    m = trial.metrics
    if trial.state is not TrialState.COMPLETE or trial.reward is None:
        return ""
    return (
        f"reward {trial.reward:z.4f}  accuracy {accuracy_text(trial)}  S {m['step_time']:.3f}"
        f"{source_text(trial)}  P {m['params_ratio']:.3f}"
    )


def number(value: float | None, form: str) -> str:
    """Return a number in a form such as `{:.3f}`, and `-` for none."""
    return "-" if value is None else form.format(value)
