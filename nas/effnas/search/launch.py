"""From settings to a running search on images: prepare, plan, resume, run."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from effnas.arch.architecture import Architecture
from effnas.config.catalog import Source
from effnas.config.recipe import Recipe
from effnas.config.recipe_file import RecipeSpace
from effnas.config.settings import EvaluationConfig, StepTimeConfig
from effnas.controllers.registry import controller_text
from effnas.data.loading import native_image_size
from effnas.errors import ConfigError, check_at_least
from effnas.evaluation.baselines import networks_to_compare
from effnas.evaluation.config import CandidateSettings, continued_config
from effnas.evaluation.evaluator import (
    TIMING_METRICS,
    TRAINING_METRICS,
    NamedSource,
    Network,
    metrics_before_trial,
    named_source,
    source_without_timing,
    step_time_metrics,
)
from effnas.evaluation.observer import Observer
from effnas.evaluation.workers import Workers, start_workers
from effnas.search.baselines import (
    PlannedBaseline,
    find_baselines,
    plan_baselines,
    train_baselines,
)
from effnas.search.cost_estimate import CostEstimate
from effnas.search.retime import time_finalists
from effnas.search.rungs import Rungs, with_early_warmup
from effnas.search.search import Search
from effnas.space.search_space import SearchSpace
from effnas.train.checkpoints import Checkpoint
from effnas.trials.baselines import (
    BaselineResult,
    append_baseline,
    read_baselines,
    with_result,
)
from effnas.trials.constraints import Constraints
from effnas.trials.manifest import Choices, SearchManifest, describe, macs_limits, utc_now
from effnas.trials.objectives import Objectives
from effnas.trials.reward import SYMBOLS, Reward
from effnas.trials.store import (
    CHECKPOINTS,
    SAMPLES,
    RunFolder,
    Store,
    read_events,
    write_whole,
)
from effnas.trials.trial import Trial, TrialState
from effnas.trials.worker_info import WorkerInfo

#: Any accuracy serves to check that the reward can be computed.
_TRIED_ACCURACY = 0.5
#: Steps that networks should take in a training by time.
_MIN_STEPS = 32
#: States of trials that never run again.
_FINAL = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.INFEASIBLE)


@dataclass(frozen=True, kw_only=True)
class Settings(CandidateSettings):
    """What the user asked for.

    Attributes:
        reward: Name, path, expression or `file.py:function`, or what was read from one.
        controller: Name of the controller, or `FILE.py:CLASS`.
        objectives: What it pursues in place of the reward, such as `accuracy:max,params:min`.
        budget: Trials in all, 1 or more.
        workers: Where evaluations run.
        step_times: Where step times come from.
        rungs: Where trainings pause; the last is the recipe's own length.
        full_epochs: Of the recipe before it was made short.
        full_train_time_s: Seconds that the winner is to be trained for, as of `Trainings`.
        recipe_space: What is open of the recipe, beside what the space opens of it; None for
            nothing.
        target_batch_size: Batch size of S in place of the space's.
        constraints: Conditions that every network must meet, see `effnas.trials.constraints`.
        trial_timeout_s: Seconds after which a worker of Ray that has not come back with a trial is
            given up; None takes that of the `CostEstimate`.
        baselines: What the search is compared with beside the reference network, as of
            `effnas.search.baselines.find_baselines`.
    """

    reward: str | Reward = "v2"
    controller: str = "surrogate"
    budget: int = 1000
    objectives: str | None = None
    workers: Workers = field(default_factory=Workers)
    step_times: StepTimeConfig = field(default_factory=StepTimeConfig)
    rungs: Rungs | None = None
    full_epochs: float | None = None
    full_train_time_s: float | None = None
    recipe_space: RecipeSpace | None = None
    target_batch_size: int | None = None
    constraints: tuple[str, ...] = ()
    trial_timeout_s: float | None = None
    baselines: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(1, budget=self.budget, target_batch_size=self.target_batch_size)
        by_time = self.recipe.train_time_s is not None
        if self.step_times.mode == "training" and not by_time:
            raise ConfigError(
                "`step_time` training counts the steps of trainings by time; give a `train_time`"
            )
        length = self.recipe.train_time_s if by_time else self.recipe.epochs
        if self.rungs and self.rungs.in_seconds != by_time:
            example = "15s,60s" if by_time else "1,2,4"
            raise ConfigError(
                f"`fidelity` {self.rungs} is in {self.rungs.unit}, and the length of a training is "
                f"not; write it as in {example}"
            )
        if self.rungs and self.rungs.at[-1] != length:
            name = "train_time" if by_time else "epochs"
            raise ConfigError(
                f"`fidelity` {self.rungs} ends at {self.rungs.at[-1]} {self.rungs.unit}, and a "
                f"whole training has {length:g}; leave out `{name}`, or end `fidelity` with it"
            )


class SearchObserver(Observer):
    """Receives what a search does."""

    def planned(self, plan: CostEstimate) -> None:
        """The first trial is about to start."""

    def baseline_ended(self, result: BaselineResult, seeds: int, search: Search) -> None:
        """A training of a baseline has ended, of the `seeds` that it has."""

    def trial_ended(self, trial: Trial, search: Search) -> None:
        """A trial has ended, or has paused at a rung."""

    def finalist_timed(self, trial: Trial, search: Search) -> None:
        """The step time of a trial that was predicted has been measured."""


def launch(settings: Settings, observer: SearchObserver) -> Search:
    """Run a search on images, or continue the one in the folder.

    Raises:
        UserError: If something given is wrong; what is stored already stays.
        SearchFailedError: If the search cannot continue.
    """
    began = utc_now()
    setup = _Setup.of(settings)
    chosen = setup.check()
    config = setup.config
    out = settings.out
    with RunFolder.open(out) as folder:
        if stored := SearchManifest.stored(out):
            chosen.check_continues(stored, out)
            config = continued_config(config, stored)
        asked = config.recipe
        if not (stored and stored.recipe and stored.recipe.warmup_epochs == asked.warmup_epochs):
            config = replace(config, recipe=with_early_warmup(asked, chosen.rungs))
        backend, prepared = start_workers(
            config, settings.workers, observer.preparing, baselines=setup.baselines
        )
        with closing(backend):
            found = most_macs(setup.space, settings.recipe, prepared.train_step_s)
            limit = stored.most_macs if stored else found
            search = setup.search(folder, prepared.num_classes, limit)
            search.space.check_satisfiable()
            manifest = describe(
                source=setup.source,
                space=search.constraints.space,
                reward=search.reward,
                chosen=chosen,
                budget=settings.budget,
                data=settings.data,
                config=config,
                prepared=prepared,
                created=began,
                full_epochs=settings.full_epochs,
                full_train_time_s=settings.full_train_time_s,
                most_macs=limit,
            )
            if stored:
                manifest.check_continues(stored, out)
                manifest = replace(manifest, created=stored.created)
                if manifest.data.path == stored.data.path:  # as it was named first
                    data = replace(manifest.data, name=stored.data.name)
                    manifest = replace(manifest, data=data)
            search.resume(
                read_events(out, search.space),
                rescore=stored is not None and stored.reward.text != manifest.reward.text,
            )
            search.baselines = read_baselines(out)
            planned = setup.plan_baselines(prepared, search.space, stored)
            seeds = {**((stored.baselines if stored else None) or {}),
                     **{each.name: each.seeds for each in planned}}  # fmt: skip
            manifest = replace(manifest, baselines=seeds or None)

            def drop(trial: Trial) -> None:
                if trial.state in _FINAL:
                    _drop_checkpoint(config, trial.architecture)

            for trial in search.trials:
                drop(trial)  # a stop may have come before it was dropped
            manifest.write(out)
            if prepared.samples_png and not (out / SAMPLES).exists():
                write_whole(out / SAMPLES, prepared.samples_png)
            estimate = CostEstimate.make(
                settings.budget, search, prepared, backend.capacity, planned
            )
            search.trial_timeout_s = settings.trial_timeout_s or estimate.trial_timeout_s
            observer.planned(estimate)

            def baseline_ended(result: BaselineResult) -> None:
                append_baseline(out, result)
                search.baselines = with_result(search.baselines, result)
                _drop_checkpoint(config, search.space.reference, result.repeat)
                observer.baseline_ended(result, seeds[result.baseline], search)

            train_baselines(planned, search.space, backend, baseline_ended)

            def ended(trial: Trial) -> None:
                drop(trial)
                observer.trial_ended(trial, search)

            search.run(budget=settings.budget, backend=backend, on_trial=ended)
            if settings.step_times.mode == "auto":
                time_finalists(
                    search, backend, lambda trial: observer.finalist_timed(trial, search)
                )
    return search


def most_macs(space: SearchSpace, recipe: Recipe, step_s: float) -> float | None:
    """Return the MACs of networks of which about `_MIN_STEPS` steps fit into a training time.

    Larger ones would hardly learn anything, and a space may consist of them mostly. A network is
    taken to be as quick by the MAC as the reference: smaller ones are slower, so that those of
    which too few steps fit all the same are found out by their own steps.

    Args:
        space: With all classes known.
        recipe: Without a training time, nothing is left out.
        step_s: Seconds of a step of the reference's training; 0 where that is not known.
    """
    if not step_s or space.model or not recipe.train_time_s:
        return None
    macs = space.count(space.reference).macs * max(recipe.train_time_s / step_s / _MIN_STEPS, 1.0)
    return float(f"{macs:.2g}")


def _cheapest(settings: Settings, space: SearchSpace, reward: Reward) -> StepTimeConfig:
    """Return where step times come from: from trainings by time where nothing needs them better."""
    step_times = settings.step_times
    if step_times.mode != "measured" or settings.recipe.train_time_s is None:
        return step_times
    needed = set(reward.metrics)
    if settings.objectives:
        needed |= {each.metric for each in Objectives.parse(settings.objectives)}
    for condition in Constraints.parse(settings.constraints, space).expressions:
        needed |= {SYMBOLS.get(name, name) for name in condition.names}
    # A reward that is a function does not say what it needs.
    is_needed = not reward.metrics or needed & {"step_time", *TIMING_METRICS}
    return step_times if is_needed else replace(step_times, mode="training")


def _drop_checkpoint(config: EvaluationConfig, arch: Architecture, repeat: int = 0) -> None:
    """Delete the checkpoint of a training that does not continue."""
    if config.checkpoints:
        Checkpoint.of(Path(config.checkpoints), arch, repeat).delete()


@dataclass(frozen=True, kw_only=True)
class _Setup:
    """The objects that the settings name, each read once."""

    settings: Settings
    source: Source
    space: SearchSpace
    reward: Reward
    step_times: NamedSource | None
    config: EvaluationConfig
    baselines: Mapping[str, Network] | None

    @classmethod
    def of(cls, settings: Settings) -> _Setup:
        source = settings.source
        space = SearchSpace.read(source).with_target(
            image_size=settings.target_image_size, batch_size=settings.target_batch_size
        )
        if settings.recipe_space:
            space = replace(space, recipe=settings.recipe_space.opened(space.recipe, space.name))
        if any(each.in_shares for each in space.recipe):
            size = native_image_size(settings.data, settings.data_root)
            space = replace(space, recipe=tuple(each.sized(size) for each in space.recipe))
        reward = (
            Reward.load(settings.reward) if isinstance(settings.reward, str) else settings.reward
        )
        lasts = settings.rungs or settings.recipe.train_time_s is not None
        checkpoints = str((settings.out / CHECKPOINTS).absolute()) if lasts else None
        return cls(
            settings=settings,
            source=source,
            space=space,
            reward=reward,
            baselines=find_baselines(settings.baselines, space),
            step_times=named_source(settings.step_times, space),
            config=replace(
                settings.config(space),
                step_times=_cheapest(settings, space, reward),
                full_epochs=settings.full_epochs,
                constraints=settings.constraints,
                checkpoints=checkpoints,
            ),
        )

    def search(
        self,
        store: Store | None = None,
        num_classes: int | None = None,
        most_macs: float | None = None,
    ) -> Search:
        """Return a search without trials.

        Args:
            store: Where they will be kept.
            num_classes: Of the data, where the space names none.
            most_macs: As of `most_macs`.
        """
        settings, space = self.settings, self.space
        free = source_without_timing(self.step_times, settings.step_times.mode)
        return Search(
            space.with_target(num_classes=space.target.num_classes or num_classes),
            self.reward,
            settings.controller,
            settings.seed,
            free_metrics=metrics_before_trial(free),
            objectives=settings.objectives,
            constraints=(*settings.constraints, *macs_limits(most_macs)),
            rungs=settings.rungs,
            store=store,
        )

    def plan_baselines(
        self, prepared: WorkerInfo, space: SearchSpace, stored: SearchManifest | None
    ) -> list[PlannedBaseline]:
        """Return what is left to do for the baselines."""
        size = prepared.recipe.last_image_size
        return plan_baselines(
            networks_to_compare(self.baselines, space.reference, size),
            prepared,
            read_baselines(self.settings.out),
            (stored.baselines if stored else None) or {},
        )

    def check(self) -> Choices:
        """Find mistakes before anything slow is started; return what the user has chosen."""
        settings, search = self.settings, self.search()
        space = search.space
        # Counts need the classes, which may be those of the data.
        if space.target.num_classes is not None or not space.needs_counts:
            search.ask()
        sizes = [settings.recipe.image_size, *space.recipe_image_sizes]
        for last in (pair[1] for pair in sizes if pair):
            if last < space.reference.stride:
                raise ConfigError(
                    f"recipe: image_size is {last} px, and networks of {space.name} have one pixel "
                    f"left of {space.reference.stride}; give larger images, or another space"
                )
        names = (*TRAINING_METRICS, *step_time_metrics(self.step_times, space))
        measured = dict.fromkeys(names, 1.0) | {"accuracy": _TRIED_ACCURACY}
        measured |= space.counted_metrics(space.reference)
        search.reward.check(measured)
        search.constraints.check_given(names)
        if search.objectives:
            search.objectives.values(measured)
        return Choices(
            controller=controller_text(settings.controller),
            objectives=str(search.objectives) if search.objectives else None,
            seed=settings.seed,
            constraints=search.constraints.texts,
            rungs=settings.rungs.at if settings.rungs else None,
            asked=settings.asked,
        )
