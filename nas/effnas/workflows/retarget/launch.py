"""From a finished run to one for another device: time again, rank again, train what may win."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from effnas.controllers.base import Controller
from effnas.errors import ConfigError, SpaceExhaustedError
from effnas.evaluation.evaluator import (
    Task,
    named_source,
    source_without_timing,
)
from effnas.evaluation.observer import Observer
from effnas.evaluation.workers import start_workers
from effnas.search.launch import most_macs
from effnas.search.retime import retime, take_step_time, time_finalists
from effnas.search.search import Search
from effnas.timing.table import StepTimeTable
from effnas.trials.baselines import append_baseline, read_baselines
from effnas.trials.constraints import Constraints
from effnas.trials.manifest import TRAINER, SearchManifest, macs_limits, utc_now
from effnas.trials.problem import no_free_metrics
from effnas.trials.run import Run, load_run
from effnas.trials.step_unit import StepUnit
from effnas.trials.store import RunFolder, read_events
from effnas.trials.trial import Trial, Trials, TrialState
from effnas.workflows.retarget.baselines import looking_up, retime_baselines
from effnas.workflows.retarget.by_time import EqualTime, as_in_run
from effnas.workflows.retarget.prepare import (
    check_data,
    known_metrics,
    new_manifest,
    trained_trials,
    within_constraints,
    worker_config,
)
from effnas.workflows.retarget.retargeting import Candidate, Retargeting
from effnas.workflows.retarget.settings import RetargetSettings

if TYPE_CHECKING:
    import numpy as np

    from effnas.arch.architecture import Architecture


class RetargetObserver(Observer):
    """Receives what retargeting does."""

    def planned(self, parent: Run, hardware: str, step_times: str, timings: int) -> None:
        """The first timing is about to start; `timings` of them at most."""

    def timed(self, trial: Trial) -> None:
        """A trial was timed on the new device."""

    def trained(self, trial: Trial, search: Search) -> None:
        """A new architecture, or one of the finished run again, was timed and trained."""


@dataclass(frozen=True, kw_only=True)
class Retargeted:
    """The result of retargeting.

    Attributes:
        parent: The finished run.
        search: The new run: trials of the finished one with new step times, and new ones.
        ranking: All candidates, the best first; step times that were not measured are predicted.
        not_in_table: Trials of the finished run that the table of step times lacks, so that they
            are left out; empty without a table.
        same_unit: Whether S, and with it rewards, are over the same step in both runs, so that they
            compare; ranks always do.
        by_time: Whether trials were of equal training time, so that accuracies are another
            device's, too; those of networks that were not trained there are predicted.
        trained_again: Trials of the finished run that were trained there.
    """

    parent: Run
    search: Search
    ranking: list[Candidate]
    not_in_table: Sequence[Trial] = ()
    same_unit: bool = True
    by_time: bool = False
    trained_again: Sequence[Trial] = ()


def retarget(settings: RetargetSettings, observer: RetargetObserver) -> Retargeted:
    """Find what is best on another device, with the accuracies of a finished run.

    Raises:
        UserError: If something given is wrong; what is stored already stays.
        SearchFailedError: If it cannot continue.
    """
    began = utc_now()
    parent = load_run(settings.run)
    if settings.budget and parent.manifest.trainer != TRAINER:
        raise ConfigError(
            f"{parent.path}: another version of effnas trained its networks, whose accuracies do "
            "not compare with new ones: leave out `budget`, or search again"
        )
    trained = trained_trials(parent)
    by_time = EqualTime.of(parent, trained)
    if by_time:
        settings = replace(settings, step_times=as_in_run(settings.step_times, parent))
    mode = settings.step_times.mode
    reward = parent.load_reward(settings.reward)
    constraints = Constraints.parse(parent.manifest.constraints, parent.space)
    named = named_source(settings.step_times, parent.space)
    source = source_without_timing(named, mode)
    space = constraints.narrowed(no_free_metrics)  # networks too slow here still teach accuracy
    seed = parent.manifest.seed
    pool = source.architectures() if isinstance(source, StepTimeTable) else None
    engine = Retargeting(
        space,
        reward,
        trained,
        seed=seed,
        step_time_of=within_constraints(source, constraints) if source else None,
        pool=None if pool is None else map(space.with_default_recipe, pool),
        curves=by_time.curves if by_time else None,
        steps_of=by_time.told_steps if by_time else None,
    )
    controller = _Untrained(engine, trained, seed, by_time)
    with RunFolder.open(settings.out) as folder, ExitStack() as stack:
        search = Search(
            parent.space,
            reward,
            controller,
            seed,
            constraints=constraints.texts,
            store=folder,
            first_number=max(trial.number for trial in parent.trials) + 1,
        )
        names = known_metrics(named, space, mode, by_time=by_time is not None)
        reward.check(dict.fromkeys(names, 0.5) | space.counted_metrics(space.reference))
        constraints.check_given(names)
        backend, prepared, stored = None, None, SearchManifest.stored(settings.out)
        if source is None or settings.budget or mode == "auto":
            # Steps of trainings are measured on the images, unless a source tells them.
            counts_here = by_time is not None and (named is None or mode == "auto")
            config = worker_config(
                settings, parent, stored, has_images=settings.budget > 0 or counts_here
            )
            backend, prepared = start_workers(config, settings.workers, observer.preparing)
            stack.callback(backend.close)
            if config.data is not None:
                check_data(settings, parent, prepared)
        manifest = new_manifest(settings, parent, reward, prepared, source)
        if by_time:
            manifest = replace(manifest, baselines=None)
            if settings.budget and prepared:
                found = most_macs(parent.space, parent.recipe, prepared.train_step_s)
                limit = max(found or 0.0, parent.manifest.most_macs or 0.0) or None
                limit = stored.most_macs if stored and stored.budget else limit
                manifest = replace(manifest, most_macs=limit)
            engine.narrow(macs_limits(manifest.most_macs))
        if stored:
            manifest.check_continues(stored, settings.out)
            began = stored.created or began
        manifest = replace(manifest, created=began)
        search.resume(
            read_events(settings.out, space),
            rescore=stored is not None and stored.reward.text != manifest.reward.text,
        )
        manifest.write(settings.out)  # which is not finished, or no longer
        lacking: Sequence[Trial] = ()
        if isinstance(source, StepTimeTable):
            lacking = [trial for trial in trained if trial.architecture not in source]
        known = len(trained) - len(lacking)
        limit_of_timings = known if source else min(settings.timings, known)
        observer.planned(parent, manifest.hardware, manifest.step_times, limit_of_timings)
        timer = backend or (looking_up(source) if source else None)
        if timer and not by_time:  # of baselines, there are no learning curves
            retime_baselines(
                parent.baselines,
                read_baselines(settings.out),
                parent.space,
                timer,
                lambda result: append_baseline(settings.out, result),
            )
            search.baselines = read_baselines(settings.out)
        task, settle = (Task.PLAN, by_time.settled) if by_time else (Task.TIME, None)
        if source:
            done = {trial.number for trial in search.trials}
            for trial in trained:
                if trial.number not in done:
                    take_step_time(search, trial, source, settle)
        elif backend:
            retime(
                search,
                backend,
                lambda under_way: controller.next_to_time(
                    search, limit_of_timings - len(under_way)
                ),
                on_trial=observer.timed,
                task=task,
                settle=settle,
            )
        if settings.budget and backend:
            search.run(
                budget=controller.timed(search) + settings.budget,
                backend=backend,
                on_trial=lambda trial: observer.trained(trial, search),
                again=lambda: controller.again(search, settings.budget),
            )
        if mode == "auto" and backend:
            time_finalists(search, backend, on_trial=observer.timed, task=task, settle=settle)
            for trial in search.trials:
                controller.learn(trial)
        replace(manifest, finished=utc_now()).write(settings.out)
    units = {parent.step_unit, StepUnit.of(manifest.step_times)}
    return Retargeted(
        parent=parent,
        search=search,
        ranking=engine.ranking(),
        not_in_table=lacking,
        same_unit=units == {StepUnit.REFERENCE},
        by_time=by_time is not None,
        trained_again=[t for t in search.trials if by_time and by_time.is_trained_again(t)],
    )


class _Untrained(Controller):
    """Proposes architectures that may beat those of the finished run; ends where none may."""

    name = "retarget"

    def __init__(
        self, engine: Retargeting, trained: Trials, seed: int, by_time: EqualTime | None = None
    ) -> None:
        super().__init__(engine.space, seed)
        self._engine = engine
        self._by_time = by_time
        self._trained = {trial.number: trial for trial in trained}
        self._by_id = {trial.architecture.id: trial for trial in trained}
        self._next: Architecture | None = None
        self._trained_again: set[int] = set()

    def timed(self, search: Search) -> int:
        """Return how many trials of the finished run have been timed."""
        return sum(trial.number in self._trained for trial in search.trials)

    def next_to_time(self, search: Search, limit: int) -> Trial | None:
        """Return the next trial of the finished run to be timed, or None at the limit."""
        if self.timed(search) >= limit:
            return None
        arch = self._engine.next_to_time()
        return None if arch is None else self._by_id[arch.id]

    def again(self, search: Search, budget: int) -> Trial | None:
        """Return a trial of the finished run to train again, if nothing else is likelier to win.

        What is, `ask` returns next.

        Args:
            search: The new run.
            budget: New trainings at most, of both kinds.
        """
        new = len(search.trials) - self.timed(search)
        if self._by_time is None or new + len(self._trained_again) >= budget:
            return None
        arch = self._engine.next_to_train()
        trial = self._by_id.get(arch.id) if arch else None
        self._next = None if trial else arch
        if trial is None:
            return None
        known = {each.number: each for each in search.trials}
        return known.get(trial.number, trial)

    def ask(self, number: int) -> Architecture:
        """Return an architecture that may win; raise SpaceExhaustedError if there is none."""
        del number
        arch, self._next = self._next, None
        if self._by_time is None:
            arch = self._engine.next_to_train()
        if arch is None:
            raise SpaceExhaustedError("no untrained architecture is likely to win")
        return arch

    def tell(self, trial: Trial) -> None:
        """Learn that a trial has started or ended."""
        if trial.state is TrialState.RUNNING:
            self._engine.tell_started(trial.architecture)
            if trial.number in self._trained:
                self._trained_again.add(trial.number)
        super().tell(trial)

    def learn(self, trial: Trial) -> None:
        """Pass on a timing or a training."""
        arch = trial.architecture
        is_old = trial.number in self._trained
        steps = sum(stage.steps for stage in trial.measurement.stages) or None
        if trial.state is not TrialState.COMPLETE:
            if is_old and "step_time" in trial.metrics:
                self._engine.tell_step_time(arch, trial.metrics, steps)  # too slow teaches, too
            self._engine.tell_infeasible(arch)
        elif is_old and not (self._by_time and self._by_time.is_trained_again(trial)):
            self._engine.tell_step_time(arch, trial.metrics, steps)
        else:
            self._engine.tell_trained(arch, trial.metrics)

    def propose(self, rng: np.random.Generator) -> Architecture:
        """Draw at random; not used, since `ask` is ours."""
        return self.space.sample(rng)
