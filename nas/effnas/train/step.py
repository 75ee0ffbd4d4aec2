"""One training step, the same for the timer and for all trainings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from effnas.config.recipe import Recipe
from effnas.config.settings import Execution
from effnas.errors import InfeasibleError
from effnas.train.optimizers import make_optimizer

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


class TrainingStep:
    """Forward, loss, backward and optimizer of one model on one device.

    The model is moved to the device and memory format, and put in training mode.

    Args:
        model: Float images [N, 3, H, W] in, logits [N, classes] out.
        recipe: Optimizer, learning rate, weight decay and label smoothing.
        execution: Precision and memory format.
        device: Where it runs.

    Raises:
        ConfigError: If timm has no optimizer of the recipe's name.
    """

    def __init__(
        self, model: nn.Module, recipe: Recipe, execution: Execution, device: torch.device
    ) -> None:
        self.model = model.to(device).to(memory_format=_FORMATS[execution.memory_format])
        self.model.train()
        self.device = device
        self.memory_format = _FORMATS[execution.memory_format]
        self._replicas: DistributedDataParallel | None = None
        self._compile_mode = execution.compile_mode
        self._run = self._compiled(self.model)
        self._dtype = _DTYPES[execution.precision]
        self._label_smoothing = recipe.label_smoothing
        self._scaler = torch.amp.GradScaler(device.type, enabled=execution.precision == "float16")
        self.optimizer = make_optimizer(self.model, recipe, device)

    def __call__(
        self, images: torch.Tensor, labels: torch.Tensor, mark: Callable[[], None] = lambda: None
    ) -> torch.Tensor:
        """Train on one batch.

        Args:
            images: Normalized float images [N, 3, H, W] on the device.
            labels: Class numbers [N].
            mark: Called after the forward pass (with the loss), the backward pass, and the
                optimizer.

        Returns:
            The loss before the step, a scalar on the device.
        """
        loss = self.loss(images, labels)
        mark()
        self.optimizer.zero_grad(set_to_none=True)
        self.backward(loss)
        mark()
        self.update()
        mark()
        return loss.detach()

    def loss(self, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of a batch, a scalar with its graph.

        Args:
            images: Normalized float images [N, 3, H, W] on the device.
            targets: Class numbers [N], or probabilities [N, C].
        """
        logits = self.forward(images)
        return cross_entropy(logits.float(), targets, label_smoothing=self._label_smoothing)

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradients of a loss to the present ones."""
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def update(self) -> None:
        """Update the weights by the present gradients."""
        self._scaler.step(self.optimizer)
        self._scaler.update()

    def distribute(self) -> None:
        """Average the gradients over all processes of torch's default group from here on.

        Each process keeps its own running statistics; see `ProcessGroup.average`.
        """
        self._replicas = DistributedDataParallel(
            self.model,
            device_ids=[self.device] if self.device.type == "cuda" else None,
            broadcast_buffers=False,
        )
        self._run = self._compiled(self._replicas)

    def apart(self) -> AbstractContextManager[object]:
        """Return a context in which backward passes do not wait for other processes."""
        return self._replicas.no_sync() if self._replicas else nullcontext()

    def state_dict(self) -> dict[str, Any]:
        """Return weights, optimizer and loss scale; `load_state_dict` takes them back."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load what `state_dict` gave, of a step of the same model and recipe."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the model's outputs of a batch, in the step's precision and memory format."""
        with self._autocast():
            return self._run(images.contiguous(memory_format=self.memory_format))

    @torch.inference_mode()
    def predictions(self, images: torch.Tensor, model: nn.Module | None = None) -> torch.Tensor:
        """Return the class numbers [N] that the network gives a batch in evaluation mode.

        Args:
            images: Normalized float images [N, 3, H, W] on the device.
            model: Another network in evaluation mode, such as an average of weights; None takes
                the one that is trained.

        Raises:
            InfeasibleError: If an output is not finite.
        """
        logits = self.logits(images, model)
        if not bool(torch.isfinite(logits).all()):
            raise InfeasibleError("training diverged: the network's outputs are not finite")
        return logits.argmax(1)

    @torch.inference_mode()
    def logits(self, images: torch.Tensor, model: nn.Module | None = None) -> torch.Tensor:
        """Return the logits [N, classes] of a batch; arguments are those of `predictions`."""
        if model is not None:
            with self._autocast():
                logits: torch.Tensor = model(images.contiguous(memory_format=self.memory_format))
            return logits.float()
        self.model.eval()
        logits = self.forward(images)
        self.model.train()
        return logits.float()

    def _compiled(self, model: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
        if self._compile_mode == "none":
            return model
        return torch.compile(model, mode=self._compile_mode)

    def _autocast(self) -> AbstractContextManager[object]:
        if self._dtype is torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self._dtype)


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished all of its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
