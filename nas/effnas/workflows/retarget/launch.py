"""From a finished run to one for another device: time again, rank again, train what may win."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from effnas.config.settings import EvaluationConfig, StepTimeConfig
from effnas.controllers.base import Controller
from effnas.errors import ConfigError, InfeasibleError, SpaceExhaustedError, check_at_least
from effnas.evaluation.config import config_for_run, continued_config
from effnas.evaluation.evaluator import (
    TRAINING_METRICS,
    named_source,
    source_without_timing,
    step_time_metrics,
)
from effnas.evaluation.observer import Observer
from effnas.evaluation.workers import Workers, start_workers
from effnas.search.retime import retime, take_step_time, time_finalists
from effnas.search.search import Search
from effnas.timing.profile import DeviceProfile
from effnas.timing.step_time import StepTimeSource
from effnas.timing.table import StepTimeTable
from effnas.trials.baselines import append_baseline, read_baselines
from effnas.trials.constraints import Constraints
from effnas.trials.manifest import TRAINER, CommandPart, SearchManifest, utc_now, versions
from effnas.trials.manifest_parts import ParentPart, RewardPart
from effnas.trials.problem import no_free_metrics
from effnas.trials.reward import Reward
from effnas.trials.run import Run, load_run
from effnas.trials.step_unit import StepUnit
from effnas.trials.store import RunFolder, read_events
from effnas.trials.trial import Trial, Trials, TrialState
from effnas.trials.worker_info import WorkerInfo
from effnas.workflows.retarget.baselines import looking_up, retime_baselines
from effnas.workflows.retarget.retargeting import Candidate, Retargeting

if TYPE_CHECKING:
    import numpy as np

    from effnas.arch.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class RetargetSettings:
    """What the user asked for.

    Attributes:
        run: Folder of the finished run.
        out: Folder of the new run.
        workers: The new device, and how it is used.
        step_times: Where its step times come from.
        timings: Trials of the finished run that are timed at most, where timing costs something.
        budget: New trainings at most, 0 or more.
        reward: Another reward than the run's; None takes the run's own.
        data: Where the run's images are now; None takes the place that it stored.
        data_root: Folder of a timm data set, likewise.
        asked: The command line that this is from, for `asked` of the manifest.
    """

    run: Path
    out: Path
    workers: Workers = field(default_factory=Workers)
    step_times: StepTimeConfig = field(default_factory=StepTimeConfig)
    timings: int = 50
    budget: int = 0
    reward: str | None = None
    data: str | None = None
    data_root: Path | None = None
    asked: CommandPart | None = None

    def __post_init__(self) -> None:
        check_at_least(1, timings=self.timings)
        check_at_least(0, budget=self.budget)
        if self.run.absolute() == self.out.absolute():
            raise ConfigError(f"`out` is the run itself, {self.run}; choose another folder")


class RetargetObserver(Observer):
    """Receives what retargeting does."""

    def planned(self, parent: Run, hardware: str, step_times: str, timings: int) -> None:
        """The first timing is about to start; `timings` of them at most."""

    def timed(self, trial: Trial) -> None:
        """A trial was timed on the new device."""

    def trained(self, trial: Trial, search: Search) -> None:
        """A new architecture was timed and trained."""


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
    """

    parent: Run
    search: Search
    ranking: list[Candidate]
    not_in_table: Sequence[Trial] = ()
    same_unit: bool = True


def retarget(settings: RetargetSettings, observer: RetargetObserver) -> Retargeted:
    """Find what is best on another device, with the accuracies of a finished run.

    Raises:
        UserError: If something given is wrong; what is stored already stays.
        SearchFailedError: If it cannot continue.
    """
    began = utc_now()
    parent = load_run(settings.run)
    if (seconds := parent.recipe.train_time_s) is not None:
        # On another device, another number of steps fits into the time.
        raise ConfigError(
            f"{settings.run}: its networks were trained for {seconds:g} s of its own device, so "
            "their accuracies hold for no other one; search again there, or here with a `profile` "
            "of the other device, which `train_time` then counts"
        )
    if settings.budget and parent.manifest.trainer != TRAINER:
        raise ConfigError(
            f"{parent.path}: another version of effnas trained its networks, whose accuracies do "
            "not compare with new ones: leave out `budget`, or search again"
        )
    trained = _trained(parent)
    reward = parent.load_reward(settings.reward)
    constraints = Constraints.parse(parent.manifest.constraints, parent.space)
    named = named_source(settings.step_times, parent.space)
    source = source_without_timing(named, settings.step_times.mode)
    space = constraints.narrowed(no_free_metrics)  # networks too slow here still teach accuracy
    seed = parent.manifest.seed
    engine = Retargeting(
        space,
        reward,
        trained,
        seed=seed,
        step_time_of=_step_time_of(source, constraints) if source else None,
        pool=source.architectures() if isinstance(source, StepTimeTable) else None,
    )
    controller = _Untrained(engine, trained, seed)
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
        names = (*TRAINING_METRICS, *step_time_metrics(named, space))
        reward.check(dict.fromkeys(names, 0.5) | space.counted_metrics(space.reference))
        constraints.check_given(names)
        backend, prepared, stored = None, None, SearchManifest.stored(settings.out)
        if source is None or settings.budget or settings.step_times.mode == "auto":
            config = _config(settings, parent, stored)
            backend, prepared = start_workers(config, settings.workers, observer.preparing)
            stack.callback(backend.close)
            _check_data(settings, parent, prepared)
        manifest = _manifest(settings, parent, reward, prepared, source)
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
        limit = known if source else min(settings.timings, known)
        observer.planned(parent, manifest.hardware, manifest.step_times, limit)
        if timer := backend or (looking_up(source) if source else None):
            retime_baselines(
                parent.baselines,
                read_baselines(settings.out),
                parent.space,
                timer,
                lambda result: append_baseline(settings.out, result),
            )
            search.baselines = read_baselines(settings.out)
        if source:
            done = {trial.number for trial in search.trials}
            for trial in trained:
                if trial.number not in done:
                    take_step_time(search, trial, source)
        elif backend:
            retime(
                search,
                backend,
                lambda under_way: controller.next_to_time(search, limit - len(under_way)),
                on_trial=observer.timed,
            )
        if settings.budget and backend:
            search.run(
                budget=controller.timed(search) + settings.budget,
                backend=backend,
                on_trial=lambda trial: observer.trained(trial, search),
            )
        if settings.step_times.mode == "auto" and backend:
            time_finalists(search, backend, on_trial=observer.timed)
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
    )


class _Untrained(Controller):
    """Proposes architectures that may beat those of the finished run; ends where none may."""

    name = "retarget"

    def __init__(self, engine: Retargeting, trained: Trials, seed: int) -> None:
        super().__init__(engine.space, seed)
        self._engine = engine
        self._trained = {trial.number: trial for trial in trained}
        self._by_id = {trial.architecture.id: trial for trial in trained}

    def timed(self, search: Search) -> int:
        """Return how many trials of the finished run have been timed."""
        return sum(trial.number in self._trained for trial in search.trials)

    def next_to_time(self, search: Search, limit: int) -> Trial | None:
        """Return the next trial of the finished run to be timed, or None at the limit."""
        if self.timed(search) >= limit:
            return None
        arch = self._engine.next_to_time()
        return None if arch is None else self._by_id[arch.id]

    def ask(self, number: int) -> Architecture:
        """Return an architecture that may win; raise SpaceExhaustedError if there is none."""
        del number
        arch = self._engine.next_to_train()
        if arch is None:
            raise SpaceExhaustedError("no untrained architecture is likely to win")
        return arch

    def learn(self, trial: Trial) -> None:
        """Pass on a timing or a training."""
        arch = trial.architecture
        if trial.state is not TrialState.COMPLETE:
            if trial.number in self._trained and "step_time" in trial.metrics:
                self._engine.tell_step_time(arch, trial.metrics)  # too slow teaches, too
            self._engine.tell_infeasible(arch)
        elif trial.number in self._trained:
            self._engine.tell_step_time(arch, trial.metrics)
        else:
            self._engine.tell_trained(arch, trial.metrics)

    def propose(self, rng: np.random.Generator) -> Architecture:
        """Draw at random; not used, since `ask` is ours."""
        return self.space.sample(rng)


# -- before the first timing


def _trained(parent: Run) -> Trials:
    """Return the complete trials of a run with an accuracy, the first of each architecture."""
    found: dict[str, Trial] = {}
    for trial in parent.trials:
        if trial.state is TrialState.COMPLETE and "accuracy" in trial.metrics:
            found.setdefault(trial.architecture.id, trial)
    if not found:
        raise ConfigError(
            f"{parent.path}: no trial is complete, so there is nothing to retarget; let the search "
            "continue first"
        )
    return Trials(found.values())


def _config(
    settings: RetargetSettings, parent: Run, stored: SearchManifest | None
) -> EvaluationConfig:
    """Return what workers need: as the parent's, on another device."""
    config = config_for_run(parent, data=settings.data, data_root=settings.data_root)
    config = replace(
        config,
        data=config.data if settings.budget else None,
        execution=None,
        step_times=settings.step_times,
        constraints=parent.manifest.constraints,
        holdout_fingerprint=None,  # all images are compared, once they are loaded
    )
    return continued_config(config, stored) if stored and stored.execution else config


def _manifest(
    settings: RetargetSettings,
    parent: Run,
    reward: Reward,
    prepared: WorkerInfo | None,
    source: DeviceProfile | StepTimeTable | None,
) -> SearchManifest:
    """Return the manifest: the parent's, with what is different now."""
    # Whatever device trains, step times are those of the source.
    timed = source or prepared
    described = source.description if source else prepared.step_times if prepared else ""
    return replace(
        parent.manifest,
        asked=settings.asked,
        controller="retarget",
        rungs=None,
        budget=settings.budget,
        reward=RewardPart.of(reward),
        execution=prepared.execution if prepared else None,
        timing_batch_size=prepared.timing_batch_size if prepared else None,
        hardware=timed.hardware if timed else "",
        step_times=described,
        device=prepared.device if prepared else {},
        versions=versions(),
        finished=None,
        parent=ParentPart(
            path=str(settings.run),
            created=parent.manifest.created,
            hardware=parent.manifest.hardware,
            trials=len(parent.trials),
            best=parent.best.number if parent.best else None,
        ),
    )


def _step_time_of(
    source: StepTimeSource, constraints: Constraints
) -> Callable[[Architecture], Mapping[str, float]]:
    """Return a source of metrics of timing that leaves out what breaks a constraint."""

    def step_time_of(arch: Architecture) -> Mapping[str, float]:
        metrics = source(arch).metrics
        if broken := constraints.broken(arch, metrics):
            raise InfeasibleError(broken)
        return metrics

    return step_time_of


def _check_data(settings: RetargetSettings, parent: Run, prepared: WorkerInfo) -> None:
    """Refuse to compare accuracies on other images."""
    data = parent.manifest.data
    if settings.budget and data.fingerprint != prepared.data_fingerprint:
        raise ConfigError(
            f"the images at {data.name} are not those that {settings.run} was trained on, "
            "so accuracies would not compare; give their place as `data`, or `budget` 0"
        )
