"""The hold-out keeps the proportions of the classes and loses nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effnas.data.choosing import hold_out
from effnas.data.source import Source
from effnas.errors import DataError

if TYPE_CHECKING:
    import numpy.typing as npt

patient = settings(deadline=None, max_examples=40)  # the machine may be busy
labels_of_two_or_more = st.lists(st.integers(2, 30), min_size=1, max_size=8).flatmap(
    lambda counts: st.permutations([c for c, n in enumerate(counts) for _ in range(n)])
)
shares = st.floats(0, 1, exclude_min=True, exclude_max=True)
seeds = st.integers(0, 2**32)


def split(
    labels: npt.ArrayLike, share: float, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    of = np.asarray(labels)
    source = Source(
        origin="here",
        classes=tuple(map(str, range(of.max() + 1))),
        names=[str(n) for n in range(len(of))],
        labels=of,
        read=lambda _: iter(()),
    )
    return hold_out(source, share, seed)


@patient
@given(labels=labels_of_two_or_more, share=shares, seed=seeds)
def test_each_class_is_held_out_by_its_share_and_nothing_is_lost(
    labels: list[int], share: float, seed: int
) -> None:
    of = np.array(labels)
    training, held = split(of, share, seed)
    assert sorted([*training, *held]) == list(range(len(labels)))
    for c in np.unique(of):
        total, count = np.sum(of == c), np.sum(of[held] == c)
        assert 1 <= count < total
        assert count in (1, total - 1) or abs(count - share * total) <= 0.5
    again = split(of, share, seed)
    assert all(np.array_equal(a, b) for a, b in zip((training, held), again, strict=True))


@pytest.mark.parametrize("share", [0, 1, -0.5, 1.5, float("nan")])
def test_a_share_that_leaves_one_side_empty_is_refused(share: float) -> None:
    with pytest.raises(DataError, match="hold out must lie between 0 and 1"):
        split([0, 0, 1, 1], share, 0)


def test_a_class_with_a_single_image_is_named() -> None:
    with pytest.raises(DataError, match=r"^here: class '1' has a single image"):
        split([0, 0, 1, 2, 2], 0.5, 0)
