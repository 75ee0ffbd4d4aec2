"""Trials of equal training time on another device: other steps, and so other accuracies."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from effnas.errors import ConfigError, InfeasibleError
from effnas.evaluation.evaluator import TRAINING_METRICS
from effnas.evaluation.training_plan import TrainingPlan
from effnas.timing.training_time import proportional_step_times, step_seconds_of
from effnas.trials.learning_curve import LearningCurves, doublings_of, trained_for
from effnas.trials.step_unit import IN_TRAININGS
from effnas.trials.trial import Measurement, Trial, Trials

if TYPE_CHECKING:
    from collections.abc import Mapping

    from effnas.arch.architecture import Architecture
    from effnas.config.settings import StepTimeConfig
    from effnas.evaluation.backend import Outcome
    from effnas.space.search_space import SearchSpace
    from effnas.trials.run import Run
    from effnas.trials.trial import StageTimes


@dataclass(frozen=True, kw_only=True)
class EqualTime:
    """A finished search whose trials were trained for equal times.

    Attributes:
        space: Its space, whose target says what the step times of a source are of.
        plan: How its trials were trained.
        curves: Their learning curves.
        trained: Those whose accuracy is known, by number.
    """

    space: SearchSpace
    plan: TrainingPlan
    curves: LearningCurves
    trained: Mapping[int, Trial]

    @classmethod
    def of(cls, run: Run, trained: Trials) -> Self | None:
        """Return what is to be known of a run of trials of equal time; None of any other.

        Raises:
            StoreError: If the manifest lacks what that takes.
            ConfigError: If trials lack it.
        """
        if run.recipe.train_time_s is None:
            return None
        if unknown := [t.number for t in trained if not t.measurement.stages]:
            raise ConfigError(
                f"{run.path}: trial {unknown[0]} does not say of how many steps its training was, "
                "so its accuracy elsewhere cannot be predicted; search again"
            )
        return cls(
            space=run.space,
            plan=TrainingPlan(
                recipe=run.recipe,
                images=run.train_images,
                seed=run.manifest.seed,
                full_epochs=run.manifest.full_epochs,
                chooses_sizes=bool(run.space.recipe_image_sizes),
            ),
            curves=LearningCurves.of(trained, run.noise),
            trained={trial.number: trial for trial in trained},
        )

    def told_stages(
        self, arch: Architecture, metrics: Mapping[str, float]
    ) -> tuple[StageTimes, ...]:
        """Return the steps that fit into the training time by what a source of step times tells.

        Its step times are for the target's batch and image size; they are taken to be in proportion
        to images and pixels, as in trainings whose time such a source counts.

        Args:
            arch: The network.
            metrics: Those of the source.

        Raises:
            InfeasibleError: If too few fit.
            ConfigError: If the source gives no seconds.
        """
        target = self.space.target
        times = proportional_step_times(
            step_seconds_of(metrics),
            of_batch_size=target.batch_size,
            of_image_size=target.image_size,
            batch_size=self.plan.recipe_of(arch).batch_size,
        )
        return self.plan.stages(arch, times, self.plan.seed_of(arch))

    def told_steps(self, arch: Architecture, metrics: Mapping[str, float]) -> int:
        """Return the number of the steps of `told_stages`; errors are its."""
        return sum(stage.steps for stage in self.told_stages(arch, metrics))

    def settled(self, trial: Trial, outcome: Outcome) -> tuple[Trial, Outcome]:
        """Return a trial as it is where other steps fit, and what becomes of its timing.

        Its accuracy is predicted, and marked so, unless about as many steps fit as it was trained
        for. Its training's metrics of the old device are left out.

        Args:
            trial: Of the finished search, or of the new one.
            outcome: Of a timing, with the steps that fit or with a source's step time.
        """
        parent = self.trained.get(trial.number)
        if parent is None or self.is_trained_again(trial):
            return trial, outcome
        found = outcome.measurement or Measurement(metrics={})
        stages = found.stages
        if outcome.infeasible is None and not stages:
            try:
                stages = self.told_stages(trial.architecture, found.metrics)
            except InfeasibleError as error:
                outcome = replace(outcome, infeasible=str(error))
        moved = replace(
            parent.measurement,
            metrics={n: v for n, v in parent.metrics.items() if n not in TRAINING_METRICS},
            fidelity="",
            seed=None,
            rungs={},
            stages=stages,
            accuracy_deviation=None,
        )
        if outcome.infeasible is not None:
            return replace(parent, measurement=moved), outcome
        steps, (before, _) = sum(stage.steps for stage in stages), trained_for(parent)
        predicted = self.curves.predict(parent, doublings_of(steps, parent))
        if not predicted.deviation and not parent.is_predicted:
            return parent, outcome
        deviation = predicted.deviation
        if not deviation:  # it was trained for as many, but on yet another device
            deviation = self.curves.noise.standard_error(predicted.accuracy) or 0.0
        moved = replace(
            moved,
            metrics={**moved.metrics, "accuracy": predicted.accuracy},
            fidelity=f"predicted for {steps:,} steps from {before:,}",
            accuracy_deviation=deviation,
        )
        return replace(parent, measurement=moved), outcome

    def is_trained_again(self, trial: Trial) -> bool:
        """Return whether a trial of the new run, taken over from the old one, was trained again."""
        parent = self.trained.get(trial.number)
        if parent is None or trial.is_predicted or "accuracy" not in trial.metrics:
            return False
        return trial.measurement.stages != parent.measurement.stages


def as_in_run(step_times: StepTimeConfig, run: Run) -> StepTimeConfig:
    """Return where step times come from, with those of trainings where the run has them, too."""
    is_same = step_times.mode == "measured" and run.manifest.step_times == IN_TRAININGS
    return replace(step_times, mode="training") if is_same else step_times
