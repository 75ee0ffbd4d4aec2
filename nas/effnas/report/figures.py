"""The figures of a report: facts turned into plotly's JSON, without importing plotly."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from effnas.controllers.baseline import RandomSearch
from effnas.report.explanation import Importance, Step
from effnas.report.parts import Figure, chance_text, plain, shortened
from effnas.report.statements import (
    Contender,
)
from effnas.trials.trial import Trial
from effnas.trials.uncertainty import RankedTrial

#: What parts of a reward are called, and their colours.
METRIC_COLOURS = {"accuracy": "@accent", "step_time": "@warm", "params_ratio": "@green"}
METRIC_NAMES = {"accuracy": "accuracy (A)", "step_time": "step time (S)",
                "params_ratio": "size (P)"}  # fmt: skip
#: Rows of a figure that stays readable.
ROWS = 15
_ROW = 26
#: Of these, trials that may be the best one, though others were measured to be better.
_RIVALS = 7
#: An axis of names, the first at the top.
ROWS_AXIS: Mapping[str, Any] = {"categoryorder": "array", "showgrid": False, "type": "category"}
#: Where a logarithmic axis of ratios has its numbers.
_TICKS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10, 20)
#: Whole numbers of which each has its tick.
_FEW = 12
_LIMIT = re.compile(r"(S|step_time|A|accuracy) ?(<=|<|>=|>) ?([\d.]+)")

Trace = dict[str, Any]


def axis(title: str, **more: Any) -> dict[str, Any]:
    """Return an axis with a title."""
    return {"title": {"text": title}, **more}


def count_axis(title: str, last: float) -> dict[str, Any]:
    """Return an axis of whole numbers up to the last one: few of them have a tick each."""
    return axis(title, **({"dtick": 1} if last <= _FEW else {}))


def rows_height(count: int, extra: int = 90) -> int:
    """Return the pixels of a figure of N rows."""
    return extra + _ROW * count


def dots(x: Sequence[float], y: Sequence[object], colour: object, **more: Any) -> Trace:
    """Return a trace of markers; `more` are its attributes, and those of its markers."""
    usual = {"size": 8, "symbol": "circle", "line": {"width": 0}, "opacity": 1}
    marker = {"color": colour, **{name: more.pop(name, usual[name]) for name in usual}}
    return {"type": "scatter", "mode": "markers", "x": list(x), "y": list(y), "marker": marker,
            **more}  # fmt: skip


def spread(
    middle: Sequence[float], low: Sequence[float], high: Sequence[float], colour: str
) -> dict[str, Any]:
    """Return error bars from lows to highs."""
    return {
        "type": "data", "symmetric": False, "color": colour, "thickness": 2, "width": 0,
        "array": [h - m for m, h in zip(middle, high, strict=True)],
        "arrayminus": [m - n for m, n in zip(middle, low, strict=True)],
    }  # fmt: skip


def trial_text(trial: Trial) -> str:
    """Return what a hover box says of a trial."""
    m = trial.metrics
    lines = [f"<b>trial {trial.number}</b>"]
    if trial.reward is not None:
        lines.append(f"reward {trial.reward:.4f}")
    if "accuracy" in m:
        lines.append(f"accuracy {m['accuracy']:.2%}")
    if "step_time" in m:
        lines.append(f"S {m['step_time']:.3f}")
    if "params_ratio" in m:
        lines.append(f"P {m['params_ratio']:.3f}, {m.get('params', 0) / 1e6:.3g} M params")
    return "<br>".join([*lines, *(plain(block) for block in trial.architecture.blocks)])


def ranking(
    ranked: Sequence[RankedTrial],
    rivals: Sequence[Trial],
    others: Sequence[Contender],
) -> Figure:
    """Draw the best trials and the baselines with the intervals of their true rewards."""
    data: list[Trace] = []
    equal = {trial.number for trial in rivals}
    top = {each.trial.number for each in ranked[: ROWS - _RIVALS]}
    top |= {trial.number for trial in rivals[:_RIVALS]}
    shown = [each for each in ranked if each.trial.number in top and each.low is not None]
    shown.sort(key=lambda each: -(each.reward or 0.0))
    names = [f"trial {each.trial.number}" for each in shown]
    low, high = [e.low or 0.0 for e in shown], [e.high or 0.0 for e in shown]
    middle = [e.reward or 0.0 for e in shown]
    colours = ["@warm" if e is ranked[0] else "@accent" if e.trial.number in equal else "@muted"
               for e in shown]  # fmt: skip
    chance = [f" {plain(chance_text(e.best_probability))}" if e.best_probability is not None else ""
              for e in shown]  # fmt: skip
    for colour, label in (("@warm", "measured best"), ("@accent", "may be the best, too"),
                          ("@muted", "hardly the best")):  # fmt: skip
        at = [n for n, each in enumerate(colours) if each == colour]
        if at:
            part = [[values[n] for n in at] for values in (middle, low, high)]
            data.append(
                dots(part[0], [names[n] for n in at], colour, name=label, size=9,
                      error_x=spread(part[0], part[1], part[2], colour),
                      text=[trial_text(shown[n].trial) for n in at],
                      hovertemplate="%{text}<extra></extra>")
            )  # fmt: skip
    data.append(
        dots([e.trial.reward or 0.0 for e in shown], names, "@ink", name="as measured",
              symbol="line-ns-open", size=10, line={"width": 1.5, "color": "@ink"},
              hovertemplate="measured %{x:.4f}<extra></extra>")
    )  # fmt: skip
    ends_at = [max(each.trial.reward or 0.0, high[n]) for n, each in enumerate(shown)]
    data.append({"type": "scatter", "mode": "text", "x": ends_at, "y": names, "text": chance,
                 "textposition": "middle right", "textfont": {"size": 12, "color": "@ink"},
                 "hoverinfo": "skip", "showlegend": False, "cliponaxis": False})  # fmt: skip
    known = [each for each in others if each.reward is not None]
    if known:
        x = [each.reward or 0.0 for each in known]
        ends = [[x[n] if value is None else value for n, value in enumerate(values)]
                for values in ([e.reward_low for e in known],
                               [e.reward_high for e in known])]  # fmt: skip
        labels = [plain(shortened(each.baseline.name, 22)) for each in known]
        data.append(
            dots(x, labels, "@green", name="baseline", symbol="diamond", size=10,
                  error_x=spread(x, ends[0], ends[1], "@green"),
                  hovertemplate="%{y}: %{x:.4f}<extra></extra>")
        )  # fmt: skip
        names = [*names, *labels]
    return Figure(
        name="ranking",
        label="Rewards of the best trials and the baselines, with 90% intervals",
        data=data,
        layout={
            "xaxis": axis("reward"),
            "yaxis": {**ROWS_AXIS, "categoryarray": names[::-1]},
        },
        height=rows_height(len(names), 120),
    )


def progress(
    trials: Sequence[Trial],
    best: Sequence[tuple[int, float]],
    random: Sequence[RandomSearch],
) -> Figure:
    """Draw the rewards in the order of trials, the best so far, and random search's."""
    last = max((t.number for t in trials), default=0) + 0.5
    scored = [t for t in trials if t.reward is not None]
    x = [number for number, _ in best] + [last]
    y = [value for _, value in best] + [best[-1][1]] if best else []
    data: list[Trace] = [
        dots([t.number for t in scored], [t.reward or 0.0 for t in scored], "@muted", size=5,
              opacity=0.55, name="a trial", text=[trial_text(t) for t in scored],
              hovertemplate="%{text}<extra></extra>"),
        {"type": "scatter", "mode": "lines", "x": x[: len(y)], "y": y, "name": "best so far",
         "line": {"shape": "hv", "color": "@warm", "width": 2.5}},
    ]  # fmt: skip
    layout: dict[str, Any] = {"xaxis": count_axis("trial", last), "yaxis": axis("measured reward")}
    lowest = sorted(t.reward or 0.0 for t in scored)[len(scored) // 20 :]
    if random:
        ended = [t.number for t in trials if t.state.is_finished]
        at = [ended[each.trials - 1] for each in random]
        low, high = [each.low for each in random], [each.high for each in random]
        data.append({"type": "scatter", "mode": "lines", "name": "nine in ten random searches",
                     "x": [*at, *at[::-1]], "y": [*high, *low[::-1]], "fill": "toself",
                     "fillcolor": "@accent", "opacity": 0.14, "hoverinfo": "skip",
                     "line": {"width": 0, "color": "@accent"}})  # fmt: skip
        data.append({"type": "scatter", "mode": "lines", "name": "random search, by a model",
                     "x": at, "y": [each.best for each in random],
                     "customdata": [[each.trials, each.low, each.high] for each in random],
                     "hovertemplate": "random search, %{customdata[0]} trials: %{y:.4f} "
                                      "(%{customdata[1]:.4f} to %{customdata[2]:.4f})"
                                      "<extra></extra>",
                     "line": {"color": "@accent", "width": 2, "dash": "dot"}})  # fmt: skip
        lowest = [*lowest, low[-1]]
    if y:
        span = max(y[-1], random[-1].high if random else 0) - min(lowest)
        layout["yaxis"]["range"] = [min(lowest) - 0.05 * span, min(lowest) + 1.08 * span]
    return Figure(name="progress", label="Best reward so far, against random search", data=data,
                  layout=layout)  # fmt: skip


def steps_of(path: Sequence[Step]) -> Figure:
    """Draw the gain of each decision on the way to the best trial, split by metric."""
    shown, rest = list(path[:ROWS]), list(path[ROWS:])
    names = [_two_lines(step_name(step)) for step in shown] + (
        [f"{len(rest)} more"] if rest else []
    )

    def column(values: Sequence[float], more: Sequence[float]) -> list[float]:
        return [100 * v for v in values] + ([100 * sum(more)] if more else [])

    data: list[Trace] = []
    metrics = list(dict.fromkeys(name for step in path for name in step.parts))
    for metric in metrics:
        x = column([s.parts[metric] for s in shown], [s.parts[metric] for s in rest])
        name = METRIC_NAMES.get(metric, metric)
        data.append({"type": "bar", "orientation": "h", "x": x, "y": names, "name": name,
                     "marker": {"color": METRIC_COLOURS.get(metric, "@muted"), "opacity": 0.75},
                     "width": 0.5,
                     "hovertemplate": f"{name}: %{{x:+.2f}}%<extra></extra>"})  # fmt: skip
    total = column([s.gain for s in shown], [s.gain for s in rest])
    low, high = (column([getattr(s, end) for s in shown], [getattr(s, end) for s in rest])
                 for end in ("low", "high"))  # fmt: skip
    data.append(dots(total, names, "@ink", name="in all, 90%", size=7,
                      error_x=spread(total, low, high, "@ink"),
                      hovertemplate="in all %{x:+.2f}%<extra></extra>"))  # fmt: skip
    return Figure(
        name="path",
        label="Change of the expected reward with each decision, from the reference on",
        data=data,
        layout={
            "barmode": "relative",
            "xaxis": axis("change of expected reward, %", zeroline=True),
            "yaxis": {**ROWS_AXIS, "categoryarray": names[::-1]},
        },
        height=rows_height(len(names), 120),
    )


def step_name(step: Step) -> str:
    """Return what changes in a step."""
    ends = ["none" if each is None else str(each) for each in (step.before, step.after)]
    return f"{step.decision} {ends[0]} → {ends[1]}"


def _two_lines(name: str) -> str:
    """Return a long name on two lines, which leave phones room for the figure."""
    first, _, rest = plain(name).partition(" ")
    return f"{first}<br>{rest}" if len(name) > 22 else f"{first} {rest}"


def importance(found: Sequence[Importance]) -> Figure:
    """Draw the share of the variance of each decision."""
    shown = found[:ROWS]
    names = [each.decision for each in shown]
    x = [100 * each.share for each in shown]
    ends = [[100 * v for v in values]
            for values in ([e.low for e in shown], [e.high for e in shown])]  # fmt: skip
    data = [
        {"type": "bar", "orientation": "h", "x": x, "y": names, "showlegend": False,
         "marker": {"color": "@accent"}, "width": 0.5,
         "error_x": spread(x, ends[0], ends[1], "@ink"),
         "hovertemplate": "%{y}: %{x:.1f}%<extra></extra>"},
    ]  # fmt: skip
    return Figure(
        name="importance",
        label="Share of the variance of rewards that follows from each decision alone",
        data=data,
        layout={
            "xaxis": axis("share of the variance, %", rangemode="tozero"),
            "yaxis": {**ROWS_AXIS, "categoryarray": names[::-1]},
        },
        height=rows_height(len(names), 80),
    )


def trade_off(
    complete: Sequence[Trial],
    front: Sequence[Trial],
    winner: Trial,
    baselines: Sequence[tuple[str, Mapping[str, float]]],
    constraints: Sequence[str],
    unit: str,
) -> Figure:
    """Draw accuracy against step time; `unit` says whose step S is a multiple of."""

    def points(trials: Sequence[Trial], colour: str, name: str, **more: Any) -> Trace:
        return dots([t.metrics["step_time"] for t in trials],
                     [100 * t.metrics["accuracy"] for t in trials], colour, name=name,
                     text=[trial_text(t) for t in trials], hovertemplate="%{text}<extra></extra>",
                     **more)  # fmt: skip

    on_front = {t.number for t in front}
    data = [
        points([t for t in complete if t.number not in on_front], "@muted", "a trial", size=6,
               opacity=0.6),
        points(sorted(front, key=lambda t: t.metrics["step_time"]), "@accent", "Pareto front",
               size=8, mode="lines+markers"),
        points([winner], "@warm", "best by reward", size=15, symbol="star"),
    ]  # fmt: skip
    data[1]["line"] = {"color": "@accent", "width": 1.5, "shape": "hv"}
    middle = (min(t.metrics["step_time"] for t in complete)
              * max(t.metrics["step_time"] for t in complete)) ** 0.5  # fmt: skip
    known = [(n, m) for n, m in baselines if "step_time" in m and "accuracy" in m]
    if known:
        data.append(
            dots([m["step_time"] for _, m in known], [100 * m["accuracy"] for _, m in known],
                  "@green", name="baseline", symbol="diamond", size=11,
                  mode="markers+text",
                  textposition=["bottom left" if m["step_time"] > middle else "bottom right"
                                for _, m in known],
                  textfont={"size": 12, "color": "@green"},
                  text=[plain(shortened(n, 20)) for n, _ in known],
                  hovertemplate="%{text}<br>S %{x:.3f}, accuracy %{y:.2f}%<extra></extra>")
        )  # fmt: skip
    x = sorted([*(t.metrics["step_time"] for t in complete), *(m["step_time"] for _, m in known)])
    layout: dict[str, Any] = {
        "xaxis": axis(f"step time over {unit} (S)"),
        "yaxis": axis("accuracy, %"),
        "hovermode": "closest",
    }
    if x[0] > 0 and x[-1] > 5 * x[0]:
        layout["xaxis"] |= {
            "type": "log",
            "tickvals": _TICKS,
            "ticktext": [f"{v:g}" for v in _TICKS],
        }
    y = sorted(100 * t.metrics["accuracy"] for t in complete)
    lowest = y[len(y) // 20]
    below = sum(value < lowest for value in y)
    if y[-1] - y[0] > 2 * (y[-1] - lowest) > 0:  # a few failures would squeeze all others
        margin = 0.08 * (y[-1] - lowest)
        layout["yaxis"] = axis(
            f"accuracy, % ({below} further below)", range=[lowest - margin, y[-1] + margin]
        )
    layout["shapes"], layout["annotations"] = [], []
    for text in constraints:
        if match := _LIMIT.fullmatch(text.strip()):
            _add_limit(layout, match, is_log=layout["xaxis"].get("type") == "log")
    return Figure(name="trade-off", label="Accuracy against step time", data=data, layout=layout,
                  height=440)  # fmt: skip


def _add_limit(layout: dict[str, Any], match: re.Match[str], *, is_log: bool) -> None:
    from math import log10

    value, text = float(match[3]), match[0]
    line = {"color": "@warm", "width": 1, "dash": "dash"}
    if match[1] in ("A", "accuracy"):
        layout["shapes"].append({"type": "line", "xref": "paper", "x0": 0, "x1": 1, "line": line,
                                 "y0": 100 * value, "y1": 100 * value})  # fmt: skip
        layout["annotations"].append({"xref": "paper", "x": 0, "y": 100 * value, "text": text,
                                      "showarrow": False, "xanchor": "left",
                                      "yanchor": "bottom"})  # fmt: skip
    else:
        at = log10(value) if is_log and value > 0 else value
        layout["shapes"].append({"type": "line", "yref": "paper", "y0": 0, "y1": 1, "line": line,
                                 "x0": value, "x1": value})  # fmt: skip
        layout["annotations"].append({"yref": "paper", "x": at, "y": 1, "text": text,
                                      "showarrow": False, "xanchor": "left",
                                      "yanchor": "top"})  # fmt: skip
