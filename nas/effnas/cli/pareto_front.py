"""The Pareto front of a run on the terminal and in JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.text import Text

from effnas.cli.leaderboard import LEARNED_NOTHING
from effnas.cli.tables import (
    PREDICTED,
    accuracy_text,
    duration,
    networks,
    note,
    number,
    params_text,
    step_text,
    table,
)
from effnas.cli.wording import guessing_text
from effnas.report.front_texts import above_guessing_text, against_text
from effnas.search.cost_estimate import memory_text
from effnas.trials.front_standing import FrontStanding
from effnas.trials.pareto_front import hypervolumes, pareto_front

if TYPE_CHECKING:
    from effnas.cli.tables import Screen
    from effnas.trials.objectives import Objectives
    from effnas.trials.run import Run

#: Counts, which are shown in thousands or millions.
_LARGE = frozenset({"params", "macs", "activations"})
#: Networks that are shown in full.
_SHOWN = 10


def show_pareto_front(screen: Screen, run: Run, objectives: Objectives) -> None:
    """Print the trials that none dominates, all of them, and what is to be believed of them."""
    trials = run.trials
    found = table("trial", *map(str, objectives), "reward", left=["trial"])
    best, front = trials.best, pareto_front(trials, objectives)
    for trial in front:
        reward = number(trial.reward, "{:.4f}")
        is_best = best is not None and best.number == trial.number
        found.add_row(
            str(trial.number),
            *(
                accuracy_text(trial)
                if each.metric == "accuracy" and trial.is_predicted
                else _value_text(each.metric, trial.metrics[each.metric])
                for each in objectives
            ),
            Text.assemble(("best ", "green"), reward) if is_best else reward,
        )
    for each in run.baselines:
        texts = (_value_text(o.metric, each.metrics.get(o.metric)) for o in objectives)
        found.add_row(each.name, *texts, "-")
    screen.print(found)
    if any(trial.is_predicted for trial in front):
        screen.print(Text(PREDICTED, style="dim"))
    screen.print()
    screen.print(networks((f"trial {t.number}", t.architecture) for t in front[:_SHOWN]))
    if len(front) > _SHOWN:
        screen.print(f"{len(front) - _SHOWN} more: --json has all networks in full.")
    _show_standing(screen, FrontStanding(run, objectives))
    points = hypervolumes(trials, objectives)
    if points:
        curve = ", ".join(f"{value:.3f} ({count})" for count, value in points)
        screen.print(f"\nHypervolume, 0 to 1, after N complete trials (N): {curve}")


def _show_standing(screen: Screen, standing: FrontStanding) -> None:
    """Print how the front stands against guessing and the baselines."""
    screen.print()
    if text := guessing_text(standing.run.manifest.data.guessing):
        screen.print(text)
    if standing.learned_nothing:
        note(screen, LEARNED_NOTHING, "Warning")
    elif text := above_guessing_text(standing):
        screen.print(f"{text}.")
    for each in standing.run.baselines:
        if each.reason:
            screen.print(f"Baseline {each.name}: {each.reason}")
    for against in standing.against:
        screen.print(f"{against_text(against)}.")
    if standing.against:
        legend = "dominated: another one is as good in all objectives, and better in one"
        screen.print(Text(legend, style="dim"))


def pareto_front_json(run: Run, objectives: Objectives) -> dict[str, Any]:
    """Return the numbers of the trials on the front, how it stands, and how it has grown."""
    standing, trials = FrontStanding(run, objectives), run.trials
    return {
        "front": [trial.number for trial in standing.front],
        "front_above_guessing": standing.above_guessing,
        "front_against": [asdict(each) for each in standing.against],
        "hypervolume": [
            {"trials": count, "value": value} for count, value in hypervolumes(trials, objectives)
        ],
    }


def _value_text(metric: str, value: float | None) -> str:
    """Return a value with its unit, if it has one."""
    if value is None:
        return "-"
    if metric in _LARGE:
        return params_text(value)
    if metric.endswith("_bytes"):
        return memory_text(value)
    if metric == "train_time_s":
        return duration(value)
    if metric.endswith("_s"):
        return step_text(value)
    return f"{value:#.4g}"
