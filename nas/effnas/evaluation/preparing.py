"""What a worker reports before the first trial: what it has settled, and what a trial costs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from effnas.evaluation.timing import step_bytes
from effnas.timing.device import describe_device, hardware_id
from effnas.trials.worker_info import WorkerInfo

if TYPE_CHECKING:
    from effnas.config.settings import Recipe
    from effnas.evaluation.timing import WorkerTiming
    from effnas.evaluation.training import WorkerTraining
    from effnas.space.search_space import SearchSpace


def worker_info(
    space: SearchSpace,
    recipe: Recipe,
    timing: WorkerTiming,
    training: WorkerTraining | None,
    process_bytes: int,
) -> WorkerInfo:
    """Estimate by a few steps what a trial of the reference network costs.

    Args:
        space: Gives the reference and the target.
        recipe: With all that follows from the images settled.
        timing: How the worker times networks.
        training: How it trains them; None without images.
        process_bytes: Memory that the process held before it loaded anything.
    """
    images = training.images.loaded if training else None
    reference, setup = space.reference, timing.setup
    training_s, step_memory = 0.0, step_bytes(reference, setup)
    if training and images:
        steps = recipe.epochs * (len(images.train) // recipe.batch_size)
        # Forward passes of the held-out images take about a third of training on as many.
        holdout_steps = len(images.holdout) / recipe.batch_size / 3
        step_s = timing.step_seconds(training.setup.image_size, recipe.batch_size)
        training_s = (steps + holdout_steps) * step_s
        step_memory = max(step_memory, step_bytes(reference, training.setup))
    facts = describe_device(setup.device)
    return WorkerInfo(
        hardware=hardware_id(facts),
        device=facts,
        recipe=recipe,
        execution=setup.execution,
        execution_seconds=timing.execution_seconds,
        timing_batch_size=setup.batch_size,
        step_times=timing.source.description,
        num_classes=images.train.num_classes if images else setup.num_classes,
        class_names=images.train.classes if images else (),
        train_images=len(images.train) if images else 0,
        holdout_images=len(images.holdout) if images else 0,
        data_fingerprint=images.fingerprint if images else "",
        skipped_images=images.skipped if images else (),
        timing_s=timing.estimate_seconds(),
        training_s=training_s,
        peak_memory_bytes=process_bytes + (images.nbytes if images else 0) + step_memory,
        target_memory_bytes=step_bytes(
            reference, replace(setup, batch_size=space.target.batch_size)
        ),
        available_memory_bytes=timing.available_bytes,
    )
