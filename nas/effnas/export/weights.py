"""The weights of an exported network: those of a file, or random ones."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from effnas.arch.architecture import Architecture
from effnas.arch.models import build
from effnas.arch.weights import read_weights, shapes_of
from effnas.errors import ConfigError, InfeasibleError

#: Of random weights.
SEED = 0
_CLASSIFIER = "classifier.weight"


def classes_of(file: Path) -> dict[str, int]:
    """Return the `num_classes` of a state dict; empty if it has no classifier.

    Raises:
        ConfigError: If the file cannot be read.
    """
    shape = shapes_of(file).get(_CLASSIFIER, ())
    return {"num_classes": shape[0]} if shape and shape[0] else {}


def make_model(arch: Architecture, num_classes: int, file: Path | None) -> nn.Module:
    """Build a network with the weights of a file, or with random ones that are always the same.

    Args:
        arch: The network.
        num_classes: Outputs.
        file: State dict as safetensors; None initialises at random.

    Returns:
        The network in float32 on the CPU, ready to infer.

    Raises:
        ConfigError: If the network cannot be built, or the file cannot be read or is of another
            network; names the first tensor that differs.
    """
    with torch.random.fork_rng([]):
        torch.manual_seed(SEED)
        try:
            model = build(arch, num_classes=num_classes)
        except InfeasibleError as error:
            raise ConfigError(f"{arch}: the network {error}") from error
    if file:
        read_weights(
            model,
            file,
            architecture_id=arch.id,
            remedy=f"give weights of this network, effnas_{arch.id}",
            hints={_CLASSIFIER: " (or leave out `classes`)"},
        )
    return model.eval()


def save_model(model: nn.Module, file: Path) -> None:
    """Write the state dict as safetensors; the bytes are the same for the same weights."""
    from safetensors.torch import save

    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    # Metadata of more than one key would be written in random order.
    file.write_bytes(save(state, {"format": "pt"}))
