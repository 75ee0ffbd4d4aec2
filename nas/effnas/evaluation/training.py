"""How a worker loads images, trains networks on them, and evaluates trained ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from effnas.arch.models import TimmModel, build
from effnas.data.images import ImageSet
from effnas.data.loading import load_test_part
from effnas.errors import ConfigError, InfeasibleError
from effnas.evaluation.timing import step_bytes
from effnas.evaluation.training_plan import TrainingPlan
from effnas.space.search_space import SearchSpace
from effnas.timing import lock
from effnas.timing.device import describe_device, hardware_id
from effnas.timing.training_time import StepTimes, measure_step_times
from effnas.train.augment import normalize
from effnas.train.checkpoints import Checkpoint, load_weights, save_weights
from effnas.train.initialization import initialize
from effnas.train.network import make_network
from effnas.train.progress import Watcher
from effnas.train.stages import stages_of, steps_of
from effnas.train.step import TrainingStep
from effnas.train.training import Training
from effnas.trials.trial import Measurement, StageTimes

if TYPE_CHECKING:
    from effnas.arch.architecture import Architecture
    from effnas.config.recipe import Recipe
    from effnas.config.settings import EvaluationConfig
    from effnas.evaluation.evaluator import Job, Network
    from effnas.evaluation.images import WorkerImages
    from effnas.timing.setup import MeasurementSetup

#: Of more classes it is not counted which are taken for which.
MOST_CONFUSED_CLASSES = 100
#: Steps of each stage of a training whose steps are only timed.
_TIMED_STEPS = 8
#: Shares of a training by time after which its accuracy is measured, for its learning curve, on
#: at most this number of the held-out images.
CURVE, CURVE_IMAGES = (0.25, 0.5), 1_000


class WorkerTraining:
    """Trains networks on the images of a worker.

    Args:
        config: Gives the run's seed, and where checkpoints and weights are stored.
        images: To train on, and how.
        setup: How networks are timed; they are trained with the same execution.
    """

    def __init__(
        self, config: EvaluationConfig, images: WorkerImages, setup: MeasurementSetup
    ) -> None:
        self.images = images
        self._config = config
        space = SearchSpace.parse(config.space_text, source="the run's space")
        self._count = len(images.loaded.train)
        self.plan = TrainingPlan(
            recipe=images.recipe,
            images=self._count,
            seed=config.seed,
            full_epochs=config.full_epochs,
            chooses_sizes=bool(space.recipe_image_sizes),
        )
        self._sample = _sample(images.loaded.holdout, CURVE_IMAGES)
        self._reference = space.reference
        recipe = images.recipe
        #: Under which a step's memory is that of a training.
        self.setup = replace(
            setup,
            recipe=recipe,
            batch_size=recipe.batch_size,
            image_size=recipe.last_image_size,
            num_classes=images.loaded.train.num_classes,
        )

    def __call__(
        self, network: Network, job: Job, step_times: StepTimes | None = None
    ) -> Measurement:
        """Train one network, to the end or up to a rung.

        Args:
            network: The network of the job.
            job: Says how far, and with which seed.
            step_times: Of the network on the device that a training time is meant for; None has
                them measured here.

        Raises:
            InfeasibleError: If it cannot be built or trained.
        """
        recipe = self.plan.recipe_of(network)
        self._check_memory(network, recipe)
        config, seed = self._config, self.plan.seed_of(network, job.repeat)
        checkpoint = self._checkpoint(network, job, seed)
        stored: Mapping[str, Any] = (checkpoint.load() if checkpoint else None) or {}
        plan = job.stages or _stored_plan(stored)
        if recipe.train_time_s is not None and not plan:
            plan = self.plan.stages(network, step_times or self.step_times(network, seed), seed)
        curve: list[tuple[int, float]] = []
        if checkpoint and plan:
            steps_of_plan = [list(astuple(one)) for one in plan]
            # The curve grows, and with it what later states are stored with.
            checkpoint = replace(checkpoint, beside={"plan": steps_of_plan, "curve": curve})
            if not stored:  # a training that is killed is resumed with as many steps
                checkpoint.save({})
        with lock.training(self.setup.device):
            training = self._make(network, seed, sum(stage.steps for stage in plan) or None)
            steps = training.stages[-1].end
            until = steps if job.until is None else self._until(job.until, recipe, plan)
            if "progress" in stored and _steps_done(stored) <= until:
                training.load_state_dict(stored)
                curve += [(int(step), float(value)) for step, value in stored.get("curve", ())]
            for share in CURVE if plan else ():
                step = round(share * steps)
                if training.progress.step <= step < until and step not in dict(curve):
                    training.run(Watcher(), checkpoint, until=step)
                    curve.append((step, training.measure(self._sample)))
            training.run(Watcher(), checkpoint, until=until)
            predicted = training.predict(self.images.loaded.holdout)
        accuracy = share_correct(predicted, self.images.loaded.holdout)
        is_whole = until == steps
        confusion: tuple[tuple[int, ...], ...] = ()
        if config.weights and is_whole and not isinstance(network, TimmModel):
            save_weights(Path(config.weights), network, job.repeat, training.model)
            confusion = _confusion(predicted, self.images.loaded.holdout)
        return Measurement(
            metrics={
                "accuracy": accuracy,
                "train_time_s": training.progress.train_time_s,
                "train_loss": training.train_loss,
            },
            fidelity=self.plan.fidelity if is_whole else f"{job.until:g} of {self.plan.fidelity}",
            seed=seed,
            hardware=hardware_id(describe_device(self.setup.device)),
            confusion=confusion,
            stages=plan,
            curve=(*curve, (until, accuracy)) if plan else (),
        )

    def reference_step_s(self, network: Network, step_times: StepTimes | None) -> float:
        """Return the seconds of a step of the reference network at the last size of a training.

        Where its own recipe ends at a smaller size, that is in proportion to the pixels.

        Args:
            network: The reference network, by the default recipe.
            step_times: As of calling.

        Raises:
            ConfigError: If a training time is not long enough for it.
        """
        last, own = self.images.recipe.last_image_size, self.plan.recipe_of(network).last_image_size
        try:
            times = step_times or self.step_times(network)
            self.plan.stages(network, times, 0)
            return times(own) * (last / own) ** 2
        except InfeasibleError as error:
            raise ConfigError(f"of the reference network, {error}") from None

    def step_metrics(self, network: Network, plan: Sequence[StageTimes]) -> dict[str, float]:
        """Return the step time of a training's last stage, by the image, over the reference's.

        Args:
            network: The network.
            plan: Of its training.
        """
        recipe, own = self.images.recipe, self.plan.recipe_of(network)
        step_s = plan[-1].step_time_s * recipe.batch_size / own.batch_size
        return {"step_time": step_s / self._reference_step_s, "step_time_s": step_s}

    @cached_property
    def _reference_step_s(self) -> float:
        return self.step_times(self._reference)(self.images.recipe.last_image_size)

    def step_times(self, network: Network, seed: int = 0) -> StepTimes:
        """Measure the steps of a network's training here, at all its image sizes.

        Raises:
            InfeasibleError: If it cannot be built or trained.
        """
        with lock.timing(self.setup.device):
            recipe = self.plan.recipe_of(network)
            training = self._make(network, seed, _TIMED_STEPS * recipe.stages)
            return measure_step_times(training, recipe.train_time_s)

    def planned(self, network: Network) -> tuple[StageTimes, ...]:
        """Return the steps of a network that fit into the training time here, without training it.

        Raises:
            InfeasibleError: If it cannot be built or trained, or too few fit.
        """
        self._check_memory(network, self.plan.recipe_of(network))
        seed = self.plan.seed_of(network)
        return self.plan.stages(network, self.step_times(network, seed), seed)

    def test(self, arch: Architecture, seeds: int) -> tuple[ImageSet, list[float]]:
        """Read the test part of the data, and evaluate a trained network on it.

        No search does: an accuracy that a choice was made by is too high for what was chosen.

        Args:
            arch: A network that was trained with this configuration's `weights`.
            seeds: Number of its trainings.

        Returns:
            The test part, and the accuracy there of each training, 0 to 1.

        Raises:
            UserError: If weights are missing, which is found out first, or the data have no test
                part of the same classes.
        """
        config, device = self._config, self.setup.device
        assert config.data is not None
        assert config.weights is not None
        models = []
        for repeat in range(seeds):
            models.append(build(arch, num_classes=self.setup.num_classes))
            load_weights(Path(config.weights), arch, repeat, models[-1])
        recipe, execution = self.images.recipe, self.setup.execution
        assert recipe.eval_image_size is not None
        images = load_test_part(
            config.data,
            image_size=recipe.eval_image_size,
            classes=self.images.loaded.train.classes,
            on_bad_image=config.on_bad_image,
            root=Path(config.data_root) if config.data_root else None,
        )
        pixels = torch.from_numpy(images.images).permute(0, 3, 1, 2)
        size = 2 * recipe.batch_size
        parts = [pixels[start : start + size] for start in range(0, len(pixels), size)]
        with lock.training(device):
            found = []
            for model in models:
                step = TrainingStep(model, recipe, execution, device)
                classes = [step.predictions(normalize(part.to(device))).cpu() for part in parts]
                found.append(share_correct(torch.cat(classes), images))
        return images, found

    def _make(self, network: Network, seed: int, steps: int | None) -> Training:
        """Return a training before its first step; `steps` is its length if time decides on it."""
        recipe, images = self.plan.recipe_of(network), self.images.loaded
        per_epoch = self._count // recipe.batch_size
        if steps is not None:
            recipe = recipe.lasting(steps / per_epoch)
        stages = stages_of(recipe, steps_per_epoch=per_epoch, seed=seed, steps=steps)
        arch = None if isinstance(network, TimmModel) or network.model else network
        try:
            with torch.random.fork_rng([]):
                torch.manual_seed(seed)
                model = make_network(arch, str(network), recipe, num_classes=self.setup.num_classes)
            initialize(model, recipe, images.train, seed)
            return Training(
                model,
                images.train,
                None,
                recipe,
                stages,
                [1] * len(stages),
                execution=self.setup.execution,
                device=self.setup.device,
                flip=bool(recipe.flip),
                seed=seed,
                pixels=self.images.pixels,
            )
        except ConfigError as error:
            raise InfeasibleError(f"cannot be trained: {error}") from error

    def _checkpoint(self, network: Network, job: Job, seed: int) -> Checkpoint | None:
        """Return where a training pauses, or is kept should it be killed, if it may do either."""
        config, recipe = self._config, self.images.recipe
        lasts = job.until is not None or recipe.train_time_s is not None
        if not lasts or not config.checkpoints or isinstance(network, TimmModel):
            return None
        folder = Path(config.checkpoints)
        return Checkpoint.of(folder, network, job.repeat, seed=seed, fidelity=self.plan.key)

    def _until(self, until: float, recipe: Recipe, plan: Sequence[StageTimes]) -> int:
        """Return the step at which a training has lasted some epochs, or seconds of its plan."""
        if not plan:
            shorter = replace(recipe, epochs=until, least_steps=0)
            return steps_of(shorter, self._count // recipe.batch_size)
        steps, left_s = 0, until
        for stage in plan:
            taken = min(stage.steps, int(left_s / stage.step_time_s + 1e-9))
            steps, left_s = steps + taken, left_s - taken * stage.step_time_s
            if taken < stage.steps:
                break
        return max(steps, 1)

    def _check_memory(self, network: Network, recipe: Recipe) -> None:
        """Refuse what the system would end this process for, instead of raising an error."""
        available = self.setup.available_bytes
        if available is None:
            return
        setup = replace(
            self.setup,
            recipe=recipe,
            batch_size=recipe.batch_size,
            image_size=recipe.last_image_size,
        )
        if (needed := step_bytes(network, setup)) > available:
            raise InfeasibleError(
                f"out of memory: a training step needs {needed / 1e9:.1f} GB, "
                f"{available / 1e9:.1f} GB are free"
            )


def _sample(images: ImageSet, most: int) -> ImageSet:
    """Return some of the images, evenly spaced."""
    chosen = np.arange(0, len(images), max(len(images) / most, 1.0)).astype(np.int64)
    return replace(images, images=images.images[chosen], labels=images.labels[chosen])


def share_correct(predicted: torch.Tensor, images: ImageSet) -> float:
    """Return the share of images whose class numbers [N] are right, 0 to 1."""
    return float((predicted == torch.from_numpy(images.labels)).sum()) / len(images)


def _stored_plan(stored: Mapping[str, Any]) -> tuple[StageTimes, ...]:
    return tuple(StageTimes(*one) for one in stored.get("plan", ()))


def _steps_done(stored: Mapping[str, Any]) -> int:
    return int(stored["progress"]["step"])


def _confusion(predicted: torch.Tensor, images: ImageSet) -> tuple[tuple[int, ...], ...]:
    """Count images of each class by what they are taken for."""
    classes = images.num_classes
    if classes > MOST_CONFUSED_CLASSES:
        return ()
    pairs = torch.from_numpy(images.labels) * classes + predicted
    counts = torch.bincount(pairs, minlength=classes**2).reshape(classes, classes)
    return tuple(map(tuple, counts.tolist()))


@contextmanager
def out_of_memory_is_infeasible(device: torch.device) -> Iterator[None]:
    """Raise an `InfeasibleError` where memory runs out, and release what CUDA has cached."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise InfeasibleError(f"out of memory: {str(error).splitlines()[0]}") from error
    except MemoryError as error:
        raise InfeasibleError("out of memory") from error
    except RuntimeError as error:
        if "allocate memory" not in str(error):  # what PyTorch's CPU allocator says
            raise
        raise InfeasibleError("out of memory on the CPU") from error
    finally:
        if device.type == "cuda":
            torch.cuda.empty_cache()
