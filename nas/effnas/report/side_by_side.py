"""Several searches on one page: their key facts, how fast they got there, and their trade-offs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from effnas.report.facts import Facts
from effnas.report.figures import Trace, axis, dots, trial_text
from effnas.report.parts import (
    Cell,
    Column,
    Figure,
    Page,
    Section,
    Table,
    chance_text,
    counted,
    listed,
    plain,
    shortened,
)
from effnas.report.statements import best_so_far, costs
from effnas.trials.run import Run
from effnas.trials.trial import TrialState

_COLOURS = ("@accent", "@warm", "@green", "@violet", "@muted", "@ink")
#: What must be the same for rewards to compare, and what it is called.
_MUST_MATCH: Sequence[tuple[str, Callable[[Run], object]]] = (
    ("reward", lambda run: run.manifest.reward.text),
    ("reference network", lambda run: run.manifest.reference.architecture),
    ("held-out images", lambda run: run.holdout_fingerprint),
    ("recipe", lambda run: run.manifest.recipe),
    ("device", lambda run: run.manifest.hardware),
)


def report_runs(runs: Sequence[Run]) -> Page:
    """Return a page about several searches; functions as rewards are not run."""
    all_facts = [Facts.of(run) for run in runs]
    names = _names(runs)
    return Page(
        kind="several searches",
        title=_title(names, all_facts),
        facts=[(f"run {n}", str(run.path)) for n, run in enumerate(runs, start=1)],
        tiles=[],
        sections=[
            _key_facts(names, all_facts),
            _progress(names, all_facts),
            _trade_offs(names, all_facts),
        ],
    )


def _names(runs: Sequence[Run]) -> list[str]:
    """Return a short name of each run, which no other has."""
    short = [run.path.resolve().name for run in runs]
    return short if len(set(short)) == len(short) else [
        f"{n} {name}" for n, name in enumerate(short, start=1)
    ]  # fmt: skip


def _differing(all_facts: Sequence[Facts]) -> list[str]:
    runs = [facts.run for facts in all_facts]
    return [name for name, of in _MUST_MATCH if any(of(run) != of(runs[0]) for run in runs)]


def _title(names: Sequence[str], all_facts: Sequence[Facts]) -> str:
    differing = _differing(all_facts)
    if differing:
        return f"{len(names)} searches that differ in their {listed(differing)}"
    rewards = {name: f.winner.reward or 0.0 for name, f in zip(names, all_facts, strict=True)
               if f.winner}  # fmt: skip
    if not rewards:
        return f"{len(names)} searches without a complete trial"
    best = max(rewards, key=rewards.__getitem__)
    return f"{shortened(best, 40)} has the best network of {len(names)} searches, as measured"


def _key_facts(names: Sequence[str], all_facts: Sequence[Facts]) -> Section:
    columns = [
        Column("run"), Column("controller"), Column("space"), Column("data"), Column("seed", "d"),
        Column("trials", ",d"), Column("complete", ",d"), Column("winner", "d", "winner: trial"),
        Column("reward", ".4f"), Column("reward_low", ".4f", "true reward from"),
        Column("reward_high", ".4f", "to"), Column("best_probability", "", "best of its run with"),
        Column("accuracy", ".2%"), Column("step_time", ".3f", "step time S"),
        Column("params_ratio", ".3f", "size P"), Column("params", ",d", "parameters"),
        Column("random_search", ".4f", "random search would reach"),
        Column("cost_s", ",.0f", "work, s"), Column("device"),
    ]  # fmt: skip
    rows: list[list[Cell]] = []
    for name, facts in zip(names, all_facts, strict=True):
        run, winner = facts.run, facts.winner
        first = facts.ranked[0] if facts.ranked else None
        chance = first.best_probability if first else None
        m = winner.metrics if winner else {}
        rows.append([
            name, run.manifest.controller, run.manifest.space.name, run.manifest.data.name or None,
            run.manifest.seed, len(run.trials), run.trials.count(TrialState.COMPLETE),
            winner.number if winner else None, winner.reward if winner else None,
            first.low if first else None, first.high if first else None,
            None if chance is None else chance_text(chance),
            *(m.get(n) for n in ("accuracy", "step_time", "params_ratio", "params")),
            facts.random.best if facts.random else None,
            sum(cost.seconds for cost in costs(run)) or None, run.manifest.hardware or None,
        ])  # fmt: skip
    differing = _differing(all_facts)
    return Section(
        name="runs",
        question="What did each find?",
        answer=f"{counted(len(names), 'run')}; each winner has the highest measured reward of its "
        "run.",
        sure=f"Rewards of these runs do not compare: they differ in their {listed(differing)}."
        if differing
        else "Reward, reference, held-out images, recipe and device are the same, so that rewards "
        "compare. Intervals hold with 90%.",
        tables=[Table(name="runs", columns=columns, rows=rows, is_open=True, is_turned=True)],
    )


def _progress(names: Sequence[str], all_facts: Sequence[Facts]) -> Section:
    data: list[Trace] = []
    rows: list[list[Cell]] = []
    for n, (name, facts) in enumerate(zip(names, all_facts, strict=True)):
        steps = best_so_far(facts.run.trials)
        rows += [[name, *step] for step in steps]
        if steps:
            last = max(trial.number for trial in facts.run.trials)
            data.append({
                "type": "scatter", "mode": "lines", "name": plain(shortened(name)),
                "x": [*(x for x, _ in steps), last], "y": [*(y for _, y in steps), steps[-1][1]],
                "line": {"shape": "hv", "width": 2.5, "color": _COLOURS[n % len(_COLOURS)]},
            })  # fmt: skip
    layout = {"xaxis": axis("trial"), "yaxis": axis("best measured reward")}
    label = "Best reward so far of each run"
    figure = Figure(name="progress", label=label, data=data, layout=layout)
    columns = [Column("run"), Column("trial", "d"), Column("reward", ".4f", "best so far")]
    return Section(
        name="progress",
        question="Which was faster?",
        answer="The best measured reward after each trial.",
        sure="The best of noisy measurements rises by luck, too: in all runs alike.",
        figures=[figure] if data else [],
        tables=[Table(name="progress", columns=columns, rows=rows)],
    )


def _trade_offs(names: Sequence[str], all_facts: Sequence[Facts]) -> Section:
    data: list[Trace] = []
    rows: list[list[Cell]] = []
    for n, (name, facts) in enumerate(zip(names, all_facts, strict=True)):
        colour = _COLOURS[n % len(_COLOURS)]
        known = [t for t in facts.complete if {"accuracy", "step_time"} <= t.metrics.keys()]
        front = sorted(facts.front, key=lambda t: t.metrics["step_time"])
        rows += [[name, t.number, t.metrics["accuracy"], t.metrics["step_time"], t.reward,
                  str(t.architecture)] for t in front]  # fmt: skip
        for trials, more in (
            (known, {"size": 5, "opacity": 0.35, "showlegend": False}),
            (front, {"size": 8, "mode": "lines+markers", "name": plain(shortened(name))}),
        ):
            data.append(
                dots([t.metrics["step_time"] for t in trials],
                     [100 * t.metrics["accuracy"] for t in trials], colour,
                     text=[trial_text(t) for t in trials], hovertemplate="%{text}<extra></extra>",
                     **more)
            )  # fmt: skip
        data[-1]["line"] = {"color": colour, "width": 1.5, "shape": "hv"}
    figure = Figure(
        name="trade-offs", label="Accuracy against step time of each run", data=data, height=440,
        layout={"xaxis": axis("step time over the reference's (S)"), "yaxis": axis("accuracy, %")},
    )  # fmt: skip
    columns = [Column("run"), Column("trial", "d"), Column("accuracy", ".2%"),
               Column("step_time", ".3f", "S"), Column("reward", ".4f"),
               Column("architecture")]  # fmt: skip
    differing = [n for n in _differing(all_facts) if n in ("reference network", "device")]
    return Section(
        name="trade-offs",
        question="What does accuracy cost in each?",
        answer="Lines are the Pareto fronts: no trial of the run is both more accurate and faster.",
        sure=f"Step times do not compare: the runs differ in their {listed(differing)}."
        if differing else "Measured once each, without intervals.",
        figures=[figure] if rows else [],
        tables=[Table(name="pareto-fronts", columns=columns, rows=rows)],
    )  # fmt: skip
