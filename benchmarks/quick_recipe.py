"""What makes short trainings quick: the recipe `quick`, and what it is without each of its parts.

    python benchmarks/quick_recipe.py --data cifar10.tar.gz --images 20000 --seeds 2

Trains the reference network of the space `small` on the same number of images by every variant, and
measures accuracy on a tenth of the training part, which is held out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from statistics import mean, stdev
from typing import Any

import torch

from effnas.config.recipe import Recipe
from effnas.config.recipe_file import load_recipe
from effnas.config.settings import Execution
from effnas.data.loading import SearchImages, load_search_images, native_image_size
from effnas.space.search_space import SearchSpace
from effnas.train.initialization import initialize
from effnas.train.network import make_network
from effnas.train.progress import Watcher
from effnas.train.stages import stages_of
from effnas.train.training import Training

#: What each variant changes of the recipe.
VARIANTS: dict[str, dict[str, Any]] = {
    "quick": {},
    "AdamW for Muon": {"optimizer": "adamw"},
    "timm's initial stem": {"stem_init": "default"},
    "timm's initial classifier": {"classifier_init": 1.0},
    "all three": {"optimizer": "adamw", "stem_init": "default", "classifier_init": 1.0},
    "half the learning rate": {"learning_rate_per_256": 0.032},
}


def accuracy(images: SearchImages, recipe: Recipe, count: int, seed: int) -> tuple[float, float]:
    """Train on `count` images; return the accuracy, 0 to 1, and the seconds of the training."""
    per_epoch, steps = len(images.train) // recipe.batch_size, count // recipe.batch_size
    lasting = recipe.lasting(steps / per_epoch)
    stages = stages_of(lasting, steps_per_epoch=per_epoch, seed=seed, steps=steps)
    torch.manual_seed(seed)
    network = SearchSpace.load("small").reference
    model = make_network(network, str(network), lasting, num_classes=images.train.num_classes)
    initialize(model, lasting, images.train, seed)
    training = Training(
        model, images.train, None, lasting, stages, [1] * len(stages),
        execution=Execution(memory_format="channels_last"), device=torch.device("cpu"),
        flip=images.mirrored, seed=seed,
    )  # fmt: skip
    began = time.perf_counter()
    training.run(Watcher())
    return training.measure(images.holdout), time.perf_counter() - began


def main(argv: Sequence[str] | None = None) -> None:
    """Print a row per variant."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--images", type=int, default=20_000, help="that a training sees")
    parser.add_argument("--seeds", type=int, default=2)
    given = parser.parse_args(argv)
    size = native_image_size(given.data)
    images = load_search_images(given.data, image_size=size, holdout_share=0.1, data_share=1.0)
    quick = load_recipe("quick").sized(3 * size // 4, size)
    print("| recipe | accuracy | seconds |\n|---|---|---|")
    for name, changes in VARIANTS.items():
        found = [accuracy(images, replace(quick, **changes), given.images, seed)
                 for seed in range(given.seeds)]  # fmt: skip
        reached = [100 * one for one, _ in found]
        spread = f" ±{stdev(reached):.1f}" if len(reached) > 1 else ""
        print(f"| {name} | {mean(reached):.1f}{spread} | {mean(s for _, s in found):.0f} |",
              flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
