"""The optimizers of recipes: timm's, by their names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from effnas.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

    from effnas.config.recipe import Recipe

#: Optimizers of torch whose update is one kernel for all weights where they are asked for it.
_FUSED = frozenset(("adam", "adamw", "sgd", "momentum", "nesterov"))


def make_optimizer(model: nn.Module, recipe: Recipe, device: torch.device) -> torch.optim.Optimizer:
    """Return the optimizer of a recipe, for the weights of a model on a device.

    Raises:
        ConfigError: If timm has none of that name, or it refuses its arguments.
    """
    from timm.optim import create_optimizer_v2

    arguments: dict[str, float | bool] = {}
    if recipe.optimizer in _FUSED and device.type in ("cpu", "cuda"):
        arguments["fused"] = True
    arguments |= recipe.optimizer_arguments
    if device.type == "meta":
        arguments.pop("fused", None)  # a dry run has no kernels to be fused
    if "muon" in recipe.optimizer:
        _orthogonalize_in_float32_on_cpus()
    try:
        optimizer: torch.optim.Optimizer = create_optimizer_v2(
            model,
            opt=recipe.optimizer,
            lr=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            **arguments,
        )
    except (ValueError, AssertionError, TypeError) as error:
        raise ConfigError(
            f"recipe: optimizer {recipe.optimizer!r} cannot be used: {error}"
        ) from error
    return optimizer


def _orthogonalize_in_float32_on_cpus() -> None:
    """Have timm's Muon do so: in bfloat16, as on GPUs, most CPUs take 20 times longer."""
    try:
        from timm.optim import muon
    except ImportError:
        return  # an older timm, which knows no such optimizer and will say so
    original = muon.zeropower_via_newtonschulz
    if getattr(original, "is_ours", False):
        return

    def zeropower(G: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:  # noqa: N803
        if G.device.type == "cpu":
            kwargs.setdefault("dtype", torch.float32)
        found: torch.Tensor = original(G, *args, **kwargs)
        return found

    zeropower.is_ours = True  # type: ignore[attr-defined]
    muon.zeropower_via_newtonschulz = zeropower
