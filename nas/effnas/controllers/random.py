"""Random search: what the paper used, and what every other controller must beat."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from effnas.arch.architecture import Architecture
from effnas.controllers.base import Controller


class RandomController(Controller):
    """Draws every decision uniformly, and no architecture twice."""

    name = "random"
    takes_objectives: ClassVar[bool] = True  # drawing serves any

    def propose(self, rng: np.random.Generator) -> Architecture:
        """Draw an architecture."""
        return self.space.sample(rng)
