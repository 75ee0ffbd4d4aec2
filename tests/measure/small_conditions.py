"""What small networks are measured under."""

from __future__ import annotations

import torch

from effnas.config import Execution, Recipe
from effnas.measure import Conditions

CONDITIONS = Conditions(
    device=torch.device("cpu"),
    recipe=Recipe(),
    execution=Execution(),
    batch_size=2,
    image_size=16,
    num_classes=10,
)
