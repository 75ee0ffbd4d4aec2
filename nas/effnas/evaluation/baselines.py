"""What a search is compared with: which networks, what they are, and what their trainings cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from effnas.arch.models import TimmModel
from effnas.trials.baselines import REFERENCE

if TYPE_CHECKING:
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
