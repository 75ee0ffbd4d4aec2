"""Gaussian processes: what a point would measure, predicted from what others have measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache
from math import ceil, log
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from effnas.errors import EffnasError

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

#: Points that the kernel is learned from at most: the time grows with their cube.
_MAX_LEARNED_FROM = 300
#: The kernel is learned again when there are N times as many points.
_GROWTH = 1.2
#: Points that are added at once to what is kept.
_BLOCK = 32
#: Rows of a kernel that are computed at once: so few stay in the cache of a processor.
_ROWS = 64
#: Fewer points do not make a regression.
MIN_VALUES = 3
#: Shares of the variance that are expected of each term of the kernel, and of noise, before there
#: are data; how strongly they are held; and the bounds of their logarithms.
_PRIOR_SHARE, _PRIOR_NOISE, _PRIOR_STRENGTH = 0.3, 0.02, 0.02
_LOG_BOUNDS, _LOG_NOISE_BOUNDS = (-9.0, 4.0), (log(1e-6), 0.0)
#: Added to the diagonal, so that repeated points do no harm.
_JITTER = 1e-8


class GaussianProcess:
    """A Gaussian process whose kernel is a sum of terms, and noise.

    Every group of columns has a linear term, which extrapolates trends, and two squared-exponential
    terms of different length scales, which bend them. The variance of each term and of the noise
    are those that make the data most likely (Rasmussen & Williams 2006, chapters 2 and 5), so that
    a group that tells nothing gets none.
    """

    def __init__(self, groups: Sequence[slice]) -> None:
        self._groups = tuple(groups)
        self._log_variances: NDArray[np.float64] | None = None
        self._middle, self._spread = 0.0, 1.0
        #: Points and values, the Cholesky factor of the kernel, and the weights of its columns.
        self._points = self._factor = np.zeros((0, 0))
        self._values = self._weights = np.zeros(0)

    def __len__(self) -> int:
        """How many points it knows."""
        return len(self._points)

    def begins(self, X: NDArray[np.float64]) -> bool:  # noqa: N803
        """Return whether N points, [N, D], begin with those that it knows."""
        return len(self) <= len(X) and np.array_equal(self._points, X[: len(self)])

    def knows(self, X: NDArray[np.float64], y: NDArray[np.float64]) -> bool:  # noqa: N803
        """Return whether these N points, [N, D], and values, [N], are those that it knows."""
        return np.array_equal(self._points, X) and np.array_equal(self._values, y)

    def fit(self, X: NDArray[np.float64], y: NDArray[np.float64]) -> GaussianProcess:  # noqa: N803
        """Return a process that has learned the kernel, and all values.

        Args:
            X: Points, [N, D], at least 3; rows may repeat.
            y: A value for each, [N], finite; they may be all the same.
        """
        if len(y) < MIN_VALUES:
            raise EffnasError(f"{len(y)} values do not make a regression; {MIN_VALUES} or more do")
        picked = np.linspace(0, len(y) - 1, min(len(y), _MAX_LEARNED_FROM)).round().astype(int)
        self._middle, self._spread = float(y.mean()), float(y.std()) or 1.0
        with one_thread():
            self._learn(X[picked], self._inside(y[picked]))
        return self.condition(X, y)

    def condition(self, X: NDArray[np.float64], y: NDArray[np.float64]) -> GaussianProcess:  # noqa: N803
        """Return a process with the kernel of this one, for other values.

        Where the points begin with those of this one, only what is new about them is computed.
        """
        from scipy.linalg import cho_solve

        assert self._log_variances is not None, "fit comes first"
        other = GaussianProcess(self._groups)
        other._middle, other._spread = self._middle, self._spread
        other._log_variances = self._log_variances
        with one_thread():
            other._factor = self._factor_of(X, len(self) if self.begins(X) else 0)
            other._points, other._values = X, y
            other._weights = cho_solve((other._factor, True), self._inside(y), check_finite=False)
        return other

    def _factor_of(self, X: NDArray[np.float64], held: int) -> NDArray[np.float64]:  # noqa: N803
        """Return the Cholesky factor of the kernel of N points, [N, N]; that of `held` is known."""
        from scipy.linalg import cholesky, solve_triangular

        assert self._log_variances is not None
        if held == len(X):
            return self._factor
        new = X[held:]
        kernel = self._kernel(new, new)
        kernel[np.diag_indices(len(new))] += np.exp(self._log_variances[-1]) + _JITTER
        factor = np.zeros((len(X), len(X)))
        if held:
            across = self._kernel(X[:held], new)
            across = solve_triangular(self._factor, across, lower=True, check_finite=False)
            kernel -= across.T @ across
            factor[:held, :held], factor[held:, :held] = self._factor, across.T
        factor[held:, held:] = cholesky(kernel, lower=True, check_finite=False)
        return factor

    def predict(self, X: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:  # noqa: N803
        """Return mean and standard deviation of the value at N points, without noise, both [N]."""
        if not len(X):
            return np.zeros(0), np.zeros(0)
        mean, reduced = self._regression(X)
        variance = self._kernel_diagonal(X) - np.einsum("nm,nm->m", reduced, reduced)
        return mean, np.sqrt(np.maximum(variance, 0.0)) * self._spread

    def joint(self, X: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:  # noqa: N803
        """Return means of the values at N points, [N], and how they vary together, [N, N]."""
        mean, reduced = self._regression(X)
        with one_thread():
            covariance = self._kernel(X, X) - reduced.T @ reduced
        return mean, covariance * self._spread**2

    def _regression(
        self,
        X: NDArray[np.float64],  # noqa: N803
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return means, [N], and a root [M, N] of what M known points take off the covariance."""
        from scipy.linalg import solve_triangular

        with one_thread():
            kernel = self._kernel(X, self._points)
            mean = kernel @ self._weights
            reduced = solve_triangular(self._factor, kernel.T, lower=True, check_finite=False)
        return mean * self._spread + self._middle, reduced

    @property
    def noise(self) -> float:
        """Standard deviation of a measured value about the one that is expected there."""
        assert self._log_variances is not None
        return float(np.exp(self._log_variances[-1] / 2)) * self._spread

    def condition_on_mean(self, X: NDArray[np.float64]) -> GaussianProcess:  # noqa: N803
        """Return a process that takes the means at N points, [N, D], for measured values."""
        means = self.predict(X)[0]
        return self.condition(np.vstack([self._points, X]), np.append(self._values, means))

    def _terms(
        self,
        X: NDArray[np.float64],  # noqa: N803
        Y: NDArray[np.float64],  # noqa: N803
    ) -> Iterator[NDArray[np.float64]]:
        """Yield each term of the kernel between N and M points, [N, M], with variance 1."""
        for group in self._groups:
            mine, theirs = X[:, group], Y[:, group]
            inner = mine @ theirs.T
            yield inner
            squares = (mine**2).sum(axis=1)[:, None] + (theirs**2).sum(axis=1)
            # The length scales are 2 and the square root of 1/2: the latter is the former's 8th
            # power, and powers of two are far cheaper than another exponential.
            wide = 2 * inner
            wide -= squares
            np.minimum(wide, 0.0, out=wide)
            wide *= 1 / 8
            yield np.exp(wide, out=wide)
            narrow = np.square(wide)
            np.square(narrow, out=narrow)
            yield np.square(narrow, out=narrow)

    def _kernel(self, X: NDArray[np.float64], Y: NDArray[np.float64]) -> NDArray[np.float64]:  # noqa: N803
        assert self._log_variances is not None
        variances = np.exp(self._log_variances)
        total = np.zeros((len(X), len(Y)))
        for first in range(0, len(X), _ROWS):
            rows = slice(first, first + _ROWS)
            for variance, part in zip(variances, self._terms(X[rows], Y), strict=False):
                total[rows] += variance * part
        return total

    def _kernel_diagonal(self, X: NDArray[np.float64]) -> NDArray[np.float64]:  # noqa: N803
        assert self._log_variances is not None
        variances = np.exp(self._log_variances[:-1]).reshape(len(self._groups), 3)
        squares = np.stack([(X[:, group] ** 2).sum(axis=1) for group in self._groups])
        return np.asarray(variances[:, 0] @ squares + variances[:, 1:].sum())

    def _learn(self, X: NDArray[np.float64], z: NDArray[np.float64]) -> None:  # noqa: N803
        """Find the variances by L-BFGS on the likelihood, with a weak pull to what is expected."""
        from scipy.linalg import LinAlgError, cho_solve, cholesky
        from scipy.optimize import minimize

        parts = np.stack(list(self._terms(X, X)))
        diagonal = np.diag_indices(len(z))
        expected = np.log([*[_PRIOR_SHARE] * len(parts), _PRIOR_NOISE])

        def loss(logs: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            variances = np.exp(logs)
            kernel = np.tensordot(variances[:-1], parts, 1)
            kernel[diagonal] += variances[-1] + _JITTER
            try:
                factor = cholesky(kernel, lower=True, check_finite=False)
            except LinAlgError:
                return 1e10, np.zeros_like(logs)
            inverse = cho_solve((factor, True), np.eye(len(z)), check_finite=False)
            weights = inverse @ z
            slope = np.outer(weights, weights) - inverse
            by_part = np.append(np.tensordot(parts, slope, 2), np.trace(slope))
            pull = _PRIOR_STRENGTH * (logs - expected)
            value = 0.5 * z @ weights + np.log(np.diag(factor)).sum()
            value += 0.5 * pull @ (logs - expected)
            return float(value), pull - 0.5 * variances * by_part

        bounds = [*[_LOG_BOUNDS] * len(parts), _LOG_NOISE_BOUNDS]
        found = minimize(
            loss, expected, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 60}
        )
        self._log_variances = np.asarray(found.x)

    def _inside(self, y: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray((y - self._middle) / self._spread)


class OnlineGP:
    """A Gaussian process for values that arrive one by one.

    The kernel is learned again when there are a fifth more values than last time; in between, new
    values only condition the process. Predictions follow from the values alone, to the last bit,
    and not from when one asks. With fewer than `MIN_VALUES` values it is their mean.

    Args:
        groups: Where the columns of each group are.
        prior_deviation: Standard deviation of a prediction from fewer values than `MIN_VALUES`.
    """

    def __init__(self, groups: Sequence[slice], prior_deviation: float) -> None:
        self._groups = tuple(groups)
        self._prior_deviation = prior_deviation
        self._prior_mean = 0.0
        #: Knows what its kernel was learned from; that and whole blocks of later values; all.
        self._learned: GaussianProcess | None = None
        self._grown = GaussianProcess(groups)
        self._current: GaussianProcess | None = None

    @property
    def is_fitted(self) -> bool:
        """Whether there are values enough for a regression."""
        return self._current is not None

    def update(self, X: NDArray[np.float64], y: NDArray[np.float64]) -> None:  # noqa: N803
        """Replace all values: points [N, D] and their values [N], later ones after earlier."""
        if len(y) < MIN_VALUES:
            self._prior_mean = float(y.mean()) if len(y) else 0.0
            self._current = None
            return
        size = learned_size(len(y))
        if self._learned is None or not self._learned.knows(X[:size], y[:size]):
            self._learned = self._grown = GaussianProcess(self._groups).fit(X[:size], y[:size])
        if not self._grown.begins(X):
            self._grown = self._learned
        # In blocks whose bounds do not depend on when one asks, so that neither does rounding.
        for end in range(len(self._grown) + _BLOCK, len(y) + 1, _BLOCK):
            self._grown = self._grown.condition(X[:end], y[:end])
        self._current = self._grown.condition(X, y)

    def condition_on_mean(self, X: NDArray[np.float64]) -> None:  # noqa: N803
        """Count N more points, [N, D], as if they had the values that are expected of them.

        The mean stays as it is, the deviation falls around them; the next update forgets them.
        """
        if self._current is not None:
            self._current = self._current.condition_on_mean(X)

    @property
    def noise(self) -> float:
        """Standard deviation of a measured value about the one that is expected there."""
        return self._current.noise if self._current else 0.0

    def predict(self, X: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:  # noqa: N803
        """Return mean and standard deviation at N points, both [N]."""
        if self._current is None:
            return np.full(len(X), self._prior_mean), np.full(len(X), self._prior_deviation)
        return self._current.predict(X)

    def joint(self, X: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:  # noqa: N803
        """Return means at N points, [N], and how the values there vary together, [N, N]."""
        if self._current is None:
            return np.full(len(X), self._prior_mean), np.eye(len(X)) * self._prior_deviation**2
        return self._current.joint(X)


def learned_size(count: int) -> int:
    """Return how many of `count` values the kernel is learned from."""
    size = MIN_VALUES
    while (larger := ceil(_GROWTH * size)) <= count:
        size = larger
    return size


def one_thread() -> AbstractContextManager[object]:
    """Keep linear algebra to one thread: matrices are small, and waiting threads cost more."""
    limited: AbstractContextManager[object] = _thread_pools().limit(limits=1, user_api="blas")
    return limited


@lru_cache(maxsize=1)
def _thread_pools() -> ThreadpoolController:
    import scipy.linalg  # noqa: F401  # loads the libraries that are to be found
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
