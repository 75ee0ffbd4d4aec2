"""Advice on what to change about a proxy, from the figures of its check."""

from __future__ import annotations

from typing import TYPE_CHECKING

from effnas.workflows.proxy.networks import MIN_NETWORKS
from effnas.workflows.proxy.report import Verdict

if TYPE_CHECKING:
    from effnas.workflows.proxy.report import FidelityFigures, ProxyReport


def advise(report: ProxyReport) -> tuple[str, ...]:
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
    found = []
    if report.verdict is Verdict.LOW:
        found += _low(report, proxy, high)
    if report.tau.low is not None and not report.is_certain:
        found.append(
            f"The interval of tau, {report.tau.low:.2f} to {report.tau.high:.2f}, includes "
            f"{report.threshold:g}: {report.networks} networks cannot decide it. More of them can: "
            f"`networks` {2 * report.networks} narrows it to about 0.7 of its width, and finished "
            "trainings count."
        )
        if report.verdict is Verdict.LOW:
            found.reverse()  # first make sure that tau is low
    return tuple(found)


def _too_few(report: ProxyReport) -> str:
    text = (
        f"{report.networks} networks have all of their trainings, and {MIN_NETWORKS} are needed "
        "for a ranking."
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
    flat, where = (proxy, "proxy")
    if high.accuracy_low == high.accuracy_high:
        flat, where = (high, "higher fidelity")
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
