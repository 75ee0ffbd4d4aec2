"""The images of a worker, in memory and on its device."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from effnas.config.settings import CPU_TRAINING_IMAGES
from effnas.data.loading import SearchImages, load_search_images
from effnas.errors import ConfigError
from effnas.evaluation.config import default_image_size
from effnas.train.proxy import ProxyData

if TYPE_CHECKING:
    from effnas.config.settings import EvaluationConfig, Recipe
    from effnas.data.images import ImageSet
    from effnas.space.search_space import SearchSpace


@dataclass(frozen=True)
class WorkerImages:
    """The images of a search, decoded once.

    Attributes:
        loaded: In memory.
        data: The same on the device.
        recipe: How they are trained on, with all that follows from them settled.
    """

    loaded: SearchImages
    data: ProxyData
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
    size = recipe.image_size or default_image_size(config, space)
    found = load_search_images(
        config.data,
        image_size=size,
        holdout_share=recipe.holdout_share,
        data_share=recipe.data_share,
        most_train_images=CPU_TRAINING_IMAGES if device.type == "cpu" else None,
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

    def on_device(images: ImageSet) -> tuple[torch.Tensor, torch.Tensor]:
        pixels = torch.from_numpy(images.images).permute(0, 3, 1, 2).contiguous()
        return pixels.to(device), torch.from_numpy(images.labels).to(device)

    data = ProxyData(
        *on_device(found.train), *on_device(found.holdout), num_classes=found.train.num_classes
    )
    settled = replace(
        recipe,
        image_size=size,
        data_share=found.data_share,
        batch_size=min(recipe.batch_size, len(found.train)),
        flip=found.mirrored if recipe.flip is None else recipe.flip,
    )
    return WorkerImages(found, data, settled)
