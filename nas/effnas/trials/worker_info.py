"""What a worker has found out before the first trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from effnas.config.recipe import Recipe
from effnas.config.settings import Execution
from effnas.data.source import FoundData


@dataclass(frozen=True, kw_only=True)
class WorkerInfo:
    """What a worker has found out before the first trial; plain data for the plan and the manifest.

    Attributes:
        hardware: Identity of the device.
        device: Facts about it by name.
        recipe: The recipe with all sizes settled.
        execution: Precision and memory format of timing and training.
        execution_seconds: Seconds per image of each way that was measured; empty if none was.
        timing_batch_size: Images in a timed step.
        step_times: Where step times come from, in words.
        num_classes: Classes of the data; without data, of the target.
        class_names: Their names, in the order of the network's outputs; empty without data.
        found: What the images were chosen from; None without data.
        train_images: Images trained on.
        holdout_images: Images that give A.
        data_fingerprint: Changes when the images, labels or classes do.
        skipped_images: Names of images that could not be decoded.
        class_counts: Images trained on, by class.
        holdout_class_counts: Images that give A, by class.
        image_sizes: As of `DataPart`.
        samples_png: A picture of some images trained on.
        timing_s: Estimated seconds to time the reference network once.
        training_s: Estimated seconds to train and test it once.
        train_step_s: Seconds of a step of the reference network in a training by time, at its last
            image size; 0 in others.
        baseline_training_s: The same of each baseline, by name; 0 where it cannot be trained.
        peak_memory_bytes: Estimated memory of a worker in its largest step, with the images and,
            on a CPU, the process itself.
        target_memory_bytes: Estimated memory of its step at the target's own batch size.
        available_memory_bytes: Memory that the device had free.
    """

    hardware: str
    device: Mapping[str, str | int]
    recipe: Recipe
    execution: Execution
    execution_seconds: Mapping[str, float]
    timing_batch_size: int
    step_times: str
    num_classes: int
    class_names: tuple[str, ...]
    found: FoundData | None = None
    train_images: int
    holdout_images: int
    data_fingerprint: str
    skipped_images: tuple[str, ...]
    class_counts: tuple[int, ...] = ()
    holdout_class_counts: tuple[int, ...] = ()
    image_sizes: tuple[tuple[int, int], ...] = ()
    samples_png: bytes = b""
    timing_s: float
    training_s: float
    train_step_s: float = 0.0
    baseline_training_s: Mapping[str, float] = field(default_factory=dict)
    peak_memory_bytes: int
    target_memory_bytes: int
    available_memory_bytes: int

    @property
    def mirrored(self) -> bool:
        """Whether trainings mirror images at random: as the recipe says, else as suits the data."""
        return bool(self.recipe.flip)
