"""Surrogates: they pass through what was seen, and know how little they know elsewhere."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest

from effnas import Architecture, SearchSpace
from effnas.controllers.gaussian_process import (
    MIN_VALUES,
    Encoding,
    GaussianProcess,
    OnlineGP,
)
from effnas.errors import EffnasError

TINY = SearchSpace.load("tiny")
RNG = np.random.default_rng
GROUPS = (slice(0, 2), slice(2, 4))


def points(n: int, seed: int = 0, width: int = 4) -> np.ndarray:
    return RNG(seed).normal(size=(n, width)) / 2


def smooth(X: np.ndarray) -> np.ndarray:  # noqa: N803
    return np.asarray(3 + X[:, 0] - 2 * X[:, 1] + np.sin(2 * X[:, 2]))


# -- the Gaussian process


def test_it_passes_through_smooth_data_and_foresees_the_rest() -> None:
    X, others = points(80), points(40, seed=1)  # noqa: N806
    surrogate = GaussianProcess(GROUPS).fit(X, smooth(X))
    mean, deviation = surrogate.predict(X)
    assert np.abs(mean - smooth(X)).max() < 0.02
    assert deviation.max() < 0.05
    error = surrogate.predict(others)[0] - smooth(others)
    assert np.sqrt((error**2).mean()) < 0.1 * smooth(others).std()


def test_it_knows_less_far_from_the_data() -> None:
    X = points(60)  # noqa: N806
    surrogate = GaussianProcess(GROUPS).fit(X, smooth(X))
    _, deviation = surrogate.predict(np.array([X[0], X[0] + 2, X[0] + 6]))
    assert deviation[0] < deviation[1] < deviation[2]


def test_a_trend_goes_on_beyond_the_data() -> None:
    X = points(60)  # noqa: N806
    surrogate = GaussianProcess(GROUPS).fit(X, X[:, 0] - 2 * X[:, 1])
    far = np.array([[3.0, 0, 0, 0], [0, 3.0, 0, 0]])
    assert surrogate.predict(far)[0] == pytest.approx([3, -6], rel=0.1)


def test_what_is_repeated_with_noise_comes_to_its_mean() -> None:
    X = np.repeat(points(20), 10, axis=0)  # noqa: N806
    noise = RNG(3).normal(size=len(X))
    mean, deviation = GaussianProcess(GROUPS).fit(X, X[:, 0] + noise).predict(points(20))
    error = np.abs(mean - points(20)[:, 0])
    assert error.max() < 1
    assert (error < 3 * deviation + 0.1).all()  # the deviation is of the mean, not of the noise
    assert deviation.max() < 0.7


def test_constant_values_are_foreseen_everywhere() -> None:
    mean, deviation = (
        GaussianProcess(GROUPS).fit(points(10), np.full(10, 7.0)).predict(points(5, seed=1))
    )
    assert mean == pytest.approx(7.0)
    assert np.isfinite(deviation).all()


def test_the_same_data_make_the_same_surrogate() -> None:
    X = points(30)  # noqa: N806
    first, second = (
        GaussianProcess(GROUPS).fit(X, smooth(X)).predict(points(9, 1)) for _ in range(2)
    )
    assert np.array_equal(first, second)


def test_the_unit_of_the_values_does_not_matter() -> None:
    X = points(30)  # noqa: N806
    mean, deviation = GaussianProcess(GROUPS).fit(X, smooth(X)).predict(points(9, 1))
    other_mean, other_deviation = (
        GaussianProcess(GROUPS).fit(X, 1e6 * smooth(X) + 5).predict(points(9, 1))
    )
    assert other_mean == pytest.approx(1e6 * mean + 5, rel=1e-4)
    assert other_deviation == pytest.approx(1e6 * deviation, rel=1e-2)


def test_conditioning_on_the_same_data_changes_nothing() -> None:
    X = points(30)  # noqa: N806
    surrogate = GaussianProcess(GROUPS).fit(X, smooth(X))
    again = surrogate.condition(X, smooth(X))
    assert np.allclose(surrogate.predict(points(9, 1)), again.predict(points(9, 1)), atol=1e-9)


def test_conditioning_on_more_takes_it_into_account() -> None:
    X, more = points(30), np.full((1, 4), 1.5)  # noqa: N806
    surrogate = GaussianProcess(GROUPS).fit(X, smooth(X))
    y = np.append(smooth(X), 9.0)
    mean, deviation = surrogate.condition(np.vstack([X, more]), y).predict(more)
    before = surrogate.predict(more)
    assert abs(mean[0] - 9) < 0.2 * abs(before[0][0] - 9)
    assert deviation[0] < before[1][0]


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


def test_a_group_that_tells_nothing_gets_no_weight() -> None:
    X = points(120)  # noqa: N806
    only = GaussianProcess([slice(0, 2)]).fit(X, X[:, 0]).predict(points(50, 1))[0]
    both = GaussianProcess(GROUPS).fit(X, X[:, 0]).predict(points(50, 1))[0]
    assert both == pytest.approx(only, abs=0.05)


def test_no_points_have_no_values() -> None:
    surrogate = GaussianProcess(GROUPS).fit(points(5), smooth(points(5)))
    assert [len(values) for values in surrogate.predict(np.zeros((0, 4)))] == [0, 0]


def test_too_few_values_are_refused() -> None:
    with pytest.raises(EffnasError, match="2 values"):
        GaussianProcess(GROUPS).fit(points(2), np.zeros(2))


# -- growing


def test_before_there_are_enough_values_their_mean_is_the_guess() -> None:
    surrogate = OnlineGP(GROUPS, prior_deviation=0.3)
    X = points(MIN_VALUES)  # noqa: N806
    assert surrogate.predict(X[:1]) == (0.0, 0.3)
    surrogate.update(X[:2], np.array([1.0, 2.0]))
    assert surrogate.predict(X[:1]) == (1.5, 0.3)
    assert not surrogate.is_fitted
    surrogate.update(X, smooth(X))
    assert surrogate.is_fitted


def test_one_by_one_comes_close_to_all_at_once() -> None:
    X = points(40)  # noqa: N806
    growing = OnlineGP(GROUPS, 1.0)
    for n in range(1, len(X) + 1):
        growing.update(X[:n], smooth(X[:n]))
    at_once = GaussianProcess(GROUPS).fit(X, smooth(X)).predict(points(20, 1))[0]
    assert np.abs(growing.predict(points(20, 1))[0] - at_once).max() < 0.3 * smooth(X).std()


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


# -- the encoding


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


def test_different_architectures_have_different_rows() -> None:
    archs = list({arch.id: arch for arch in drawn(TINY, 400)}.values())
    rows = Encoding(TINY).matrix(archs)
    assert len(np.unique(rows.round(9), axis=0)) == len(archs) > 350
    assert np.array_equal(Encoding(TINY).matrix(archs[5:6]), rows[5:6])


def test_a_space_of_one_architecture_has_no_columns_to_tell_apart() -> None:
    space = SearchSpace.parse("stages: [fused_r1_k3_s2_e1_c8]\n")
    rows = Encoding(space).matrix([space.reference, space.reference])
    assert rows.shape[0] == 2
    assert np.array_equal(rows[0], rows[1])
    assert GaussianProcess(Encoding(space).groups).fit(
        np.repeat(rows, 2, axis=0), np.arange(4.0)
    ).predict(rows)[0][0] == (pytest.approx(1.5, abs=0.2))


def test_no_architectures_make_an_empty_matrix_of_the_same_width() -> None:
    encoding = Encoding(TINY)
    assert encoding.matrix([]).shape == (0, encoding.matrix([TINY.reference]).shape[1])


def test_it_serves_to_foresee_counts_that_it_does_not_hold() -> None:
    archs = drawn(TINY, 120)
    weights = RNG(2).uniform(1, 3, size=3)
    y = np.log([prod(w * s.r for w, s in zip(weights, a.stages, strict=True)) for a in archs])
    encoding = Encoding(TINY)
    X = encoding.matrix(archs)  # noqa: N806
    error = GaussianProcess(encoding.groups).fit(X[:80], y[:80]).predict(X[80:])[0] - y[80:]
    assert np.sqrt((error**2).mean()) < 0.3 * y.std()
