"""`effnas search`: the plan, the progress and the result on the terminal."""

from __future__ import annotations

import json
import signal
import sys
from dataclasses import asdict
from types import FrameType
from typing import NoReturn

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
)

from effnas.cli.front import front_json, show_front
from effnas.cli.tables import (
    console,
    duration,
    facts,
    leaderboard,
    progress_on,
    source_text,
)
from effnas.cli.wording import with_options
from effnas.controllers.baseline import MIN_TRIALS, RandomSearch, random_search
from effnas.search.cost_estimate import CostEstimate, memory_text
from effnas.search.launch import Settings, launch
from effnas.search.rungs import trained_epochs
from effnas.search.search import Search
from effnas.trials.pareto_front import hypervolumes
from effnas.trials.trial import Trial, Trials, TrialState

#: Rows of the leaderboard at the end of a search.
_TOP = 10
#: Of a checkpoint, for each parameter: the weight, and two moments of the optimizer.
_CHECKPOINT_BYTES = 12
#: What a shell makes of a program that SIGINT has ended.
INTERRUPTED = 130


def run_search(settings: Settings, *, as_json: bool) -> int:
    """Run a search and show it; return the exit code."""
    # With --json the table goes to stdout alone, and everything for people to stderr.
    screen = console(stderr=as_json)
    display = _Display(screen, settings)
    signal.signal(signal.SIGTERM, interrupt)
    try:
        with display.progress:
            search = launch(settings, display)
    except KeyboardInterrupt:
        stored = display.ended
        screen.print(
            f"\nStopped. The results of {stored} trials are stored in {settings.out}; the same "
            "command goes on."
        )
        return INTERRUPTED
    if as_json:
        rows = [trial.to_row() for trial in search.trials.ranked()]
        baseline = _baseline(search)
        found = {"random_search": asdict(baseline) if baseline else None, "trials": rows}
        if search.objectives:
            found |= front_json(search.trials, search.objectives)
        print(json.dumps({"run": str(settings.out), **found}, indent=2))
    else:
        _show_result(screen, search, settings)
    return 0 if search.best else 1


class _Display:
    """Shows what the search tells it: a plan, a line per trial, and a bar with the time left."""

    def __init__(self, screen: Console, settings: Settings) -> None:
        self.ended = 0
        left = TextColumn("{task.fields[left]}")
        self.progress = progress_on(screen, BarColumn(), MofNCompleteColumn(), left)
        self._screen = screen
        self._settings = settings
        self._task = self.progress.add_task("starting", total=None, left="")
        self._expected_trial_s = 0.0
        self._workers = 1

    def preparing(self, what: str) -> None:
        self.progress.update(self._task, description=what)

    def planned(self, plan: CostEstimate) -> None:
        self.ended = plan.budget - plan.trials_left
        self._expected_trial_s, self._workers = plan.trial_s, plan.workers
        self._screen.print(facts(_plan_rows(plan, self._settings)))
        for warning in plan.warnings():
            self._screen.print(f"[bold yellow]Note:[/] {with_options(warning)}")
        self._screen.print()
        self.progress.update(
            self._task,
            description="searching",
            total=plan.budget,
            completed=self.ended,
            left=f"about {duration(plan.total_s)} left",
        )

    def finalist_timed(self, trial: Trial, search: Search) -> None:
        self.progress.update(self._task, description="measuring the best")
        if trial.state is not TrialState.COMPLETE:
            self._screen.print(f"trial {trial.number}  [yellow]{trial.state.lower()}[/]: "
                               f"{trial.reason}")  # fmt: skip
            return
        star = "  [green]best[/]" if search.best and search.best.number == trial.number else ""
        self._screen.print(
            f"trial {trial.number}  measured: S {trial.metrics['step_time']:.3f}, reward "
            f"{trial.reward:.4f}{star}"
        )

    def trial_ended(self, trial: Trial, search: Search) -> None:
        self.ended = sum(t.has_result for t in search.trials)
        self._screen.print(_trial_line(trial, search, self._settings.budget))
        left_s = mean_duration_s(search.trials, self._expected_trial_s) * max(
            self._settings.budget - self.ended, 0
        )
        self.progress.update(
            self._task,
            completed=self.ended,
            left=f"about {duration(left_s / self._workers)} left",
        )


def mean_duration_s(trials: Trials, otherwise: float) -> float:
    """Return the mean seconds of the trials that have a result, or `otherwise` if none has."""
    seconds = [t.duration_s for t in trials if t.has_result and t.duration_s is not None]
    return sum(seconds) / len(seconds) if seconds else otherwise


def _plan_rows(plan: CostEstimate, settings: Settings) -> list[tuple[str, str]]:
    search, ready = plan.search, plan.prepared
    recipe, target, execution = ready.recipe, search.space.target, ready.execution
    reference = search.space.count(search.space.reference)
    done = plan.budget - plan.trials_left
    begins = "goes on with" if len(search.trials) else "new run in"
    reward = search.reward
    memory = memory_text(ready.peak_memory_bytes * plan.workers)
    return [
        ("run", f"{begins} {settings.out}, seed {settings.seed}"),
        (
            "space",
            f"{search.space.name}: {search.space.size:.3g} architectures; "
            f"controller {settings.controller}",
        ),
        ("reward", reward.text if reward.name == reward.text else f"{reward.name}: {reward.text}"),
        *([("objectives", f"{search.objectives}")] if search.objectives else []),
        *_constraint_rows(plan),
        (
            "reference",
            f"{reference.params / 1e6:.3g} M params, {reference.macs / 1e6:.4g} M MACs at "
            f"{target.image_size} px; S and P are relative to it",
        ),
        (
            "device",
            f"{ready.hardware}; {plan.workers} worker{'s' * (plan.workers > 1)}; "
            f"{execution}{_slower_ways(plan)}",
        ),
        (
            "data",
            f"{settings.data}: {ready.num_classes} classes, {ready.train_images:,} images to "
            f"train on, {ready.holdout_images:,} held out; "
            f"{'mirrored at random' if ready.mirrored else 'not mirrored'}",
        ),
        (
            "one trial",
            f"about {duration(ready.timing_s)} of timing (at {target.image_size} px, batch "
            f"{ready.timing_batch_size}) and {duration(ready.training_s)} of training "
            f"({recipe.epochs} epochs at {recipe.image_size} px, batch {recipe.batch_size}), "
            "measured on the reference network",
        ),
        *_rung_rows(plan),
        ("step times", ready.step_times),
        (
            "budget",
            f"{plan.budget:,} trials{f', {done:,} done' if done else ''}: about "
            f"{duration(plan.total_s)} and {memory} of memory",
        ),
    ]


def _constraint_rows(plan: CostEstimate) -> list[tuple[str, str]]:
    texts = plan.search.constraints.texts
    if not texts:
        return []
    share = plan.feasible_share
    shown = f"{share:.1%}" if share else "less than 0.1%"
    return [
        (
            "constraints",
            f"{'; '.join(texts)}; as far as is known before a trial, {shown} of random "
            "architectures meet them",
        )
    ]


def _rung_rows(plan: CostEstimate) -> list[tuple[str, str]]:
    """Return what rungs save, and what paused trainings take on the disk, as rows."""
    search, rungs = plan.search, plan.search.rungs
    if rungs is None:
        return []
    weights = search.space.count(search.space.reference).params
    paused = plan.budget * (1 - rungs.epochs[0] / rungs.epochs[-1])
    return [
        (
            "fidelity",
            f"trainings pause after {rungs} epochs, and the best go on: about "
            f"{rungs.expected_epochs:.3g} of {rungs.epochs[-1]} epochs a trial; checkpoints of up "
            f"to about {memory_text(paused * weights * _CHECKPOINT_BYTES)} on the disk",
        )
    ]


def _slower_ways(plan: CostEstimate) -> str:
    seconds = sorted(plan.prepared.execution_seconds.items(), key=lambda item: item[1])
    ways = [f"{way} {value / seconds[0][1]:.1f}x" for way, value in seconds[1:]]
    return f" (measured fastest; {', '.join(ways)} as long)" if ways else ""


def _trial_line(trial: Trial, search: Search, budget: int) -> str:
    head = f"trial {trial.number:>{len(str(budget - 1))}}"
    took = f"{duration(trial.duration_s)}" if trial.duration_s else ""
    if search.rungs and trial.state in (TrialState.WAITING, TrialState.PRUNED):
        reached = trial.measurement.rungs
        reward = search.reward_at(trial, max(reached))
        value = "no value" if reward is None else f"{reward:.4f}"
        what = f"paused  {took}" if trial.state is TrialState.WAITING else "pruned"
        return f"{head}  rung {len(reached)} of {len(search.rungs.epochs)}: reward {value}, {what}"
    if trial.state is not TrialState.COMPLETE or trial.reward is None:
        return f"{head}  [yellow]{trial.state.lower()}[/]: {trial.reason}  {took}"
    m, best = trial.metrics, search.best
    star = "  [green]best so far[/]" if best is not None and best.number == trial.number else ""
    if trial in search.front:
        star += "  [green]on the front[/]"
    return (
        f"{head}  reward {trial.reward:.4f}  accuracy {m['accuracy']:.4f}  "
        f"S {m['step_time']:.3f}{source_text(trial)}  P {m['params_ratio']:.3f}  {took}{star}"
    )


def _show_result(screen: Console, search: Search, settings: Settings) -> None:
    if search.objectives:
        show_front(screen, search.trials, search.objectives)
    else:
        screen.print(leaderboard(search.trials, _TOP))
    if search.exhausted:
        screen.print(
            f"\nThe space is exhausted: all of its architectures were tried with "
            f"{len(search.trials)} of {settings.budget} trials."
        )
    if search.rungs:
        full = settings.budget * search.rungs.epochs[-1]
        screen.print(
            f"\nTrained {trained_epochs(search.trials):,} epochs in all; {settings.budget:,} whole "
            f"trainings have {full:,}."
        )
    if search.best is None:
        reasons = {t.reason for t in search.trials if t.reason}
        screen.print(f"\nNo trial is complete. Reasons: {'; '.join(sorted(reasons)[:3])}")
    else:
        screen.print(f"\n{_baseline_text(search, settings)}")
    screen.print(f"\nStored in {settings.out}; `effnas status {settings.out}` shows it again.")


def _baseline(search: Search) -> RandomSearch | None:
    return random_search(search.trials, search.space, search.problem, search.seed)


def _baseline_text(search: Search, settings: Settings) -> str:
    """Return what random search would have reached, so that the controller can be judged by it."""
    found = _baseline(search)
    if found is None:
        return (
            f"What random search would have reached is not known: that takes {MIN_TRIALS} "
            "complete trials."
        )
    if search.objectives:
        what, reached = "a hypervolume of ", hypervolumes(search.trials, search.objectives)[-1][1]
    else:
        assert search.best is not None
        what, reached = "", search.best.reward or 0.0
    return (
        f"Random search would have reached {what}{found.best:.4f} with {found.trials} trials (nine "
        f"times in ten {found.low:.4f} to {found.high:.4f}), by a model of these; "
        f"{settings.controller} reached {reached:.4f}."
    )


def interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """End on SIGTERM as on Ctrl-C: a cluster's scheduler sends it before it takes the machine."""
    del number, frame
    sys.stderr.write("\n")
    raise KeyboardInterrupt
