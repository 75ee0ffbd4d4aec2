"""Words of messages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effnas.config.text import seconds_of, seconds_text, share_text
from effnas.errors import ConfigError


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


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), (" 4m ", 240), ("1.5h", 5400), (".5 s", 0.5), ("0.25m", 15)],
)
def test_a_time_is_in_seconds_minutes_or_hours(text: str, seconds: float) -> None:
    assert seconds_of(text, "train_time") == seconds


@pytest.mark.parametrize(
    "text", ["", "s", "0", "0s", "-4m", "4 min", "1e3", "inf", "nan", "1,5h", "2d"]
)
def test_what_is_no_time_is_refused_by_name(text: str) -> None:
    with pytest.raises(
        ConfigError, match=r"^`train_time` '.*' is no time above 0; write 90s, 4m or"
    ):
        seconds_of(text, "train_time")


@given(st.integers(1, 100_000))
def test_a_time_is_read_as_it_is_written(seconds: int) -> None:
    assert seconds_of(seconds_text(seconds), "it") == seconds
