"""The report of a search for several objectives: its Pareto front, and how that stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from effnas.report.about_winner import beats_random
from effnas.report.diagram import draw
from effnas.report.facts import Facts
from effnas.report.figures import Trace, axis, count_axis, dots, trial_text
from effnas.report.front_texts import (
    above_guessing_text,
    against_text,
    front_text,
    objective_name,
)
from effnas.report.parts import (
    Cell,
    Column,
    Figure,
    Section,
    Table,
    counted,
    listed,
    plain,
    shortened,
    value_text,
)
from effnas.trials.baselines import REFERENCE
from effnas.trials.front_standing import FrontStanding
from effnas.trials.guessing import WHAT_HELPS
from effnas.trials.objectives import Objective
from effnas.trials.trial import Trial

#: Metrics that are whole numbers.
_COUNTS = frozenset({"params", "macs", "activations"})


def front_tiles(facts: Facts, standing: FrontStanding) -> list[tuple[str, str, str]]:
    """Return the key figures: what, value, and what it is compared with."""
    if not standing.front:
        return []
    complete = counted(standing.complete, "complete trial")
    hypervolume = facts.growth.steps[-1][1]
    found = [
        ("on the front", f"{len(standing.front):,}", f"of {complete}"),
        ("hypervolume", f"{hypervolume:.2f}", "0 to 1, from the worst trial to the best"),
    ]
    for each in standing.objectives:
        trial = _best(standing, each)
        text = value_text(each.metric, trial.metrics[each.metric])
        than = f"trial {trial.number}{_of_reference(standing, each)}"
        found.append((f"best {objective_name(each)}", text, than))
    return found


def _of_reference(standing: FrontStanding, objective: Objective) -> str:
    """Return the reference's value of an objective; nothing where that is not known."""
    measured = {each.name: each.metrics for each in standing.run.baselines}
    value = measured.get(REFERENCE, {}).get(objective.metric)
    return "" if value is None else f"; reference {value_text(objective.metric, value)}"


def _best(standing: FrontStanding, objective: Objective) -> Trial:
    """Return the trial of the front that is best in one objective."""
    sign = 1 if objective.maximize else -1
    return max(standing.front, key=lambda trial: sign * trial.metrics[objective.metric])


def which_are_on_it(facts: Facts, standing: FrontStanding) -> Section:
    """List the front, and draw the networks at its ends."""
    question, run = "Which networks are on the Pareto front?", facts.run
    if not standing.front:
        return Section(name="front", question=question, answer="No trial is complete yet.")
    ends = {trial.number: trial for trial in (_best(standing, o) for o in standing.objectives)}
    answer = f"{front_text(standing)}: none is better in one of these and as good in the others."
    for number, trial in ends.items():
        where = [objective_name(o) for o in standing.objectives
                 if _best(standing, o).number == number]  # fmt: skip
        values = [f"{objective_name(o)} {value_text(o.metric, trial.metrics[o.metric])}"
                  for o in standing.objectives]  # fmt: skip
        answer += f" Trial {number} is the best in {listed(where)}: {', '.join(values)}."
    if text := above_guessing_text(standing):
        answer += f" {text}."
    if standing.learned_nothing:
        answer += f" So the accuracies rank nothing; what helps: {WHAT_HELPS}."
    size, reference = run.space.target.image_size, run.space.reference
    sure = (
        "The front is that of measured values: a lucky trial may be on it, and an unlucky one may "
        f"not. Drawn at {size} px: its ends, and the reference."
    )
    above = standing.above_guessing
    columns = [
        Column("trial", "d"), *_objective_columns(standing), Column("reward", ".4f"),
        Column("above_guessing", "", "clearly above guessing"), Column("architecture"),
    ]  # fmt: skip
    rows: list[list[Cell]] = [
        [t.number, *(t.metrics[o.metric] for o in standing.objectives), t.reward,
         None if above is None else t.number in above, str(t.architecture)]
        for t in standing.front
    ]  # fmt: skip
    return Section(
        name="front", question=question, answer=answer, sure=sure, extra="networks",
        content=[
            *(draw(f"trial {number}", trial.architecture, size, reference)
              for number, trial in ends.items()),
            draw("the reference", reference, size),
        ],
        figures=[_figure(standing)],
        tables=[Table(name="front", columns=columns, rows=rows, is_open=True)],
    )  # fmt: skip


def _objective_columns(standing: FrontStanding) -> list[Column]:
    return [Column(o.metric, ",d" if o.metric in _COUNTS else ".4g", str(o))
            for o in standing.objectives]  # fmt: skip


def _figure(standing: FrontStanding) -> Figure:
    """Draw the first objective against the second one."""
    y, x = standing.objectives[:2]

    def points(trials: Sequence[Trial], colour: str, name: str, **more: object) -> Trace:
        return dots([t.metrics[x.metric] for t in trials], [t.metrics[y.metric] for t in trials],
                    colour, name=name, text=[trial_text(t) for t in trials],
                    hovertemplate="%{text}<extra></extra>", **more)  # fmt: skip

    on_it = {trial.number for trial in standing.front}
    known = [t for t in standing.run.trials if standing.objectives.of(t) is not None]
    data = [
        points([t for t in known if t.number not in on_it], "@muted", "a trial", size=6,
               opacity=0.6),
        points(standing.front, "@accent", "Pareto front", size=9),
    ]  # fmt: skip
    baselines = [each for each in standing.run.baselines
                 if {x.metric, y.metric} <= each.metrics.keys()]  # fmt: skip
    if baselines:
        data.append(
            dots([b.metrics[x.metric] for b in baselines], [b.metrics[y.metric] for b in baselines],
                 "@green", name="baseline", symbol="diamond", size=11, mode="markers+text",
                 textposition="bottom center", textfont={"size": 12, "color": "@green"},
                 text=[plain(shortened(b.name, 20)) for b in baselines],
                 hovertemplate="%{text}<br>%{x:.4g}, %{y:.4g}<extra></extra>")
        )  # fmt: skip
    layout = {"xaxis": axis(_side(x)), "yaxis": axis(_side(y))}
    label = f"{objective_name(y)} against {objective_name(x)}".capitalize()
    return Figure(name="front", label=label, data=data, layout=layout, height=400)


def _side(objective: Objective) -> str:
    return f"{objective_name(objective)} ({'more' if objective.maximize else 'less'} is better)"


def what_it_dominates(facts: Facts, standing: FrontStanding) -> Section:
    """Say which baselines trials of the front dominate."""
    question = "Is it better than the baselines?"
    reasons = [f"{b.name} is not compared: {b.reason}." for b in facts.run.baselines if b.reason]
    texts = [f"{against_text(each)}." for each in standing.against] + reasons
    if not texts:
        answer = "Not known: no baseline was trained beside it."
        return Section(name="baselines", question=question, answer=answer)
    columns = [Column("network"), *_objective_columns(standing),
               Column("dominated_by", "", "dominated by trials"),
               Column("clearly_by", "", "clearly by"),
               Column("dominates", "", "dominates trials")]  # fmt: skip
    metrics = {each.name: each.metrics for each in facts.run.baselines}
    rows: list[list[Cell]] = [
        [a.name, *(metrics[a.name].get(o.metric) for o in standing.objectives),
         *(", ".join(map(str, numbers)) for numbers in (a.dominated_by, a.clearly_by, a.dominates))]
        for a in standing.against
    ]  # fmt: skip
    return Section(
        name="baselines", question=question, answer=" ".join(texts),
        sure="One network dominates another if it is as good in all objectives, and better in one. "
             "For what is called clear, the luck in accuracies is taken off, and intervals of step "
             "times do not overlap.",
        tables=[Table(name="baselines", columns=columns, rows=rows, is_open=True, is_turned=True)]
        if rows else [],
    )  # fmt: skip


def beats_random_search(facts: Facts, standing: FrontStanding) -> Section:
    """Compare the hypervolume with random search's, and show how it has grown."""
    growth = facts.growth
    columns = [Column("trials", "d", "complete trials"), Column("hypervolume", ".4f")]
    data: list[Trace] = [
        {"type": "scatter", "mode": "lines+markers", "x": [n for n, _ in growth.steps],
         "y": [value for _, value in growth.steps], "marker": {"color": "@warm", "size": 7},
         "line": {"shape": "hv", "color": "@warm", "width": 2.5}, "showlegend": False,
         "hovertemplate": "%{x} trials: %{y:.3f}<extra></extra>"}
    ]  # fmt: skip
    figure = Figure(name="progress", label="Hypervolume by complete trials", data=data,
                    layout={"xaxis": count_axis("complete trials", standing.complete),
                            "yaxis": axis(growth.what, range=[-0.03, 1.05])},
                    height=300)  # fmt: skip
    return replace(
        beats_random(facts),
        figures=[figure] if growth.steps else [],
        tables=[Table(name="progress", columns=columns, rows=growth.steps)],
    )
