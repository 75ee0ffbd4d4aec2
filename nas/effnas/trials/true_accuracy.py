"""What the true accuracies of a search's trials are likely to be, given the measured ones.

A trial that came out on top was good, and lucky. How lucky follows from the others: networks that
are alike have accuracies that are alike. So true accuracies are modelled as a regression on what is
known of every network, plus a part of each network's own, both bent under a ceiling: networks are
bad in many ways and to any degree, and good ones are much the same. How much the regression tells,
how large the own parts are and how near the ceiling is, is averaged over what the measured
accuracies allow (empirical Bayes with a weak prior), on a scale on which binomial errors are the
same at all accuracies (arcsine of the root; Anscombe 1948).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from effnas.trials.trial import Trial

#: Standard deviations that networks' own parts, and the regression, may have on the arcsine scale;
#: 0.01 is about one point at an accuracy of 50 %.
_OWN = np.geomspace(0.001, 0.3, 8)
_REGRESSION = np.geomspace(0.002, 0.6, 8)
#: How close to a ceiling accuracies may be: their spread over the distance from their mean to it.
#: The closer, the smaller are differences among good networks, and the longer the tail of bad ones.
_CEILINGS = (0.2, 0.4, 0.6)
#: Times that what the regression expects is looked for where it bends.
_ROUNDS = 2
#: Sizes of own parts whose logarithm of the evidence is so far below the highest are left out.
_UNLIKELY = 8.0
#: How much wider what is drawn is than the model has it: it is one of many, and true accuracies
#: were a little further from what it expects (`benchmarks/README.md`).
_WIDER = 1.05
#: Metrics whose logarithms are regressed on, with squares and products.
_METRICS = ("params", "macs", "activations", "step_time")


def to_arcsine(accuracy: NDArray[np.float64], images: int) -> NDArray[np.float64]:
    """Return accuracies measured on some images, [...], on the arcsine scale, 0 to pi / 2."""
    return np.arcsin(np.sqrt((accuracy * images + 0.375) / (images + 0.75)))


def from_arcsine(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return accuracies, 0 to 1, [...]; values are 0 to pi / 2."""
    return np.sin(values) ** 2


def arcsine_error(
    accuracy: NDArray[np.float64],
    images: int,
    seed_spread: float,
    trainings: int = 1,
    predicted: NDArray[np.float64] | float = 0.0,
) -> NDArray[np.float64]:
    """Return standard errors on the arcsine scale, [N], of accuracies that were measured.

    Args:
        accuracy: [N], 0 to 1.
        images: That they were measured on.
        seed_spread: Standard deviation over seeds.
        trainings: Of each.
        predicted: Standard deviations of those that are predicted, [N], which are larger than these
            errors; 0 of those that are measured.
    """
    smooth = (accuracy * images + 1) / (images + 2)
    slope = 4 * smooth * (1 - smooth)
    seeds = seed_spread**2 / slope / trainings
    measured = np.sqrt(1 / (4 * images + 2) + seeds)
    return np.asarray(np.maximum(measured, predicted / np.sqrt(slope)))


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
    # Matrices are small, and waiting threads cost more.
    with threadpool_limits(limits=1, user_api="blas"):
        cells = _cells(measured, errors, features)
        evidence = np.array([cell.log_evidence for cell in cells])
        weights = np.exp(evidence - evidence.max())
        counts = rng.multinomial(draws, (weights / weights.sum()).ravel()).reshape(weights.shape)
        drawn = np.vstack(
            [
                cell.drawn(measured, errors, by_regression, rng)
                for cell, by_regression in zip(cells, counts, strict=True)
            ]
        )
        middle = drawn.mean(axis=0)
        return from_arcsine(np.clip(middle + _WIDER * (drawn - middle), 0.0, np.pi / 2))


def _cells(
    measured: NDArray[np.float64], errors: NDArray[np.float64], features: NDArray[np.float64]
) -> list[_Cell]:
    """Return the regression at every ceiling, and at all sizes of own parts that are likely."""

    def cell(own: float, bend: _Bend) -> _Cell:
        return _Cell.of(measured, errors, features, own, bend, noise)

    noise = 1 / float(np.mean(errors**-2))
    straight = _Bend(float(np.mean(measured)), 0.0, np.zeros(len(measured)))
    flat = [cell(own, straight) for own in _OWN]
    peaks = np.array([each.log_evidence.max() for each in flat])
    likely = flat[int(peaks.argmax())]
    owns = _OWN[peaks > peaks.max() - _UNLIKELY]
    level = likely.expected()
    spread = np.sqrt(max(measured.var() - np.mean(errors**2), level.var(), 0.1 * noise))
    cells = [each for each, peak in zip(flat, peaks, strict=True) if peak > peaks.max() - _UNLIKELY]
    for closeness in _CEILINGS:
        bend = _Bend(straight.middle, closeness / spread, np.clip(level, -3 * spread, 3 * spread))
        for _ in range(_ROUNDS):
            found = cell(likely.own, bend).expected()
            bend = bend._replace(at=np.clip(found, -3 * spread, 3 * spread))
        cells += [cell(own, bend) for own in owns]
    return cells


class _Bend(NamedTuple):
    """How accuracies bend under a ceiling: `middle + (1 - exp(-rate * f)) / rate`.

    Attributes:
        middle: The accuracy at f = 0.
        rate: 1 over how far above that the ceiling is; 0 where there is none.
        at: Values of f that are about right, [N]; between them and measured accuracies the bend is
            taken to be straight.
    """

    middle: float
    rate: float
    at: NDArray[np.float64]

    @property
    def slope(self) -> NDArray[np.float64]:
        return np.exp(-self.rate * self.at)

    def of(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        if not self.rate:
            return self.middle + values
        # far below, where nothing was measured, a draw may be anything
        return self.middle - np.expm1(np.minimum(-self.rate * values, 3.0)) / self.rate

    def straightened(self, measured: NDArray[np.float64]) -> NDArray[np.float64]:
        return self.at + (measured - self.of(self.at)) / self.slope


@dataclass(frozen=True)
class _Cell:
    """The regression, where the ceiling and the size of the networks' own parts are given.

    Attributes:
        own: Standard deviation of the own parts where the bend has the slope 1.
        bend: From the regression to accuracies.
        log_evidence: Of each of `_REGRESSION`, prior included, up to a constant.
    """

    own: float
    bend: _Bend
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
        own: float,
        bend: _Bend,
        noise: float,
    ) -> _Cell:
        values, slope = bend.straightened(measured), bend.slope
        weights = 1 / ((errors / slope) ** 2 + own**2)
        total = float(weights.sum())
        mean = float(weights @ values) / total
        rest = values - mean
        centred = features - weights @ features / total
        strengths, axes = np.linalg.eigh((centred * weights[:, None]).T @ centred)
        strengths = np.maximum(strengths, 0.0)
        turned = centred @ axes
        projections = turned.T @ (weights * rest)
        fixed = np.log(weights / slope**2).sum() - np.log(total) - (weights * rest) @ rest
        prior = _REGRESSION[:, None] ** -2
        fitted = (projections**2 / (strengths + prior)).sum(axis=1)
        volume = np.log1p(strengths / prior).sum(axis=1)
        # Half-Cauchy at the noise (Gelman 2006); flat in the logarithm, "all are the same" would
        # have too much of the probability.
        log_prior = np.log(own / (own**2 + noise))
        evidence = 0.5 * (fixed + fitted - volume) + log_prior
        return cls(own, bend, evidence, mean, total**-0.5, turned, strengths, projections)

    def expected(self) -> NDArray[np.float64]:
        """Return what the likeliest of `_REGRESSION` expects of all networks, unbent, [N]."""
        precision = self._strengths + _REGRESSION[int(self.log_evidence.argmax())] ** -2
        return np.asarray(self._mean + self._features @ (self._projections / precision))

    def drawn(
        self,
        measured: NDArray[np.float64],
        errors: NDArray[np.float64],
        counts: NDArray[np.int64],
        rng: np.random.Generator,
    ) -> NDArray[np.float64]:
        """Draw accuracies on the arcsine scale, as many by each of `_REGRESSION`, [draws, N]."""
        regression = np.repeat(_REGRESSION, counts)[:, None]
        precision = self._strengths + regression**-2
        coefficients = rng.standard_normal(precision.shape) / np.sqrt(precision)
        coefficients += self._projections / precision
        level = self._mean + self._mean_deviation * rng.standard_normal((len(regression), 1))
        drawn = self.bend.of(level + coefficients @ self._features.T)
        own = self.own * self.bend.slope
        share = own**2 / (own**2 + errors**2)
        drawn += share * (measured - drawn)
        drawn += np.sqrt(share) * errors * rng.standard_normal(drawn.shape)
        return np.clip(drawn, 0.0, np.pi / 2)


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
    for same in zip(*(t.architecture.recipe for t in trials), strict=False):
        options = [option for _, option in same]
        if any(isinstance(option, str) for option in options):
            columns += [[option == each for option in options] for each in sorted(set(options))]
        else:
            columns.append([float(option) for option in options])
    return np.array(columns, dtype=np.float64).reshape(-1, len(trials)).T


def _scaled(columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the columns that vary, with mean 0 and variance 1."""
    spread = columns.std(axis=0)
    varying = spread > 1e-9
    return np.asarray((columns - columns.mean(axis=0))[:, varying] / spread[varying])
