"""What guessing reaches, and who clearly beats it."""

from __future__ import annotations

import numpy as np
import pytest

from effnas.trials.guessing import Guessing
from effnas.trials.uncertainty import Noise


def test_always_guessing_the_largest_class_is_what_counts() -> None:
    rare = Guessing(classes=2, counts=(1, 25))
    assert (rare.chance, rare.largest, rare.best) == (0.5, 25 / 26, 25 / 26)
    assert rare.is_beaten(25 / 26, Noise(holdout_images=26)) is False
    assert Guessing(classes=2, counts=(13, 13)).is_beaten(25 / 26, Noise(holdout_images=26))


def test_nothing_is_claimed_that_is_not_known() -> None:
    unknown, noise = Guessing(classes=2), Noise(holdout_images=26)
    assert unknown.largest is None
    assert unknown.is_beaten(0.96, noise) is None  # the largest class may be as large
    assert unknown.is_beaten(0.5, noise) is False  # no more than chance is nothing for sure
    assert Guessing(classes=None).is_beaten(0.96, noise) is None
    assert Guessing(classes=2, counts=(9, 9)).is_beaten(0.9, Noise(holdout_images=None)) is None


@pytest.mark.parametrize(("images", "trainings"), [(50, 1), (200, 1), (200, 3)])
def test_a_network_that_guesses_is_seldom_said_to_do_more(images: int, trainings: int) -> None:
    """One in ten at most, as in a search: that is how sure "clearly" is."""
    guessing = Guessing(classes=4, counts=(images // 2, *[images // 6] * 3))
    rng = np.random.default_rng(0)
    measured = rng.binomial(images, guessing.best or 0.0, size=500) / images
    noise = Noise(holdout_images=images)
    claimed = [bool(guessing.is_beaten(a, noise, trainings)) for a in measured]
    assert np.mean(claimed) <= 0.1 + 0.03
