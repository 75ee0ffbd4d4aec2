"""Words of messages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effnas.config.text import share_text


@pytest.mark.parametrize(
    ("share", "digits", "text"),
    [(0, 0, "0%"), (1e-9, 0, "<1%"), (0.004, 0, "<1%"), (0.55, 0, "55%"), (0.995, 0, ">99%"),
     (0.9999, 1, ">99.9%"), (0.0004, 1, "<0.1%"), (1, 0, "100%"), (1, 1, "100.0%"),
     (1.5, 0, "150%")],
)  # fmt: skip
def test_shares(share: float, digits: int, text: str) -> None:
    assert share_text(share, digits) == text


@given(st.floats(0, 1), st.integers(0, 3))
def test_only_all_is_100_percent_and_only_nothing_0(share: float, digits: int) -> None:
    text = share_text(share, digits)
    assert (float(text.strip("<>%")) == 100) == (share == 1)
    assert (float(text.strip("<>%")) == 0) == (share == 0)
    assert abs(float(text.strip("<>%")) / 100 - share) <= 10.0 ** -(digits + 2)
