"""From trainings to a report with advice: a pure function of the records."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from effnas.config.text import counted
from effnas.errors import ConfigError, check_at_least
from effnas.workflows.proxy.networks import MIN_NETWORKS
from effnas.workflows.proxy.report import MIN_TAU, Agreement, FidelityFigures, ProxyReport, Verdict
from effnas.workflows.proxy.statistics import (
    Estimate,
    correlate,
    kendall,
    network_deviation,
    noise_limit,
    seed_deviation,
    spearman,
)
from effnas.workflows.proxy.trainings import Fidelity, TrainingJob, in_common, jobs, missing

if TYPE_CHECKING:
    from effnas.arch.architecture import Architecture
    from effnas.config.recipe import Recipe
    from effnas.workflows.proxy.statistics import Floats
    from effnas.workflows.proxy.trainings import Training

_POINTS = 100.0


@dataclass(frozen=True, kw_only=True)
class Study(ABC):
    """Asks for trainings until it has enough of them.

    Attributes:
        networks: Reference networks, 4 or more.
        high: What a proxy stands for; differs from it in epochs, image size and share alone.
        holdout_images: Number of images that accuracy is measured on.
        seeds: Trainings of each network at a proxy.
        high_seeds: Trainings of each network at the higher fidelity.
        threshold: The tau that a proxy should reach.
        guessing_accuracy: Share of the held-out images that are of the most frequent class, 0 to 1:
            what always guessing that class reaches.

    Raises:
        ConfigError: If one of them is out of range, or the recipes do not compare.
    """

    networks: Sequence[Architecture]
    high: Recipe
    holdout_images: int
    seeds: int = 3
    high_seeds: int = 2
    threshold: float = MIN_TAU
    guessing_accuracy: float = 0.0

    def __post_init__(self) -> None:
        check_at_least(MIN_NETWORKS, networks=len(self.networks))
        check_at_least(1, seeds=self.seeds, high_seeds=self.high_seeds)
        if not 0 < self.threshold < 1:
            raise ConfigError(f"`threshold` is {self.threshold}, it must be above 0 and below 1")
        for recipe in self.proxies:
            _check_recipes(recipe, self.high)

    @property
    @abstractmethod
    def proxies(self) -> Sequence[Recipe]:
        """The recipes that are compared with `high`."""

    @abstractmethod
    def wanted(self, trainings: Sequence[Training]) -> list[TrainingJob]:
        """Return the trainings to do next, those of one recipe together; none at the end."""

    def possible(self, trainings: Iterable[Training]) -> list[TrainingJob]:
        """Return all trainings that have not ended and may still be wanted."""
        at_proxies = (jobs(recipe, self.networks, self.seeds) for recipe in self.proxies)
        at_high = jobs(self.high, self.networks, self.high_seeds)
        return missing([*at_high, *chain.from_iterable(at_proxies)], trainings)


def analyse(study: Study, proxy: Recipe, trainings: Iterable[Training]) -> ProxyReport:
    """Compare a recipe with the higher fidelity of a study by the trainings of the same networks.

    A network with an infeasible training at either fidelity, or without all of its trainings, is
    left out and counted. Further trainings are ignored.

    Args:
        study: Networks, numbers of seeds, and the threshold.
        proxy: The cheap recipe.
        trainings: All that have ended.
    """
    below, above = Fidelity.of(proxy), Fidelity.of(study.high)
    ended = {training.key: training for training in trainings}
    wanted = [(below, n) for n in range(study.seeds)]
    wanted += [(above, n) for n in range(study.high_seeds)]
    infeasible: list[tuple[str, str]] = []
    complete: list[list[Training]] = []
    used: list[Training] = []
    for arch in study.networks:
        keys = [(fidelity, arch.id, repeat) for fidelity, repeat in wanted]
        found = [ended[key] for key in keys if key in ended]
        used += found
        if reason := next((t.outcome.reason for t in found if t.outcome.reason is not None), None):
            infeasible.append((str(arch), reason))
        elif len(found) == len(wanted):
            complete.append(found)
    report = ProxyReport(
        proxy=below,
        high=above,
        networks=len(complete),
        infeasible=tuple(infeasible),
        unfinished=len(study.networks) - len(complete) - len(infeasible),
        holdout_images=study.holdout_images,
        guessing_accuracy=study.guessing_accuracy,
        threshold=study.threshold,
        total_time_s=sum(t.outcome.train_time_s or 0.0 for t in used),
        hardware=tuple(sorted({t.outcome.hardware for t in used if t.outcome.hardware})),
    )
    if len(complete) >= MIN_NETWORKS:
        report = _compared(report, complete, study.seeds)
    return replace(report, advice=_advise(report))


def _compared(report: ProxyReport, complete: list[list[Training]], seeds: int) -> ProxyReport:
    """Fill in the figures of networks with all trainings; `seeds` of each are the proxy's."""
    accuracies = np.array([[t.outcome.accuracy for t in mine] for mine in complete], dtype=float)
    seconds = np.array(
        [[t.outcome.train_time_s or np.nan for t in mine] for mine in complete], dtype=float
    )
    below, above = accuracies[:, :seeds], accuracies[:, seeds:]
    proxy = _figures(report.proxy, below, seconds[:, :seeds], report.holdout_images)
    high = _figures(report.high, above, seconds[:, seeds:], report.holdout_images)
    rng = np.random.default_rng(0)
    single, averaged = (
        Agreement(
            *(correlate(s, below, above, rng, averaged=averaged) for s in (kendall, spearman))
        )
        for averaged in (False, True)
    )
    limit = own_limit = None
    if proxy.reliability is not None:
        own_limit = noise_limit(proxy.reliability)
        if (one := high.reliability) is not None:
            # The mean over seeds is more reliable than one (Spearman-Brown formula).
            of_mean = high.seeds * one / (1 + (high.seeds - 1) * one)
            limit = noise_limit(proxy.reliability, of_mean)
    report = replace(
        report,
        single=single,
        averaged=averaged,
        proxy_figures=proxy,
        high_figures=high,
        noise_limit=limit,
        proxy_noise_limit=own_limit,
        cost_ratio=proxy.train_time_s / high.train_time_s
        if proxy.train_time_s and high.train_time_s
        else None,
    )
    return replace(report, verdict=_verdict(report, proxy, high))


def _verdict(report: ProxyReport, proxy: FidelityFigures, high: FidelityFigures) -> Verdict:
    tau = report.tau
    if _is_flat(proxy) or _is_flat(high):
        return Verdict.UNDEFINED
    guessed = report.is_guessing(proxy) or report.is_guessing(high)
    if guessed or tau.value is None or (report.says_nothing and not report.is_certain):
        return Verdict.NOT_KNOWN
    return Verdict.KEPT if tau.value >= report.threshold else Verdict.LOW


def _is_flat(figures: FidelityFigures) -> bool:
    return figures.accuracy_low == figures.accuracy_high


def _figures(
    fidelity: Fidelity, accuracies: Floats, seconds: Floats, holdout_images: int
) -> FidelityFigures:
    noise = seed_deviation(accuracies)
    between = reliability = None
    if noise.value is not None:
        between = network_deviation(accuracies, noise.value)
        total = between**2 + noise.value**2
        reliability = between**2 / total if total else None
    means = accuracies.mean(axis=1)
    errors = np.sqrt(accuracies * (1 - accuracies) / holdout_images)
    points = (None if v is None else _POINTS * v for v in (noise.value, noise.low, noise.high))
    return FidelityFigures(
        fidelity=fidelity,
        seeds=accuracies.shape[1],
        accuracy=float(accuracies.mean()),
        accuracy_low=float(means.min()),
        accuracy_high=float(means.max()),
        seed_deviation_points=Estimate(*points),
        network_deviation_points=None if between is None else _POINTS * between,
        reliability=reliability,
        holdout_error_points=_POINTS * float(errors.mean()),
        train_time_s=float(np.nanmean(seconds)) if not np.isnan(seconds).all() else None,
    )


# -- advice


def _advise(report: ProxyReport) -> tuple[str, ...]:
    """Return advice, most useful first; none if tau is certainly high enough.

    The cause of a low tau follows from the tau that noise over seeds alone would leave: below the
    threshold, noise is the cause; else the two fidelities rank differently.
    """
    if report.verdict is Verdict.TOO_FEW:
        return (_too_few(report),)
    proxy, high = report.proxy_figures, report.high_figures
    assert proxy is not None
    assert high is not None
    if report.verdict is Verdict.UNDEFINED:
        return (_undefined(proxy, high),)
    for name, figures in (("proxy", proxy), ("higher fidelity", high)):
        if report.is_guessing(figures):
            return (_guessing(report, name, figures),)
    if report.tau.value is None:
        return (
            f"The agreement is not known from {report.networks} networks: more of them can tell, "
            f"such as `networks` {2 * report.networks}, and finished trainings count.",
        )
    is_low = report.tau.value < report.threshold
    found = _low(report, proxy, high) if is_low else []
    if report.tau.low is not None and not report.is_certain:
        found.append(
            f"The interval of tau, {report.tau.low:.2f} to {report.tau.high:.2f}, includes "
            f"{report.threshold:g}: {report.networks} networks cannot decide it. More of them can: "
            f"`networks` {2 * report.networks} narrows it to about 0.7 of its width, and finished "
            "trainings count."
        )
        if is_low:
            found.reverse()  # first make sure that tau is low
    return tuple(found)


def _too_few(report: ProxyReport) -> str:
    text = (
        f"All trainings have ended of {counted(report.networks, 'network')}, and {MIN_NETWORKS} "
        "are needed for a ranking."
    )
    if report.unfinished and report.can_succeed:
        text += f" {report.unfinished} are not finished: the same command continues them."
    if report.infeasible:
        reasons = "; ".join(sorted({reason for _, reason in report.infeasible})[:3])
        text += (
            f" {len(report.infeasible)} cannot be trained ({reasons}). If that is memory, a "
            "smaller `batch_size` or `image_size` helps; if they diverge, a smaller "
            "`learning_rate`; or ask for more `networks`."
        )
    return text


def _undefined(proxy: FidelityFigures, high: FidelityFigures) -> str:
    flat, where = (high, "higher fidelity") if _is_flat(high) else (proxy, "proxy")
    cause = (
        "the data are too easy to tell networks apart: use other images, or hold more of them out "
        "(`holdout_share`)"
        if flat.accuracy > 0.95
        else "the networks have not learned enough to differ: more epochs, a larger image size or "
        "more data help, and more held-out images (`holdout_share`)"
    )
    return (
        f"At the {where} all networks have the accuracy {flat.accuracy:.4f}, so that there is no "
        f"ranking and no tau; {cause}."
    )


def _guessing(report: ProxyReport, name: str, figures: FidelityFigures) -> str:
    return (
        f"At the {name} the mean accuracy, {figures.accuracy:.4f}, is not above that of always "
        f"guessing the most frequent class, {report.guessing_accuracy:.4f}, by two standard errors "
        f"({2 * report.guessing_error:.4f}): the networks are ranked by luck. More `epochs`, a "
        "larger `image_size` or more data help."
    )


def _low(report: ProxyReport, proxy: FidelityFigures, high: FidelityFigures) -> list[str]:
    limit, threshold = report.noise_limit, report.threshold
    if limit is None:
        return [
            "One seed does not show how much of that is noise: `seeds` 3 and `high_seeds` 2 do.",
            _ranks_differ(report),
        ]
    if limit >= threshold:
        return [
            f"Noise over seeds is not the cause (it alone would leave tau at about {limit:.2f}): "
            f"the two fidelities rank differently. {_ranks_differ(report)}"
        ]
    assert report.proxy_noise_limit is not None
    if report.proxy_noise_limit >= threshold:
        return [
            f"The noise of the higher fidelity hides the ranking: {_noise(high)}."
            f"{_more_images(report, high)} Average it over more seeds: `high_seeds` "
            f"{2 * high.seeds}."
        ]
    return [
        f"Noise over seeds is the cause: {_noise(proxy)}. It alone would leave tau at about "
        f"{report.proxy_noise_limit:.2f}.{_more_images(report, proxy)} Longer training helps: more "
        "`epochs`, or a larger `data_share`."
    ]


def _more_images(report: ProxyReport, figures: FidelityFigures) -> str:
    """Return advice to hold out more images, if their sampling error matches the noise."""
    error = figures.holdout_error_points
    if error < (figures.seed_deviation_points.value or 0.0):
        return ""
    return (
        f" First hold out more images (`holdout_share`): with {report.holdout_images:,} the "
        f"sampling error alone is {error:.2f} points."
    )


def _noise(figures: FidelityFigures) -> str:
    return (
        f"the seeds of a network lie {figures.seed_deviation_points.value:.2f} points apart "
        f"(standard deviation), networks {figures.network_deviation_points:.2f}"
    )


def _ranks_differ(report: ProxyReport) -> str:
    proxy, high = report.proxy, report.high
    steps = []
    if proxy.image_size != high.image_size:
        steps.append(f"`image_size` nearer to {high.image_size} (it is {proxy.image_size})")
    if proxy.epochs < high.epochs:
        steps.append(f"more `epochs` (they are {proxy.epochs}, compared with {high.epochs})")
    if proxy.data_share < high.data_share:
        steps.append(
            f"a larger `data_share` (it is {proxy.data_share:.3g}, compared with "
            f"{high.data_share:.3g})"
        )
    return f"Bring the proxy nearer to the higher fidelity: {', then '.join(steps)}."


def _check_recipes(proxy: Recipe, high: Recipe) -> None:
    """Raise ConfigError unless two recipes differ in fidelity, and in nothing else."""
    below, above = Fidelity.of(proxy), Fidelity.of(high)
    if below == above:
        raise ConfigError(f"the proxy is what it is compared with: {below}; give one of them less")
    # From the shorter one: what has come to a limit in a longer one does not come back.
    short, long = sorted((proxy, high), key=lambda recipe: recipe.epochs)
    if in_common(short.lasting(long.epochs)) != in_common(long):
        raise ConfigError(
            "the recipes of a proxy and of what it is compared with may differ in epochs, image "
            "size and data share alone"
        )
