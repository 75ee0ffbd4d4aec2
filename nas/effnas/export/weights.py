"""The weights of an exported network: those of a file, or random ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from effnas.architecture import Architecture
from effnas.errors import ConfigError, InfeasibleError
from effnas.models import build

#: Of random weights.
SEED = 0
_CLASSIFIER = "classifier.weight"


def classes_of(file: Path) -> dict[str, int]:
    """Return the `num_classes` of a state dict; nothing if it has no classifier.

    Raises:
        ConfigError: If the file cannot be read.
    """
    shape = _shapes(file).get(_CLASSIFIER, ())
    return {"num_classes": shape[0]} if shape and shape[0] else {}


def make_model(arch: Architecture, num_classes: int, file: Path | None) -> nn.Module:
    """Build a network with the weights of a file, or with random ones that are the same always.

    Args:
        arch: The network.
        num_classes: Outputs.
        file: State dict as safetensors; None initialises at random.

    Returns:
        The network in float32 on the CPU, ready to infer.

    Raises:
        ConfigError: If the network cannot be built, or the file cannot be read or is not of it:
            names the first tensor that differs.
    """
    with torch.random.fork_rng([]):
        torch.manual_seed(SEED)
        try:
            model = build(arch, num_classes=num_classes)
        except InfeasibleError as error:
            raise ConfigError(f"{arch}: the network {error}") from error
    if file:
        _load(model, arch, file)
    return model.eval()


def save_model(model: nn.Module, file: Path) -> None:
    """Write the state dict as safetensors; the bytes are the same for the same weights."""
    from safetensors.torch import save

    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    # Metadata of more than one key would stand in random order.
    file.write_bytes(save(state, {"format": "pt"}))


def _load(model: nn.Module, arch: Architecture, file: Path) -> None:
    from safetensors import safe_open

    remedy = f"give weights of this network, effnas_{arch.id}"
    wanted = model.state_dict()
    found = _shapes(file)
    for name, tensor in wanted.items():
        if name not in found:
            raise ConfigError(f"{file}: it lacks the tensor {name}; {remedy}")
        if found[name] != tuple(tensor.shape):
            other = " (or leave out --classes)" if name == _CLASSIFIER else ""
            raise ConfigError(
                f"{file}: the tensor {name} is {list(found[name])} and must be "
                f"{list(tensor.shape)}; {remedy}{other}"
            )
    if unknown := next((name for name in found if name not in wanted), None):
        raise ConfigError(f"{file}: the network has no tensor {unknown[:80]}; {remedy}")
    with safe_open(file, framework="pt") as opened:
        owner = (opened.metadata() or {}).get("architecture", arch.id)
        if owner != arch.id:  # of the same shapes: another stride, or with a residual
            raise ConfigError(f"{file}: these are weights of effnas_{owner[:16]}; {remedy}")
        state = {name: opened.get_tensor(name) for name in wanted}
    for name, tensor in state.items():
        if tensor.dtype != wanted[name].dtype:
            raise ConfigError(
                f"{file}: the tensor {name} is {tensor.dtype} and must be {wanted[name].dtype}; "
                "convert it"
            )
        if not bool(torch.isfinite(tensor).all()):
            raise ConfigError(f"{file}: the tensor {name} is not finite; {remedy}")
    model.load_state_dict(state)


def _shapes(file: Path) -> Mapping[str, tuple[int, ...]]:
    """Return the shapes of the tensors in a file, by name, without reading the tensors."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            names = sorted(opened.keys())
            return {name: tuple(opened.get_slice(name).get_shape()) for name in names}
    except OSError as error:
        raise ConfigError(
            f"{file}: the weights cannot be read ({error.strerror or error}); give a .safetensors "
            "file"
        ) from error
    except SafetensorError as error:
        raise ConfigError(
            f"{file}: not a whole safetensors file ({error}); give one that `effnas promote` or "
            "safetensors.torch.save_file wrote"
        ) from error
