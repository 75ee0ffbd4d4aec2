"""What guessing reaches, and whether a network is clearly more accurate than that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from effnas.trials.uncertainty import Noise

#: What makes a network more accurate than guessing, in words.
WHAT_HELPS = "more epochs, more or larger images, a higher learning rate"


@dataclass(frozen=True, kw_only=True)
class Guessing:
    """The accuracies of networks that have learned nothing, on the images that give accuracy.

    Attributes:
        classes: Their number; None where that is not known.
        counts: Images of each class; empty where that is not known.
    """

    classes: int | None
    counts: Sequence[int] = ()

    @property
    def chance(self) -> float | None:
        """Accuracy of guessing at random, 0 to 1; None where the classes are not known."""
        return 1 / self.classes if self.classes else None

    @property
    def largest(self) -> float | None:
        """Accuracy of always guessing the largest class, 0 to 1; None where that is not known."""
        return max(self.counts) / sum(self.counts) if any(self.counts) else None

    @property
    def best(self) -> float | None:
        """The higher of these, as far as it is known."""
        return self.largest or self.chance

    def is_beaten(self, accuracy: float, noise: Noise, trainings: int = 1) -> bool | None:
        """Return whether a network is clearly more accurate than guessing.

        Args:
            accuracy: The mean over its trainings, 0 to 1.
            noise: What makes that unsure.
            trainings: How many they are.

        Returns:
            None where that is not known.
        """
        import numpy as np

        from effnas.trials.true_accuracy import arcsine_error, to_arcsine
        from effnas.trials.uncertainty import LEVEL

        if self.best is None or not noise.holdout_images:
            return None
        measured, images = np.array([accuracy]), noise.holdout_images
        error = arcsine_error(measured, images, noise.seed_spread or 0.0, trainings)
        ahead = to_arcsine(measured, images) - np.arcsin(np.sqrt(self.best))
        is_above = NormalDist().cdf(float(ahead[0] / error[0])) >= LEVEL
        return is_above if self.largest is not None or not is_above else None
