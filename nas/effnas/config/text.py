"""Words of messages and records."""

from __future__ import annotations

import re

_ONE_OF_SEVERAL = re.compile(r"(?<![\d.,])1 (thread|epoch)s\b")


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return `1 epoch`, `4,000 images`; plurals that take more than an s are given."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def share_text(share: float, digits: int = 0) -> str:
    """Return `55%`, or `12.5%` with a digit: what is not all is never `100%`, nor nothing `0%`."""
    text, whole, none = (f"{value:.{digits}%}" for value in (share, 1.0, 0.0))
    least = 10.0**-digits
    if text == whole and share < 1:
        return f">{100 - least:.{digits}f}%"
    return f"<{least:.{digits}f}%" if text == none and share > 0 else text


def in_singular(text: str) -> str:
    """Return a text of an earlier version, which wrote `1 threads` and `1 epochs`, as it is now."""
    return _ONE_OF_SEVERAL.sub(r"1 \1", text)
