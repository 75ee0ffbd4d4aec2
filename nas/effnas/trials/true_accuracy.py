"""What the true accuracies of a search's trials are likely to be, given the measured ones.

A trial that came out on top was good, and lucky. How lucky follows from the others: networks that
are alike have accuracies that are alike. So true accuracies are modelled as a regression on what is
known of every network, plus a part of each network's own. How much the regression tells, and how
large the own parts are, is averaged over what the measured accuracies allow (empirical Bayes with
a weak prior), on a scale on which binomial errors are the same at all accuracies (arcsine of the
root; Anscombe 1948).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from effnas.trials.trial import Trial

#: Standard deviations that networks' own parts, and the regression, may have on the arcsine scale;
#: 0.01 is about one point at an accuracy of 50 %.
_OWN = np.geomspace(0.001, 0.3, 8)
_REGRESSION = np.geomspace(0.002, 0.6, 8)
#: How much smaller the own parts of good networks are: the logarithm, for a network that is one
#: standard deviation better. Accuracies have a ceiling, and bad networks are bad in many ways.
_NARROWING = (0.0, 0.5)
#: Metrics whose logarithms are regressed on, with squares and products.
_METRICS = ("params", "macs", "activations", "step_time")


def to_arcsine(accuracy: NDArray[np.float64], images: int) -> NDArray[np.float64]:
    """Return accuracies measured on some images, [...], on the arcsine scale, 0 to pi / 2."""
    return np.arcsin(np.sqrt((accuracy * images + 0.375) / (images + 0.75)))


def from_arcsine(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return accuracies, 0 to 1, [...]; values that are out of bounds are reflected there."""
    return np.sin(values) ** 2


def arcsine_error(
    accuracy: NDArray[np.float64], images: int, seed_spread: float, trainings: int = 1
) -> NDArray[np.float64]:
    """Return standard errors on the arcsine scale, [N], of accuracies that were measured."""
    smooth = (accuracy * images + 1) / (images + 2)
    seeds = seed_spread**2 / (4 * smooth * (1 - smooth)) / trainings
    return np.sqrt(1 / (4 * images + 2) + seeds)


def drawn_accuracies(
    measured: NDArray[np.float64],
    errors: NDArray[np.float64],
    features: NDArray[np.float64],
    draws: int,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Draw what N true accuracies are likely to be, together, [draws, N].

    Args:
        measured: On the arcsine scale, [N].
        errors: Their standard errors, [N], above 0.
        features: What the regression is on, [N, D].
        draws: Draws to make.
        rng: What they are drawn by.
    """
    noise = 1 / float(np.mean(errors**-2))
    same = [_Cell.of(measured, errors, features, np.full(len(measured), own)) for own in _OWN]
    # Half-Cauchy at the noise (Gelman 2006); flat in the logarithm, "all are the same" would have
    # too much of the probability.
    prior = np.log(_OWN / (_OWN**2 + noise))[:, None]
    likely = np.argmax([cell.log_evidence for cell in same] + prior)
    level = same[likely // len(_REGRESSION)].expected(int(likely % len(_REGRESSION)))
    better = np.clip((level - level.mean()) / (level.std() or 1.0), -2.0, 2.0)
    cells = [
        *same,
        *(
            _Cell.of(measured, errors, features, own * np.exp(-narrowing * better))
            for narrowing in _NARROWING[1:]
            for own in _OWN
        ),
    ]
    evidence = np.array([cell.log_evidence for cell in cells])
    evidence += np.tile(prior, (len(_NARROWING), 1))
    weights = np.exp(evidence - evidence.max())
    counts = rng.multinomial(draws, (weights / weights.sum()).ravel()).reshape(weights.shape)
    drawn = np.empty((draws, len(measured)))
    start = 0
    for cell, by_regression in zip(cells, counts, strict=True):
        for n in np.flatnonzero(by_regression):
            end = start + by_regression[n]
            drawn[start:end] = cell.fitted(float(_REGRESSION[n]), int(by_regression[n]), rng)
            start = end
        first = start - by_regression.sum()
        part = drawn[first:start]
        share = cell.own**2 / (cell.own**2 + errors**2)
        part += share * (measured - part)
        part += np.sqrt(share) * errors * rng.standard_normal(part.shape)
    return from_arcsine(drawn)


@dataclass(frozen=True)
class _Cell:
    """The regression, where the standard deviations of the networks' own parts are given.

    Attributes:
        own: That, [N].
        log_evidence: Of each of `_REGRESSION`, up to a constant.
    """

    own: NDArray[np.float64]
    log_evidence: NDArray[np.float64]
    _mean: float
    _mean_deviation: float
    _features: NDArray[np.float64]
    _strengths: NDArray[np.float64]
    _projections: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        measured: NDArray[np.float64],
        errors: NDArray[np.float64],
        features: NDArray[np.float64],
        own: NDArray[np.float64],
    ) -> _Cell:
        weights = 1 / (errors**2 + own**2)
        total = float(weights.sum())
        mean = float(weights @ measured) / total
        rest = measured - mean
        centred = features - weights @ features / total
        strengths, axes = np.linalg.eigh((centred * weights[:, None]).T @ centred)
        strengths = np.maximum(strengths, 0.0)
        turned = centred @ axes
        projections = turned.T @ (weights * rest)
        fixed = np.log(weights).sum() - np.log(total) - (weights * rest) @ rest
        prior = _REGRESSION[:, None] ** -2
        fitted = (projections**2 / (strengths + prior)).sum(axis=1)
        volume = np.log1p(strengths / prior).sum(axis=1)
        return cls(
            own, 0.5 * (fixed + fitted - volume), mean, total**-0.5, turned, strengths, projections
        )

    def expected(self, regression: int) -> NDArray[np.float64]:
        """Return what one of `_REGRESSION` expects of all networks, [N]."""
        coefficients = self._projections / (self._strengths + _REGRESSION[regression] ** -2)
        return np.asarray(self._mean + self._features @ coefficients)

    def fitted(
        self, regression: float, draws: int, rng: np.random.Generator
    ) -> NDArray[np.float64]:
        """Draw what the regression says of all networks, [draws, N]."""
        precision = self._strengths + regression**-2
        noise = rng.standard_normal((draws, len(precision)))
        coefficients = self._projections / precision + noise / np.sqrt(precision)
        level = self._mean + self._mean_deviation * rng.standard_normal((draws, 1))
        return np.asarray(level + coefficients @ self._features.T)


def network_features(trials: Sequence[Trial]) -> NDArray[np.float64]:
    """Return what tells of the accuracies of N trials, [N, D]; each group has the variance 1.

    The logarithms of params, MACs, activations and step time where all trials have them, with their
    squares and products; the decisions of every stage; and when the trial was made, since a
    controller that learns makes better ones later.
    """
    columns = [
        [np.log(max(t.metrics[name], 1e-300)) for t in trials]
        for name in _METRICS
        if all(name in t.metrics for t in trials)
    ]
    logs = _scaled(np.array(columns, dtype=np.float64).reshape(-1, len(trials)).T)
    products = [_scaled(logs[:, n, None] * logs[:, n:]) for n in range(logs.shape[1])]
    number = _scaled(np.log1p([[float(t.number)] for t in trials]))
    groups = [logs, np.hstack([*products, number**2]), _scaled(_decisions(trials)), number]
    return np.hstack([group / np.sqrt(max(group.shape[1], 1)) for group in groups])


def _decisions(trials: Sequence[Trial]) -> NDArray[np.float64]:
    """Return the decisions of every stage of N networks, [N, D]; operators one-hot."""
    stages = list(zip(*(t.architecture.stages for t in trials), strict=False))
    columns = [
        values
        for same in stages
        for values in (
            *([s.op == op for s in same] for op in sorted({s.op for s in same})),
            *([getattr(s, name) for s in same] for name in ("r", "k", "s", "e", "se")),
            np.log([s.c for s in same]),
        )
    ]
    return np.array(columns, dtype=np.float64).reshape(-1, len(trials)).T


def _scaled(columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the columns that vary, with mean 0 and variance 1."""
    spread = columns.std(axis=0)
    varying = spread > 1e-9
    return np.asarray((columns - columns.mean(axis=0))[:, varying] / spread[varying])
