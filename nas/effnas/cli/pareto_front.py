"""The Pareto front of a run on the terminal and in JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from effnas.cli.tables import duration, number, table
from effnas.search.cost_estimate import memory_text
from effnas.trials.pareto_front import hypervolumes, pareto_front

if TYPE_CHECKING:
    from rich.console import Console

    from effnas.trials.objectives import Objectives
    from effnas.trials.trial import Trials

#: Metrics that are shown in millions.
_LARGE = frozenset({"params", "macs", "activations"})


def show_pareto_front(screen: Console, trials: Trials, objectives: Objectives) -> None:
    """Print the trials that none dominates, all of them, and how their hypervolume has grown."""
    found = table("trial", *map(str, objectives), "reward", "architecture")
    best = trials.best
    for trial in pareto_front(trials, objectives):
        reward = number(trial.reward, "{:.4f}")
        is_best = best is not None and best.number == trial.number
        found.add_row(
            str(trial.number),
            *(_value_text(each.metric, trial.metrics[each.metric]) for each in objectives),
            f"[green]best[/] {reward}" if is_best else reward,
            str(trial.architecture),
        )
    screen.print(found)
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


def _value_text(metric: str, value: float) -> str:
    """Return a value with its unit, if it has one."""
    if metric in _LARGE:
        return f"{value / 1e6:.3g} M"
    if metric.endswith("_bytes"):
        return memory_text(value)
    if metric == "train_time_s":
        return duration(value)
    if metric.endswith("_s"):
        return f"{value * 1e3:.3g} ms"
    return f"{value:#.4g}"
