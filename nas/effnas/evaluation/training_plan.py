"""How the trials of a run are trained: by which recipe, from which seed, and of how many steps."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from effnas.arch.models import TimmModel
from effnas.config.recipe_choice import decided
from effnas.config.text import in_singular
from effnas.timing.training_time import steps_within
from effnas.train.stages import stages_of
from effnas.trials.trial import StageTimes

if TYPE_CHECKING:
    from effnas.config.recipe import Recipe
    from effnas.evaluation.evaluator import Network
    from effnas.timing.training_time import StepTimes


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """What all trainings of a run have in common; a worker has it, and what reads the run.

    Attributes:
        recipe: With all that follows from the images settled.
        images: To train on, 1 or more.
        seed: Of the run.
        full_epochs: Of the recipe before it was made short, which decisions of it are about.
        chooses_sizes: Whether image sizes are a choice of the recipe.
    """

    recipe: Recipe
    images: int
    seed: int
    full_epochs: float | None = None
    chooses_sizes: bool = False

    @property
    def fidelity(self) -> str:
        """How far whole trainings go, in words."""
        return in_singular(self.key)

    @property
    def key(self) -> str:
        """The same for all trainings of a run: seeds are made of it."""
        recipe = self.recipe
        by_time = recipe.train_time_s is not None
        length = f"{recipe.train_time_s:g} s on" if by_time else f"{recipe.epochs:g} epochs of"
        at = "" if self.chooses_sizes else f" at {recipe.sizes_text}"
        return f"{length} {self.images} images{at}"

    def recipe_of(self, network: Network) -> Recipe:
        """Return how a network is trained: by the run's recipe, with what was decided of it."""
        recipe = self.recipe
        if isinstance(network, TimmModel) or not network.recipe:
            return recipe
        found = decided(recipe, dict(network.recipe), full_epochs=self.full_epochs)
        return replace(found, batch_size=min(found.batch_size, self.images))

    def seed_of(self, network: Network, repeat: int = 0) -> int:
        """Return a training's seed: the same for a network whenever and wherever it is trained."""
        text = f"{self.seed}/{network.id}/{self.key}{f'/{repeat}' if repeat else ''}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")

    def stages(self, network: Network, times: StepTimes, seed: int) -> tuple[StageTimes, ...]:
        """Return the steps that fit into the training time of a network.

        Args:
            network: The network.
            times: Of its training steps, on the device that the training time is of.
            seed: Of the training.

        Raises:
            InfeasibleError: If fewer than `effnas.timing.training_time.MIN_STEPS` fit.
        """
        recipe = self.recipe_of(network)
        per_epoch = self.images // recipe.batch_size
        steps = steps_within(recipe, times, steps_per_epoch=per_epoch, seed=seed)
        lasting = recipe.lasting(steps / per_epoch)
        stages = stages_of(lasting, steps_per_epoch=per_epoch, seed=seed, steps=steps)
        return tuple(
            StageTimes(stage.image_size, stage.steps, times(stage.image_size)) for stage in stages
        )
