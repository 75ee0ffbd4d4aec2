"""Figures on one long training."""

from __future__ import annotations

from itertools import groupby
from typing import Any, Literal

from effnas.report.figures import ROWS_AXIS, Trace, axis, count_axis, dots, rows_height
from effnas.report.parts import Figure, duration
from effnas.report.training_facts import TrainingFacts

#: Stages of a figure of times.
_MOST_STAGES = 12
#: Stages narrower than this share of a figure have no label.
_NARROW = 0.06


def curve(
    facts: TrainingFacts, what: Literal["accuracy", "train_loss"], *, by_time: bool = False
) -> Figure:
    """Draw accuracy or loss by epoch, or by seconds of training, with the stages as shades."""
    rows = [row for row in facts.rows if getattr(row, what) is not None]
    seconds = [row.train_time_s for row in rows]
    unit, unit_s = ("h", 3600) if max(seconds) >= 7200 else ("min", 60) if max(
        seconds) >= 120 else ("s", 1)  # fmt: skip
    x = [each / unit_s for each in seconds] if by_time else [float(row.epoch) for row in rows]
    scale = 100 if what == "accuracy" else 1
    y = [scale * getattr(row, what) for row in rows]
    colour = "@accent" if what == "accuracy" else "@green"
    name = "accuracy, %" if what == "accuracy" else "training loss"
    texts = [f"epoch {row.epoch}, {row.image_size} px, after {duration(row.train_time_s)}"
             for row in rows]  # fmt: skip
    data: list[Trace] = [
        dots(x, y, colour, size=6 if len(rows) <= 40 else 3, mode="lines+markers", text=texts,
             name=name, line={"color": colour, "width": 2},
             hovertemplate="%{text}<br>%{y:.4g}<extra></extra>")
    ]  # fmt: skip
    data[0]["line"] = {"color": colour, "width": 2}
    if what == "accuracy" and facts.best:
        at = rows.index(facts.best)
        data.append(dots([x[at]], [y[at]], "@warm", size=14, symbol="star", name="the best epoch",
                         text=[texts[at]],
                         hovertemplate="best: %{text}<br>%{y:.2f}%<extra></extra>"))  # fmt: skip
    layout: dict[str, Any] = {
        "xaxis": axis(f"training time, {unit}") if by_time else count_axis("epoch", len(rows)),
        "yaxis": axis(name),
    }
    if not by_time:
        _shade(layout, facts)
    layout["xaxis"]["rangemode"] = "tozero"
    return Figure(
        name=f"{what.replace('_', '-')}{'-by-time' if by_time else ''}",
        label=f"{name} by {'training time' if by_time else 'epoch'}",
        data=data, layout=layout, height=300,
    )  # fmt: skip


def _shade(layout: dict[str, Any], facts: TrainingFacts) -> None:
    """Shade every other run of stages with one image size, and write the size above it."""
    layout["shapes"], layout["annotations"] = [], []
    last = facts.epoch_of(facts.rows[-1].step)
    sizes = groupby(facts.manifest.stages, key=lambda stage: stage.image_size)
    for n, (size, group) in enumerate(sizes):
        stages = list(group)
        start, end = facts.epoch_of(stages[0].first_step), facts.epoch_of(stages[-1].end)
        end = min(end, last)
        if start >= last:
            break
        if n % 2:
            layout["shapes"].append({"type": "rect", "yref": "paper", "x0": start, "x1": end,
                                     "y0": 0, "y1": 1, "fillcolor": "@soft", "layer": "below",
                                     "line": {"width": 0}})  # fmt: skip
        if end - start > _NARROW * last:
            layout["annotations"].append({"yref": "paper", "x": (start + end) / 2, "y": 1,
                                          "text": f"{size} px", "showarrow": False,
                                          "yanchor": "bottom",
                                          "font": {"size": 11, "color": "@muted"}})  # fmt: skip
    layout["margin"] = {"t": 24}


def stage_times(facts: TrainingFacts) -> Figure:
    """Draw forecast and measured seconds of the first stages."""
    stages = facts.manifest.stages[:_MOST_STAGES]
    names = [f"stage {n}, {stage.image_size} px" for n, stage in enumerate(stages, start=1)]
    forecast = facts.manifest.forecast.stage_times_s[: len(names)]
    measured = [each or 0.0 for each in facts.stage_times_s[: len(names)]]
    data: list[Trace] = [
        {"type": "bar", "orientation": "h", "name": name, "x": list(x), "y": names,
         "marker": {"color": colour},
         "text": [duration(each) for each in x], "textposition": "none",
         "hovertemplate": f"{name} %{{text}}<extra></extra>"}
        for name, x, colour in (("measured", measured, "@accent"), ("forecast", forecast, "@muted"))
    ]  # fmt: skip
    return Figure(
        name="stages",
        label="Forecast and measured seconds of each stage",
        data=data,
        layout={"xaxis": axis("seconds"), "barmode": "group",
                "yaxis": {**ROWS_AXIS, "categoryarray": names[::-1]}},
        height=rows_height(len(names), 100) + 14 * len(names),
    )  # fmt: skip
