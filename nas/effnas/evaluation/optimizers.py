"""Whether the optimizers of a recipe work, before anything is trained by them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import nn

from effnas.config.settings import Execution
from effnas.errors import ConfigError
from effnas.timing.network_run import noise_batch
from effnas.train.step import TrainingStep

if TYPE_CHECKING:
    from effnas.config.recipe import Recipe
    from effnas.space.search_space import SearchSpace

_CLASSES, _IMAGES, _PIXELS = 3, 4, 8


def check_optimizers(recipe: Recipe, space: SearchSpace, device: torch.device) -> None:
    """See that every optimizer that trainings may have takes a step of a small network.

    Args:
        recipe: Of the trainings.
        space: Its choices may open the optimizer.
        device: Where trainings run.

    Raises:
        ConfigError: Names the first that does not, and why.
    """
    opened = {each.name: each.options for each in space.recipe}
    images, labels = noise_batch(device, _IMAGES, _PIXELS, _CLASSES)
    for name in opened.get("optimizer", (recipe.optimizer,)):
        with torch.random.fork_rng([]):
            model = nn.Sequential(
                nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1),
                nn.Flatten(), nn.Linear(4, _CLASSES),
            )  # fmt: skip
        try:
            asked = replace(recipe, optimizer=str(name))
            TrainingStep(model, asked, Execution(), device)(images, labels)
        except ConfigError:
            raise
        except (RuntimeError, TypeError, ValueError, AssertionError, IndexError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise ConfigError(f"recipe: optimizer {name!r} cannot take a step: {reason}") from error
