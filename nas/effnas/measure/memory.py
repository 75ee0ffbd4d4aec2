"""Peak memory of a training step, known before anything is run.

What autograd keeps for the backward pass is counted on PyTorch's meta device, which computes
shapes and no numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from effnas.models import build

if TYPE_CHECKING:
    from effnas.architecture import Architecture

#: Weights, gradients and two moments of the optimizer.
_COPIES_OF_WEIGHTS = 4
#: Gradients of activations and workspace on top of what is kept; measured against the resident
#: memory of EfficientNetV2-S at 128 px on a CPU: 1.09 to 1.15 without the weights.
_WORKSPACE = 1.15
_BYTES = 4


def estimate_peak_memory(
    arch: Architecture, *, image_size: int, batch_size: int, num_classes: int
) -> int:
    """Estimate the peak memory of one training step in float32, in bytes.

    Args:
        arch: The network.
        image_size: Height and width in pixels.
        batch_size: Images in the step.
        num_classes: Outputs of the classifier.

    Raises:
        InfeasibleError: If the network cannot be built.
    """
    with torch.random.fork_rng([]):  # the weights have no numbers, but they are drawn all the same
        model = build(arch, num_classes=num_classes, device="meta").train()
    weights = {p.untyped_storage()._cdata for p in model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage  # holding it keeps its address from being used again
        return tensor

    # Two images: batch norm in training refuses a single value per channel.
    images = torch.empty(2, 3, image_size, image_size, device="meta")
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(images)
    per_image = sum(storage.nbytes() for storage in kept.values()) / 2
    params = sum(p.numel() for p in model.parameters())
    return int(batch_size * per_image * _WORKSPACE) + params * _COPIES_OF_WEIGHTS * _BYTES
