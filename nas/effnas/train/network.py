"""What a long training needs of its network: strengths that change, averages, batch norm.

Importing it takes seconds, so import it late: a mistake in the settings is reported at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from timm.layers import DropPath
from timm.utils import ModelEmaV3
from torch import nn

from effnas.arch.models import build, build_timm
from effnas.config.recipe import Recipe
from effnas.errors import ConfigError
from effnas.train.stages import Strengths

if TYPE_CHECKING:
    from effnas.arch.architecture import Architecture


class WeightAverage(ModelEmaV3):  # type: ignore[misc]
    """An exponential moving average of weights and buffers, with the warm-up of TensorFlow's."""

    module: nn.Module

    def get_decay(self, step: int | None = None) -> float:
        """Return the decay of update `step`, from 0: min(decay, (1 + step) / (10 + step))."""
        updates = step or 0
        return float(min(self.decay, (1 + updates) / (10 + updates)))


class RegularizationSetter:
    """Sets dropout and stochastic depth of a network of timm's while it is trained.

    Args:
        model: As `make_network` made it, with the stochastic depth of the last stage.
        drop_path: That stochastic depth.
    """

    def __init__(self, model: nn.Module, drop_path: float) -> None:
        self._model = model
        self._dropouts = _dropouts(model)
        self._drop_path = drop_path
        self._paths = [
            (module, float(module.drop_prob or 0.0))
            for module in model.modules()
            if isinstance(module, DropPath)
        ]

    def set(self, strengths: Strengths) -> None:
        """Set the strengths; layer i of n is dropped at `drop_path` times i/n, as it was built."""
        if hasattr(self._model, "drop_rate"):
            self._model.drop_rate = strengths.dropout  # type: ignore[assignment]  # a number
        for dropout in self._dropouts:
            dropout.p = strengths.dropout
        factor = strengths.drop_path / self._drop_path if self._drop_path else 0.0
        for module, full in self._paths:
            module.drop_prob = full * factor


def make_network(
    arch: Architecture | None, name: str, recipe: Recipe, *, num_classes: int
) -> nn.Module:
    """Build an architecture, or a model of timm's if there is none.

    Args:
        arch: The architecture; None for a model of timm's.
        name: The model's, or the user's name of the architecture.
        recipe: Sets stochastic depth and the momentum of batch norms.
        num_classes: Outputs.

    Raises:
        ConfigError: If it cannot be built.
        InfeasibleError: If timm cannot build the architecture.
    """
    drop_path = recipe.drop_path.last if recipe.drop_path else 0.0
    if arch is not None:
        model = build(arch, num_classes=num_classes, drop_path_rate=drop_path)
    else:
        model = build_timm(name, num_classes=num_classes, drop_path_rate=drop_path)
    dropout = recipe.dropout.last if recipe.dropout else 0.0
    if dropout and not (hasattr(model, "drop_rate") or _dropouts(model)):
        raise ConfigError(f"{name}: it has no dropout; set `dropout: 0` in the recipe")
    if recipe.batch_norm_momentum is not None:
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.momentum = 1 - recipe.batch_norm_momentum
    return model


def _dropouts(model: nn.Module) -> list[nn.Dropout]:
    # Where a model has its dropout as a module, that is in its head; others read `drop_rate`.
    return [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Dropout) and "head" in name
    ]


def classifier_tensors(model: nn.Module) -> list[str]:
    """Return the names of the weights and biases of a model's classifier."""
    named = getattr(model, "pretrained_cfg", None) or {}
    places = named.get("classifier", "classifier")
    places = (places,) if isinstance(places, str) else tuple(places)
    return [
        name for name in model.state_dict() if any(name.startswith(f"{one}.") for one in places)
    ]
