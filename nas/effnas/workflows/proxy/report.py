"""The report on a proxy: its noise, how well it ranks, and its cost."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from math import sqrt
from typing import TYPE_CHECKING

from effnas.workflows.proxy.networks import MIN_NETWORKS
from effnas.workflows.proxy.statistics import NO_ESTIMATE, Estimate

if TYPE_CHECKING:
    from effnas.workflows.proxy.trainings import Fidelity

#: The tau that a proxy should reach; below it there is a warning. Vertex AI NAS asks for the same.
MIN_TAU = 0.65


class Verdict(StrEnum):
    """Whether the proxy's ranking can be trusted.

    KEPT: tau is at least the threshold. LOW: it is below. NOT_KNOWN: the trainings do not tell
    which, or the networks learned nothing. UNDEFINED: all accuracies of one side are the same.
    TOO_FEW: fewer than 4 networks have all of their trainings.
    """

    KEPT = "KEPT"
    LOW = "LOW"
    NOT_KNOWN = "NOT_KNOWN"
    UNDEFINED = "UNDEFINED"
    TOO_FEW = "TOO_FEW"


@dataclass(frozen=True, kw_only=True)
class FidelityFigures:
    """Figures of the trainings at one fidelity; points are percentage points of accuracy.

    Attributes:
        fidelity: Epochs, image size and share of the data.
        seeds: Trainings of each network.
        accuracy: Mean over networks and seeds, 0 to 1.
        accuracy_low: Lowest mean of a network.
        accuracy_high: Highest mean of a network.
        seed_deviation_points: Standard deviation over the seeds of a network, pooled over networks.
        network_deviation_points: Standard deviation between networks, noise over seeds taken off;
            None with one seed.
        reliability: Share of the variance of single trainings that lies between networks, 0 to 1;
            None with one seed or without any variance.
        holdout_error_points: Standard error of one accuracy from the number of held-out images,
            sqrt(A(1 - A) / M). All networks see the same images, so it disturbs rankings less.
        train_time_s: Mean seconds of a training; None if none was measured.
    """

    fidelity: Fidelity
    seeds: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    seed_deviation_points: Estimate
    network_deviation_points: float | None
    reliability: float | None
    holdout_error_points: float
    train_time_s: float | None


@dataclass(frozen=True)
class Agreement:
    """Rank correlation of the proxy's accuracies with the mean high-fidelity ones."""

    kendall: Estimate = NO_ESTIMATE
    spearman: Estimate = NO_ESTIMATE


@dataclass(frozen=True, kw_only=True)
class ProxyReport:
    """The result of a check of a proxy.

    Attributes:
        proxy: Epochs, image size and share of the proxy.
        high: The same of the higher fidelity.
        networks: Number of networks that the figures are about.
        infeasible: Networks left out because one of their trainings is infeasible: the
            architecture and the reason.
        unfinished: Number of networks left out because trainings are missing.
        holdout_images: Number of images that accuracy is measured on.
        guessing_accuracy: What always guessing their most frequent class reaches, 0 to 1.
        threshold: The tau that the proxy should reach.
        verdict: Whether it does.
        single: Agreement of the proxy with one seed, as in a search: the figure that matters.
        averaged: Agreement of the proxy's mean over seeds.
        proxy_figures: The trainings at the proxy; None if fewer than 4 networks have all trainings.
        high_figures: Those at the higher fidelity.
        noise_limit: The single-seed tau that noise over seeds would leave if both fidelities ranked
            the networks alike; None with one seed.
        proxy_noise_limit: The same, if the higher fidelity had no noise.
        cost_ratio: Seconds of a training at the proxy over those at the higher fidelity.
        total_time_s: Seconds of all trainings of the report.
        hardware: Identities of the devices that trained.
        advice: What to change, most useful first.
    """

    proxy: Fidelity
    high: Fidelity
    networks: int
    infeasible: tuple[tuple[str, str], ...]
    unfinished: int
    holdout_images: int
    guessing_accuracy: float
    threshold: float
    verdict: Verdict = Verdict.TOO_FEW
    single: Agreement = Agreement()
    averaged: Agreement = Agreement()
    proxy_figures: FidelityFigures | None = None
    high_figures: FidelityFigures | None = None
    noise_limit: float | None = None
    proxy_noise_limit: float | None = None
    cost_ratio: float | None = None
    total_time_s: float
    hardware: tuple[str, ...]
    advice: tuple[str, ...] = ()

    @property
    def tau(self) -> Estimate:
        """Kendall's tau-b of the proxy with one seed."""
        return self.single.kendall

    @property
    def is_incomplete(self) -> bool:
        """Whether trainings are missing, and there can be a tau once they have ended."""
        return self.unfinished > 0 and self.can_succeed

    @property
    def train_time_s(self) -> float:
        """Mean seconds of a training at the proxy; infinite if none was measured."""
        figures = self.proxy_figures
        return figures.train_time_s or float("inf") if figures else float("inf")

    @property
    def is_certain(self) -> bool:
        """Whether the interval of tau lies on one side of the threshold."""
        low, high = self.tau.low, self.tau.high
        return low is not None and high is not None and not low < self.threshold <= high

    @property
    def says_nothing(self) -> bool:
        """Whether tau may be 0 as well: then the proxy's ranks say nothing of the networks."""
        return self.tau.low is None or self.tau.low <= 0

    @property
    def guessing_error(self) -> float:
        """Standard error of the accuracy of guessing, from the number of held-out images."""
        guessed = self.guessing_accuracy
        return sqrt(guessed * (1 - guessed) / self.holdout_images)

    def is_guessing(self, figures: FidelityFigures) -> bool:
        """Return whether a fidelity's mean accuracy may as well be that of guessing."""
        return figures.accuracy <= self.guessing_accuracy + 2 * self.guessing_error

    @property
    def can_succeed(self) -> bool:
        """Whether enough networks are left for a tau once all trainings have ended."""
        return self.networks + self.unfinished >= MIN_NETWORKS

    def to_dict(self) -> dict[str, object]:
        """Return it as plain JSON data."""
        return {
            **asdict(self),
            "verdict": str(self.verdict),
            "is_certain": self.is_certain,
            "infeasible": [{"architecture": a, "reason": r} for a, r in self.infeasible],
            "hardware": list(self.hardware),
            "advice": list(self.advice),
        }


@dataclass(frozen=True, kw_only=True)
class SearchReport:
    """The result of a search for a proxy.

    Attributes:
        tried: A report for each setting that was tried, the cheapest first.
        untried: Settings that were not tried, because a cheaper one reaches the threshold.
        threshold: The tau that a proxy should reach.
    """

    tried: tuple[ProxyReport, ...]
    untried: tuple[Fidelity, ...]
    threshold: float

    @property
    def chosen(self) -> ProxyReport | None:
        """The cheapest of those tried whose tau reaches the threshold."""
        return next((report for report in self.tried if report.verdict is Verdict.KEPT), None)

    @property
    def best(self) -> ProxyReport | None:
        """The one with the highest tau; None if no tau is defined."""
        ranked = [report for report in self.tried if report.tau.value is not None]
        return max(ranked, key=lambda report: report.tau.value or 0.0, default=None)

    def to_dict(self) -> dict[str, object]:
        """Return it as plain JSON data."""
        return {
            "threshold": self.threshold,
            "chosen": self.chosen.to_dict() if self.chosen else None,
            "best": self.best.to_dict() if self.best else None,
            "tried": [report.to_dict() for report in self.tried],
            "untried": [asdict(fidelity) for fidelity in self.untried],
        }
