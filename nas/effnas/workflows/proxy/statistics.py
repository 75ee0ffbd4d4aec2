"""Rank correlations and noise over seeds, with 95 % intervals."""

from __future__ import annotations

from dataclasses import dataclass
from math import asin, pi, sqrt
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Statistic = Callable[[Floats, Floats], Floats]

#: Bootstrap replicates.
_REPLICATES = 2_000
#: Of 4 networks 1 order in 24 agrees with another by chance, of 5 only 1 in 120: with fewer than 5,
#: even ranks that are all alike leave a 95 % interval (two-sided) that includes 0.
MIN_RANKED = 5
#: An interval that covers more of -1 to 1 than this says nothing of a correlation.
_MAX_WIDTH = 1.5


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval; `value` is None where it is undefined.

    `low` and `high` are None together, where there is no interval.
    """

    value: float | None
    low: float | None = None
    high: float | None = None


NO_ESTIMATE = Estimate(None)


def kendall(x: Floats, y: Floats) -> Floats:
    """Return Kendall's tau-b of [..., N] and [..., N], -1 to 1; NaN where a side is constant.

    Equals `scipy.stats.kendalltau`, for many replicates at once.
    """
    signs_x = np.sign(x[..., :, None] - x[..., None, :])
    signs_y = np.sign(y[..., :, None] - y[..., None, :])
    return _cosine(signs_x, signs_y, axis=(-2, -1))


def spearman(x: Floats, y: Floats) -> Floats:
    """Return Spearman's rho of [..., N] and [..., N], -1 to 1; NaN where a side is constant."""
    from scipy.stats import rankdata

    middle = (x.shape[-1] + 1) / 2
    return _cosine(rankdata(x, axis=-1) - middle, rankdata(y, axis=-1) - middle, axis=(-1,))


def correlate(
    statistic: Statistic,
    proxy: Floats,
    high: Floats,
    rng: np.random.Generator,
    *,
    averaged: bool,
) -> Estimate:
    """Return the rank correlation of proxy accuracies with the mean high-fidelity ones.

    The interval is the bootstrap's percentile interval (Efron & Tibshirani 1993, chapter 13):
    networks are drawn with replacement, and with each its seeds. A network that is drawn twice has
    the same seeds both times, so that its pair with itself is a tie, which tau-b leaves out.

    Args:
        statistic: `kendall` or `spearman`.
        proxy: Accuracies of N networks and R seeds, [N, R].
        high: The same networks with Q seeds, [N, Q].
        rng: Draws the replicates.
        averaged: Take the mean over the proxy's seeds first. Otherwise the correlation is that of
            one seed each, as in a search, and the mean over the R seeds is returned.

    Returns:
        The correlation; none where it is not known: for fewer than `MIN_RANKED` networks, where one
        side is constant, and where the interval covers nearly all that a correlation can be.
    """
    if len(proxy) < MIN_RANKED:
        return NO_ESTIMATE
    value = float(_agreement(statistic, proxy, high, averaged=averaged))
    if np.isnan(value):
        return NO_ESTIMATE
    drawn = rng.integers(len(proxy), size=(_REPLICATES, len(proxy), 1))
    values = _agreement(
        statistic, _redrawn(proxy, drawn, rng), _redrawn(high, drawn, rng), averaged=averaged
    )
    low, upper = (float(end) for end in np.nanpercentile(values, [2.5, 97.5]))
    return Estimate(value, low, upper) if upper - low <= _MAX_WIDTH else NO_ESTIMATE


def seed_deviation(accuracies: Floats) -> Estimate:
    """Return the standard deviation over seeds, pooled over networks, with its chi-square interval.

    Args:
        accuracies: Of N networks and R seeds, [N, R]; with one seed it is undefined.
    """
    from scipy.stats import chi2

    count, seeds = accuracies.shape
    freedom = count * (seeds - 1)
    if not freedom:
        return NO_ESTIMATE
    variance = float(accuracies.var(axis=1, ddof=1).mean())
    low, high = (sqrt(freedom * variance / chi2.ppf(p, freedom)) for p in (0.975, 0.025))
    return Estimate(sqrt(variance), low, high)


def network_deviation(accuracies: Floats, seed_deviation: float) -> float:
    """Return the standard deviation between networks of N >= 2, noise over seeds taken off.

    One-way analysis of variance: the variance of the networks' means, less the share of it that
    the seeds explain; 0 if they explain all of it.
    """
    between = accuracies.mean(axis=1).var(ddof=1) - seed_deviation**2 / accuracies.shape[1]
    return sqrt(max(float(between), 0.0))


def noise_limit(*reliabilities: float) -> float:
    """Return the tau that noise leaves to two measurements of the same ranking.

    Noise lowers a correlation by the root of the reliabilities (Spearman 1904); for normal
    values tau is 2/pi arcsin of the correlation (Greiner's relation).

    Args:
        reliabilities: Of each side, the share of its variance that lies between networks, 0 to 1.
    """
    return 2 / pi * asin(sqrt(float(np.prod(reliabilities))))


def _agreement(statistic: Statistic, proxy: Floats, high: Floats, *, averaged: bool) -> Floats:
    """Return the correlation of [..., N, R] and [..., N, Q]; NaN if it is undefined."""
    truth = _mean(high)
    if averaged:
        return statistic(_mean(proxy), truth)
    values = [statistic(proxy[..., seed], truth) for seed in range(proxy.shape[-1])]
    with np.errstate(invalid="ignore"):
        return np.asarray(np.nansum(values, axis=0) / np.sum(~np.isnan(values), axis=0))


def _redrawn(accuracies: Floats, drawn: NDArray[np.int64], rng: np.random.Generator) -> Floats:
    """Return replicates [B, N, R] of [N, R]: seeds drawn again, then the networks `drawn`."""
    seeds = rng.integers(accuracies.shape[1], size=(len(drawn), *accuracies.shape))
    return np.take_along_axis(np.take_along_axis(accuracies[None], seeds, axis=2), drawn, axis=1)


def _mean(accuracies: Floats) -> Floats:
    """Return the mean over seeds; equal means stay equal whatever the order of the seeds."""
    return np.asarray(accuracies.mean(axis=-1).round(12))


def _cosine(x: Floats, y: Floats, axis: tuple[int, ...]) -> Floats:
    with np.errstate(invalid="ignore"):
        return np.asarray((x * y).sum(axis) / np.sqrt((x * x).sum(axis) * (y * y).sum(axis)))
