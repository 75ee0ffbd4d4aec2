"""`effnas search`: the plan, the progress and the result on the terminal."""

from __future__ import annotations

from dataclasses import asdict
from statistics import fmean
from typing import Any

from rich.text import Text

from effnas.cli.data_facts import worker_data_rows
from effnas.cli.following import after_search
from effnas.cli.leaderboard import Leaderboard
from effnas.cli.pareto_front import pareto_front_json, show_pareto_front
from effnas.cli.report import SearchReportingCommand
from effnas.cli.tables import (
    counted,
    duration,
    macs_text,
    params_text,
    scores_text,
    trial_line,
)
from effnas.config.recipe import Recipe
from effnas.config.text import share_text
from effnas.controllers.baseline import MIN_TRIALS, RandomSearch
from effnas.report.page import REPORT
from effnas.search.cost_estimate import CostEstimate, memory_text
from effnas.search.launch import SearchObserver, Settings, launch
from effnas.search.rungs import trained_length
from effnas.search.search import Search
from effnas.space.search_space import SearchSpace
from effnas.trials.baselines import BaselineResult
from effnas.trials.pareto_front import hypervolumes
from effnas.trials.step_unit import StepUnit
from effnas.trials.trial import Trial, TrialState
from effnas.trials.uncertainty import Noise

#: Rows of the leaderboard at the end of a search.
_TOP = 10
#: Of a checkpoint, for each parameter: the weight, and two moments of the optimizer.
_CHECKPOINT_BYTES = 12


class SearchCommand(SearchReportingCommand[Settings, Search], SearchObserver):
    """Shows the cost estimate, a line per trial, a bar with the time left, and the best trials."""

    stored = "What its trials found"
    _expected_trial_s = 0.0
    _workers = 1
    _holdout_images: int | None = None

    def work(self) -> Search:
        search = launch(self.settings, self)
        self.write_report(search)
        return search

    def payload(self, result: Search) -> dict[str, Any]:
        baseline = self.facts(result).random
        noise, run = Noise.of(self._holdout_images, result.baselines), self.facts(result).run
        return {
            "run": str(self.settings.out),
            "random_search": asdict(baseline) if baseline else None,
            "baselines": [b.to_row(result.reward, noise.standard_error) for b in result.baselines],
            "trials": [trial.to_row() for trial in result.trials.ranked()],
            **(pareto_front_json(run, result.objectives) if result.objectives else {}),
        }

    def show(self, result: Search) -> None:
        search, settings = result, self.settings
        run = self.facts(search).run
        if search.objectives:
            self.screen.print()
            show_pareto_front(self.screen, run, search.objectives)
        elif search.best:
            self.screen.print()
            Leaderboard(run, search.reward, _TOP).show(self.screen)
        if search.exhausted:
            self.say(
                f"\nThe space is exhausted: all of its architectures were tried with "
                f"{len(search.trials):,} of {counted(settings.budget, 'trial')}."
            )
        if search.rungs:
            full = settings.budget * search.rungs.at[-1]
            self.say(
                f"\nTrained {trained_length(search.trials):,} {search.rungs.unit} in all; trained "
                f"to the end, {counted(settings.budget, 'trial')} would take {full:,}."
            )
        if search.best is None:
            self.say(f"\n{_nothing_text(search)}")
        else:
            self.say(_baseline_text(search, settings, self.facts(search).random))
        report = f"; {REPORT} there shows it" if self.has_report else ""
        self.say(f"\nStored in {settings.out}{report}.")
        if search.best:
            self.next(*(words for _, words in after_search(run, self.facts(search).ranked)))
        elif search.rungs:
            self.next(["effnas", "resume", settings.out, "--budget", 2 * settings.budget])

    def search(self, result: Search) -> Search:
        return result

    def succeeded(self, result: Search) -> bool:
        return result.best is not None

    def planned(self, plan: CostEstimate) -> None:
        self._expected_trial_s, self._workers = plan.trial_s, plan.workers
        self._holdout_images = plan.prepared.holdout_images
        self.plan(*_plan_rows(plan, self.settings))
        for warning in plan.warnings():
            self.note(warning)
        self._done, self._trials_s = plan.budget - plan.trials_left, plan.total_s - plan.baselines_s
        self._baselines_s = {
            (each.name, repeat): each.training_s + (repeat == 0) * each.timing_s
            for each in plan.baselines
            for repeat in each.left
        }
        self._baselines = len(self._baselines_s)
        self._show_baselines()

    def finalist_timed(self, trial: Trial, search: Search) -> None:
        self.preparing("measuring the best")
        text = trial_line(trial, search, f"measured: {scores_text(trial)}", best="best")
        self.screen.print(Text.assemble(f"trial {trial.number}  ", text))

    def baseline_ended(self, result: BaselineResult, seeds: int, search: Search) -> None:
        del search
        is_last = result.repeat == 0 and "accuracy" not in result.metrics
        for name, repeat in list(self._baselines_s):
            if name == result.baseline and (is_last or repeat == result.repeat):
                del self._baselines_s[name, repeat]
        self._show_baselines()
        who = f"baseline {result.baseline}  seed {result.repeat + 1} of {seeds}"
        scores = [f"{letter} {result.metrics[name]:.{digits}f}" for letter, name, digits in
                  (("accuracy", "accuracy", 4), ("S", "step_time", 3))
                  if name in result.metrics]  # fmt: skip
        text = "  ".join((who, *scores, duration(result.duration_s)))
        reason = f"  {result.reason}" if result.reason else ""
        self.screen.print(Text.assemble(text, (reason, "red")))

    def trial_ended(self, trial: Trial, search: Search) -> None:
        width = len(str(self.settings.budget - 1))
        number = f"trial {trial.number:>{width}}  "
        self.screen.print(Text.assemble(number, _outcome(trial, search)))
        ended = sum(t.has_result for t in search.trials)
        seconds = [t.duration_s for t in search.trials if t.has_result and t.duration_s is not None]
        each_s = fmean(seconds) if seconds else self._expected_trial_s
        self._ended(ended, each_s * max(self.settings.budget - ended, 0) / self._workers)

    def _show_baselines(self) -> None:
        """Say how many trainings of baselines have ended, and how long all the rest will take."""
        if not self._baselines_s:
            self._ended(self._done, self._trials_s)
            return
        left_s = self._trials_s + sum(self._baselines_s.values()) / self._workers
        done = self._baselines - len(self._baselines_s)
        left = f"about {duration(left_s)} left in all"
        self.progress("training the baselines", done, self._baselines, left)

    def _ended(self, ended: int, left_s: float) -> None:
        """Say how many trials have a result, and how long the others will take."""
        self.stored = f"What {counted(ended, 'trial')} found"
        self.progress("searching", ended, self.settings.budget, f"about {duration(left_s)} left")


def _plan_rows(plan: CostEstimate, settings: Settings) -> list[tuple[str, str]]:
    search, ready = plan.search, plan.prepared
    space, recipe, target = search.space, ready.recipe, search.space.target
    reference, reward = space.count(space.reference), search.reward
    done = plan.budget - plan.trials_left
    begins = "continues" if len(search.trials) else "new run in"
    unit = StepUnit.of(ready.step_times)
    slower = sorted(ready.execution_seconds.items(), key=lambda item: item[1])
    ways = ", ".join(f"{way} {seconds / slower[0][1]:.1f}x" for way, seconds in slower[1:])
    return [
        ("run", f"{begins} {settings.out}, seed {settings.seed}"),
        ("space", f"{space.name}: {space.size:.3g} architectures; "
                  f"controller {settings.controller}"),
        ("reward", reward.text if reward.name == reward.text else f"{reward.name}: {reward.text}"),
        ("objectives", f"{search.objectives or ''}"),
        ("constraints", _constraints_text(plan)),
        ("reference", f"{params_text(reference.params)} params, {macs_text(reference.macs)} MACs "
                      f"at {target.image_size} px; "
                      + ("S and P are relative to it" if unit is StepUnit.REFERENCE
                         else f"P is relative to it, and S to {unit.value} step")),
        ("device", f"{ready.hardware}; {counted(plan.workers, 'worker')}; "
                   f"{ready.execution}"
                   + (f" (measured fastest; {ways} as long)" if ways else "")),
        *worker_data_rows(ready),
        ("one trial", f"about {duration(ready.timing_s)} of timing (at {target.image_size} px, "
                      f"batch {ready.timing_batch_size}) and {duration(ready.training_s)} of "
                      f"training ({recipe.length_text()} at {recipe.sizes_text}, "
                      f"batch {recipe.batch_size}), measured on the reference network"),
        ("recipe", _recipe_text(recipe, space, settings)),
        ("fidelity", _fidelity_text(plan, reference.params, settings.full_train_time_s)),
        ("warm-up", _warmup_text(recipe, settings.recipe)),
        ("step times", ready.step_times),
        ("baselines", _baselines_text(plan)),
        ("budget", f"{counted(plan.budget, 'trial')}{f', {done:,} done' if done else ''}: about "
                   f"{duration(plan.total_s)} and "
                   f"{memory_text(ready.peak_memory_bytes * plan.workers)} of memory"),
    ]  # fmt: skip


def _baselines_text(plan: CostEstimate) -> str:
    named = ", ".join(f"{each.name} ({counted(each.seeds, 'seed')})" for each in plan.baselines)
    if not named:
        return ""
    left = f"about {duration(plan.baselines_s)}" if plan.baselines_s else "done"
    return f"{named}, trained and timed as trials are: {left}"


def _constraints_text(plan: CostEstimate) -> str:
    texts = plan.search.constraints.texts
    if not texts:
        return ""
    share = plan.feasible_share
    known = "as far as is known before a trial"
    shown = share_text(share or 1e-9, 1)  # none of those drawn, but some do
    return f"{'; '.join(texts)}; {known}, {shown} of random architectures meet them"


def _warmup_text(recipe: Recipe, asked: Recipe) -> str:
    done, wanted = recipe.warmup_epochs, asked.warmup_epochs
    if done == wanted:
        return ""
    return f"{done:.2g} instead of {wanted:.2g} of the epochs, to end before trainings first pause"


def _recipe_text(recipe: Recipe, space: SearchSpace, settings: Settings) -> str:
    full = settings.full_epochs
    made = f"; made short, from {counted(full, 'epoch')}" if full and full > recipe.epochs else ""
    opened = {each.name for each in space.recipe}
    fixed = {
        "regime": recipe.regime,
        "optimizer": recipe.optimizer,
        "learning_rate_per_256": f"learning rate {recipe.learning_rate:.3g}",
        "schedule": recipe.schedule,
    }
    texts = [text for name, text in fixed.items() if name not in opened]
    choices = "; ".join(f"{each.name} {each.summary}" for each in space.recipe)
    return f"{', '.join(texts)}{made}{f'; open: {choices}' if choices else ''}"


def _fidelity_text(plan: CostEstimate, params: int, full_s: float | None) -> str:
    """Return what short trials or rungs save, and what paused trainings take on the disk."""
    rungs, trial_s = plan.search.rungs, plan.prepared.recipe.train_time_s
    if rungs is None:
        return "" if not full_s or not trial_s or full_s == trial_s else (
            f"trials last {duration(trial_s)} of the {duration(full_s)} that the best is to be "
            "trained for; learning curves say which one; --fidelity none trains all so long"
        )  # fmt: skip
    paused = plan.budget * (1 - rungs.at[0] / rungs.at[-1])
    pauses = f"{rungs}" if rungs.in_seconds else f"{rungs} epochs"
    return (
        f"trainings pause after {pauses}, and the best continue: about "
        f"{rungs.expected:.3g} of {rungs.at[-1]} {rungs.unit} a trial; checkpoints of up "
        f"to about {memory_text(paused * params * _CHECKPOINT_BYTES)} on the disk"
    )


def _outcome(trial: Trial, search: Search) -> Text:
    """Return what has become of a trial, or of its training so far."""
    took = duration(trial.duration_s) if trial.duration_s else ""
    if search.rungs and trial.state in (TrialState.WAITING, TrialState.PRUNED):
        reached = trial.measurement.rungs
        reward = search.scoring.reward_at(trial, max(reached))
        value = "no value" if reward is None else f"{reward:z.4f}"
        what = f"paused  {took}" if trial.state is TrialState.WAITING else "pruned"
        return Text(f"rung {len(reached)} of {len(search.rungs.at)}: reward {value}, {what}")
    text = trial_line(trial, search, f"{scores_text(trial)}  {took}")
    return Text.assemble(text, ("  on the Pareto front" * (trial in search.pareto_front), "green"))


def _nothing_text(search: Search) -> str:
    """Return why no trial is complete."""
    reasons = sorted({t.reason for t in search.trials if t.reason})
    if reasons:
        return f"No trial is complete. Reasons: {'; '.join(reasons[:3])}"
    return "No trial is complete: none was trained to the end. More trials help."


def _baseline_text(search: Search, settings: Settings, found: RandomSearch | None) -> str:
    """Return what random search would have reached, so that the controller can be judged by it."""
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
        f"Random search would have reached {what}{found.best:z.4f} with "
        f"{counted(found.trials, 'trial')} (nine times in ten {found.low:z.4f} to "
        f"{found.high:z.4f}), by a model of these; {settings.controller} reached {reached:z.4f}."
    )
