"""`effnas retarget`: what is best on another device, what moved, why, and what that cost."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

from rich.progress import Progress
from rich.table import Table

from effnas.cli.search import INTERRUPTED, interrupt
from effnas.cli.tables import (
    console,
    duration,
    facts,
    progress_on,
)
from effnas.trials.trial import TrialState
from effnas.workflows.retarget.launch import (
    Retargeted,
    RetargetObserver,
    RetargetSettings,
    retarget,
)

if TYPE_CHECKING:
    from rich.console import Console

    from effnas.search.search import Search
    from effnas.trials.run import Run
    from effnas.trials.trial import Trial
    from effnas.workflows.retarget.retargeting import Candidate

#: Rows of the table.
_TOP = 10


def run_retarget(settings: RetargetSettings, *, as_json: bool) -> int:
    """Retarget a run and show what came of it; return the exit code.

    Raises:
        UserError: If something given is wrong.
    """
    screen = console(stderr=as_json)
    signal.signal(signal.SIGTERM, interrupt)
    with progress_on(screen) as progress:
        display = _Display(screen, progress, settings)
        try:
            found = retarget(settings, display)
        except KeyboardInterrupt:
            screen.print(
                f"\nStopped. What was timed and trained is stored in {settings.out}; the same "
                "command goes on."
            )
            return INTERRUPTED
    if as_json:
        print(json.dumps(_payload(found, settings), indent=2))
    else:
        _show(console(), found, settings)
    return 0 if found.search.best else 1


class _Display(RetargetObserver):
    """Shows what is going on."""

    def __init__(self, screen: Console, progress: Progress, settings: RetargetSettings) -> None:
        self._screen = screen
        self._progress = progress
        self._settings = settings
        self._task = progress.add_task("reading the run", total=None)
        self._timed, self._timings = 0, 0

    def preparing(self, what: str) -> None:
        self._progress.update(self._task, description=what)

    def planned(self, parent: Run, hardware: str, step_times: str, timings: int) -> None:
        self._timings = timings
        self._screen.print(
            facts(
                [
                    ("finished run", f"{parent.path}: {len(parent.trials)} trials on "
                                     f"{parent.manifest.hardware}"),
                    ("new run", f"{self._settings.out}: {hardware}"),
                    ("step times", f"{step_times}; of at most {timings} trials"),
                    ("trainings", f"at most {self._settings.budget} new ones"),
                ]
            )
        )  # fmt: skip
        self._screen.print()
        self._progress.update(self._task, description="timing")

    def timed(self, trial: Trial) -> None:
        self._timed += 1
        self._progress.update(self._task, description=f"timed {self._timed} of {self._timings}")
        if trial.state is not TrialState.COMPLETE:
            self._screen.print(
                f"trial {trial.number}  [yellow]{trial.state.lower()}[/]: {trial.reason}"
            )

    def trained(self, trial: Trial, search: Search) -> None:
        self._progress.update(self._task, description="training")
        if trial.state is not TrialState.COMPLETE or trial.reward is None:
            self._screen.print(
                f"trial {trial.number}  [yellow]{trial.state.lower()}[/]: {trial.reason}"
            )
            return
        m, best = trial.metrics, search.best
        star = "  [green]best so far[/]" if best and best.number == trial.number else ""
        self._screen.print(
            f"trial {trial.number}  trained: reward {trial.reward:.4f}  accuracy "
            f"{m['accuracy']:.4f}  S {m['step_time']:.3f}  P {m['params_ratio']:.3f}{star}"
        )


def _numbers(found: Retargeted) -> dict[str, int]:
    """Return the trial number of each architecture, by its id."""
    trials = [*found.search.trials, *found.parent.trials]
    return {trial.architecture.id: trial.number for trial in trials}


def _cost(found: Retargeted) -> dict[str, Any]:
    """Return what was spent, and what a search from scratch would have spent."""
    old = {trial.number for trial in found.parent.trials}
    timed = [t for t in found.search.trials if t.number in old]
    new = [t for t in found.search.trials if t.number not in old]
    before = [t.duration_s for t in found.parent.trials if t.duration_s is not None]
    return {
        "timings": len(timed),
        "timings_s": sum(t.duration_s or 0.0 for t in timed),
        "trainings": len(new),
        "trainings_s": sum(t.duration_s or 0.0 for t in new),
        "from_scratch_trials": len(found.parent.trials),
        "from_scratch_s": sum(before),
    }


def _payload(found: Retargeted, settings: RetargetSettings) -> dict[str, Any]:
    numbers = _numbers(found)
    rows = [
        {
            "rank": c.rank,
            "old_rank": c.old_rank,
            "trial": numbers[c.architecture.id],
            "architecture": str(c.architecture),
            "architecture_id": c.architecture.id,
            "reward": c.reward,
            "reward_deviation": c.reward_deviation,
            "old_reward": c.old_reward,
            "step_time": c.step_time,
            "step_time_deviation": c.step_time_deviation,
            "old_step_time": c.old_metrics.get("step_time"),
            "slowdown": c.slowdown,
            "timed": c.timed,
            "accuracy": c.metrics["accuracy"],
            "params_ratio": c.metrics["params_ratio"],
        }
        for c in found.ranking
    ]
    return {
        "run": str(settings.out),
        "parent": str(settings.run),
        "cost": _cost(found),
        "candidates": rows,
    }


def _show(screen: Console, found: Retargeted, settings: RetargetSettings) -> None:
    numbers = _numbers(found)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("rank", "was", "trial", "reward", "was", "S", "was", "accuracy", "P"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("why it moved", no_wrap=True)
    table.add_column("architecture", overflow="fold", min_width=24)
    for c in found.ranking[:_TOP]:
        table.add_row(
            str(c.rank),
            str(c.old_rank or "-"),
            str(numbers[c.architecture.id]),
            f"{c.reward:.4f}" + (f" ±{2 * c.reward_deviation:.4f}" if c.reward_deviation else ""),
            f"{c.old_reward:.4f}" if c.old_reward is not None else "-",
            f"{c.step_time:.3f}" + ("" if c.timed else f" ±{200 * c.step_time_deviation:.0f}%"),
            f"{c.old_metrics['step_time']:.3f}" if c.old_metrics else "-",
            f"{c.metrics['accuracy']:.4f}",
            f"{c.metrics['params_ratio']:.3f}",
            _why(c),
            str(c.architecture),
        )
    screen.print(table)
    guessed = sum(not c.timed for c in found.ranking)
    if guessed:
        screen.print(
            f"\n{guessed} of {len(found.ranking)} candidates were not timed: their S is a guess "
            "with the 95 % interval shown, from those that were."
            + ("" if found.ranking[0].timed else " More --timings tell whether number 1 is one.")
        )
    was_best = next((c for c in found.ranking if c.old_rank == 1), None)
    if was_best:
        best = next((c for c in found.ranking if c.timed), found.ranking[0])
        gain = best.reward / was_best.reward - 1 if was_best.reward else 0.0
        screen.print(
            f"\nThe best of the finished run, trial {numbers[was_best.architecture.id]}, is now "
            f"number {was_best.rank}"
            + (
                f"; the best that was timed, trial {numbers[best.architecture.id]}, has {gain:.2%} "
                "more reward."
                if best is not was_best
                else "."
            )
        )
    cost = _cost(found)
    screen.print(
        f"Cost: {cost['timings']} step times in {duration(cost['timings_s'])}, {cost['trainings']} "
        f"new trainings in {duration(cost['trainings_s'])}. The finished run took "
        f"{duration(cost['from_scratch_s'])} for its {cost['from_scratch_trials']} trials, as a "
        "search from scratch would."
    )
    screen.print(f"Stored in {settings.out}; `effnas status {settings.out}` shows it again.")


def _why(candidate: Candidate) -> str:
    if candidate.slowdown is None:
        return "new"
    percent = (candidate.slowdown - 1) * 100
    if abs(percent) < 1:
        return "as fast as before"
    return f"{abs(percent):.0f}% {'slower' if percent > 0 else 'faster'} than most here"
