"""Several searches on one page: their key facts, how they got there, and their trade-offs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from effnas.report.about_ranking import MAY_EXCEED_1
from effnas.report.facts import Facts
from effnas.report.figures import Trace, axis, count_axis, dots, trial_text
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
from effnas.report.statements import costs
from effnas.trials.run import Run
from effnas.trials.trial import TrialState

_COLOURS = ("@accent", "@warm", "@green", "@violet", "@muted", "@ink")
#: What must be the same for rewards to compare, and what it is called.
_MUST_MATCH: Sequence[tuple[str, Callable[[Run], object]]] = (
    ("reward", lambda run: run.manifest.reward.text),
    ("objectives", lambda run: run.manifest.objectives),
    ("reference network", lambda run: run.manifest.reference.architecture),
    ("held-out images", lambda run: run.holdout_fingerprint),
    ("recipe", lambda run: run.manifest.recipe),
    ("device", lambda run: run.manifest.hardware),
    ("unit of S", lambda run: run.step_unit),
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
    best = {name: f.winner.reward or 0.0 for name, f in zip(names, all_facts, strict=True)
            if f.winner and not f.learned_nothing}  # fmt: skip
    if not any(f.winner for f in all_facts):
        return f"{len(names)} searches without a complete trial"
    if not best:
        return f"{len(names)} searches without a trial that is clearly better than guessing"
    if all_facts[0].run.objectives:
        return f"{len(names)} searches for {all_facts[0].run.objectives}"
    first = max(best, key=best.__getitem__)
    return f"{shortened(first, 40)} has the best network of {len(names)} searches, as measured"


def _key_facts(names: Sequence[str], all_facts: Sequence[Facts]) -> Section:
    columns = [
        Column("run"), Column("controller"), Column("objectives"), Column("space"), Column("data"),
        Column("seed", "d"), Column("trials", ",d"), Column("complete", ",d"),
        Column("front", ",d", "on the Pareto front"),
        Column("best", "d", "best by reward: trial"),
        Column("reward", ".4f"), Column("reward_low", ".4f", "true reward from"),
        Column("reward_high", ".4f", "to"), Column("best_probability", "", "best of its run with"),
        Column("accuracy", ".2%"), Column("accuracy_is", "", "accuracy is"),
        Column("guessing", ".2%", "guessing gives"),
        Column("step_time", ".3f", "step time S"),
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
            name, run.manifest.controller, run.manifest.objectives, run.manifest.space.name,
            run.manifest.data.name or None, run.manifest.seed, len(run.trials),
            run.trials.count(TrialState.COMPLETE),
            len(run.pareto_front) if run.objectives else None,
            winner.number if winner else None, winner.reward if winner else None,
            first.low if first else None, first.high if first else None,
            None if chance is None else chance_text(chance),
            m.get("accuracy"), facts.how_best if "accuracy" in m else None,
            run.manifest.data.guessing.best,
            *(m.get(n) for n in ("step_time", "params_ratio", "params")),
            facts.random.best if facts.random else None,
            sum(cost.seconds for cost in costs(run)) or None, run.manifest.hardware or None,
        ])  # fmt: skip
    differing = _differing(all_facts)
    answer = [f"{counted(len(names), 'run')}; the best of each has its highest measured reward."]
    for name, facts in zip(names, all_facts, strict=True):
        if facts.learned_nothing:
            answer.append(
                f"No trial of {shortened(name, 40)} is clearly more accurate than guessing, so its "
                "accuracies rank nothing."
            )
        if facts.run.objectives:
            answer.append(
                f"{shortened(name, 40)} pursued several objectives, {facts.run.objectives}, and "
                "not one reward: its result is a Pareto front."
            )
    return Section(
        name="runs",
        question="What did each find?",
        answer=" ".join(answer),
        sure=f"Rewards of these runs do not compare: they differ in their {listed(differing)}."
        if differing
        else "Reward, objectives, reference, held-out images, recipe and device are the same, so "
        f"that rewards compare. Intervals hold with 90%. {MAY_EXCEED_1}",
        tables=[
            _without_empty(
                Table(name="runs", columns=columns, rows=rows, is_open=True, is_turned=True)
            )
        ],
    )


def _without_empty(table: Table) -> Table:
    """Return a table without the columns that no row has."""
    kept = [n for n in range(len(table.columns)) if any(row[n] is not None for row in table.rows)]
    return replace(table, columns=[table.columns[n] for n in kept],
                   rows=[[row[n] for n in kept] for row in table.rows])  # fmt: skip


def _progress(names: Sequence[str], all_facts: Sequence[Facts]) -> Section:
    found = [(name, facts.growth, facts.run) for name, facts in zip(names, all_facts, strict=True)]
    found = [each for each in found if each[1].steps]
    lines: list[tuple[str, str, Trace]] = []
    for n, (name, growth, run) in enumerate(found):
        last = max(trial.number for trial in run.trials)
        steps = growth.steps
        lines.append((name, growth.what, {
            "type": "scatter", "mode": "lines", "name": plain(shortened(name)),
            "x": [*(x for x, _ in steps), max(last, steps[-1][0])],
            "y": [*(y for _, y in steps), steps[-1][1]],
            "line": {"shape": "hv", "width": 2.5, "color": _COLOURS[n % len(_COLOURS)]},
        }))  # fmt: skip
    rows: list[list[Cell]] = [[name, *step] for name, growth, _ in found for step in growth.steps]
    columns = [Column("run"), Column("trial", "d"), Column("value", ".4f", "so far")]
    # Hypervolumes of two runs have two scales.
    one_axis = not _differing(all_facts) and not any(f.run.objectives for f in all_facts)
    return Section(
        name="progress",
        question="How did the best of each grow?",
        answer="The best measured reward after each trial; with several objectives, the "
        "hypervolume of the Pareto front.",
        sure="The best of noisy measurements rises by luck, too: in all runs alike."
        if one_axis
        else "Each run on axes of its own, since these figures do not compare.",
        figures=_figures("progress", "trial", lines, one_axis=one_axis, height=300),
        tables=[Table(name="progress", columns=columns, rows=rows)],
    )


def _figures(
    name: str, x: str, lines: Sequence[tuple[str, str, Trace]], *, one_axis: bool, height: int
) -> list[Figure]:
    """Return one figure of traces of runs, each with what it shows, or one for each run."""
    if not lines:
        return []
    label = f"{lines[0][1].capitalize()} of each run, by {x}"

    def figure(name: str, label: str, y: str, data: Sequence[Trace]) -> Figure:
        ends = [value for trace in data for value in trace["x"]]
        is_count = all(isinstance(value, int) for value in ends)
        layout = {"xaxis": count_axis(x, max(ends)) if is_count else axis(x), "yaxis": axis(y)}
        return Figure(name=name, label=label, data=data, layout=layout, height=height)

    if one_axis:
        return [figure(name, label, lines[0][1], [trace for *_, trace in lines])]
    found = []
    for n, run in enumerate(dict.fromkeys(run for run, *_ in lines), start=1):
        mine = [(what, trace) for of, what, trace in lines if of == run]
        title = f"{mine[0][0]}<br>of {plain(shortened(run, 24))}"
        found.append(figure(f"{name}-{n}", f"{label}: {run}", title, [t for _, t in mine]))
    return found


def _trade_offs(names: Sequence[str], all_facts: Sequence[Facts]) -> Section:
    lines: list[tuple[str, str, Trace]] = []
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
            trace = dots(
                [t.metrics["step_time"] for t in trials],
                [100 * t.metrics["accuracy"] for t in trials], colour,
                text=[trial_text(t) for t in trials], hovertemplate="%{text}<extra></extra>",
                **more,
            )  # fmt: skip
            lines.append((name, "accuracy, %", trace))
        lines[-1][2]["line"] = {"color": colour, "width": 1.5, "shape": "hv"}
    columns = [Column("run"), Column("trial", "d"), Column("accuracy", ".2%"),
               Column("step_time", ".3f", "S"), Column("reward", ".4f"),
               Column("architecture")]  # fmt: skip
    differing = [n for n in _differing(all_facts) if n not in ("reward", "objectives")]
    return Section(
        name="trade-offs",
        question="What does accuracy cost in each?",
        answer="Lines are the Pareto fronts: no trial of the run is both more accurate and faster.",
        sure=f"Each run on axes of its own: they differ in their {listed(differing)}."
        if differing else "Measured once each, without intervals.",
        figures=_figures("trade-offs", "step time (S)", lines if rows else [],
                         one_axis=not differing, height=380),
        tables=[Table(name="pareto-fronts", columns=columns, rows=rows)],
    )  # fmt: skip
