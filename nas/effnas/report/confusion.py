"""Which classes a network recognizes, and which it takes for another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

from effnas.report.figures import Trace, axis, dots, rows_height, spread
from effnas.report.parts import (
    Cell,
    Column,
    Figure,
    Section,
    Table,
    counted,
    listed,
    plain,
    share_text,
    shortened,
)
from effnas.report.statements import Z90

#: The matrix of more classes than these cannot be read.
_MATRIX_CLASSES = 20
#: Rows of the figure of recalls, and of the table of pairs.
_WORST, _PAIRS = 20, 20
#: Of more classes than these, cells of the matrix are too small on phones for numbers.
_NUMBERED = 12

Counts = Sequence[Sequence[int]]


@dataclass(frozen=True, kw_only=True)
class Recall:
    """How many images of one class are recognized.

    Attributes:
        number: Of the class.
        name: Its name.
        images: Held-out ones.
        correct: That are classified correctly.
        low: The true share is above this with 95 % (Wilson's interval); None without images.
        high: The true share is below this with 95 %.
        mean: Mean share over all trainings.
        taken_for: The class that most others are taken for; None if there are none.
    """

    number: int
    name: str
    images: int
    correct: int
    low: float | None
    high: float | None
    mean: float | None
    taken_for: str | None

    @property
    def share(self) -> float | None:
        """Share that is recognized, 0 to 1; None without images."""
        return self.correct / self.images if self.images else None


def wilson(successes: int, count: int) -> tuple[float, float]:
    """Return Wilson's 90 % interval of a share, from `count` draws, 1 or more (Wilson 1927)."""
    share, z2 = successes / count, Z90**2
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = Z90 * sqrt(share * (1 - share) / count + z2 / (4 * count**2)) / (1 + z2 / count)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def recalls(counts: Counts, names: Sequence[str], others: Sequence[Counts] = ()) -> list[Recall]:
    """Return the recall of each class, the worst first; those without images come last.

    Args:
        counts: Images of class i (row) that are taken for class j (column).
        names: Of the classes.
        others: Counts of further trainings of the same network, for the mean.
    """
    found = []
    for n, row in enumerate(counts):
        images, wrong = sum(row), [(k, m) for m, k in enumerate(row) if m != n and k]
        low, high = wilson(row[n], images) if images else (None, None)
        shares = [each[n][n] / sum(each[n]) for each in (counts, *others) if sum(each[n])]
        found.append(
            Recall(
                number=n,
                name=names[n],
                images=images,
                correct=row[n],
                low=low,
                high=high,
                mean=sum(shares) / len(shares) if shares else None,
                taken_for=names[max(wrong, key=lambda each: (each[0], -each[1]))[1]]
                if wrong
                else None,
            )
        )
    return sorted(found, key=lambda each: (2.0 if each.share is None else each.share, each.number))


def confused_pairs(counts: Counts) -> list[tuple[int, int, int]]:
    """Return images, class and the class that they are taken for, the most images first."""
    pairs = [(k, n, m) for n, row in enumerate(counts) for m, k in enumerate(row) if n != m and k]
    return sorted(pairs, key=lambda each: (-each[0], each[1:]))


def what_is_confused(
    by_repeat: Mapping[int, Counts], repeat: int, class_names: Sequence[str] | None
) -> Section:
    """Show the recall of each class, and which are confused.

    Args:
        by_repeat: Counts of the trainings of one network, as of `recalls`.
        repeat: The training that is shown.
        class_names: Names of the classes; None if they are not known.
    """
    question = "Which classes does it confuse?"
    if repeat not in by_repeat:
        return Section(
            name="confusion", question=question,
            answer="Not known: it is stored for up to 100 classes, by finals of this version and "
                   "later ones.",
        )  # fmt: skip
    counts = by_repeat[repeat]
    names = [str(n) for n in range(len(counts))]
    if class_names and len(class_names) == len(counts):
        names = list(class_names)
    others = [each for n, each in sorted(by_repeat.items()) if n != repeat]
    found, pairs = recalls(counts, names, others), confused_pairs(counts)
    worst, images = found[0], sum(map(sum, counts))
    answer = f"Nothing: all {images:,} held-out images are classified correctly."
    if pairs:
        most, one, other = pairs[0]
        share, low, high = (share_text(x or 0) for x in (worst.share, worst.low, worst.high))
        answer = (
            f"Class {_short(worst.name)} is recognized least: {worst.correct} of "
            f"{counted(worst.images, 'image')}, {share} ({low} to {high}). Class "
            f"{_short(names[one])} is taken for {_short(names[other])} most often, {_times(most)}."
        )
    empty = [_short(each.name) for each in found if not each.images]
    sure = (
        f"One training of the picked network, the one of middle accuracy, on the {images:,} "
        "held-out images that it was picked by. Intervals are Wilson's, with 90%: they say what "
        "so few images leave open. The worst of many classes is partly the unluckiest."
    )
    if empty:
        sure += f" No image is held out of {listed(empty)}."
    shown = [each for each in found if each.images]
    is_small = len(counts) <= _MATRIX_CLASSES
    return Section(
        name="confusion", question=question, answer=answer, sure=sure,
        figures=([_matrix(counts, names)] if is_small else []) + [_recall_figure(shown)],
        tables=[
            _recall_table(found, len(others)),
            Table(
                name="confused-pairs", is_open=not is_small and bool(pairs),
                columns=[Column("class"), Column("taken_for", "", "taken for"),
                         Column("images", ",d")],
                rows=[[names[n], names[m], k] for k, n, m in pairs[:_PAIRS]],
            ),
        ],
    )  # fmt: skip


def _short(name: str) -> str:
    return shortened(name, 30)


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number:,} times"


def _recall_table(found: Sequence[Recall], others: int) -> Table:
    columns = [
        Column("class"), Column("images", ",d"), Column("correct", ",d"),
        Column("recall", ".1%"), Column("recall_low", ".1%", "from"),
        Column("recall_high", ".1%", "to"),
        Column("mean_recall", ".1%", f"mean of {counted(others + 1, 'seed')}"),
        Column("taken_for", "", "most often taken for"),
    ]  # fmt: skip
    rows: list[list[Cell]] = [
        [e.name, e.images, e.correct, e.share, e.low, e.high, e.mean, e.taken_for] for e in found
    ]
    return Table(name="recalls", columns=columns, rows=rows)


def _recall_figure(found: Sequence[Recall]) -> Figure:
    shown = found[:_WORST]
    places = list(range(len(shown)))
    x, low, high = ([100 * (v or 0.0) for v in values] for values in (
        [e.share for e in shown], [e.low for e in shown], [e.high for e in shown]))  # fmt: skip
    data: list[Trace] = [
        dots(x, places, "@accent", size=9, error_x=spread(x, low, high, "@accent"),
             text=[f"{plain(e.name)}: {e.correct} of {e.images}" for e in shown],
             hovertemplate="%{text}, %{x:.1f}%<extra></extra>")
    ]  # fmt: skip
    return Figure(
        name="recalls",
        label="Share of the held-out images of each class that is recognized, the worst first",
        data=data,
        layout={
            "xaxis": axis("recall, %", range=[max(min(low) - 3, 0), 103]),
            "yaxis": {"tickvals": places, "autorange": "reversed", "showgrid": False,
                      "zeroline": False,
                      "ticktext": [plain(shortened(e.name, 20)) for e in shown]},
        },
        height=rows_height(len(shown), 80),
    )  # fmt: skip


def _matrix(counts: Counts, names: Sequence[str]) -> Figure:
    """Draw errors coloured by their share of the class; what is right stays plain."""
    size = len(counts)
    places, labels = list(range(size)), [plain(shortened(name, 14)) for name in names]
    shares = [[None if n == m or not k else 100 * k / sum(row) for m, k in enumerate(row)]
              for n, row in enumerate(counts)]  # fmt: skip
    highest = max((v for row in shares for v in row if v is not None), default=1.0)
    texts = [[f"{plain(names[n])} taken for {plain(names[m])}" for m in places] for n in places]
    data: list[Trace] = [
        {"type": "heatmap", "x": places, "y": places, "z": shares, "zmin": 0, "zmax": highest,
         "colorscale": [[0, "@soft"], [1, "@warm"]], "showscale": False, "xgap": 1, "ygap": 1,
         "text": texts, "hoverongaps": False,
         "hovertemplate": "%{text}: %{z:.1f}%<extra></extra>"},
    ]  # fmt: skip
    cells = [(m, n, counts[n][m]) for n in places for m in places if counts[n][m]]
    if size <= _NUMBERED:
        data.append({
            "type": "scatter", "mode": "text", "x": [m for m, _, _ in cells],
            "y": [n for _, n, _ in cells], "text": [f"{k}" for _, _, k in cells],
            "textfont": {"size": 11, "color": [
                "@muted" if m == n else "@paper" if (shares[n][m] or 0) > 0.6 * highest else "@ink"
                for m, n, _ in cells]},
            "hoverinfo": "skip", "showlegend": False,
        })  # fmt: skip
    side = {"tickvals": places, "ticktext": labels, "showgrid": False, "zeroline": False}
    return Figure(
        name="confusion",
        label="Held-out images of each class by the class that they are taken for",
        data=data,
        layout={
            "xaxis": axis("taken for", **side, range=[-0.5, size - 0.5]),
            "yaxis": axis("class", **side, range=[size - 0.5, -0.5]),
        },
        height=rows_height(size, 130),
    )  # fmt: skip
