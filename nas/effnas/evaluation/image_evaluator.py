"""What a worker does: load the images once, then time and train one architecture after another."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from effnas.arch.models import build, counted_model
from effnas.data.samples import samples_png
from effnas.errors import ConfigError, InfeasibleError
from effnas.evaluation.baselines import networks_to_compare
from effnas.evaluation.evaluator import Job, Task
from effnas.evaluation.images import load_images
from effnas.evaluation.optimizers import check_optimizers
from effnas.evaluation.timing import WorkerTiming, step_bytes
from effnas.evaluation.training import (
    CURVE,
    CURVE_IMAGES,
    WorkerTraining,
    out_of_memory_is_infeasible,
)
from effnas.space.search_space import SearchSpace
from effnas.timing import lock
from effnas.timing.device import describe_device, hardware_id, open_device, resident_memory_bytes
from effnas.train.stages import stages_of
from effnas.trials.constraints import Constraints
from effnas.trials.problem import no_free_metrics
from effnas.trials.step_unit import IN_TRAININGS
from effnas.trials.trial import Measurement
from effnas.trials.worker_info import WorkerInfo

if TYPE_CHECKING:
    from collections.abc import Mapping

    from effnas.arch.architecture import Architecture
    from effnas.arch.models import TimmModel
    from effnas.config.settings import EvaluationConfig
    from effnas.data.images import ImageSet
    from effnas.data.loading import SearchImages
    from effnas.evaluation.evaluator import Network
    from effnas.timing.training_time import StepTimes


#: About how long it takes to time the steps of a training, in seconds.
_STEP_TIMING_S = 3.0


class ImageEvaluator:
    """Times architectures, and trains them on the images of a data set.

    Making one loads the images and, unless the configuration fixes it, measures how the device
    runs networks best.

    Raises:
        UserError: If the data, the device or a setting cannot be used.
    """

    def __init__(self, config: EvaluationConfig) -> None:
        device = open_device(config.device)
        self._process_bytes = resident_memory_bytes() if device.type == "cpu" else 0
        if config.threads:
            torch.set_num_threads(config.threads)
        space = SearchSpace.parse(config.space_text, source="the run's space")
        images = load_images(config, space, device)
        self._recipe = images.recipe if images else config.recipe
        classes = images.loaded.train.num_classes if images else 1000
        self._space = space.with_target(num_classes=space.target.num_classes or classes)
        self._constraints = Constraints.parse(config.constraints, self._space)
        if images:  # only now are the classes known, on which counts depend
            self._constraints.narrowed(no_free_metrics).check_satisfiable()
        if images and config.execution is None:  # the first worker: before it takes any step
            check_optimizers(self._recipe, self._space, device)
        timed = config.step_times
        self._is_timed = timed is not None and timed.mode != "training"
        self._counts_steps = timed is not None and timed.mode == "training"
        self._timing = WorkerTiming.settle(config, self._space, self._recipe, device)
        self._training = WorkerTraining(config, images, self._timing.setup) if images else None

    def __call__(self, job: Job) -> Measurement:
        """Time one network, then train it; or do one of both.

        Raises:
            InfeasibleError: If it cannot be built, timed or trained, or its timing breaks a
                constraint; the metrics that are known by then come with it.
        """
        arch, task = job.architecture, job.task
        network = job.model or arch
        measurement = Measurement(metrics={})
        with out_of_memory_is_infeasible(self._timing.setup.device):
            if job.model:
                measurement = Measurement(metrics=self._counted(job.model, task))
            if task is Task.EVALUATE and self._is_timed:
                self._check_constraints(arch, self._sure_before_timing(arch))
            if task is not Task.TRAIN and self._is_timed:
                found = self._timing.step_time(network, again=task is not Task.EVALUATE)
                measurement = Measurement(
                    metrics={**measurement.metrics, **found.metrics},
                    hardware=found.hardware,
                    step_time_source=found.source,
                )
            if task is Task.EVALUATE:
                self._check_constraints(arch, measurement.metrics)
            if task is Task.PLAN and self._timing.measures_steps:
                planned = Measurement(metrics={}, stages=self._with_images.planned(network))
                measurement = measurement.continued(self._with_steps(network, planned))
            if task in (Task.EVALUATE, Task.TRAIN):
                trained = self._with_images(network, job, self._step_times(network))
                measurement = measurement.continued(self._with_steps(network, trained))
        return measurement

    def _with_steps(self, network: Network, found: Measurement) -> Measurement:
        """Return a measurement with the step time of its training's steps, if they tell it."""
        if not self._counts_steps or not found.stages:
            return found
        steps = self._with_images.step_metrics(network, found.stages)
        here = hardware_id(describe_device(self._timing.setup.device))
        return replace(
            found,
            metrics={**found.metrics, **steps},
            hardware=here,
            step_time_source="training",
        )

    @property
    def fidelity(self) -> str:
        """How far whole trainings go, in words; empty without images."""
        return self._training.plan.fidelity if self._training else ""

    def prepare(self, named: Mapping[str, Network] | None = {}) -> WorkerInfo:
        """Estimate what a trial of the reference network costs, by a few steps of it.

        Args:
            named: Baselines, as of `networks_to_compare`; what a training of each costs is
                estimated, too.
        """
        recipe, timing, training = self._recipe, self._timing, self._training
        images = training.images.loaded if training else None
        reference, setup = self._space.reference, timing.setup
        training_s, step_memory = 0.0, step_bytes(reference, setup)
        baselines_s: dict[str, float] = {}
        train_step_s = 0.0
        if training and images:
            if recipe.train_time_s is not None:
                known = self._step_times(reference)
                first = self._space.with_default_recipe(reference)
                train_step_s = training.reference_step_s(first, known)
            size = training.setup.image_size
            training_s = self._training_seconds(
                timing.step_seconds(size, recipe.batch_size), images
            )
            for name, network in networks_to_compare(named, reference, size).items():
                baselines_s[name] = (
                    training_s
                    if network == reference
                    else self._training_seconds(self._step_seconds(network), images)
                )
            step_memory = max(step_memory, step_bytes(reference, training.setup))
        facts = describe_device(setup.device)
        target = replace(setup, batch_size=self._space.target.batch_size)
        return WorkerInfo(
            hardware=hardware_id(facts),
            device=facts,
            recipe=recipe,
            execution=setup.execution,
            execution_seconds=timing.execution_seconds,
            timing_batch_size=setup.batch_size,
            step_times=IN_TRAININGS if self._counts_steps else timing.source.description,
            num_classes=images.train.num_classes if images else setup.num_classes,
            class_names=images.train.classes if images else (),
            found=images.found if images else None,
            train_images=len(images.train) if images else 0,
            holdout_images=len(images.holdout) if images else 0,
            data_fingerprint=images.fingerprint if images else "",
            skipped_images=images.skipped if images else (),
            class_counts=images.train.class_counts if images else (),
            holdout_class_counts=images.holdout.class_counts if images else (),
            image_sizes=images.original_sizes if images else (),
            samples_png=samples_png(images.train) if images else b"",
            timing_s=timing.estimate_seconds() if self._is_timed else 0.0,
            training_s=training_s,
            train_step_s=train_step_s,
            baseline_training_s=baselines_s,
            peak_memory_bytes=self._process_bytes + (images.nbytes if images else 0) + step_memory,
            target_memory_bytes=step_bytes(reference, target),
            available_memory_bytes=timing.available_bytes,
        )

    def test(self, arch: Architecture, seeds: int) -> tuple[ImageSet, list[float]]:
        """Evaluate a trained network on the test part, as `WorkerTraining.test` says."""
        return self._with_images.test(arch, seeds)

    def _training_seconds(self, step_s: float, images: SearchImages) -> float:
        """Return about the seconds of a trial's training, from a step at its last image size."""
        recipe = self._recipe
        assert recipe.image_size is not None
        # Forward passes of the held-out images take about a third of training on as many.
        holdout_s = len(images.holdout) / recipe.batch_size / 3 * step_s
        if recipe.train_time_s is not None:
            on_curve = len(CURVE) * min(CURVE_IMAGES / len(images.holdout), 1.0)
            return recipe.train_time_s + (1 + on_curve) * holdout_s + _STEP_TIMING_S
        per_epoch = len(images.train) // recipe.batch_size
        stages = stages_of(recipe, steps_per_epoch=per_epoch)
        pixels = sum(stage.steps * stage.image_size**2 for stage in stages)
        return pixels / recipe.last_image_size**2 * step_s + holdout_s

    def _step_times(self, network: Network) -> StepTimes | None:
        """Return the step times that a training time counts, where they are not measured here."""
        if self._recipe.train_time_s is None:
            return None
        batch_size = self._with_images.plan.recipe_of(network).batch_size
        return self._timing.training_step_times(network, batch_size)

    def _step_seconds(self, network: Network) -> float:
        """Return about the seconds of a step of a training; 0 if the network cannot be trained."""
        setup = self._with_images.setup
        try:
            return self._timing.step_seconds(setup.image_size, setup.batch_size, network)
        except Exception:  # noqa: BLE001  # whatever it is: its training will say it
            return 0.0

    def _counted(self, model: TimmModel, task: Task) -> dict[str, float]:
        """Return the counts of a model of timm's, if it can be run on the images of the task."""
        target, training = self._space.target, self._training
        with lock.training(self._timing.setup.device):
            made = build(model, num_classes=target.num_classes or 1000)
            if task in (Task.EVALUATE, Task.TRAIN) and training:
                counted_model(made, model.name, training.setup.image_size)
            return counted_model(made, model.name, target.image_size)

    @property
    def _with_images(self) -> WorkerTraining:
        if self._training is None:
            raise ConfigError("this worker has no images to train on; give `data`")
        return self._training

    def _check_constraints(self, arch: Architecture, metrics: Mapping[str, float]) -> None:
        if broken := self._constraints.broken(arch, metrics):
            raise InfeasibleError(broken, metrics=metrics)

    def _sure_before_timing(self, arch: Architecture) -> dict[str, float]:
        """Return the metrics that a constraint needs and that a timing would only repeat."""
        wanted = any("peak_memory_bytes" in e.names for e in self._constraints.of_metrics)
        return self._timing.sure_memory(arch) if wanted else {}
