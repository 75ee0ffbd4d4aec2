"""What a worker does: load the images once, then time and train one architecture after another."""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from effnas.config import CPU_TRAINING_IMAGES, EvaluationConfig, Execution
from effnas.data import ImageSet, load_search_images, native_image_size
from effnas.errors import InfeasibleError
from effnas.evaluate import Preparation
from effnas.measure import (
    FEWEST_STEPS,
    available_memory_bytes,
    choose_execution,
    describe_device,
    estimate_peak_memory,
    hardware_id,
    noise_batch,
    open_device,
    resident_memory_bytes,
    time_training_step,
    timed,
)
from effnas.models import build
from effnas.space import SearchSpace
from effnas.training import ProxyData, TrainingStep, train_proxy
from effnas.trial import Measurement

if TYPE_CHECKING:
    from effnas.architecture import Architecture

#: The smallest image size that a recipe chooses by itself.
_SMALLEST_IMAGE = 32
#: Share of the free memory that the reference network's step may take when the batch is chosen:
#: other networks of the space may need more.
_REFERENCE_MEMORY_SHARE = 0.5
#: A step as quick as this is timed for real when the cost of a trial is estimated.
_QUICK_STEP_S = 0.5


class ImageEvaluator:
    """Times and trains architectures on the images of a data set.

    Making one loads the images and, unless the configuration fixes it, measures how the device
    runs networks best.

    Raises:
        UserError: If the data, the device or a setting cannot be used.
    """

    def __init__(self, config: EvaluationConfig) -> None:
        self._config = config
        self._device = open_device(config.device)
        self._process_bytes = resident_memory_bytes() if self._device.type == "cpu" else 0
        if config.threads:
            torch.set_num_threads(config.threads)
        space = SearchSpace.parse(config.space_text, source="the run's space")
        root = Path(config.data_root) if config.data_root else None
        recipe = config.recipe
        if recipe.image_size is None:
            native = native_image_size(config.data, root)
            size = min(space.target.image_size, max(native, _SMALLEST_IMAGE))
            recipe = replace(recipe, image_size=size)
        assert recipe.image_size is not None
        on_cpu = self._device.type == "cpu"
        images = load_search_images(
            config.data,
            image_size=recipe.image_size,
            holdout_share=recipe.holdout_share,
            data_share=recipe.data_share,
            most_train_images=CPU_TRAINING_IMAGES if on_cpu else None,
            seed=config.seed,
            on_bad_image=config.on_bad_image,
            root=root,
        )
        if recipe.flip is None:
            # A mirrored digit is another sign; a mirrored cat is a cat.
            recipe = replace(recipe, flip=not any(d in config.data for d in ("digits", "mnist")))
        self._recipe = replace(
            recipe,
            data_share=images.data_share,
            batch_size=min(recipe.batch_size, len(images.train)),
        )
        self._images = images
        self._data = ProxyData(
            train_images=self._pixels(images.train),
            train_labels=torch.from_numpy(images.train.labels).to(self._device),
            holdout_images=self._pixels(images.holdout),
            holdout_labels=torch.from_numpy(images.holdout.labels).to(self._device),
            num_classes=images.train.num_classes,
        )
        self._space = space.with_target(
            num_classes=space.target.num_classes or images.train.num_classes
        )
        self._available = available_memory_bytes(self._device)
        self._timing_batch_size = config.timing_batch_size or self._fitting_batch_size()
        self._execution_seconds: dict[str, float] = {}
        self._execution = config.execution or self._choose_execution()

    def __call__(self, arch: Architecture) -> Measurement:
        """Time one architecture, then train it.

        Raises:
            InfeasibleError: If it cannot be built, timed or trained.
        """
        try:
            metrics = self._time(arch) | self._train(arch)
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
        return Measurement(
            metrics=metrics,
            fidelity=self.fidelity,
            seed=self._seed(arch),
            hardware=hardware_id(self._facts()),
        )

    @property
    def fidelity(self) -> str:
        """How far trainings go, in words."""
        recipe = self._recipe
        return (
            f"{recipe.epochs} epochs of {len(self._images.train)} images at {recipe.image_size} px"
        )

    def prepare(self) -> Preparation:
        """Estimate what a trial of the reference network costs, by a few steps of it."""
        recipe, target = self._recipe, self._space.target
        assert recipe.image_size is not None
        reference = self._space.reference
        steps = recipe.epochs * (len(self._images.train) // recipe.batch_size)
        train_step_s = self._step_seconds(recipe.image_size, recipe.batch_size)
        # Forward passes of the held-out images take about a third of training on as many.
        holdout_steps = len(self._images.holdout) / recipe.batch_size / 3
        timing_step_s = self._step_seconds(target.image_size, self._timing_batch_size)
        if timing_step_s < _QUICK_STEP_S:
            started = time.perf_counter()
            self._time(reference)
            timing_s = time.perf_counter() - started
        else:  # two networks, two steps to warm up, and the fewest steps that give an interval
            timing_s = 2 * (2 + FEWEST_STEPS) * timing_step_s
        return Preparation(
            hardware=hardware_id(self._facts()),
            device=self._facts(),
            recipe=recipe,
            execution=self._execution,
            execution_seconds=self._execution_seconds,
            timing_batch_size=self._timing_batch_size,
            num_classes=self._data.num_classes,
            train_images=len(self._images.train),
            holdout_images=len(self._images.holdout),
            data_fingerprint=self._images.fingerprint,
            skipped_images=self._images.skipped,
            timing_s=timing_s,
            training_s=(steps + holdout_steps) * train_step_s,
            peak_memory_bytes=self._process_bytes
            + self._images.nbytes
            + self._peak_memory(reference),
            target_memory_bytes=self._timing_memory(reference, target.batch_size),
            available_memory_bytes=self._available,
        )

    # -- the two halves of a trial

    def _time(self, arch: Architecture) -> dict[str, float]:
        peak = self._peak_memory(arch)
        if self._device.type == "cpu" and peak > self._available:
            # The system would end the worker instead of raising an error.
            raise InfeasibleError(
                f"out of memory: a training step needs about {peak / 1e9:.1f} GB, "
                f"{self._available / 1e9:.1f} GB are free"
            )
        with torch.random.fork_rng([self._device] if self._device.type == "cuda" else []):
            torch.manual_seed(0)
            mine, reference = (
                TrainingStep(
                    build(network, num_classes=self._target_classes),
                    self._recipe,
                    self._execution,
                    self._device,
                )
                for network in (arch, self._space.reference)
            )
            timing = time_training_step(
                mine,
                reference,
                batch_size=self._timing_batch_size,
                image_size=self._space.target.image_size,
                num_classes=self._target_classes,
            )
        return {
            "step_time": timing.step_time,
            "step_time_low": timing.step_time_low,
            "step_time_high": timing.step_time_high,
            "step_time_s": timing.step_time_s,
            "step_time_low_s": timing.step_time_low_s,
            "step_time_high_s": timing.step_time_high_s,
            "peak_memory_bytes": float(peak),
        }

    def _train(self, arch: Architecture) -> dict[str, float]:
        seed = self._seed(arch)
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            model = build(
                arch,
                num_classes=self._data.num_classes,
                drop_rate=self._recipe.drop_rate,
                drop_path_rate=self._recipe.drop_path_rate,
            )
        result = train_proxy(
            model,
            self._data,
            self._recipe,
            self._execution,
            flip=bool(self._recipe.flip),
            seed=seed,
        )
        return {
            "accuracy": result.accuracy,
            "train_time_s": result.train_time_s,
            "train_loss": result.train_loss,
        }

    def _seed(self, arch: Architecture) -> int:
        """The training's seed: the same for a network whenever and wherever it is trained."""
        text = f"{self._config.seed}/{arch.id}/{self.fidelity}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")

    # -- finding out about the device

    def _pixels(self, images: ImageSet) -> torch.Tensor:
        """Return the images as uint8 [N, 3, S, S] on the device."""
        return torch.from_numpy(images.images).permute(0, 3, 1, 2).contiguous().to(self._device)

    @property
    def _target_classes(self) -> int:
        return self._space.target.num_classes or 1000

    def _facts(self) -> dict[str, str | int]:
        return describe_device(self._device)

    def _timing_memory(self, arch: Architecture, batch_size: int) -> int:
        return estimate_peak_memory(
            arch,
            image_size=self._space.target.image_size,
            batch_size=batch_size,
            num_classes=self._target_classes,
        )

    def _peak_memory(self, arch: Architecture) -> int:
        assert self._recipe.image_size is not None
        training = estimate_peak_memory(
            arch,
            image_size=self._recipe.image_size,
            batch_size=self._recipe.batch_size,
            num_classes=self._data.num_classes,
        )
        return max(training, self._timing_memory(arch, self._timing_batch_size))

    def _fitting_batch_size(self) -> int:
        batch_size = self._space.target.batch_size
        limit = _REFERENCE_MEMORY_SHARE * self._available
        while batch_size > 1 and self._timing_memory(self._space.reference, batch_size) > limit:
            batch_size = 1 << (batch_size - 1).bit_length() - 1
        return batch_size

    def _choose_execution(self) -> Execution:
        assert self._recipe.image_size is not None
        chosen, seconds = choose_execution(
            lambda: build(self._space.reference, num_classes=self._data.num_classes),
            self._recipe,
            self._device,
            batch_size=self._recipe.batch_size,
            image_size=self._recipe.image_size,
            num_classes=self._data.num_classes,
        )
        self._execution_seconds = {
            f"{way.precision} {way.memory_format}": value for way, value in seconds.items()
        }
        return chosen

    def _step_seconds(self, image_size: int, batch_size: int) -> float:
        """Seconds of a reference step: of a small batch, scaled up, if it takes long."""
        step = TrainingStep(
            build(self._space.reference, num_classes=self._data.num_classes),
            self._recipe,
            self._execution,
            self._device,
        )
        size = min(4, batch_size)
        while True:
            batch = noise_batch(self._device, size, image_size, self._data.num_classes)
            timed(step, *batch)
            seconds = timed(step, *batch)
            if size >= batch_size or seconds > _QUICK_STEP_S:
                return seconds * batch_size / size
            size = min(4 * size, batch_size)
