"""Proxy training: a short training whose accuracy on held-out images is A."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from effnas.config.settings import Execution, Recipe
from effnas.errors import InfeasibleError
from effnas.train.augment import normalize, random_crop_and_flip
from effnas.train.checkpoints import Checkpoint
from effnas.train.schedule import cosine_schedule
from effnas.train.step import TrainingStep, synchronize

#: A loss of this many times that of guessing is assumed to diverge.
_DIVERGED = 10.0
#: Steps between two checks of the loss, for which an accelerator has to wait.
_LOOK_EVERY = 25
#: Of more classes it is not counted which are taken for which.
MOST_CONFUSED_CLASSES = 100


@dataclass(frozen=True)
class ProxyData:
    """Images of a search on their device, decoded once.

    Attributes:
        train_images: uint8 [N, 3, S, S].
        train_labels: Class numbers [N].
        holdout_images: uint8 [M, 3, S, S].
        holdout_labels: Class numbers [M].
        num_classes: Number of classes.
    """

    train_images: torch.Tensor
    train_labels: torch.Tensor
    holdout_images: torch.Tensor
    holdout_labels: torch.Tensor
    num_classes: int


@dataclass(frozen=True)
class ProxyResult:
    """The result of a proxy training.

    Attributes:
        accuracy: Share of the held-out images that were classified correctly, 0 to 1.
        train_loss: Mean loss of the last epoch.
        train_time_s: Seconds of training, without the evaluation.
        confusion: Held-out images of each class, and which they are taken for, as
            `effnas.trials.trial.Measurement.confusion`; empty with more classes than
            `MOST_CONFUSED_CLASSES`.
    """

    accuracy: float
    train_loss: float
    train_time_s: float
    confusion: tuple[tuple[int, ...], ...] = ()


def train_proxy(
    model: nn.Module,
    data: ProxyData,
    recipe: Recipe,
    execution: Execution,
    *,
    flip: bool,
    seed: int,
    epochs: int | None = None,
    checkpoint: Checkpoint | None = None,
) -> ProxyResult:
    """Train a fresh model by the recipe and measure its accuracy on the held-out images.

    The model's weights are changed; torch's global random state is not. A training that stops early
    has the learning rates of the whole one, so that it can be resumed: on a CPU, the result is that
    of an unbroken training to the bit.

    Args:
        model: The network.
        data: Images on the device that trains.
        recipe: How to train.
        execution: Precision and memory format.
        flip: Whether images may be mirrored.
        seed: Fixes the order of the images, the augmentation and dropout.
        epochs: Stop after this number of the recipe's; None trains to the end.
        checkpoint: Where an earlier stop may have left the training, and where this one leaves it
            if it stops early. One that cannot be used, or is ahead of that, is ignored.

    Raises:
        InfeasibleError: If the loss diverges or is not finite.
        StoreError: If the checkpoint cannot be written.
    """
    device = data.train_images.device
    step = TrainingStep(model, recipe, execution, device)
    generator = torch.Generator().manual_seed(seed)
    count = len(data.train_images)
    batch_size = min(recipe.batch_size, count)
    steps_per_epoch = count // batch_size
    steps = steps_per_epoch * recipe.epochs
    last = recipe.epochs if epochs is None else min(epochs, recipe.epochs)
    warmup = math.ceil(recipe.warmup_share * steps)
    schedule = cosine_schedule(step.optimizer, recipe.learning_rate, steps=steps, warmup=warmup)
    limit = _DIVERGED * math.log(max(data.num_classes, 2))

    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        done = _Done()
        if checkpoint and (found := checkpoint.load()):
            done = _resume(found, last, step, generator) or done
        started = time.perf_counter()
        losses = torch.zeros(steps_per_epoch, device=device)
        stop = steps_per_epoch * last
        for n in range(steps_per_epoch * done.epochs, stop):
            place = n % steps_per_epoch
            if place == 0:
                order = torch.randperm(count, generator=generator)
            chosen = order[place * batch_size : (place + 1) * batch_size].to(device)
            images = random_crop_and_flip(
                normalize(data.train_images[chosen]),
                area_min=recipe.crop_area_min,
                flip=flip,
                generator=generator,
            )
            schedule.step_update(n)
            losses[place] = step(images, data.train_labels[chosen])
            if n % _LOOK_EVERY == _LOOK_EVERY - 1 or n == stop - 1:
                _check_loss(losses[: place + 1], limit, n + 1, steps)
        synchronize(device)
        if done.epochs < last:
            done = _Done(
                epochs=last,
                train_loss=float(losses.mean()),
                train_time_s=done.train_time_s + time.perf_counter() - started,
            )
            if checkpoint and last < recipe.epochs:
                checkpoint.save(_state(done, step, generator))
    predicted = classify(step, data.holdout_images, 2 * batch_size)
    return ProxyResult(
        accuracy=share_correct(predicted, data.holdout_labels),
        train_loss=done.train_loss,
        train_time_s=done.train_time_s,
        confusion=_confusion(predicted, data.holdout_labels, data.num_classes),
    )


@dataclass(frozen=True, kw_only=True)
class _Done:
    """How far a training has come."""

    epochs: int = 0
    train_loss: float = 0.0
    train_time_s: float = 0.0


def _state(done: _Done, step: TrainingStep, generator: torch.Generator) -> dict[str, object]:
    """Return all that the rest of a training depends on."""
    cuda = torch.cuda.get_rng_state(step.device) if step.device.type == "cuda" else None
    return {
        "begun": asdict(done),
        "step": step.state_dict(),
        "generator": generator.get_state(),
        "torch": torch.get_rng_state(),
        "cuda": cuda,
    }


def _resume(
    state: Mapping[str, Any], last: int, step: TrainingStep, generator: torch.Generator
) -> _Done | None:
    """Load the state of a training, unless it is beyond its epoch `last`."""
    done = _Done(**state["begun"])
    if done.epochs > last:
        return None
    step.load_state_dict(state["step"])
    generator.set_state(state["generator"])
    torch.set_rng_state(state["torch"])
    if step.device.type == "cuda" and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"], step.device)
    return done


def _check_loss(losses: torch.Tensor, limit: float, step: int, steps: int) -> None:
    worst = float(losses[-_LOOK_EVERY:].max())
    last = float(losses[-1])
    if not math.isfinite(worst) or not math.isfinite(float(losses[-_LOOK_EVERY:].sum())):
        raise InfeasibleError(
            f"training diverged: the loss is not finite by step {step} of {steps}"
        )
    if last > limit:
        raise InfeasibleError(
            f"training diverged: the loss is {last:.3g} at step {step} of {steps}, "
            f"{_DIVERGED:.0f} times that of guessing and more"
        )


def classify(step: TrainingStep, images: torch.Tensor, batch_size: int) -> torch.Tensor:
    """Return the class numbers [N] that a trained model gives images.

    Args:
        step: Has the model, and runs it as in training but for dropout and batch statistics.
        images: uint8 [N, 3, S, S], on any device.
        batch_size: Images at a time.

    Raises:
        InfeasibleError: If an output is not finite.
    """
    parts = (images[n : n + batch_size] for n in range(0, len(images), batch_size))
    return torch.cat([step.predictions(normalize(part.to(step.device))) for part in parts])


def share_correct(predicted: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the share of class numbers [N] that are right, 0 to 1."""
    return float((predicted == labels.to(predicted.device)).sum()) / len(labels)


def _confusion(
    predicted: torch.Tensor, labels: torch.Tensor, classes: int
) -> tuple[tuple[int, ...], ...]:
    """Count images of each class by what they are taken for."""
    if classes > MOST_CONFUSED_CLASSES:
        return ()
    pairs = labels.cpu().long() * classes + predicted.cpu()
    counts = torch.bincount(pairs, minlength=classes**2).reshape(classes, classes)
    return tuple(map(tuple, counts.tolist()))
