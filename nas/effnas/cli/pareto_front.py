"""The Pareto front of a run on the terminal and in JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text

from effnas.cli.tables import duration, networks, number, params_text, step_text, table
from effnas.search.cost_estimate import memory_text
from effnas.trials.pareto_front import hypervolumes, pareto_front

if TYPE_CHECKING:
    from effnas.cli.tables import Screen
    from effnas.trials.baselines import Baseline
    from effnas.trials.objectives import Objectives
    from effnas.trials.trial import Trials

#: Counts, which are shown in thousands or millions.
_LARGE = frozenset({"params", "macs", "activations"})
#: Networks that are shown in full.
_SHOWN = 10


def show_pareto_front(
    screen: Screen, trials: Trials, objectives: Objectives, baselines: Sequence[Baseline] = ()
) -> None:
    """Print the trials that none dominates, all of them, and how their hypervolume has grown."""
    found = table("trial", *map(str, objectives), "reward", left=["trial"])
    best, front = trials.best, pareto_front(trials, objectives)
    for trial in front:
        reward = number(trial.reward, "{:.4f}")
        is_best = best is not None and best.number == trial.number
        found.add_row(
            str(trial.number),
            *(_value_text(each.metric, trial.metrics[each.metric]) for each in objectives),
            Text.assemble(("best ", "green"), reward) if is_best else reward,
        )
    for each in baselines:
        texts = (_value_text(o.metric, each.metrics.get(o.metric)) for o in objectives)
        found.add_row(each.name, *texts, "-")
    screen.print(found)
    screen.print()
    screen.print(networks((f"trial {t.number}", t.architecture) for t in front[:_SHOWN]))
    if len(front) > _SHOWN:
        screen.print(f"{len(front) - _SHOWN} more: --json has all networks in full.")
    points = hypervolumes(trials, objectives)
    if points:
        curve = ", ".join(f"{value:.3f} ({count})" for count, value in points)
        screen.print(f"\nHypervolume, 0 to 1, after N complete trials (N): {curve}")


def pareto_front_json(trials: Trials, objectives: Objectives) -> dict[str, Any]:
    """Return the numbers of the trials on the front, and how its hypervolume has grown."""
    return {
        "front": [trial.number for trial in pareto_front(trials, objectives)],
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
