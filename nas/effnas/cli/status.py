"""`effnas status`: what a run has found, what it has cost, and when it will be done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

from effnas.cli.leaderboard import Leaderboard, after_search
from effnas.cli.pareto_front import pareto_front_json, show_pareto_front
from effnas.cli.tables import console, counted, duration, facts, next_commands
from effnas.trials.run import Run, load_run
from effnas.trials.trial import TrialState

#: States that go by another name here.
_STATES = {str(TrialState.WAITING): "paused"}


def show_status(path: Path, *, top: int, as_json: bool) -> None:
    """Print a run.

    Raises:
        StoreError: If there is no run there.
    """
    run = load_run(path)
    summary, objectives = summarize(run), run.objectives
    if as_json:
        best = [trial.to_row() for trial in run.trials.ranked()[:top]]
        found = {"run": str(path), "constraints": list(run.manifest.constraints), **summary}
        more = pareto_front_json(run.trials, objectives) if objectives else {}
        print(json.dumps({**found, "trials": best, **more}, indent=2))
        return
    screen = console()
    parent = run.manifest.parent
    states = cast("dict[str, int]", summary["states"])
    rows = [
        ("run", f"{path}, started {run.manifest.created}"),
        ("space", f"{run.manifest.space.name}; reward {run.manifest.reward.name}; "
                  f"controller {run.manifest.controller}"),
        ("constraints", "; ".join(run.manifest.constraints)),
        ("data", f"{run.manifest.data.name or '?'} on {run.manifest.hardware}"),
        ("objectives", str(objectives or "")),
        # Of a run that `effnas retarget` made.
        ("retargeted from", f"{parent.path}, {counted(parent.trials, 'trial')} on "
                            f"{parent.hardware}"
                            if parent else ""),
        ("step times", run.manifest.step_times if parent else ""),
        ("trials", ", ".join(f"{count:,} {_STATES.get(state, state.lower())}"
                             for state, count in states.items())
                   + f"; budget {summary['budget']:,}"),
    ]  # fmt: skip
    cost = cast("float", summary["cost_s"])
    if cost:
        forecast = cast("float | None", summary["forecast_s"])
        left = f"; about {duration(forecast)} of work left" if forecast else ""
        rows.append(("cost", f"{duration(cost)} of work{left}"))
    screen.print(facts(rows))
    screen.print()
    if run.best is None:
        screen.print("No trial is complete yet.")
    elif objectives:
        show_pareto_front(screen, run.trials, objectives, run.baselines)
    else:
        reward = run.load_reward() if run.manifest.reward.kind == "expression" else None
        Leaderboard(run, reward, top).show(screen)
    if run.best is not None:
        next_commands(screen, *after_search(run))


def summarize(run: Run) -> dict[str, object]:
    """Return counts by state, cost and forecast.

    `cost_s` is the worker time of all trials that have ended or paused, in seconds; `forecast_s`
    the worker time that the rest of the budget will take at the same mean, or None before the first
    trial.
    """
    states = {str(s): run.trials.count(s) for s in TrialState if run.trials.count(s)}
    ended = [t for t in run.trials if t.has_result]
    seconds = [t.duration_s for t in ended if t.duration_s is not None]
    budget = run.manifest.budget
    left = max(budget - len(ended), 0)
    return {
        "states": states,
        "budget": budget,
        "cost_s": float(sum(seconds)),
        "forecast_s": sum(seconds) / len(seconds) * left if seconds else None,
    }
