"""What is settled before the first timing: whose accuracies count, workers, and the manifest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from effnas.errors import ConfigError, InfeasibleError
from effnas.evaluation.config import config_for_run, continued_config
from effnas.evaluation.evaluator import TRAINING_METRICS, step_time_metrics
from effnas.trials.manifest import SearchManifest, versions
from effnas.trials.manifest_parts import ParentPart, RewardPart
from effnas.trials.trial import Trials, TrialState

if TYPE_CHECKING:
    from effnas.arch.architecture import Architecture
    from effnas.config.settings import EvaluationConfig, StepTimeMode
    from effnas.evaluation.evaluator import NamedSource
    from effnas.space.search_space import SearchSpace
    from effnas.timing.profile import DeviceProfile
    from effnas.timing.step_time import StepTimeSource
    from effnas.timing.table import StepTimeTable
    from effnas.trials.constraints import Constraints
    from effnas.trials.reward import Reward
    from effnas.trials.run import Run
    from effnas.trials.trial import Trial
    from effnas.trials.worker_info import WorkerInfo
    from effnas.workflows.retarget.settings import RetargetSettings


def trained_trials(parent: Run) -> Trials:
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


def worker_config(
    settings: RetargetSettings, parent: Run, stored: SearchManifest | None, *, has_images: bool
) -> EvaluationConfig:
    """Return what workers need: as the parent's, on another device.

    Args:
        settings: What the user asked for.
        parent: The finished run.
        stored: Of the new run, if it continues.
        has_images: Whether they train, or time the steps of trainings.
    """
    config = config_for_run(parent, data=settings.data, data_root=settings.data_root)
    config = replace(
        config,
        data=config.data if has_images else None,
        execution=None,
        step_times=settings.step_times,
        constraints=parent.manifest.constraints,
        holdout_fingerprint=None,  # all images are compared, once they are loaded
    )
    return continued_config(config, stored) if stored and stored.execution else config


def new_manifest(
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


def within_constraints(
    source: StepTimeSource, constraints: Constraints
) -> Callable[[Architecture], Mapping[str, float]]:
    """Return a source of metrics of timing that leaves out what breaks a constraint."""

    def step_time_of(arch: Architecture) -> Mapping[str, float]:
        metrics = source(arch).metrics
        if broken := constraints.broken(arch, metrics):
            raise InfeasibleError(broken)
        return metrics

    return step_time_of


def known_metrics(
    named: NamedSource | None, space: SearchSpace, mode: StepTimeMode, *, by_time: bool
) -> list[str]:
    """Return the metrics of trials on the new device that are not counted.

    Args:
        named: Where step times come from; None where they are measured.
        space: Of the finished run.
        mode: How they are measured.
        by_time: Whether trials were of equal training time: curves tell the accuracy alone.
    """
    trained = ["accuracy"] if by_time else [*TRAINING_METRICS]
    if mode == "training":  # whose steps tell no more
        return [*trained, "step_time", "step_time_s"]
    return [*trained, *step_time_metrics(named, space)]


def check_data(settings: RetargetSettings, parent: Run, prepared: WorkerInfo) -> None:
    """Refuse to compare accuracies, or numbers of steps, on other images."""
    data = parent.manifest.data
    if data.fingerprint != prepared.data_fingerprint:
        or_else = ", or `budget` 0" if parent.recipe.train_time_s is None else ""
        raise ConfigError(
            f"the images at {data.name} are not those that {settings.run} was trained on, "
            f"so accuracies would not compare; give their place as `data`{or_else}"
        )
