"""About how long trainings will take, as far as a search tells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from effnas.train.stages import stages_of

if TYPE_CHECKING:
    from effnas.config.recipe import Recipe
    from effnas.trials.run import Run
    from effnas.trials.trial import Trial


#: Steps of an epoch where their number does not matter.
_STEPS = 100


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """About how long trainings that are left will take.

    Attributes:
        epochs: Epochs that are left, in all.
        seconds: Of a worker that trains all of them.
    """

    epochs: float
    seconds: float


def epoch_time(run: Run, trial: Trial, recipe: Recipe, device: str) -> float | None:
    """Return about how many seconds an epoch of a trial's network takes.

    In proportion to images and pixels, from the time that its training took in the search.

    Args:
        run: The search.
        trial: A complete trial.
        recipe: How the network is trained now.
        device: Where: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.

    Returns:
        None where the search does not tell, or was on another device.
    """
    parent = run.manifest.parent
    is_moved = parent is not None and parent.hardware != run.manifest.hardware
    is_elsewhere = device.partition(":")[0] not in ("auto", run.manifest.device.get("device"))
    seconds = trial.metrics.get("train_time_s")
    if seconds is None or is_moved or is_elsewhere:
        return None
    images = (recipe.data_share or 1.0) / (run.recipe.data_share or 1.0)
    pixels = _mean_pixels(recipe) / _mean_pixels(run.recipe)
    return images * pixels * seconds / run.recipe.epochs


def _mean_pixels(recipe: Recipe) -> float:
    """Return the pixels of an image, as a mean over the training."""
    stages = stages_of(recipe, steps_per_epoch=_STEPS)
    return sum(each.steps * each.image_size**2 for each in stages) / stages[-1].end
