"""Figures on trainings that are longer than a search's: finals, and a whole training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from effnas.config.text import counted
from effnas.report.figures import ROWS_AXIS, Trace, axis, dots, rows_height, spread
from effnas.report.parts import Figure
from effnas.workflows.trainings.standings import Standing


def trainings(
    whole: Sequence[tuple[str, Standing, float | None]],
    stopped: Sequence[tuple[str, Standing, float | None]],
) -> Figure:
    """Draw accuracies of all seeds, and their means with standard errors.

    Args:
        whole: Networks trained to the end: name, standing, standard error of the mean accuracy.
        stopped: Those that ended before that, which are drawn below, and grey.
    """
    data: list[Trace] = []
    names = [f"{name}, {each.epochs} ep." for name, each, _ in (*whole, *stopped)]
    labels = iter(names)
    for group, colour, what in ((whole, "@accent", ""), (stopped, "@muted", ", stopped early")):
        here = [next(labels) for _ in group]
        if not here:
            continue
        x = [100 * a for _, each, _ in group for a in each.accuracies]
        y = [label for label, (_, each, _) in zip(here, group, strict=True)
             for _ in each.accuracies]  # fmt: skip
        data.append(dots(x, y, colour, size=7, opacity=0.55, name=f"a training{what}",
                         hovertemplate="%{x:.2f}%<extra></extra>"))  # fmt: skip
        means = [100 * (each.accuracy or 0.0) for _, each, _ in group]
        errors = [100 * (error or 0.0) for _, _, error in group]
        more: dict[str, Any] = {}
        if any(errors):
            low, high = ([m + sign * e for m, e in zip(means, errors, strict=True)]
                         for sign in (-1, 1))  # fmt: skip
            more["error_x"] = spread(means, low, high, colour)
        data.append(dots(means, here, colour, size=11, symbol="diamond", name=f"mean{what}",
                         hovertemplate="mean %{x:.2f}%<extra></extra>", **more))  # fmt: skip
    return Figure(
        name="trainings",
        label="Accuracies of the trainings of each network, and their means",
        data=data,
        layout={"xaxis": axis("accuracy, %"),
                "yaxis": {**ROWS_AXIS, "categoryarray": names[::-1]}},
        height=rows_height(len(names), 100),
    )  # fmt: skip


def before_and_after(
    pairs: Sequence[tuple[str, float | None, float | None, int]],
) -> Figure:
    """Draw each network's accuracy in the search and now: name, both, and its epochs now."""
    names = [name for name, *_ in pairs]
    before = [100 * (each[1] or 0.0) for each in pairs]
    after = [100 * (each[2] or 0.0) for each in pairs]
    data: list[Trace] = [
        {"type": "scatter", "mode": "lines", "showlegend": False, "hoverinfo": "skip",
         "x": [v for b, a in zip(before, after, strict=True) for v in (b, a, None)],
         "y": [v for name in names for v in (name, name, None)],
         "line": {"color": "@line", "width": 2}},
        dots(before, names, "@muted", name="in the search", size=8,
             hovertemplate="in the search %{x:.2f}%<extra></extra>"),
        dots(after, names, "@accent", name="mean in the finals", symbol="diamond", size=10,
             text=[counted(each[3], "epoch") for each in pairs],
             hovertemplate="%{text}: %{x:.2f}%<extra></extra>"),
    ]  # fmt: skip
    return Figure(
        name="before-after",
        label="Accuracy of each network in the search and in the finals",
        data=data,
        layout={"xaxis": axis("accuracy, %"),
                "yaxis": {**ROWS_AXIS, "categoryarray": names[::-1]}},
        height=rows_height(len(names), 100),
    )  # fmt: skip
