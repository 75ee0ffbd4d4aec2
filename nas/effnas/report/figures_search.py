"""Figures on the search: what was tried, what it cost, and what its figures are worth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from effnas.report.figures import ROWS_AXIS, Trace, axis, dots, rows_height
from effnas.report.parts import Figure, counted, duration, plain, share_text
from effnas.report.statements import Cost, Coverage, PredictedStep, RungPair, Sensitivity


def exponents(found: Sensitivity) -> Figure:
    """Draw which trial is the best for each pair of exponents."""
    wins = Counter(trial for row in found.winners for trial in row)
    index = {trial: n for n, (trial, _) in enumerate(wins.most_common(len(wins)))}
    top = min(len(index), 8)
    z = [[min(index[t], top - 1 if len(index) > 8 else top) for t in row] for row in found.winners]
    scale: list[list[object]] = []
    for n in range(top):
        scale += [[n / top, f"@c{n}"], [(n + 1) / top, f"@c{n}"]]
    annotations = []
    cells = sum(wins.values())
    for trial in [t for t, n in wins.most_common(8) if n > 0.012 * cells]:
        at = [
            (x, y)
            for y, row in zip(found.size_exponents, found.winners, strict=True)
            for x, winner in zip(found.step_time_exponents, row, strict=True)
            if winner == trial
        ]
        x, y = (sum(values) / len(at) for values in zip(*at, strict=True))
        x, y = min(at, key=lambda p: (p[0] - x) ** 2 + (p[1] - y) ** 2)
        annotations.append({"x": x, "y": y, "text": f"<b>{trial}</b>", "showarrow": False,
                            "font": {"color": "@ink", "size": 13}})  # fmt: skip
    data: list[Trace] = [
        {"type": "heatmap", "x": list(found.step_time_exponents), "y": list(found.size_exponents),
         "z": z, "zmin": 0, "zmax": top, "colorscale": scale, "showscale": False,
         "text": [[f"trial {t}" for t in row] for row in found.winners],
         "hovertemplate": "S^%{x:.3f} P^%{y:.3f}: %{text}<extra></extra>"},
        dots([found.given[0]], [found.given[1]], "@ink", name="this run's reward", symbol="x",
              size=11, hovertemplate="this run's reward<extra></extra>"),
    ]  # fmt: skip
    return Figure(
        name="exponents",
        label="Number of the trial that is best for each pair of exponents",
        data=data,
        layout={
            "xaxis": axis("exponent of step time (S)", showgrid=False),
            "yaxis": axis("exponent of size (P)", showgrid=False),
            "annotations": annotations,
        },
        height=400,
    )


def rungs(pairs: Sequence[RungPair]) -> list[Figure]:
    """Draw accuracies at two rungs, for the pairs that have a correlation."""
    return [
        Figure(
            name=f"rungs-{each.low}-{each.high}",
            label=f"Accuracy after {each.high} epochs against that after {each.low}",
            data=[dots([100 * low for low, _ in each.accuracies],
                        [100 * high for _, high in each.accuracies], "@accent", showlegend=False,
                        hovertemplate="%{x:.2f}% → %{y:.2f}%<extra></extra>")],
            layout={"xaxis": axis(f"accuracy after {counted(each.low, 'epoch')}, %"),
                    "yaxis": axis(f"after {counted(each.high, 'epoch')}, %")},
            height=320,
        )
        for each in pairs
        if each.tau is not None
    ]  # fmt: skip


def predictions(steps: Sequence[PredictedStep]) -> Figure:
    """Draw predicted against measured step times."""
    x, y = [s.measured for s in steps], [s.predicted for s in steps]
    ends = [min(*x, *y) * 0.97, max(*x, *y) * 1.03]
    data: list[Trace] = [
        {"type": "scatter", "mode": "lines", "x": ends, "y": ends, "name": "equal",
         "line": {"color": "@muted", "width": 1, "dash": "dot"}, "hoverinfo": "skip"},
        dots(x, y, "@accent", name="a trial", text=[f"trial {s.trial}" for s in steps],
              hovertemplate="%{text}: measured %{x:.3f}, predicted %{y:.3f}<extra></extra>"),
    ]  # fmt: skip
    return Figure(name="predictions", label="Predicted against measured step time", data=data,
                  layout={"xaxis": axis("measured S"), "yaxis": axis("predicted S")},
                  height=340)  # fmt: skip


def tried(found: Sequence[Coverage]) -> Figure:
    """Draw how often each option was tried, as shares of the trials of its decision."""
    decisions = list(dict.fromkeys(each.decision for each in found))
    options = {name: [e for e in found if e.decision == name] for name in decisions}
    totals = {name: max(sum(e.tried for e in options[name]), 1) for name in decisions}
    data: list[Trace] = []
    for n in range(max(len(each) for each in options.values())):
        here = [(name, options[name][n]) for name in decisions if len(options[name]) > n]
        texts = [f"{'★ ' if e.is_best else ''}{plain(e.option)}" for _, e in here]
        data.append(
            {"type": "bar", "orientation": "h", "y": [name for name, _ in here],
             "x": [100 * e.tried / totals[name] for name, e in here], "text": texts,
             "textposition": "inside", "insidetextanchor": "middle", "textangle": 0,
             "constraintext": "none", "showlegend": False,
             "marker": {"color": f"@s{n % 6}", "line": {"color": "@paper", "width": 1.5}},
             "insidetextfont": {"color": "@ink", "size": 11},
             "customdata": [[e.tried, e.complete] for _, e in here],
             "hovertemplate": "%{y} %{text}: tried %{customdata[0]} times, %{customdata[1]} "
                              "complete<extra></extra>"}
        )  # fmt: skip
    return Figure(
        name="coverage",
        label="How often each option of each decision was tried",
        data=data,
        layout={"barmode": "stack", "xaxis": axis("share of trials, %", range=[0, 100]),
                "yaxis": {**ROWS_AXIS, "categoryarray": decisions[::-1]},
                "uniformtext": {"mode": "hide", "minsize": 10}},
        height=rows_height(len(decisions), 80),
    )  # fmt: skip


def ledger(work: Sequence[Cost], idle: Cost | None = None) -> Figure:
    """Draw where the time of the workers went, with their shares, and how long they were idle."""
    total = sum(cost.seconds for cost in work)
    texts = [f"{duration(c.seconds)}, {plain(share_text(c.seconds / total))}" for c in work]
    found = [*work, idle] if idle else list(work)
    if idle:
        texts.append(duration(idle.seconds))
    names = [cost.what for cost in found]
    units = (("hours", 3600, 7200), ("minutes", 60, 120), ("seconds", 1, 0))
    unit, unit_s = next((name, size) for name, size, least in units if total >= least)
    data: list[Trace] = [
        {"type": "bar", "orientation": "h", "x": [c.seconds / unit_s for c in found], "y": names,
         "width": 0.55, "showlegend": False,
         "marker": {"color": ["@muted" if c is idle else "@accent" for c in found]}, "text": texts,
         "textposition": "auto", "textfont": {"size": 12},
         "insidetextfont": {"color": "@paper"},
         "hovertemplate": "%{y}: %{text}<extra></extra>"}
    ]  # fmt: skip
    return Figure(
        name="ledger",
        label="Worker time by what they went into",
        data=data,
        layout={"xaxis": axis(f"worker time, {unit}"),
                "yaxis": {**ROWS_AXIS, "categoryarray": names[::-1]}},
        height=rows_height(len(names), 90),
    )  # fmt: skip
