"""Surrogates: what an architecture would measure, guessed from what others have measured."""

from __future__ import annotations

import warnings
from functools import lru_cache
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np

from effnas.architecture import Architecture, Stage
from effnas.counts import count
from effnas.errors import EffnasError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray
    from sklearn.gaussian_process import GaussianProcessRegressor
    from threadpoolctl import ThreadpoolController

    from effnas.space import SearchSpace

#: Architectures drawn to find the scale of each column.
_DRAWS = 256
#: Points that the kernel is learned from at most: the time grows with their cube.
_MOST_LEARNED_FROM = 300
#: With fewer points, values are held to be more than noise.
_FEW = 20
#: Fewer points do not make a regression.
FEWEST = 3


class Encoding:
    """Describes the architectures of one space by numbers, for a kernel that has one length scale.

    There are two groups of columns. `network` has the logarithms of params, MACs and activations,
    and the numbers of layers, by operator, squeeze-and-excitation, kernel and expansion. `stages`
    has every stage's open fields, its operator one-hot, and the logarithms of its counts. Columns
    have mean 0 over random architectures of the space, and both groups have the same variance in
    sum: so the few numbers of the first, which tell most, are not drowned by the many others.

    Args:
        space: The space; architectures must have its number of stages.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        operators = [{a.op for a in stage.alternatives} for stage in space.stages]
        self._operators = [sorted(ops) if len(ops) > 1 else [] for ops in operators]
        kinds = set().union(*operators)
        self._kinds = sorted(kinds) if len(kinds) > 1 else []
        rng = np.random.default_rng(0)
        draws = [space.sample_unconstrained(rng) for _ in range(_DRAWS)]
        self._network_scale = _scale([self._network(arch) for arch in draws])
        self._stages_scale = _scale([self._stages(arch) for arch in draws])

    def network(self, archs: Sequence[Architecture]) -> NDArray[np.float64]:
        """Return the columns that describe N networks as a whole, [N, columns]."""
        return _scaled([self._network(arch) for arch in archs], self._network_scale)

    def stages(self, archs: Sequence[Architecture]) -> NDArray[np.float64]:
        """Return the columns that describe N networks stage by stage, [N, columns]."""
        return _scaled([self._stages(arch) for arch in archs], self._stages_scale)

    def matrix(self, archs: Sequence[Architecture]) -> NDArray[np.float64]:
        """Return all columns of N networks, [N, columns]."""
        return np.hstack([self.network(archs), self.stages(archs)])

    def _network(self, arch: Architecture) -> list[float]:
        counts = self.space.count(arch)
        stages = arch.stages
        sums = [
            arch.layers,
            sum(s.r for s in stages if s.se),
            sum(s.r * s.k for s in stages),
            sum(s.r * s.e for s in stages),
        ]
        by_operator = [sum(s.r for s in stages if s.op == kind) for kind in self._kinds]
        logs = np.log1p([counts.params, counts.macs, counts.activations])
        return [*logs.tolist(), *sums, *by_operator]

    def _stages(self, arch: Architecture) -> list[float]:
        row: list[float] = []
        channels, size = arch.stem, -(-self.space.target.image_size // 2)
        for stage, operators in zip(arch.stages, self._operators, strict=True):
            row += [stage.op == operator for operator in operators]
            row += [stage.r, stage.k, stage.s, stage.e, np.log(stage.c), stage.se]
            row += _log_counts(stage, channels, size)
            channels, size = stage.c, -(-size // stage.s)
        return row


class Surrogate:
    """A Gaussian process with a linear and a squared-exponential part, and noise.

    The linear part extrapolates trends, the other one bends them, and the shares of both, the
    length scale and the noise are those that make the data most likely (Rasmussen & Williams 2006,
    chapters 2 and 5).
    """

    def __init__(self) -> None:
        self._process: GaussianProcessRegressor | None = None
        self._middle, self._spread = 0.0, 1.0

    def fit(self, X: NDArray[np.float64], y: NDArray[np.float64]) -> Surrogate:  # noqa: N803
        """Learn the kernel, and then all values.

        Args:
            X: Points, [N, D], at least 3; rows may repeat.
            y: A value for each, [N], finite; they may be all the same.
        """
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import (
            RBF,
            ConstantKernel,
            DotProduct,
            WhiteKernel,
        )

        if len(y) < FEWEST:
            raise EffnasError(f"{len(y)} values do not make a regression; {FEWEST} or more do")
        # Few values are often most likely to be noise alone, which leaves nothing to find out.
        few = len(y) < _FEW
        kernel = (
            ConstantKernel(0.1, (1e-5, 1e2)) * DotProduct(0.0, "fixed")
            + ConstantKernel(1.0, (0.3 if few else 1e-3, 1e2))
            * RBF(2.0, (1.0 if few else 0.2, 1e2))
            + WhiteKernel(1e-2, (1e-6, 0.1 if few else 1.0))
        )
        picked = np.linspace(0, len(y) - 1, min(len(y), _MOST_LEARNED_FROM)).round().astype(int)
        self._middle, self._spread = float(y.mean()), float(y.std()) or 1.0
        process = GaussianProcessRegressor(kernel)
        with warnings.catch_warnings(), _one_thread():
            warnings.simplefilter("ignore")  # a parameter at its bound is none to worry about
            process.fit(X[picked], self._inside(y[picked]))
        self._process = process
        return self if len(picked) == len(y) else self.condition(X, y)

    def condition(self, X: NDArray[np.float64], y: NDArray[np.float64]) -> Surrogate:  # noqa: N803
        """Return a surrogate with the kernel of this one, for other values."""
        from sklearn.gaussian_process import GaussianProcessRegressor

        assert self._process is not None, "fit comes first"
        other = Surrogate()
        other._middle, other._spread = self._middle, self._spread
        other._process = GaussianProcessRegressor(self._process.kernel_, optimizer=None)
        with _one_thread():
            other._process.fit(X, self._inside(y))
        return other

    def predict(self, X: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:  # noqa: N803
        """Return mean and standard deviation of the value at N points, without noise, both [N]."""
        assert self._process is not None, "fit comes first"
        if not len(X):
            return np.zeros(0), np.zeros(0)
        with _one_thread():
            mean, deviation = self._process.predict(X, return_std=True)
        noise = self._process.kernel_.k2.noise_level
        variance = np.maximum(deviation**2 - noise, 0.0)
        return mean * self._spread + self._middle, np.sqrt(variance) * self._spread

    def _inside(self, y: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray((y - self._middle) / self._spread)


class GrowingSurrogate:
    """A surrogate of values that come in one by one.

    The kernel is learned anew when there are a quarter more values than last time; in between, new
    values only condition the process. With fewer than `FEWEST` values the guess is their mean.

    Args:
        prior_deviation: Standard deviation of a guess from fewer values than `FEWEST`.
    """

    def __init__(self, prior_deviation: float) -> None:
        self._prior_deviation = prior_deviation
        self._prior_mean = 0.0
        self._learned: Surrogate | None = None
        self._current: Surrogate | None = None
        self._learned_from = 0

    @property
    def is_fitted(self) -> bool:
        """Whether there are values enough for a regression."""
        return self._current is not None

    def update(self, X: NDArray[np.float64], y: NDArray[np.float64]) -> None:  # noqa: N803
        """Replace all values: points [N, D] and their values [N]."""
        if len(y) < FEWEST:
            self._prior_mean = float(y.mean()) if len(y) else 0.0
        elif self._learned is None or len(y) >= 1.25 * self._learned_from:
            self._learned = self._current = Surrogate().fit(X, y)
            self._learned_from = len(y)
        else:
            self._current = self._learned.condition(X, y)

    def predict(self, X: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:  # noqa: N803
        """Return mean and standard deviation at N points, both [N]."""
        if self._current is None:
            return np.full(len(X), self._prior_mean), np.full(len(X), self._prior_deviation)
        return self._current.predict(X)


def _one_thread() -> AbstractContextManager[object]:
    """Have linear algebra use one thread: matrices are small, and waiting threads cost more."""
    limited: AbstractContextManager[object] = _thread_pools().limit(limits=1, user_api="blas")
    return limited


@lru_cache(maxsize=1)
def _thread_pools() -> ThreadpoolController:
    import sklearn.gaussian_process  # noqa: F401  # loads the libraries that are to be found
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


_Scale = tuple["NDArray[np.bool_]", "NDArray[np.float64]", "NDArray[np.float64]"]


def _scale(rows: list[list[float]]) -> _Scale:
    values = np.array(rows, dtype=np.float64)
    spread = values.std(axis=0)
    varying = spread > 1e-9
    if not varying.any():  # a regression wants a column, if only of zeros
        varying[0], spread[0] = True, 1.0
    width = max(int(varying.sum()), 1)
    return varying, values.mean(axis=0)[varying], 1 / (spread[varying] * sqrt(width))


def _scaled(rows: list[list[float]], scale: _Scale) -> NDArray[np.float64]:
    varying, middle, factor = scale
    values = np.array(rows, dtype=np.float64).reshape(len(rows), len(varying))
    return (values[:, varying] - middle) * factor


@lru_cache(maxsize=1 << 16)
def _log_counts(stage: Stage, channels: int, size: int) -> tuple[float, ...]:
    """Return log(1 + params, MACs, activations) of a stage on its own."""
    passing = Stage("identity", c=channels)
    # The stem halves the image; a head of one channel adds next to nothing.
    whole, without = (
        count(Architecture((s,), stem=channels, head=1), 2 * size, num_classes=0)
        for s in (stage, passing)
    )
    differences = [
        getattr(whole, n) - getattr(without, n) for n in ("params", "macs", "activations")
    ]
    return tuple(np.log1p(np.maximum(differences, 0)).tolist())
