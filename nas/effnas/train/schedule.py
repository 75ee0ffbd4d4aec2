"""Learning rates: linear warm-up, then a cosine, a line, a staircase or a constant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from effnas.config.recipe import Recipe

if TYPE_CHECKING:
    import torch
    from timm.scheduler.scheduler import Scheduler


def make_schedule(
    optimizer: torch.optim.Optimizer, recipe: Recipe, *, steps: int, steps_per_epoch: int
) -> Scheduler:
    """Return timm's schedule; call its `step_update(n)` before step n, from 0.

    The stairs of `staircase` are counted from step 0, warm-up included, as TensorFlow does: after
    the warm-up of the published training (5 epochs, a stair of 0.97 every 2.4) the learning rate
    is 0.97² times its peak. A cosine and a line begin
    after the warm-up.
    """
    from timm.scheduler import CosineLRScheduler, PolyLRScheduler, StepLRScheduler

    warmup = min(round(recipe.warmup_epochs * steps_per_epoch), steps)
    first_rate = recipe.learning_rate / (warmup + 1)  # not 0, which would waste the first step
    if recipe.schedule == "cosine":
        return CosineLRScheduler(
            optimizer,
            t_initial=max(steps - warmup, 2),  # timm warns of 1, whose one step is the same
            warmup_t=warmup,
            warmup_lr_init=first_rate,
            warmup_prefix=True,
            t_in_epochs=False,
        )
    if recipe.schedule == "linear":
        return PolyLRScheduler(
            optimizer,
            t_initial=max(steps - warmup, 2),
            power=1.0,
            warmup_t=warmup,
            warmup_lr_init=first_rate,
            warmup_prefix=True,
            t_in_epochs=False,
        )
    return StepLRScheduler(
        optimizer,
        decay_t=recipe.decay_epochs * steps_per_epoch,
        decay_rate=recipe.decay_rate if recipe.schedule == "staircase" else 1.0,
        warmup_t=warmup,
        warmup_lr_init=first_rate,
        warmup_prefix=False,
        t_in_epochs=False,
    )
