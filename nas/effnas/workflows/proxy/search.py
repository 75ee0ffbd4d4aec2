"""A proxy search: the cheapest setting that ranks networks as a higher fidelity does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import TYPE_CHECKING

from effnas.errors import ConfigError
from effnas.workflows.proxy.report import ProxyReport, Verdict
from effnas.workflows.proxy.study import Study
from effnas.workflows.proxy.trainings import (
    Fidelity,
    Training,
    TrainingJob,
    jobs,
    missing,
)

if TYPE_CHECKING:
    from effnas.config.settings import Recipe

#: Default settings, as multiples of the recipe's, and the steps of image sizes in pixels.
_EPOCHS, _IMAGE_SIZES, _DATA_SHARES = (0.25, 0.5, 1, 2), (0.5, 0.75, 1), (0.5, 1)
_IMAGE_STEP = 8


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
        replace(base, epochs=e, image_size=s, data_share=d)
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
class SearchReport:
    """The result of a search for a proxy.

    Attributes:
        tried: A report for each setting that was tried, the cheapest first.
        untried: Settings that were not tried, because a cheaper one reaches the threshold.
        chosen: The cheapest of those tried whose tau reaches the threshold, or None.
        best: The one with the highest tau; None if no tau is defined.
        threshold: The tau that a proxy should reach.
    """

    tried: tuple[ProxyReport, ...]
    untried: tuple[Fidelity, ...]
    chosen: ProxyReport | None
    best: ProxyReport | None
    threshold: float

    def to_dict(self) -> dict[str, object]:
        """Return it as plain JSON data."""
        return {
            "threshold": self.threshold,
            "chosen": self.chosen.to_dict() if self.chosen else None,
            "best": self.best.to_dict() if self.best else None,
            "tried": [report.to_dict() for report in self.tried],
            "untried": [asdict(fidelity) for fidelity in self.untried],
        }


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
            report = self.compare(recipe, trainings, replicates=0)
            if report.verdict is Verdict.KEPT and not report.unfinished:
                return []
            if report.unfinished and report.can_succeed:
                return missing(jobs(recipe, networks, self.seeds), trainings)
        return []

    def report(self, trainings: Sequence[Training]) -> SearchReport:
        """Analyse what has been trained.

        Settings that lack trainings are untried, unless too many networks are infeasible for a
        ranking.
        """
        tried, untried = [], []
        for recipe in self._ordered(trainings):
            report = self.compare(recipe, trainings)
            if report.unfinished and report.can_succeed:
                untried.append(Fidelity.of(recipe))
            else:
                tried.append(report)
        tried.sort(key=_seconds)
        kept = [report for report in tried if report.verdict is Verdict.KEPT]
        ranked = [report for report in tried if report.tau.value is not None]
        return SearchReport(
            tried=tuple(tried),
            untried=tuple(untried),
            chosen=kept[0] if kept else None,
            best=max(ranked, key=lambda report: report.tau.value or 0.0, default=None),
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
        per_work: dict[int, float] = {}
        for job in self._probes():
            for t in trainings:
                same = (t.fidelity, t.architecture, t.repeat) == (
                    job.fidelity,
                    job.architecture,
                    job.repeat,
                )
                if same and t.outcome.train_time_s:
                    size = job.fidelity.image_size
                    per_work[size] = t.outcome.train_time_s / _work(job.recipe)

        def cost(recipe: Recipe) -> tuple[bool, float, int]:
            size = Fidelity.of(recipe).image_size
            return size not in per_work, _work(recipe) * per_work.get(size, size**2), size

        return sorted(self.settings, key=cost)


def _work(recipe: Recipe) -> float:
    fidelity = Fidelity.of(recipe)
    return fidelity.epochs * fidelity.data_share


def _seconds(report: ProxyReport) -> float:
    figures = report.proxy_figures
    return figures.train_time_s or float("inf") if figures else float("inf")
