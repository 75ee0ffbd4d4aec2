"""Checks of a proxy, and searches for one.

A study, a check or a search, says which trainings are `wanted` next, given those that have ended;
if none are, the report is ready. The driver may run any number of them at once, and they may end in
any order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from effnas.errors import ConfigError
from effnas.workflows.proxy.analysis import Study, analyse
from effnas.workflows.proxy.report import ProxyReport, SearchReport, Verdict
from effnas.workflows.proxy.trainings import Fidelity, Training, TrainingJob, jobs, missing

if TYPE_CHECKING:
    from effnas.config.recipe import Recipe

#: Epochs of the higher fidelity, as a multiple of the proxy's.
_HIGHER_EPOCHS = 4
#: Default settings of a search, as multiples of the recipe's; the steps of image sizes in pixels.
_EPOCHS, _IMAGE_SIZES, _DATA_SHARES = (0.25, 0.5, 1, 2), (0.5, 0.75, 1), (0.5, 1)
_IMAGE_STEP = 8


def higher_fidelity(recipe: Recipe, *, image_size: int, epochs: int | None = None) -> Recipe:
    """Return the recipe that a proxy stands for: all data, larger images, more epochs.

    Args:
        recipe: The proxy's.
        image_size: The largest useful size for the data, in pixels; the proxy's if that is larger.
        epochs: Four times the proxy's by default.
    """
    longer = recipe.lasting(epochs or _HIGHER_EPOCHS * recipe.epochs)
    return at_fidelity(longer, image_size=max(image_size, recipe.last_image_size), data_share=1.0)


def at_fidelity(recipe: Recipe, *, image_size: int, data_share: float) -> Recipe:
    """Return a recipe for another last image size, the first one in proportion, and share."""
    sized = recipe.overridden(image_size=image_size, data_share=data_share)
    return sized.sized(*(sized.image_size or (image_size, image_size)))


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
        return analyse(self, self.proxy, trainings)


def candidates(
    base: Recipe,
    high: Recipe,
    *,
    epochs: Sequence[int] = (),
    image_sizes: Sequence[int] = (),
    data_shares: Sequence[float] = (),
) -> list[Recipe]:
    """Return all combinations of the given settings that are below `high`.

    Args:
        base: All other settings. By default, 0.25 to 2 times its epochs, 0.5 to 1 times its image
            size in steps of 8, and 0.5 and 1 times its share are tried.
        high: Combinations that reach it in all three are left out.
        epochs: Epochs to try.
        image_sizes: Image sizes to try, in pixels.
        data_shares: Shares of the data to try.

    Raises:
        ConfigError: If a value is out of range, or no combination is below `high`.
    """
    own, top = Fidelity.of(base), Fidelity.of(high)
    sizes = image_sizes or [
        own.image_size if f == 1 else max(round(f * own.image_size / _IMAGE_STEP), 1) * _IMAGE_STEP
        for f in _IMAGE_SIZES
    ]
    settings = product(
        epochs or [max(round(f * own.epochs), 1) for f in _EPOCHS],
        sizes,
        data_shares or [f * own.data_share for f in _DATA_SHARES],
    )
    found = [
        at_fidelity(base.lasting(e), image_size=s, data_share=d)
        for e, s, d in dict.fromkeys(settings)
        if e < top.epochs or s < top.image_size or d < top.data_share
    ]
    if not found:
        raise ConfigError(
            f"no setting is below the higher fidelity, {top}; try fewer epochs, "
            "smaller images or less data"
        )
    return found


@dataclass(frozen=True, kw_only=True)
class ProxySearch(Study):
    """The cheapest of several settings that ranks like a higher fidelity.

    First all networks are trained at the higher fidelity, and the first network once at each image
    size: that gives the cost of each setting, since training time is proportional to epochs and
    share. Then the settings are tried from the cheapest on, until one reaches the threshold.

    Attributes:
        settings: Recipes to try; they differ in epochs, image size and share alone.
    """

    settings: Sequence[Recipe]
    seeds: int = 1

    def __post_init__(self) -> None:
        if not self.settings:
            raise ConfigError("a search for a proxy needs settings to try")
        super().__post_init__()

    @property
    def proxies(self) -> Sequence[Recipe]:
        """The settings."""
        return self.settings

    def wanted(self, trainings: Sequence[Training]) -> list[TrainingJob]:
        """Return the next trainings; none once a setting reaches the threshold, or at the end."""
        first = [*jobs(self.high, self.networks, self.high_seeds), *self._probes()]
        if left := missing(first, trainings):
            return left
        high = Fidelity.of(self.high)
        lost = {t.architecture for t in trainings if t.fidelity == high and t.outcome.reason}
        networks = [arch for arch in self.networks if arch not in lost]
        for recipe in self._ordered(trainings):
            report = analyse(self, recipe, trainings)
            if report.verdict is Verdict.KEPT and not report.unfinished:
                return []
            if report.is_incomplete:
                return missing(jobs(recipe, networks, self.seeds), trainings)
        return []

    def report(self, trainings: Sequence[Training]) -> SearchReport:
        """Analyse what has been trained.

        Settings that lack trainings are untried, unless too many networks are infeasible for a
        ranking.
        """
        found = [analyse(self, recipe, trainings) for recipe in self._ordered(trainings)]
        tried = [report for report in found if not report.is_incomplete]
        return SearchReport(
            tried=tuple(sorted(tried, key=lambda report: report.train_time_s)),
            untried=tuple(report.proxy for report in found if report.is_incomplete),
            threshold=self.threshold,
        )

    def _probes(self) -> list[TrainingJob]:
        """Return the first network's shortest training at every image size."""
        shortest: dict[int, Recipe] = {}
        for recipe in sorted(self.settings, key=_work):
            shortest.setdefault(Fidelity.of(recipe).image_size, recipe)
        return [job for recipe in shortest.values() for job in jobs(recipe, self.networks[:1], 1)]

    def _ordered(self, trainings: Sequence[Training]) -> list[Recipe]:
        """Return the settings by cost; image sizes whose cost is not known come last."""
        seconds = {training.key: training.outcome.train_time_s for training in trainings}
        per_work = {
            job.fidelity.image_size: taken / _work(job.recipe)
            for job in self._probes()
            if (taken := seconds.get(job.key))
        }

        def cost(recipe: Recipe) -> tuple[bool, float, int]:
            size = Fidelity.of(recipe).image_size
            return size not in per_work, _work(recipe) * per_work.get(size, size**2), size

        return sorted(self.settings, key=cost)


def _work(recipe: Recipe) -> float:
    fidelity = Fidelity.of(recipe)
    return fidelity.epochs * fidelity.data_share
