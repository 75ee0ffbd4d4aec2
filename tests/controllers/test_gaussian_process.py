"""Surrogates: they pass through what was seen, and know how little they know elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from effnas import Architecture, SearchSpace
from effnas.controllers.encoding import Encoding
from effnas.controllers.gaussian_process import MIN_VALUES, GaussianProcess, OnlineGP

TINY = SearchSpace.load("tiny")
RNG = np.random.default_rng
GROUPS = (slice(0, 2), slice(2, 4))


def points(n: int, seed: int = 0, width: int = 4) -> np.ndarray:
    return RNG(seed).normal(size=(n, width)) / 2


def smooth(X: np.ndarray) -> np.ndarray:  # noqa: N803
    return np.asarray(3 + X[:, 0] - 2 * X[:, 1] + np.sin(2 * X[:, 2]))


def test_it_passes_through_smooth_data_and_foresees_the_rest() -> None:
    X, others = points(80), points(40, seed=1)  # noqa: N806
    surrogate = GaussianProcess(GROUPS).fit(X, smooth(X))
    mean, deviation = surrogate.predict(X)
    assert np.abs(mean - smooth(X)).max() < 0.02
    assert deviation.max() < 0.05
    error = surrogate.predict(others)[0] - smooth(others)
    assert np.sqrt((error**2).mean()) < 0.1 * smooth(others).std()


def test_what_is_known_already_needs_no_second_look() -> None:
    X = points(60)  # noqa: N806
    kernel = GaussianProcess(GROUPS).fit(X[:30], smooth(X[:30]))
    at_once = kernel.condition(X[::-1], smooth(X[::-1]))  # begins with none of its points
    grown = kernel.condition(X[:45], smooth(X[:45])).condition(X, smooth(X))
    for mine, theirs in zip(
        grown.predict(points(9, 1)), at_once.predict(points(9, 1)), strict=True
    ):
        assert mine == pytest.approx(theirs, abs=1e-6)


def test_points_that_are_believed_keep_the_mean_and_are_known_better() -> None:
    X, more = points(30), points(4, 2) * 2  # noqa: N806
    surrogate = GaussianProcess(GROUPS).fit(X, smooth(X))
    condition_on_mean = surrogate.condition_on_mean(more)
    before, after = surrogate.predict(points(9, 1)), condition_on_mean.predict(points(9, 1))
    assert after[0] == pytest.approx(before[0], abs=0.02)
    assert (after[1] <= before[1] + 1e-9).all()
    assert (condition_on_mean.predict(more)[1] < 0.5 * surrogate.predict(more)[1]).all()


def test_before_there_are_enough_values_their_mean_is_the_guess() -> None:
    surrogate = OnlineGP(GROUPS, prior_deviation=0.3)
    X = points(MIN_VALUES)  # noqa: N806
    assert surrogate.predict(X[:1]) == (0.0, 0.3)
    surrogate.update(X[:2], np.array([1.0, 2.0]))
    assert surrogate.predict(X[:1]) == (1.5, 0.3)
    assert not surrogate.is_fitted
    surrogate.update(X, smooth(X))
    assert surrogate.is_fitted


@pytest.mark.slow
def test_what_is_learned_does_not_depend_on_when_one_asks() -> None:
    X = points(250)  # noqa: N806
    often, once = OnlineGP(GROUPS, 1.0), OnlineGP(GROUPS, 1.0)
    for n in [*range(1, 20), *range(20, len(X), 9)]:
        often.update(X[:n], smooth(X[:n]))
        often.condition_on_mean(points(2, 3))
    often.update(X, smooth(X))
    once.update(X, smooth(X))
    for mine, other in zip(often.predict(points(9, 1)), once.predict(points(9, 1)), strict=True):
        assert np.array_equal(mine, other)


@pytest.mark.slow
@pytest.mark.parametrize("changed", [5, 240])
def test_values_that_change_later_are_taken_as_they_are(changed: int) -> None:
    X, y = points(250), smooth(points(250))  # noqa: N806
    growing, fresh = OnlineGP(GROUPS, 1.0), OnlineGP(GROUPS, 1.0)
    growing.update(X, y)
    other_x, other_y = X.copy(), y.copy()
    other_x[changed] += 0.5
    other_y[changed] += 0.5
    growing.update(other_x, other_y)
    fresh.update(other_x, other_y)
    for mine, theirs in zip(growing.predict(X), fresh.predict(X), strict=True):
        assert np.array_equal(mine, theirs)


def drawn(space: SearchSpace, n: int, seed: int = 7) -> list[Architecture]:
    rng = RNG(seed)
    return [space.sample(rng) for _ in range(n)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny", "mnasnet", "v2-b0"])
def test_columns_have_mean_zero_and_all_groups_the_same_variance(name: str) -> None:
    space = SearchSpace.load(name)
    encoding = Encoding(space)
    rows = encoding.matrix(drawn(space, 500))
    assert [group.start for group in encoding.groups[1:]] == [
        group.stop for group in encoding.groups[:-1]
    ]
    assert (encoding.groups[0].start, encoding.groups[-1].stop) == (0, rows.shape[1])
    for group in (rows[:, columns] for columns in encoding.groups):
        assert np.abs(group.mean(axis=0)).max() < 0.4 * group.std(axis=0).max()
        assert group.var(axis=0).sum() == pytest.approx(1, abs=0.15)
