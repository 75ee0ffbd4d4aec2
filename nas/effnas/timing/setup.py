"""The setup that a step time is measured in."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from effnas.config.recipe import Recipe
from effnas.config.settings import Execution


@dataclass(frozen=True, kw_only=True)
class MeasurementSetup:
    """What a step time depends on, beside the network.

    Attributes:
        device: Where steps run.
        recipe: Has the optimizer and the loss of a step.
        execution: Precision, memory format and compilation.
        batch_size: Images in a step.
        image_size: Their height and width in pixels.
        num_classes: Outputs of the networks.
        available_bytes: Memory that steps may take on a CPU, where the system kills a process that
            takes more; None for no limit.
    """

    device: torch.device
    recipe: Recipe
    execution: Execution
    batch_size: int
    image_size: int
    num_classes: int
    available_bytes: int | None = None
