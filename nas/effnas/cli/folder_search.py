"""Searches and retargeted runs, read in an instant."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from effnas.cli.folder_state import (
    FolderState,
    Named,
    StoredCommand,
    is_running,
    records,
)
from effnas.config.codec import Count, from_plain
from effnas.trials.baselines import read_baselines
from effnas.trials.store import TRIALS
from effnas.trials.trial import TrialState
from effnas.trials.work_time import WorkTime


@dataclass(frozen=True)
class _Parent:
    path: str = "?"
    trials: Count = 0


@dataclass(frozen=True)
class _Search(StoredCommand):
    budget: Count = 0
    controller: str | None = None
    objectives: str | None = None
    space: Named = field(default_factory=Named)
    reward: Named = field(default_factory=Named)
    parent: _Parent | None = None
    baselines: Mapping[str, Count] | None = None
    finished: str | None = None

    @property
    def is_retargeted(self) -> bool:
        # The command line is missing where an earlier version stored neither.
        return self.finished is not None or self.asked is None


@dataclass(frozen=True)
class _Trial:
    trial: Count
    state: TrialState
    reward: float | None = None
    duration_s: float | None = None
    rungs: Mapping[str, float] = field(default_factory=dict)

    @property
    def has_result(self) -> bool:
        return self.state.is_finished or bool(self.rungs)


def read_search(path: Path, content: Mapping[str, Any]) -> FolderState:
    """Return the state of a search, or of a retargeted run, by its manifest."""
    manifest = from_plain(content, _Search)
    trials = {t.trial: t for t in records(path / TRIALS, _Trial, "trial")}.values()
    parent = manifest.parent
    if parent:  # its trials that have a step time here, and new ones
        done = sum(trial.state is TrialState.COMPLETE for trial in trials)
        total = parent.trials + sum(trial.trial >= parent.trials for trial in trials)
    else:
        done, total = sum(trial.state.is_finished for trial in trials), manifest.budget
    baselines = read_baselines(path)
    work = WorkTime.of(trials, baselines, manifest.budget)
    scored = [t for t in trials if t.state is TrialState.COMPLETE and t.reward is not None]
    best = max(scored, key=lambda trial: trial.reward or 0.0, default=None)
    compared = {each.name: each for each in baselines}
    is_compared = all(
        name in compared and (compared[name].reason or len(compared[name].results) >= seeds)
        for name, seeds in (manifest.baselines or {}).items()
    )
    is_settled = all(trial.state.is_finished for trial in trials) and is_compared
    is_whole = is_settled and (done >= total if not parent else manifest.is_retargeted)
    state = "running" if is_running(path) else "finished" if is_whole else "unfinished"
    goal = manifest.objectives or f"reward {manifest.reward.name}"
    return FolderState(
        path=path,
        kind="retargeted" if parent else "search",
        what=f"search of {manifest.space.name}"
             + (f", retargeted from {parent.path}" if parent else "") + f", {goal}"
             + ("" if parent else f", {manifest.controller}"),
        state=state,
        unit="trials",
        done=done,
        total=total,
        is_settled=is_settled,
        best=best.reward if best else None,
        best_is="reward",
        best_of=f"trial {best.trial}" if best else "",
        cost_s=work.total_s,
        left_s=None if parent else work.left_s,
        created=manifest.created or "",
        command=manifest.asked,
        continued_by="" if is_whole else shlex.join(["effnas", "resume", str(path)]),
    )  # fmt: skip
