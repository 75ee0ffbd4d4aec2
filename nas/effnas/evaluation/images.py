"""How a worker loads the images of a search."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from effnas.config.settings import CPU_TRAINING_IMAGES
from effnas.data.loading import SearchImages, load_search_images
from effnas.errors import ConfigError
from effnas.evaluation.config import default_image_sizes
from effnas.train.batches import TrainPixels

if TYPE_CHECKING:
    import torch

    from effnas.config.recipe import Recipe
    from effnas.config.settings import EvaluationConfig
    from effnas.space.search_space import SearchSpace


@dataclass(frozen=True)
class WorkerImages:
    """The images of a search, decoded once.

    Attributes:
        loaded: In memory.
        pixels: Those to train on, for the device.
        recipe: How they are trained on, with all that follows from them settled.
    """

    loaded: SearchImages
    pixels: TrainPixels
    recipe: Recipe


def load_images(
    config: EvaluationConfig, space: SearchSpace, device: torch.device
) -> WorkerImages | None:
    """Load the images of a configuration; None if it has none.

    Raises:
        DataError: If they cannot be used.
        ConfigError: If others are held out than accuracies are to compare with.
    """
    if config.data is None:
        return None
    recipe = config.recipe
    recipe = recipe.sized(*(recipe.image_size or default_image_sizes(config, space)))
    bounded = device.type == "cpu" and recipe.train_time_s is None
    # Where sizes are a choice, the largest is read; networks of smaller ones have it resized.
    largest = max((last for _, last in space.recipe_image_sizes), default=0)
    found = load_search_images(
        config.data,
        image_size=largest or recipe.last_image_size,
        eval_image_size=largest or recipe.eval_image_size,
        holdout_share=recipe.holdout_share,
        data_share=recipe.data_share,
        most_train_images=CPU_TRAINING_IMAGES if bounded else None,
        seed=config.seed,
        on_bad_image=config.on_bad_image,
        root=Path(config.data_root) if config.data_root else None,
    )
    expected = config.holdout_fingerprint
    if expected is not None and found.holdout.fingerprint != expected:
        raise ConfigError(
            f"the held-out images of {config.data} are not those of the search, so accuracies "
            "would not compare; give the place of its images as `data`"
        )
    settled = replace(
        recipe,
        data_share=found.data_share,
        batch_size=min(recipe.batch_size, len(found.train)),
        flip=found.mirrored if recipe.flip is None else recipe.flip,
    )
    return WorkerImages(found, TrainPixels(found.train, device), settled)
