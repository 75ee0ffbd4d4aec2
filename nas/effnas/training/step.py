"""One training step, the same for the timer and for proxy training."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from effnas.config import Execution, Recipe
from effnas.errors import ConfigError

if TYPE_CHECKING:
    from timm.scheduler.scheduler import Scheduler

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
        from timm.optim import create_optimizer_v2

        self.model = model.to(device).to(memory_format=_FORMATS[execution.memory_format])
        self.model.train()
        self.device = device
        self.memory_format = _FORMATS[execution.memory_format]
        self._run: Callable[[torch.Tensor], torch.Tensor] = self.model
        if execution.compile_mode != "none":
            self._run = torch.compile(self.model, mode=execution.compile_mode)
        self._dtype = _DTYPES[execution.precision]
        self._label_smoothing = recipe.label_smoothing
        self._scaler = torch.amp.GradScaler(device.type, enabled=execution.precision == "float16")
        try:
            self.optimizer: torch.optim.Optimizer = create_optimizer_v2(
                self.model,
                opt=recipe.optimizer,
                lr=recipe.learning_rate,
                weight_decay=recipe.weight_decay,
            )
        except (ValueError, AssertionError, TypeError) as error:
            raise ConfigError(
                f"recipe: optimizer {recipe.optimizer!r} cannot be used: {error}"
            ) from error

    def __call__(
        self,
        images: torch.Tensor,
        labels: torch.Tensor,
        mark: Callable[[], None] = lambda: None,
    ) -> torch.Tensor:
        """Train on one batch.

        Args:
            images: Normalised float images [N, 3, H, W] on the device.
            labels: Class numbers [N].
            mark: Called behind the forward pass (with the loss), the backward pass, and the
                optimizer.

        Returns:
            The loss before the step, a scalar on the device.
        """
        logits = self.forward(images)
        loss = cross_entropy(logits.float(), labels, label_smoothing=self._label_smoothing)
        mark()
        self.optimizer.zero_grad(set_to_none=True)
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        mark()
        self._scaler.step(self.optimizer)
        self._scaler.update()
        mark()
        return loss.detach()

    def state_dict(self) -> dict[str, Any]:
        """Return weights, optimizer and loss scale; `load_state_dict` takes them back."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take what `state_dict` gave, of a step of the same model and recipe."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return what the model makes of a batch, in the step's precision and memory format."""
        with self._autocast():
            return self._run(images.contiguous(memory_format=self.memory_format))

    @torch.inference_mode()
    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits [N, classes] of a batch in evaluation mode."""
        self.model.eval()
        logits = self.forward(images)
        self.model.train()
        return logits.float()

    def _autocast(self) -> AbstractContextManager[object]:
        if self._dtype is torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self._dtype)


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def cosine_schedule(optimizer: torch.optim.Optimizer, steps: int, recipe: Recipe) -> Scheduler:
    """Return timm's cosine schedule over `steps` with the recipe's linear warm-up.

    Call its `step_update(n)` before step n.
    """
    from timm.scheduler import CosineLRScheduler

    warmup = math.ceil(recipe.warmup_share * steps)
    return CosineLRScheduler(
        optimizer,
        t_initial=max(steps - warmup, 1),
        warmup_t=warmup,
        warmup_lr_init=recipe.learning_rate / (warmup + 1) if warmup else 0.0,
        warmup_prefix=True,
        t_in_epochs=False,
    )
