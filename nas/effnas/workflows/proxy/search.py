"""A proxy search: the cheapest setting that ranks networks as a higher fidelity does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import TYPE_CHECKING

from effnas.errors import ConfigError
from effnas.workflows.proxy.analysis import analyse
from effnas.workflows.proxy.report import MIN_TAU, ProxyReport, Verdict
from effnas.workflows.proxy.statistics import REPLICATES
from effnas.workflows.proxy.study import check_counts, check_recipes
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

#: What the settings tried by default are multiples of, and the steps of image sizes in pixels.
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
    """Return all combinations of the given settings that cost less than `high`.

    Args:
        base: All other settings; where nothing is given, a quarter to twice its epochs, half of to
            its whole image size in steps of 8, and half of and its whole share are taken.
        high: Combinations that reach it in all three are left out.
        epochs: Epochs to try.
        image_sizes: Image sizes to try, in pixels.
        data_shares: Shares of the data to try.

    Raises:
        ConfigError: If a value is out of range, or nothing costs less than `high`.
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
            f"no setting costs less than what it is compared with, {top}; try fewer epochs, "
            "smaller images or less data"
        )
    return found


@dataclass(frozen=True, kw_only=True)
class SearchReport:
    """What a search for a proxy has found.

    Attributes:
        tried: A report for each setting that was tried, the cheapest first.
        untried: Settings that were not, because a cheaper one keeps tau.
        chosen: The cheapest of those tried whose tau reaches the threshold, or None.
        best: The one with the highest tau; None if no tau is defined.
        threshold: The tau asked for.
    """

    tried: tuple[ProxyReport, ...]
    untried: tuple[Fidelity, ...]
    chosen: ProxyReport | None
    best: ProxyReport | None
    threshold: float

    def to_dict(self) -> dict[str, object]:
        """Return all of it as plain JSON data."""
        return {
            "threshold": self.threshold,
            "chosen": self.chosen.to_dict() if self.chosen else None,
            "best": self.best.to_dict() if self.best else None,
            "tried": [report.to_dict() for report in self.tried],
            "untried": [asdict(fidelity) for fidelity in self.untried],
        }


@dataclass(frozen=True, kw_only=True)
class ProxySearch:
    """The cheapest of several settings that ranks like a higher fidelity.

    First all networks are trained at the higher fidelity, and the first network once at each image
    size: that tells what a setting costs, since training time is proportional to epochs and share.
    Then the settings are tried from the cheapest on, until one keeps tau.

    Attributes:
        networks: Reference networks, 4 or more.
        settings: Recipes to try; they differ in epochs, image size and share alone.
        high: What they stand for.
        holdout_images: Images that give an accuracy.
        seeds: Trainings of each network at a setting.
        high_seeds: Trainings of each network at the higher fidelity.
        threshold: The tau that is asked for.

    Raises:
        ConfigError: If one of them is out of range, or the recipes do not compare.
    """

    networks: Sequence[Architecture]
    settings: Sequence[Recipe]
    high: Recipe
    holdout_images: int
    seeds: int = 1
    high_seeds: int = 2
    threshold: float = MIN_TAU

    def __post_init__(self) -> None:
        if not self.settings:
            raise ConfigError("a search for a proxy needs settings to try")
        check_counts(self.networks, self.seeds, self.high_seeds, self.threshold)
        for recipe in self.settings:
            check_recipes(recipe, self.high)

    def wanted(self, trainings: Sequence[Training]) -> list[TrainingJob]:
        """Return the trainings that tell more; none once a setting keeps tau or all were tried."""
        first = [*jobs(self.high, self.networks, self.high_seeds), *self._probes()]
        if left := missing(first, trainings):
            return left
        high = Fidelity.of(self.high)
        lost = {t.architecture for t in trainings if t.fidelity == high and t.outcome.reason}
        networks = [arch for arch in self.networks if arch not in lost]
        for recipe in self._ordered(trainings):
            report = self._compared(recipe, trainings, replicates=0)
            if report.verdict is Verdict.KEPT and not report.unfinished:
                return []
            if report.unfinished and report.can_succeed:
                return missing(jobs(recipe, networks, self.seeds), trainings)
        return []

    def report(self, trainings: Sequence[Training]) -> SearchReport:
        """Analyse what has been trained.

        Settings that lack trainings are untried, unless so many networks are infeasible that the
        rest would tell nothing.
        """
        tried, untried = [], []
        for recipe in self._ordered(trainings):
            report = self._compared(recipe, trainings)
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

    def _compared(
        self, recipe: Recipe, trainings: Sequence[Training], *, replicates: int = REPLICATES
    ) -> ProxyReport:
        return analyse(
            trainings,
            networks=self.networks,
            proxy=Fidelity.of(recipe),
            high=Fidelity.of(self.high),
            seeds=self.seeds,
            high_seeds=self.high_seeds,
            holdout_images=self.holdout_images,
            threshold=self.threshold,
            replicates=replicates,
        )

    def _probes(self) -> list[TrainingJob]:
        """The first network once at every image size, as short as the settings allow."""
        shortest: dict[int, Recipe] = {}
        for recipe in sorted(self.settings, key=_work):
            shortest.setdefault(Fidelity.of(recipe).image_size, recipe)
        return [job for recipe in shortest.values() for job in jobs(recipe, self.networks[:1], 1)]

    def _ordered(self, trainings: Sequence[Training]) -> list[Recipe]:
        """The settings from cheap to dear; image sizes whose cost is not known come last."""
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
