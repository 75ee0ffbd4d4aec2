"""Small trainings, made ready in a line."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from effnas.arch.architecture import Architecture
from effnas.config.recipe import Recipe
from effnas.config.settings import Execution
from effnas.data.images import ImageSet
from effnas.train.network import make_network
from effnas.train.stages import stages_of
from effnas.train.training import Training

CPU = torch.device("cpu")
ARCH = Architecture.parse(
    ["fused_r1_k3_s2_e1_c8", "mbconv_r1_k3_s2_e2_c16_se0.25"], stem=8, head=16
)


def make_training(
    images: ImageSet,
    recipe: Recipe,
    *,
    arch: Architecture = ARCH,
    minival: ImageSet | None = None,
    execution: Execution = Execution(),  # noqa: B008 - frozen
    seed: int = 3,
    flip: bool = False,
) -> Training:
    """Return a training before its first step, in one micro-batch a step."""
    stages = stages_of(recipe, steps_per_epoch=len(images) // recipe.batch_size, seed=seed)
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model = make_network(arch, str(arch), recipe, num_classes=images.num_classes)
    return Training(
        model, images, minival, recipe, stages, [1] * len(stages),
        execution=execution, device=CPU, flip=flip, seed=seed,
    )  # fmt: skip


def weights(training: Training) -> Sequence[torch.Tensor]:
    """Return weights and buffers of what is measured, and of what is trained."""
    states = (training.model.state_dict(), training.state_dict()["step"])
    flat: list[torch.Tensor] = list(states[0].values())
    assert isinstance(states[1], dict)
    flat += states[1]["model"].values()
    return [tensor.detach().clone() for tensor in flat]
