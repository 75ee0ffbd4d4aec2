"""Peak memory of a training step, from a dry run that computes shapes and no numbers."""

from __future__ import annotations

import copy
import weakref
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from effnas.config.recipe import Recipe
from effnas.config.settings import Execution
from effnas.errors import InfeasibleError
from effnas.train.step import TrainingStep

#: Number of the optimizer's group, shape and type of a weight.
_Alike: TypeAlias = tuple[int, torch.Size, torch.dtype]


class MemoryTracker(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows the storages of all tensors that operators make while the mode is on.

    It sees what PyTorch allocates, on any device, but no workspaces inside an operator.

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
        for each in results if isinstance(results, (tuple, list)) else (results,):
            if isinstance(each, torch.Tensor):
                self._add(each)
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
    model: nn.Module, recipe: Recipe, *, image_size: int, batch_size: int
) -> int:
    """Return the peak memory of a training step in float32, in bytes; exact but for workspaces.

    Weights, gradients, optimizer states, images and activations are counted. It takes hundredths
    of a second to a second by the number of layers, whatever the sizes. The optimizer is assumed
    to update the weights one by one, as those of timm and torch do on a CPU.

    Args:
        model: The network, on any device; it is not changed.
        recipe: Has the optimizer.
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
        with torch.random.fork_rng([]):
            states, temporaries = _optimizer_bytes(step.optimizer)
            with MemoryTracker(before) as tracker:
                # As in consecutive steps: the last gradients exist until the loss does.
                for parameter in step.model.parameters():
                    parameter.grad = torch.empty_like(parameter)
                loss = step.loss(images, labels)
                step.optimizer.zero_grad(set_to_none=True)
                step.backward(loss)
    # Models of timm's assert the one size that they take, or index what smaller images lack.
    except (ValueError, RuntimeError, AssertionError, TypeError, IndexError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InfeasibleError(f"cannot be trained: {reason}") from error
    return states + int(max(tracker.peak_bytes, tracker.live_bytes + temporaries))


def _optimizer_bytes(optimizer: torch.optim.Optimizer) -> tuple[int, int]:
    """Return the bytes of an optimizer's states, and the most that an update needs beside them.

    Of weights of the same shape that follow each other, one pair is updated: the others would
    take as much. Pairs, because the memory of one update may be held until the next.
    """
    alike: Counter[_Alike] = Counter()
    updated: dict[tuple[_Alike, _Alike], tuple[torch.Tensor, torch.Tensor]] = {}
    for number, group in enumerate(optimizer.param_groups):
        weights = group["params"]
        kinds = [(number, weight.shape, weight.dtype) for weight in weights]
        alike.update(kinds)
        for n, kind in enumerate(kinds):
            before = max(n - 1, 0)
            updated.setdefault((kinds[before], kind), (weights[before], weights[n]))
    taking_part = [weight for pair in updated.values() for weight in pair]
    for weight in taking_part:
        weight.grad = torch.empty_like(weight)
    optimizer.step()  # the first step makes the states
    there = _tensors([(weight, weight.grad, optimizer.state[weight]) for weight in taking_part])
    with MemoryTracker(there) as tracker:
        held = tracker.live_bytes
        optimizer.step()
    states = {kind: optimizer.state[weight] for (_, kind), (_, weight) in updated.items()}
    needed = sum(n * sum(t.nbytes for t in _tensors(states[kind])) for kind, n in alike.items())
    return needed, tracker.peak_bytes - held


def _tensors(tree: object) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def largest_batch_size(fits: Callable[[int], bool], *, below: int) -> int:
    """Return the largest batch that fits, by bisection; 0 if none does.

    Args:
        fits: Says whether a batch of some images fits, by its answer or an `InfeasibleError`; what
            holds for one holds for smaller ones.
        below: A batch that does not fit.
    """
    low, high = 0, below
    while high - low > 1:
        middle = (low + high) // 2
        try:
            low, high = (middle, high) if fits(middle) else (low, middle)
        except InfeasibleError:  # such as too few values for batch norm
            high = middle
    return low
