"""The hold-out keeps the proportions of the classes and loses nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effnas.data.holdout import draw_per_class, holdout_split
from effnas.errors import DataError

patient = settings(deadline=None, max_examples=40)  # the machine may be busy
labels_of_two_or_more = st.lists(st.integers(2, 30), min_size=1, max_size=8).flatmap(
    lambda counts: st.permutations([c for c, n in enumerate(counts) for _ in range(n)])
)
shares = st.floats(0, 1, exclude_min=True, exclude_max=True)
seeds = st.integers(0, 2**32)


@pytest.mark.slow
@patient
@given(labels=labels_of_two_or_more, share=shares, seed=seeds)
def test_the_two_sides_are_disjoint_and_together_are_everything(
    labels: list[int], share: float, seed: int
) -> None:
    training, holdout = holdout_split(labels, share=share, seed=seed)
    assert sorted([*training, *holdout]) == list(range(len(labels)))


@patient
@given(labels=labels_of_two_or_more, share=shares, seed=seeds)
def test_each_class_is_held_out_by_its_share_and_is_on_both_sides(
    labels: list[int], share: float, seed: int
) -> None:
    of = np.array(labels)
    training, holdout = holdout_split(of, share=share, seed=seed)
    for c in np.unique(of):
        total, held = np.sum(of == c), np.sum(of[holdout] == c)
        assert np.sum(of[training] == c) >= 1
        assert held == 1 or held == total - 1 or abs(held - share * total) <= 0.5
        assert held >= 1


@patient
@given(labels=labels_of_two_or_more, share=shares, seed=seeds)
def test_a_split_is_told_by_its_seed(labels: list[int], share: float, seed: int) -> None:
    first = holdout_split(labels, share=share, seed=seed)
    again = holdout_split(np.array(labels), share=share, seed=seed)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def test_other_seeds_hold_out_other_images() -> None:
    labels = np.repeat([0, 1], 50)
    holdouts = {tuple(holdout_split(labels, share=0.2, seed=seed)[1]) for seed in range(20)}
    assert len(holdouts) == 20


@pytest.mark.slow
def test_every_image_is_held_out_about_as_often_as_any_other() -> None:
    labels = np.tile([0, 1, 2], 10)
    times = np.zeros(30)
    for seed in range(1000):
        times[holdout_split(labels, share=0.3, seed=seed)[1]] += 1
    # Binomial(1000, 0.3) has a standard deviation of 14.5.
    assert np.all(np.abs(times - 300) < 5 * 14.5)


@patient
@given(labels=labels_of_two_or_more, share=shares, seed=seeds)
def test_a_drawn_share_keeps_two_images_of_each_class(
    labels: list[int], share: float, seed: int
) -> None:
    of = np.array(labels)
    drawn = draw_per_class(of, share, seed, at_least=2, leave=0)
    assert np.all(np.diff(drawn) > 0)
    for c in np.unique(of):
        total, kept = np.sum(of == c), np.sum(of[drawn] == c)
        assert kept == 2 or abs(kept - share * total) <= 0.5
        assert kept >= 2


@pytest.mark.parametrize("share", [0, 1, -0.5, 1.5, float("nan")])
def test_a_share_that_leaves_one_side_empty_is_refused(share: float) -> None:
    with pytest.raises(DataError, match="between 0 and 1"):
        holdout_split([0, 0, 1, 1], share=share, seed=0)


def test_a_class_with_a_single_image_is_named() -> None:
    with pytest.raises(DataError, match="class 7 has a single image"):
        holdout_split([3, 3, 7, 9, 9], share=0.5, seed=0)
