"""Checkpoints: files of trainings that were stopped, so that they can be resumed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from effnas.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from effnas.arch.architecture import Architecture

#: What a training consists of: tensors, numbers, texts and None, in dicts, lists and tuples.
State = object


@dataclass(frozen=True)
class Checkpoint:
    """The file of one training: tensors as safetensors, all else as JSON in its metadata.

    A resumed training is the same as an unbroken one only if its state is stored to the bit:
    strides of tensors, too, since kernels may round differently for another layout.

    Attributes:
        path: The file.
        owner: Identifies the training; the file of another one is ignored.
        beside: Stored with every state, under keys that no state has.
    """

    path: Path
    owner: Mapping[str, str | int]
    beside: Mapping[str, State] = field(default_factory=dict)

    @classmethod
    def of(
        cls, folder: Path, arch: Architecture, repeat: int = 0, **owner: str | int
    ) -> Checkpoint:
        """Return the checkpoint of a training of an architecture, by its number from 0."""
        place = folder / str(repeat) if repeat else folder
        return cls(place / f"{arch.id}.safetensors", {"architecture": arch.id, **owner})

    def save(self, state: Mapping[str, State]) -> None:
        """Write the state; a crash leaves the old file or the new one.

        Raises:
            StoreError: If it cannot be written.
            ConfigError: If the state holds something that is neither tensor nor plain data.
        """
        from safetensors.torch import save

        from effnas.arch.weights import write_bytes

        tensors: dict[str, Tensor] = {}
        try:
            text = json.dumps(_packed({**state, **self.beside}, tensors))
        except TypeError as error:
            raise ConfigError(
                f"the optimizer's state cannot be stored ({error}); choose another optimizer, or "
                "leave out `fidelity`"
            ) from error
        write_bytes(self.path, save(tensors, {"owner": self._owner, "state": text}))

    def load(self) -> dict[str, State] | None:
        """Return the state, or None if there is no intact file of this training."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, framework="pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("owner") != self._owner:
                    return None
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                state = _unpacked(json.loads(metadata["state"]), tensors)
        except (OSError, SafetensorError, ValueError, KeyError, TypeError):
            return None
        return state if isinstance(state, dict) else None

    def delete(self) -> None:
        """Delete the file, and the rest that a crash may have left."""
        for path in (self.path, self.path.with_name(f"{self.path.name}.tmp")):
            path.unlink(missing_ok=True)

    @property
    def _owner(self) -> str:
        return json.dumps(dict(self.owner), sort_keys=True)


def weights_file(folder: Path, arch: Architecture, repeat: int) -> Path:
    """Return the file of the weights of a network's training."""
    return folder / f"{arch.id}-{repeat}.safetensors"


def save_weights(folder: Path, arch: Architecture, repeat: int, model: Module) -> None:
    """Write the weights and buffers of a trained model, by the names of its state dict.

    Raises:
        StoreError: If they cannot be written.
    """
    from effnas.arch.weights import ARCHITECTURE, write_weights

    metadata = {ARCHITECTURE: arch.network.id}  # that it was trained by a recipe does not matter
    write_weights(weights_file(folder, arch, repeat), model, metadata)


def load_weights(folder: Path, arch: Architecture, repeat: int, model: Module) -> None:
    """Load the weights and buffers that `save_weights` wrote into a model.

    Raises:
        StoreError: If they are missing, damaged, or those of another network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = weights_file(folder, arch, repeat)
    try:
        model.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = "damaged, or those of another network" if path.exists() else "gone"
        raise StoreError(
            f"{path}: the weights are {reason}; put the file back, or train again with another "
            "`out`. All results are stored"
        ) from error


def _packed(value: State, tensors: dict[str, Tensor]) -> object:
    """Return a value as JSON data that names its tensors, which are added to `tensors`."""
    import torch

    if isinstance(value, torch.Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {"tensor": name, "stride": list(value.stride())}
    if isinstance(value, Mapping):
        return {"dict": [[key, _packed(inner, tensors)] for key, inner in value.items()]}
    if isinstance(value, list | tuple):
        return {type(value).__name__: [_packed(inner, tensors) for inner in value]}
    return value


def _unpacked(packed: object, tensors: Mapping[str, Tensor]) -> State:
    """Return what `_packed` was given, on the CPU."""
    import torch

    if not isinstance(packed, dict):
        return packed
    if "tensor" in packed:
        tensor = tensors[packed["tensor"]]
        return torch.empty_strided(tensor.shape, packed["stride"], dtype=tensor.dtype).copy_(tensor)
    if "dict" in packed:
        return {key: _unpacked(inner, tensors) for key, inner in packed["dict"]}
    kind, items = next(iter(packed.items()))
    return (tuple if kind == "tuple" else list)(_unpacked(inner, tensors) for inner in items)
