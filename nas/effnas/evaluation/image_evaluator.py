"""What a worker does: load the images once, then time and train one architecture after another."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from effnas.arch.models import build
from effnas.config.settings import (
    CPU_TRAINING_IMAGES,
    EvaluationConfig,
    Execution,
    StepTimeConfig,
)
from effnas.data.images import ImageSet
from effnas.data.loading import SearchImages, load_search_images, load_test_part
from effnas.errors import ConfigError, InfeasibleError
from effnas.evaluation.evaluator import Task, default_image_size
from effnas.space.search_space import SearchSpace
from effnas.timing import lock
from effnas.timing.clock import clock_of
from effnas.timing.command import StepTimeCommand
from effnas.timing.device import (
    available_memory_bytes,
    describe_device,
    hardware_id,
    open_device,
    resident_memory_bytes,
)
from effnas.timing.execution import choose_execution
from effnas.timing.memory import estimate_peak_memory
from effnas.timing.network_run import NetworkRun
from effnas.timing.networks import MeasuredStepTimes
from effnas.timing.profile import DeviceProfile, PredictedOrMeasured
from effnas.timing.setup import MeasurementSetup
from effnas.timing.step_time import StepTimeSource
from effnas.timing.table import StepTimeTable
from effnas.timing.timer import MIN_ROUNDS, timed
from effnas.train.checkpoints import Checkpoint, load_weights, save_weights
from effnas.train.proxy import ProxyData, accuracy, train_proxy
from effnas.train.step import TrainingStep
from effnas.trials.constraints import Constraints
from effnas.trials.problem import no_free_metrics
from effnas.trials.trial import Measurement
from effnas.trials.worker_info import WorkerInfo

if TYPE_CHECKING:
    from collections.abc import Mapping

    from effnas.arch.architecture import Architecture

#: Share of the free memory that the reference network's step may take when the batch is chosen:
#: other networks of the space may need more.
_REFERENCE_MEMORY_SHARE = 0.5
#: A step as quick as this is timed for real when the cost of a trial is estimated.
_QUICK_STEP_S = 0.5


@dataclass(frozen=True)
class _Images:
    """The images of a search, and the same on the device."""

    loaded: SearchImages
    data: ProxyData


class ImageEvaluator:
    """Times architectures, and trains them on the images of a data set.

    Making one loads the images and, unless the configuration fixes it, measures how the device
    runs networks best.

    Raises:
        UserError: If the data, the device or a setting cannot be used.
    """

    def __init__(self, config: EvaluationConfig) -> None:
        self._config = config
        self._source = config.step_times or StepTimeConfig()
        self._device = open_device(config.device)
        self._process_bytes = resident_memory_bytes() if self._device.type == "cpu" else 0
        if config.threads:
            torch.set_num_threads(config.threads)
        space = SearchSpace.parse(config.space_text, source="the run's space")
        size = default_image_size(config, space) if config.data is not None else None
        self._recipe = replace(config.recipe, image_size=config.recipe.image_size or size)
        self._images = self._load_images() if config.data is not None else None
        classes = self._images.data.num_classes if self._images else 1000
        self._space = space.with_target(num_classes=space.target.num_classes or classes)
        self._constraints = Constraints.parse(config.constraints, self._space)
        if self._images:  # only now are the classes known, on which counts depend
            self._constraints.narrowed(no_free_metrics).check_satisfiable()
        self._available = available_memory_bytes(self._device)
        self._profile = self._load_profile()
        self._timing_batch_size = self._choose_timing_batch_size()
        self._execution_seconds: dict[str, float] = {}
        self._execution = self._choose_execution()
        self._measured = MeasuredStepTimes(self._space.reference, self._conditions)
        self._step_times = self._step_time_source()
        # What is to be timed is not to be predicted where the device can be timed.
        self._timings = self._measured if self._source.mode == "auto" else self._step_times

    def __call__(
        self,
        arch: Architecture,
        task: Task = Task.EVALUATE,
        repeat: int = 0,
        epochs: int | None = None,
    ) -> Measurement:
        """Time one architecture, then train it; or do one of both.

        Raises:
            InfeasibleError: If it cannot be built, timed or trained, or its timing breaks a
                constraint; the metrics that are known by then come with it.
        """
        measurement = Measurement(metrics={})
        try:
            if task is Task.EVALUATE:
                self._check_constraints(arch, self._sure_before_timing(arch))
            if task is not Task.TRAIN and self._config.step_times is not None:
                found = (self._timings if task is Task.TIME else self._step_times)(arch)
                measurement = Measurement(
                    metrics=found.metrics,
                    hardware=found.hardware,
                    step_time_source=found.source,
                )
            if task is Task.EVALUATE:
                self._check_constraints(arch, measurement.metrics)
            if task is not Task.TIME:
                measurement = self._train(arch, repeat, measurement, epochs)
        except torch.OutOfMemoryError as error:
            raise InfeasibleError(f"out of memory: {str(error).splitlines()[0]}") from error
        except MemoryError as error:
            raise InfeasibleError("out of memory") from error
        except RuntimeError as error:
            if "allocate memory" not in str(error):  # what PyTorch's CPU allocator says
                raise
            raise InfeasibleError("out of memory on the CPU") from error
        finally:
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
        return measurement

    @property
    def fidelity(self) -> str:
        """How far whole trainings go, in words; empty without images."""
        if self._images is None:
            return ""
        recipe, images = self._recipe, self._images.loaded
        return f"{recipe.epochs} epochs of {len(images.train)} images at {recipe.image_size} px"

    def prepare(self) -> WorkerInfo:
        """Estimate what a trial of the reference network costs, by a few steps of it."""
        recipe, images = self._recipe, self._images.loaded if self._images else None
        reference, target = self._space.reference, self._space.target
        training_s = 0.0
        if images:
            assert recipe.image_size is not None
            steps = recipe.epochs * (len(images.train) // recipe.batch_size)
            # Forward passes of the held-out images take about a third of training on as many.
            holdout_steps = len(images.holdout) / recipe.batch_size / 3
            step_s = self._step_seconds(recipe.image_size, recipe.batch_size)
            training_s = (steps + holdout_steps) * step_s
        return WorkerInfo(
            hardware=hardware_id(self._facts()),
            device=self._facts(),
            recipe=recipe,
            execution=self._execution,
            execution_seconds=self._execution_seconds,
            timing_batch_size=self._timing_batch_size,
            step_times=self._step_times.description,
            num_classes=images.train.num_classes if images else self._target_classes,
            class_names=images.train.classes if images else (),
            train_images=len(images.train) if images else 0,
            holdout_images=len(images.holdout) if images else 0,
            data_fingerprint=images.fingerprint if images else "",
            skipped_images=images.skipped if images else (),
            timing_s=self._timing_seconds(),
            training_s=training_s,
            peak_memory_bytes=self._process_bytes
            + (images.nbytes if images else 0)
            + self._largest_step_bytes(reference),
            target_memory_bytes=self._timing_bytes(reference, target.batch_size),
            available_memory_bytes=self._available,
        )

    # -- constraints

    def _check_constraints(self, arch: Architecture, metrics: Mapping[str, float]) -> None:
        if broken := self._constraints.broken(arch, metrics):
            raise InfeasibleError(broken, metrics=metrics)

    def _sure_before_timing(self, arch: Architecture) -> dict[str, float]:
        """Return the metrics that a constraint needs and that a timing would only repeat."""
        # Off CUDA, a timing gives the estimate as the peak memory.
        is_estimated = self._device.type != "cuda" and self._step_times is self._measured
        wanted = any("peak_memory_bytes" in e.names for e in self._constraints.of_metrics)
        if not wanted or not is_estimated or self._config.step_times is None:
            return {}
        return {"peak_memory_bytes": float(self._timing_bytes(arch, self._timing_batch_size))}

    # -- training

    def _train(
        self, arch: Architecture, repeat: int, timed: Measurement, epochs: int | None
    ) -> Measurement:
        if self._images is None:
            raise ConfigError("this worker has no images to train on; give `data`")
        self._check_training_memory(arch)
        data, recipe = self._images.data, self._recipe
        seed = self._seed(arch, repeat)
        checkpoint = None
        if epochs is not None and self._config.checkpoints:
            # A search trains a network once, by one seed.
            folder = Path(self._config.checkpoints, *([str(repeat)] if repeat else []))
            checkpoint = Checkpoint.of(folder, arch, seed=seed, fidelity=self.fidelity)
        with lock.training(self._device):
            with torch.random.fork_rng([]):
                torch.manual_seed(seed)
                model = build(
                    arch,
                    num_classes=data.num_classes,
                    drop_rate=recipe.drop_rate,
                    drop_path_rate=recipe.drop_path_rate,
                )
            result = train_proxy(
                model,
                data,
                recipe,
                self._execution,
                flip=bool(recipe.flip),
                seed=seed,
                epochs=epochs,
                checkpoint=checkpoint,
            )
        metrics = {
            "accuracy": result.accuracy,
            "train_time_s": result.train_time_s,
            "train_loss": result.train_loss,
        }
        stops_early = epochs is not None and epochs < recipe.epochs
        if self._config.weights and not stops_early:
            save_weights(Path(self._config.weights), arch, repeat, model)
        return replace(
            timed,
            metrics={**timed.metrics, **metrics},
            fidelity=f"{epochs} of {self.fidelity}" if stops_early else self.fidelity,
            seed=seed,
            hardware=timed.hardware or hardware_id(self._facts()),
        )

    def test(self, arch: Architecture, seeds: int) -> tuple[ImageSet, list[float]]:
        """Read the test part of the data, and measure a trained network on it.

        No search asks for it: what a choice was made by says too much good of what was chosen.

        Args:
            arch: A network that was trained with this configuration's `weights`.
            seeds: Its trainings.

        Returns:
            The test part, and the accuracy there of each training, 0 to 1.

        Raises:
            UserError: If weights are not there, which is found out first, or the data have no test
                part of the same classes.
        """
        assert self._images is not None
        assert self._config.data is not None
        assert self._config.weights is not None
        assert self._recipe.image_size is not None
        models = []
        for repeat in range(seeds):
            models.append(build(arch, num_classes=self._images.data.num_classes))
            load_weights(Path(self._config.weights), arch, repeat, models[-1])
        images = load_test_part(
            self._config.data,
            image_size=self._recipe.image_size,
            classes=self._images.loaded.train.classes,
            on_bad_image=self._config.on_bad_image,
            root=Path(self._config.data_root) if self._config.data_root else None,
        )
        pixels = torch.from_numpy(images.images).permute(0, 3, 1, 2)
        labels = torch.from_numpy(images.labels)
        batch_size = 2 * self._config.recipe.batch_size
        with lock.training(self._device):
            steps = (TrainingStep(m, self._recipe, self._execution, self._device) for m in models)
            return images, [accuracy(step, pixels, labels, batch_size) for step in steps]

    def _check_training_memory(self, arch: Architecture) -> None:
        """Refuse what the system would end this process for, instead of raising an error."""
        if self._device.type == "cuda":
            return
        needed = self._training_bytes(arch)
        if needed > self._available:
            raise InfeasibleError(
                f"out of memory: a training step needs {needed / 1e9:.1f} GB, "
                f"{self._available / 1e9:.1f} GB are free"
            )

    def _seed(self, arch: Architecture, repeat: int) -> int:
        """The training's seed: the same for a network whenever and wherever it is trained."""
        text = f"{self._config.seed}/{arch.id}/{self.fidelity}{f'/{repeat}' if repeat else ''}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")

    # -- step times

    def _load_profile(self) -> DeviceProfile | None:
        path = self._source.profile
        if path is None:
            return None
        profile = DeviceProfile.load(path)
        profile.check_space(self._space, path)
        if self._source.mode == "auto":
            here = hardware_id(self._facts())
            if here != profile.hardware:
                raise ConfigError(
                    f"{path}: the profile is of {profile.hardware}, and this device is {here}; "
                    "measured and predicted times would not compare. `step_time` predicted "
                    "relies on the profile alone; `effnas profile` makes one of this device"
                )
        return profile

    def _step_time_source(self) -> StepTimeSource:
        config = self._source
        if config.table is not None:
            return StepTimeTable.load(config.table, self._space)
        if config.command is not None:
            return StepTimeCommand(config.command, self._space, config.timeout_s)
        if self._profile is None:
            return self._measured
        if config.mode == "predicted":
            return self._profile
        return PredictedOrMeasured(self._profile, self._measured)

    @property
    def _conditions(self) -> MeasurementSetup:
        return MeasurementSetup(
            device=self._device,
            recipe=self._recipe,
            execution=self._execution,
            batch_size=self._timing_batch_size,
            image_size=self._space.target.image_size,
            num_classes=self._target_classes,
            available_bytes=None if self._device.type == "cuda" else self._available,
        )

    def _timing_seconds(self) -> float:
        """Seconds that the step time of a network takes, about."""
        mode = self._source.mode
        predicts = self._profile is not None and (mode == "predicted" or self._profile.is_trusted)
        if self._config.step_times is None or mode == "table" or predicts:
            return 0.0
        started = time.perf_counter()
        if mode == "command":
            self._step_times(self._space.reference)
            return time.perf_counter() - started
        step_s = self._step_seconds(self._space.target.image_size, self._timing_batch_size)
        if step_s < _QUICK_STEP_S:
            started = time.perf_counter()
            self._measured(self._space.reference)
            return time.perf_counter() - started
        # Two networks, three steps to warm up, and the fewest rounds that give an interval.
        return 2 * (3 + MIN_ROUNDS) * step_s

    # -- finding out about the device

    def _load_images(self) -> _Images:
        config, recipe = self._config, self._recipe
        assert config.data is not None
        assert recipe.image_size is not None
        images = load_search_images(
            config.data,
            image_size=recipe.image_size,
            holdout_share=recipe.holdout_share,
            data_share=recipe.data_share,
            most_train_images=CPU_TRAINING_IMAGES if self._device.type == "cpu" else None,
            seed=config.seed,
            on_bad_image=config.on_bad_image,
            root=Path(config.data_root) if config.data_root else None,
        )
        expected = config.holdout_fingerprint
        if expected is not None and images.holdout.fingerprint != expected:
            raise ConfigError(
                f"the held-out images of {config.data} are not those of the search, so accuracies "
                "would not compare; give the place of its images as `data`"
            )
        if recipe.flip is None:
            # A mirrored digit is another sign; a mirrored cat is a cat.
            recipe = replace(recipe, flip=not any(d in config.data for d in ("digits", "mnist")))
        self._recipe = replace(
            recipe,
            data_share=images.data_share,
            batch_size=min(recipe.batch_size, len(images.train)),
        )
        data = ProxyData(
            train_images=self._pixels(images.train),
            train_labels=torch.from_numpy(images.train.labels).to(self._device),
            holdout_images=self._pixels(images.holdout),
            holdout_labels=torch.from_numpy(images.holdout.labels).to(self._device),
            num_classes=images.train.num_classes,
        )
        return _Images(images, data)

    def _pixels(self, images: ImageSet) -> torch.Tensor:
        """Return the images as uint8 [N, 3, S, S] on the device."""
        return torch.from_numpy(images.images).permute(0, 3, 1, 2).contiguous().to(self._device)

    @property
    def _target_classes(self) -> int:
        return self._space.target.num_classes or 1000

    def _facts(self) -> dict[str, str | int]:
        return describe_device(self._device)

    def _step_bytes(
        self, arch: Architecture, image_size: int, batch_size: int, classes: int
    ) -> int:
        with torch.random.fork_rng([]):  # weights draw numbers even where there are none
            model = build(arch, num_classes=classes, device="meta")
        return estimate_peak_memory(
            model, self._recipe, image_size=image_size, batch_size=batch_size
        )

    def _timing_bytes(self, arch: Architecture, batch_size: int) -> int:
        size = self._space.target.image_size
        return self._step_bytes(arch, size, batch_size, self._target_classes)

    def _training_bytes(self, arch: Architecture) -> int:
        assert self._images is not None
        assert self._recipe.image_size is not None
        return self._step_bytes(
            arch, self._recipe.image_size, self._recipe.batch_size, self._images.data.num_classes
        )

    def _largest_step_bytes(self, arch: Architecture) -> int:
        timing = self._timing_bytes(arch, self._timing_batch_size)
        return max(timing, self._training_bytes(arch)) if self._images else timing

    def _choose_timing_batch_size(self) -> int:
        if self._config.timing_batch_size:
            return self._config.timing_batch_size
        batch_size = self._space.target.batch_size
        if self._source.mode in ("predicted", "table", "command"):
            return batch_size
        limit = _REFERENCE_MEMORY_SHARE * self._available
        while batch_size > 1 and self._timing_bytes(self._space.reference, batch_size) > limit:
            batch_size = 1 << (batch_size - 1).bit_length() - 1
        return batch_size

    def _choose_execution(self) -> Execution:
        if self._config.execution:
            return self._config.execution
        if self._source.mode == "auto" and self._profile:
            try:
                return Execution(**self._profile.execution)  # type: ignore[arg-type]
            except TypeError as error:
                raise ConfigError(f"{self._source.profile}: execution: {error}") from None
        setup = MeasurementSetup(
            device=self._device,
            recipe=self._recipe,
            execution=Execution(),
            batch_size=self._recipe.batch_size,
            image_size=self._recipe.image_size or self._space.target.image_size,
            num_classes=self._target_classes,
        )
        with lock.timing(self._device):
            chosen, seconds = choose_execution(
                lambda: build(self._space.reference, num_classes=setup.num_classes),
                setup,
            )
        self._execution_seconds = {str(way): value for way, value in seconds.items()}
        return chosen

    def _step_seconds(self, image_size: int, batch_size: int) -> float:
        """Seconds of a reference step: of a small batch, scaled up, if it takes long."""
        model = build(self._space.reference, num_classes=self._target_classes)
        clock = clock_of(self._device)
        size = min(4, batch_size)
        with lock.timing(self._device):
            while True:
                setup = replace(self._conditions, batch_size=size, image_size=image_size)
                run = NetworkRun(model, setup)
                timed(run, clock)
                seconds = timed(run, clock)
                if size >= batch_size or seconds > _QUICK_STEP_S:
                    return seconds * batch_size / size
                size = min(4 * size, batch_size)
