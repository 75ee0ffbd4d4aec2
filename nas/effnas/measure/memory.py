"""Peak memory of a training step, from a dry run that computes shapes and no numbers."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from effnas.config import Execution
from effnas.errors import InfeasibleError
from effnas.training import StepSettings, TrainingStep


class MemoryTracker(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows the storages of all tensors that operators make while the mode is on.

    It sees what PyTorch hands out, on any device; workspaces inside an operator it does not see.

    Attributes:
        live_bytes: Bytes of all storages that are alive.
        peak_bytes: The most that were alive at once.
    """

    def __init__(self, there_before: Iterable[torch.Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live_bytes: int = 0
        self.peak_bytes: int = 0
        self._sizes: dict[int, int] = {}
        for tensor in there_before:
            self._add(tensor)

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run an operator and note what it returns."""
        del types
        results = func(*args, **(kwargs or {}))
        tree_map_only(torch.Tensor, self._add, results)
        return results

    def _add(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._sizes:
            return
        self._sizes[key] = storage.nbytes()
        self.live_bytes += storage.nbytes()
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)
        weakref.finalize(storage, self._drop, key)

    def _drop(self, key: int) -> None:
        self.live_bytes -= self._sizes.pop(key)


def estimate_peak_memory(
    model: nn.Module, recipe: StepSettings, *, image_size: int, batch_size: int
) -> int:
    """Return the peak memory of a training step in float32, in bytes; exact but for workspaces.

    Weights, gradients, optimizer states, images and activations are counted. It takes
    tenths of a second to seconds by the number of layers, whatever the sizes.

    Args:
        model: The network, on any device; it stays as it is.
        recipe: Its optimizer takes part in the step.
        image_size: Height and width in pixels.
        batch_size: Images in the step.

    Raises:
        InfeasibleError: If it cannot be trained at these sizes.
    """
    device = torch.device("meta")
    step = TrainingStep(copy.deepcopy(model).to(device), recipe, Execution(), device)
    images = torch.empty(batch_size, 3, image_size, image_size, device=device)
    labels = torch.zeros(batch_size, dtype=torch.long, device=device)
    before = [*step.model.parameters(), *step.model.buffers(), images, labels]
    try:
        with torch.random.fork_rng([]), MemoryTracker(before) as tracker:
            # The optimizer makes its states at its first step.
            for parameter in step.model.parameters():
                parameter.grad = torch.empty_like(parameter)
            step.optimizer.step()
            step(images, labels)
    except (ValueError, RuntimeError) as error:
        raise InfeasibleError(f"cannot be trained: {str(error).splitlines()[0]}") from error
    return int(tracker.peak_bytes)


def largest_batch_size(fits: Callable[[int], bool], *, below: int) -> int:
    """Return the largest batch that fits, by bisection; 0 if none does.

    Args:
        fits: Says whether a batch of some images fits; what holds for one holds for smaller ones.
        below: A batch that does not fit.
    """
    low, high = 0, below
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
