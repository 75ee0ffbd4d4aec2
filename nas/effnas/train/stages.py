"""The stages of a training: which image size and which strengths at which step."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import ceil

import numpy as np

from effnas.config.recipe import STRENGTHS, Recipe
from effnas.config.regularization import Ramp
from effnas.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Strengths:
    """How strongly a stage is regularized; the attributes are those of `Recipe`."""

    dropout: float
    randaugment: float
    mixup: float
    cutmix: float
    drop_path: float

    def __str__(self) -> str:
        return ", ".join(f"{name} {value:.3g}" for name, value in asdict(self).items() if value)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A part of a training with one image size.

    Attributes:
        first_step: Counted from 0.
        steps: Their number, 1 or more.
        image_size: Pixels.
        strengths: Of the regularization.
    """

    first_step: int
    steps: int
    image_size: int
    strengths: Strengths

    @property
    def end(self) -> int:
        """The step after the last."""
        return self.first_step + self.steps


def stages_of(
    recipe: Recipe, *, steps_per_epoch: int, seed: int = 0, steps: int | None = None
) -> tuple[Stage, ...]:
    """Return the stages of a training.

    A progressive training has as many as its recipe says, but no more than it has steps: stage i of
    n, from 0, has S = S_0 + (S_e - S_0) · i/(n-1), and each strength likewise (Algorithm 1).

    Args:
        recipe: With an `image_size`; strengths that are None are 0.
        steps_per_epoch: 1 or more.
        seed: Of random sizes.
        steps: Of the whole training, 1 or more; None takes those of the recipe.

    Raises:
        ConfigError: If the recipe has no image size.
    """
    if recipe.image_size is None:
        raise ConfigError("recipe: image_size is missing; give it there, or as `image_size`")
    steps = steps_of(recipe, steps_per_epoch) if steps is None else steps
    if recipe.regime == "fixed":
        return (_stage(recipe, 0, steps, 1.0, 1.0),)
    if recipe.regime.startswith("random-size"):
        return _random(recipe, steps, steps_per_epoch, seed)
    count = min(recipe.stages, steps)
    adaptive = recipe.regime == "progressive-adaptive"
    found = []
    for n in range(count):
        share = n / (count - 1) if count > 1 else 1.0
        size_share = (n + 1) / count if recipe.skip_first_size else share
        first, end = round(steps * n / count), round(steps * (n + 1) / count)
        found.append(_stage(recipe, first, end - first, size_share, share if adaptive else 1.0))
    return tuple(found)


def steps_of(recipe: Recipe, steps_per_epoch: int) -> int:
    """Return the steps of a training: those of its epochs, and whole ones up to `least_steps`."""
    own = max(1, round(recipe.epochs * steps_per_epoch))
    return max(own, ceil(recipe.least_steps / steps_per_epoch) * steps_per_epoch)


def _random(recipe: Recipe, steps: int, steps_per_epoch: int, seed: int) -> tuple[Stage, ...]:
    """Return stages with sizes drawn uniformly between the first and the last."""
    rng = np.random.default_rng((seed, 0))
    length = max(1, round(recipe.random_size_epochs * steps_per_epoch))
    adaptive = recipe.regime == "random-size-adaptive"
    found = []
    for first in range(0, steps, length):
        share = float(rng.random())
        found.append(
            _stage(recipe, first, min(length, steps - first), share, share if adaptive else 1.0)
        )
    return tuple(found)


def _stage(recipe: Recipe, first_step: int, steps: int, size_share: float, share: float) -> Stage:
    assert recipe.image_size is not None
    small, large = recipe.image_size
    exact = small + (large - small) * size_share
    multiple = 1 if size_share in (0, 1) else recipe.size_multiple
    size = multiple * round(exact / multiple)
    ramps: dict[str, Ramp] = {name: getattr(recipe, name) or Ramp(0.0, 0.0) for name in STRENGTHS}
    return Stage(
        first_step=first_step,
        steps=steps,
        image_size=min(large, max(small, size)),
        strengths=Strengths(
            **{name: ramp.first + (ramp.last - ramp.first) * share for name, ramp in ramps.items()}
        ),
    )
