"""What a search is compared with: which networks, what they are, and what their trainings cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from effnas.arch.models import TimmModel
from effnas.errors import InfeasibleError
from effnas.trials.baselines import REFERENCE

if TYPE_CHECKING:
    import torch
    from torch import nn

    from effnas.arch.architecture import Architecture
    from effnas.evaluation.evaluator import Network

#: Up to a size of images in pixels, the model of timm's that a user would have picked. On a CPU,
#: its steps take about 1.8 times as long as those of the reference of `v2-cifar` at 32 px; at 128
#: px 1.5 times of `v2-b0`, once of `mnasnet`, and half of `v2`.
_DEFAULTS = ((48, "resnet10t"), (1 << 30, "resnet18"))


def default_model(image_size: int) -> TimmModel:
    """Return the model of timm's that a user would pick for images of this size in pixels."""
    return TimmModel(next(name for most, name in _DEFAULTS if image_size <= most))


def networks_to_compare(
    named: Mapping[str, Network] | None, reference: Architecture, image_size: int
) -> dict[str, Network]:
    """Return the baselines by name.

    Args:
        named: Those that the user named; None takes the default, and an empty one none at all.
        reference: The space's reference network, which comes first.
        image_size: Of the trainings, in pixels.
    """
    if named is None:
        model = default_model(image_size)
        named = {model.name: model}
    return {REFERENCE: reference, **named} if named else {}


def counted_model(model: nn.Module, name: str, image_size: int) -> dict[str, float]:
    """Return the counts of a network of timm's by the names of `effnas.trials.reward.METRICS`.

    The others than the parameters are left out where layers are not only convolutions, linear
    layers and batch norms.

    Args:
        model: The network; it is run once on one image, and stays as it is.
        name: Of the network, for the reason.
        image_size: Height and width of the image in pixels.

    Raises:
        InfeasibleError: If it cannot be run on images of that size.
    """
    import torch
    from torch import nn
    from torch.nn.modules.batchnorm import _BatchNorm

    macs = activations = 0

    def count(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal macs, activations
        del inputs
        weight = layer.weight
        assert isinstance(weight, torch.Tensor)
        macs += output.numel() * (weight.numel() // weight.shape[0])
        activations += output.numel()

    counted = (nn.Conv2d, nn.Linear)
    hooks = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, counted)]
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            model(torch.zeros(1, 3, image_size, image_size))
    except (RuntimeError, ValueError, AssertionError, TypeError, IndexError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InfeasibleError(
            f"{name} cannot be run on images of {image_size} px: {reason}"
        ) from error
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    found = {"params": float(sum(p.numel() for p in model.parameters() if p.requires_grad))}
    own = [m for m in model.modules() if next(m.parameters(recurse=False), None) is not None]
    if all(isinstance(m, (*counted, _BatchNorm)) for m in own):
        found |= {"macs": float(macs), "activations": float(activations)}
    return found
