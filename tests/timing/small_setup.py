"""What small networks are measured under."""

from __future__ import annotations

import torch

from effnas.config.recipe import Recipe
from effnas.config.settings import Execution
from effnas.timing.setup import MeasurementSetup

SETUP = MeasurementSetup(
    device=torch.device("cpu"),
    recipe=Recipe(),
    execution=Execution(),
    batch_size=2,
    image_size=16,
    num_classes=10,
)
