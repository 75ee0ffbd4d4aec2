"""`effnas status`: what a folder holds, what it has cost, and when it will be done."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from effnas.cli.folder_state import FolderState
from effnas.cli.folders import read_folder
from effnas.cli.following import after_search, can_run
from effnas.cli.leaderboard import Leaderboard
from effnas.cli.pareto_front import pareto_front_json, show_pareto_front
from effnas.cli.runs import state_json
from effnas.cli.tables import (
    console,
    counted,
    duration,
    facts,
    next_commands,
    note,
    number,
    table,
)
from effnas.cli.wording import with_options
from effnas.errors import UserError
from effnas.trials.learning_curve import best_after, predicted_text
from effnas.trials.run import Run, load_run
from effnas.trials.trial import TrialState
from effnas.trials.work_time import WorkTime

if TYPE_CHECKING:
    from effnas.cli.tables import Screen

#: States that go by another name here.
_STATES = {str(TrialState.WAITING): "paused"}
#: What a trial is that was running when its search was stopped.
_INTERRUPTED = "interrupted (to be run again)"
#: Reasons of infeasible trials of a retargeted run that are shown.
_REASONS = 2


def show_status(path: Path, *, top: int, as_json: bool) -> None:
    """Print what a folder, or the file of a family or a profile, holds.

    Raises:
        StoreError: If it holds nothing that effnas wrote, or cannot be read.
    """
    state = read_folder(path)
    if state.kind == "finals":
        _show_finals(state, as_json=as_json)
        return
    if state.kind not in ("search", "retargeted"):
        _show_other(state, as_json=as_json)
        return
    run = load_run(path)
    summary, objectives = summarize(run), run.objectives
    if as_json:
        best = [trial.to_row() for trial in run.trials.ranked()[:top]]
        found = {"run": str(path), "constraints": list(run.manifest.limits), **summary}
        more = pareto_front_json(run, objectives) if objectives else {}
        print(json.dumps({**found, "trials": best, **more}, indent=2))
        return
    screen = console()
    parent = run.manifest.parent
    states = cast("dict[str, int]", summary["states"])
    rows = [
        ("run", f"{path}, started {run.manifest.created}"),
        ("space", f"{run.manifest.space.name}; reward {run.manifest.reward.name}; "
                  f"controller {run.manifest.controller}"),
        ("constraints", "; ".join(run.manifest.limits)),
        ("data", f"{run.manifest.data.name or '?'} on {run.manifest.hardware}"),
        ("objectives", str(objectives or "")),
        # Of a run that `effnas retarget` made.
        ("retargeted from", f"{parent.path}, {counted(parent.trials, 'trial')} on "
                            f"{parent.hardware}"
                            if parent else ""),
        ("step times", run.manifest.step_times if parent else ""),
        ("accuracies", predicted_text(run.trials)),
        ("longer", _longer_text(run)),
        ("trials", _trials_text(run, states, is_running=state.state == "running")),
    ]  # fmt: skip
    rows += [
        ("cost", _cost_text(run.work)),
        ("state", state.state),
    ]
    screen.print(facts(rows))
    screen.print()
    if run.best is None:
        screen.print("No trial is complete yet.")
    elif objectives:
        show_pareto_front(screen, run, objectives)
    else:
        Leaderboard(run, run.known_reward, top).show(screen)
    following = after_search(run) if run.best else []
    _say_next(screen, state, following, has_report=run.best is not None)


def summarize(run: Run) -> dict[str, object]:
    """Return counts by state, cost and forecast.

    `cost_s` is the worker time of trials and baselines, in seconds; `forecast_s` that of the trials
    which the budget leaves, or None before the first one.
    """
    work = run.work
    return {
        "states": {str(s): run.trials.count(s) for s in TrialState if run.trials.count(s)},
        "budget": run.manifest.budget,
        "cost_s": work.total_s,
        "trials_s": work.trials_s,
        "baselines_s": work.baselines_s,
        "forecast_s": work.left_s,
    }


def _longer_text(run: Run) -> str:
    """Return what is likely to be the best after the time searched for, where trials had less."""
    time_s = run.manifest.winner_time_s
    after = best_after(run, time_s) if time_s else None
    return f"after {duration(time_s or 0)}, {after}" if after else ""


def _trials_text(run: Run, states: Mapping[str, int], *, is_running: bool) -> str:
    """Return how many trials are in which state, and how many there are to be."""
    words = _STATES if is_running else {**_STATES, str(TrialState.RUNNING): _INTERRUPTED}
    counts = ", ".join(f"{n:,} {words.get(state, state.lower())}" for state, n in states.items())
    budget = run.manifest.budget
    if run.manifest.parent is None:
        return f"{counts or 'none yet'}; budget {budget:,}"
    reasons = {t.reason for t in run.trials if t.state is TrialState.INFEASIBLE and t.reason}
    why = f" ({'; '.join(sorted(reasons))})" if 0 < len(reasons) <= _REASONS else ""
    new = f"at most {counted(budget, 'new training')}" if budget else "no new trainings"
    return f"{counts or 'none yet'}{why}; {new}"


def _show_finals(state: FolderState, *, as_json: bool) -> None:
    """Print finals with the trials of their search, if that can be read."""
    from effnas.cli.finals import after_finals, finals_json, say_finals
    from effnas.workflows.finals.stored import load_finals

    try:
        finals = load_finals(state.path)
    except UserError as error:
        _show_other(state, as_json=as_json)
        if not as_json:
            note(console(), f"the trials of its search are not shown ({with_options(str(error))}).")
        return
    if as_json:
        print(json.dumps({**_other_json(state), **finals_json(finals)}, indent=2))
        return
    screen = console()
    screen.print(facts(_other_facts(replace(state, best=None))))
    screen.print()
    say_finals(screen, finals)
    _say_next(screen, state, after_finals(finals), has_report=True)


def _other_json(found: FolderState) -> dict[str, Any]:
    names, *rows = found.table or ((),)
    listed = [dict(zip(names, row, strict=True)) for row in rows]
    return {**state_json(found.path, found), "rows": listed}


def _other_facts(found: FolderState) -> list[tuple[str, str]]:
    best = number(found.best, "{:.4f}")
    return [
        (found.kind, f"{found.path}" + (f", begun {found.created}" if found.created else "")),
        ("what", found.what),
        ("state", f"{found.state}; {found.count_text}"),
        ("best", f"{found.best_is} {best}, {found.best_of}" if found.best is not None else ""),
        ("cost", _spent(f"{duration(found.cost_s)} of work" if found.cost_s else "", found.left_s)),
        ("continues by", "" if _continuing(found) else found.continued_by),
    ]


def _show_other(found: FolderState, *, as_json: bool) -> None:
    """Print what is no search."""
    if as_json:
        print(json.dumps(_other_json(found), indent=2))
        return
    screen = console()
    screen.print(facts(_other_facts(found)))
    if found.table:
        names, *rows = found.table
        shown = table(*names, left=names[:1])
        for row in rows:
            shown.add_row(*row)
        screen.print()
        screen.print(shown)
    if found.guessing:
        screen.print(f"\n{found.guessing}")
    if found.warning:
        note(screen, found.warning, "Warning")
    _say_next(screen, found, [], has_report=False)


def _say_next(
    screen: Screen,
    state: FolderState,
    following: Sequence[tuple[str, Sequence[str]]],
    *,
    has_report: bool,
) -> None:
    """Print commands that may come next, and can."""
    commands = [words for _, words in following if can_run(words)]
    continuing = _continuing(state)
    if continuing and not any(words[1] == "resume" for words in commands):
        commands.insert(0, continuing)
    if has_report:
        commands.append(["effnas", "report", str(state.path)])
    if commands:
        next_commands(screen, *commands)


def _continuing(state: FolderState) -> list[str]:
    """Return the words of the command that continues a folder; none where it is said in words."""
    is_command = state.continued_by.startswith("effnas ")
    return shlex.split(state.continued_by) if is_command else []


def _cost_text(work: WorkTime) -> str:
    """Return what a search has cost; nothing if that is nothing."""
    trials = duration(work.trials_s)
    if not work.baselines_s:
        return _spent(f"{trials} of work" if work.trials_s else "", work.left_s)
    return _spent(f"trials {trials}, baselines {duration(work.baselines_s)}", work.left_s)


def _spent(text: str, left_s: float | None) -> str:
    return text + (f"; about {duration(left_s)} of work left" if text and left_s else "")
