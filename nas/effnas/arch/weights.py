"""Files of weights: state dicts as safetensors, checked when they are read."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from torch import nn

from effnas.config.codec import replace_file
from effnas.errors import ConfigError, StoreError

#: Key of the metadata under which an architecture's id stands.
ARCHITECTURE = "architecture"


def write_weights(path: Path, model: nn.Module, metadata: Mapping[str, str]) -> None:
    """Write the weights and buffers of a model; a crash leaves the old file or the new one.

    Raises:
        StoreError: If they cannot be written.
    """
    from safetensors.torch import save

    state = {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
    write_bytes(path, save(state, dict(metadata)))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file; a crash leaves the old one or the new one, and perhaps `PATH.tmp`.

    Raises:
        StoreError: If it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, content)
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be written ({error.strerror}); all results are stored: make room or "
            "free the folder, then start the same command again"
        ) from error


def read_weights(
    model: nn.Module,
    file: Path,
    *,
    architecture_id: str | None,
    remedy: str,
    left_out: Collection[str] = (),
    hints: Mapping[str, str] | None = None,
) -> None:
    """Give a model the weights of a file, all of them or none.

    Args:
        model: Float32 weights; it is changed.
        file: A state dict as safetensors.
        architecture_id: The model's, if it is an architecture: weights that say that they are
            another's are refused, since strides and residuals do not show in shapes.
        remedy: What to do if the file is not the model's.
        left_out: Names of tensors that the model keeps as they are.
        hints: Added to the message about a tensor of another shape, by its name.

    Raises:
        ConfigError: If the file cannot be read or is not of the model: names the first tensor that
            differs.
    """
    from safetensors import safe_open

    wanted = {name: t for name, t in model.state_dict().items() if name not in left_out}
    found = shapes_of(file)
    for name, tensor in wanted.items():
        if name not in found:
            raise ConfigError(f"{file}: it lacks the tensor {name}; {remedy}")
        if found[name] != tuple(tensor.shape):
            raise ConfigError(
                f"{file}: the tensor {name} is {list(found[name])} and must be "
                f"{list(tensor.shape)}; {remedy}{(hints or {}).get(name, '')}"
            )
    unknown = next((name for name in found if name not in wanted and name not in left_out), None)
    if unknown is not None:
        raise ConfigError(f"{file}: the network has no tensor {unknown[:80]}; {remedy}")
    with safe_open(file, framework="pt") as opened:
        owner = str((opened.metadata() or {}).get(ARCHITECTURE, architecture_id))
        if architecture_id and owner != architecture_id:
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
    model.load_state_dict({**model.state_dict(), **state})


def shapes_of(file: Path) -> Mapping[str, tuple[int, ...]]:
    """Return the shapes of the tensors in a file, by name, without reading the tensors.

    Raises:
        ConfigError: If the file cannot be read, or is not a whole safetensors file.
    """
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
            f"{file}: not a whole safetensors file ({error}); give one that `effnas train`, "
            "`effnas promote` or safetensors.torch.save_file wrote"
        ) from error
