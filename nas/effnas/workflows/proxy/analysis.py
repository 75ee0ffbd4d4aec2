"""From trainings to a report: a pure function of the records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from effnas.workflows.proxy.advice import advise
from effnas.workflows.proxy.networks import MIN_NETWORKS
from effnas.workflows.proxy.report import (
    MIN_TAU,
    Agreement,
    FidelityFigures,
    ProxyReport,
    Verdict,
)
from effnas.workflows.proxy.statistics import (
    REPLICATES,
    Estimate,
    correlate,
    kendall,
    network_deviation,
    noise_limit,
    seed_deviation,
    spearman,
)

if TYPE_CHECKING:
    from effnas.arch.architecture import Architecture
    from effnas.workflows.proxy.statistics import Floats
    from effnas.workflows.proxy.trainings import Fidelity, Training

_POINTS = 100.0


def analyse(
    trainings: Iterable[Training],
    *,
    networks: Sequence[Architecture],
    proxy: Fidelity,
    high: Fidelity,
    seeds: int,
    high_seeds: int,
    holdout_images: int,
    threshold: float = MIN_TAU,
    replicates: int = REPLICATES,
) -> ProxyReport:
    """Compare two fidelities by the trainings of the same networks.

    A network with an infeasible training at either fidelity, or without all of its trainings, is
    left out and counted. Further trainings are ignored.

    Args:
        trainings: That have ended.
        networks: The reference networks.
        proxy: The cheap fidelity.
        high: The higher fidelity that it stands for.
        seeds: Trainings of a network at the proxy, 1 or more.
        high_seeds: Trainings of a network at the higher fidelity, 1 or more.
        holdout_images: Number of images that accuracy is measured on.
        threshold: The tau that the proxy should reach.
        replicates: Of the bootstrap; 0 gives no intervals.
    """
    ended = {(t.fidelity, t.architecture.id, t.repeat): t for t in trainings}
    wanted = [(proxy, n) for n in range(seeds)] + [(high, n) for n in range(high_seeds)]
    infeasible, complete = [], []
    used: list[Training] = []
    for arch in networks:
        mine = [ended.get((fidelity, arch.id, repeat)) for fidelity, repeat in wanted]
        found = [training for training in mine if training is not None]
        used += found
        reasons = [t.outcome.reason for t in found if t.outcome.reason is not None]
        if reasons:
            infeasible.append((str(arch), reasons[0]))
        elif len(found) == len(wanted):
            complete.append(found)
    report = ProxyReport(
        proxy=proxy,
        high=high,
        networks=len(complete),
        infeasible=tuple(infeasible),
        unfinished=len(networks) - len(complete) - len(infeasible),
        holdout_images=holdout_images,
        threshold=threshold,
        verdict=Verdict.TOO_FEW,
        single=Agreement(Estimate(None), Estimate(None)),
        averaged=Agreement(Estimate(None), Estimate(None)),
        proxy_figures=None,
        high_figures=None,
        noise_limit=None,
        proxy_noise_limit=None,
        cost_ratio=None,
        total_time_s=sum(t.outcome.train_time_s or 0.0 for t in used),
        hardware=tuple(sorted({t.outcome.hardware for t in used if t.outcome.hardware})),
    )
    if len(complete) >= MIN_NETWORKS:
        report = _compared(report, complete, seeds, replicates)
    return replace(report, advice=advise(report))


def _compared(
    report: ProxyReport, complete: list[list[Training]], seeds: int, replicates: int
) -> ProxyReport:
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
            *(
                correlate(s, below, above, rng, averaged=averaged, replicates=replicates)
                for s in (kendall, spearman)
            )
        )
        for averaged in (False, True)
    )
    tau = single.kendall.value
    limit = own_limit = None
    if proxy.reliability is not None:
        own_limit = noise_limit(proxy.reliability)
        if high.reliability is not None:
            limit = noise_limit(proxy.reliability, _of_mean(high.reliability, high.seeds))
    return replace(
        report,
        verdict=Verdict.UNDEFINED
        if tau is None
        else Verdict.KEPT
        if tau >= report.threshold
        else Verdict.LOW,
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
    return FidelityFigures(
        fidelity=fidelity,
        seeds=accuracies.shape[1],
        accuracy=float(accuracies.mean()),
        accuracy_low=float(means.min()),
        accuracy_high=float(means.max()),
        seed_deviation_points=_in_points(noise),
        network_deviation_points=None if between is None else _POINTS * between,
        reliability=reliability,
        holdout_error_points=_POINTS * float(errors.mean()),
        train_time_s=float(np.nanmean(seconds)) if not np.isnan(seconds).all() else None,
    )


def _of_mean(reliability: float, seeds: int) -> float:
    """Return the reliability of a mean over seeds (Spearman-Brown formula)."""
    return seeds * reliability / (1 + (seeds - 1) * reliability)


def _in_points(estimate: Estimate) -> Estimate:
    return Estimate(*(None if v is None else _POINTS * v for v in (
        estimate.value, estimate.low, estimate.high)))  # fmt: skip
