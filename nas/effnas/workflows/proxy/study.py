"""A proxy check, and what all studies have in common.

A study, a check or a search, says which trainings are `wanted` next, given those that have ended;
if none are, the report is ready. The driver may run any number of them at once, and they may end in
any order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from effnas.errors import ConfigError, check_at_least
from effnas.workflows.proxy.analysis import analyse
from effnas.workflows.proxy.networks import MIN_NETWORKS
from effnas.workflows.proxy.report import MIN_TAU, ProxyReport
from effnas.workflows.proxy.statistics import REPLICATES
from effnas.workflows.proxy.trainings import (
    Fidelity,
    Training,
    TrainingJob,
    jobs,
    missing,
)

if TYPE_CHECKING:
    from effnas.arch.architecture import Architecture
    from effnas.config.settings import Recipe

#: Epochs of the higher fidelity, as a multiple of the proxy's.
_HIGHER_EPOCHS = 4


@dataclass(frozen=True, kw_only=True)
class Study:
    """Asks for trainings until it has enough of them.

    Attributes:
        networks: Reference networks, 4 or more.
        high: What a proxy stands for; differs from it in epochs, image size and share alone.
        holdout_images: Number of images that accuracy is measured on.
        seeds: Trainings of each network at a proxy.
        high_seeds: Trainings of each network at the higher fidelity.
        threshold: The tau that a proxy should reach.

    Raises:
        ConfigError: If one of them is out of range, or the recipes do not compare.
    """

    networks: Sequence[Architecture]
    high: Recipe
    holdout_images: int
    seeds: int = 3
    high_seeds: int = 2
    threshold: float = MIN_TAU

    def __post_init__(self) -> None:
        if len(self.networks) < MIN_NETWORKS:
            raise ConfigError(
                f"{len(self.networks)} networks cannot show how well a proxy ranks; give "
                f"{MIN_NETWORKS} or more"
            )
        check_at_least(1, seeds=self.seeds, high_seeds=self.high_seeds)
        if not 0 < self.threshold < 1:
            raise ConfigError(
                f"the tau asked for is {self.threshold}, it must be above 0 and below 1"
            )
        for recipe in self.proxies:
            _check_recipes(recipe, self.high)

    @property
    def proxies(self) -> Sequence[Recipe]:
        """The recipes that are compared with `high`."""
        raise NotImplementedError

    def wanted(self, trainings: Sequence[Training]) -> list[TrainingJob]:
        """Return the trainings to do next, those of one recipe together; none at the end."""
        raise NotImplementedError

    def compare(
        self, proxy: Recipe, trainings: Sequence[Training], *, replicates: int = REPLICATES
    ) -> ProxyReport:
        """Compare a recipe with `high` by what has been trained."""
        return analyse(
            trainings,
            networks=self.networks,
            proxy=Fidelity.of(proxy),
            high=Fidelity.of(self.high),
            seeds=self.seeds,
            high_seeds=self.high_seeds,
            holdout_images=self.holdout_images,
            threshold=self.threshold,
            replicates=replicates,
        )


def higher_fidelity(recipe: Recipe, *, image_size: int, epochs: int | None = None) -> Recipe:
    """Return the recipe that a proxy stands for: all data, larger images, more epochs.

    Args:
        recipe: The proxy's.
        image_size: The largest useful size for the data, in pixels; the proxy's if that is larger.
        epochs: Four times the proxy's by default.
    """
    return replace(
        recipe,
        epochs=epochs or _HIGHER_EPOCHS * recipe.epochs,
        image_size=max(image_size, recipe.image_size or 1),
        data_share=1.0,
    )


@dataclass(frozen=True, kw_only=True)
class ProxyCheck(Study):
    """One proxy against a higher fidelity.

    Attributes:
        proxy: With an image size and a share.
    """

    proxy: Recipe

    @property
    def proxies(self) -> Sequence[Recipe]:
        """The proxy."""
        return (self.proxy,)

    def wanted(self, trainings: Sequence[Training]) -> list[TrainingJob]:
        """Return all trainings that have not ended, the cheaper fidelity first."""
        below = jobs(self.proxy, self.networks, self.seeds)
        return missing([*below, *jobs(self.high, self.networks, self.high_seeds)], trainings)

    def report(self, trainings: Sequence[Training]) -> ProxyReport:
        """Analyse what has been trained."""
        return self.compare(self.proxy, trainings)


def _check_recipes(proxy: Recipe, high: Recipe) -> None:
    """Raise ConfigError unless two recipes differ in fidelity, and in nothing else."""
    below, above = Fidelity.of(proxy), Fidelity.of(high)
    if below == above:
        raise ConfigError(f"the proxy is what it is compared with: {below}; give one of them less")
    same = replace(
        high, epochs=below.epochs, image_size=below.image_size, data_share=below.data_share
    )
    if same != proxy:
        raise ConfigError(
            "the recipes of a proxy and of what it is compared with may differ in epochs, image "
            "size and data share alone"
        )
