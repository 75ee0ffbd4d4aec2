"""Words of messages and records."""

from __future__ import annotations

import re

from effnas.errors import ConfigError

#: An option of a choice, as tables and constraints have it: a number, or a text.
Option = str | int | float

_TIME = re.compile(r"(\d+(?:\.\d+)?|\.\d+)\s*(s|m|h|)")
_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
_ONE_OF_SEVERAL = re.compile(r"(?<![\d.,])1 (thread|epoch)s\b")


#: Sequences that terminals obey (ECMA-48), other control characters, and those that turn the
#: direction of writing.
_CONTROLS = re.compile(
    r"\x1b\][^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)?"
    # Often half of a quotation mark in a wrong encoding, and then nothing ends it.
    r"|\x9d[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)"
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
    r"|\x1b."
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)
#: Halves of characters, as which bytes of names are read that are not UTF-8.
_HALVES = re.compile(r"[\ud800-\udfff]")


def plain(text: str) -> str:
    """Return a text, whoever wrote it, as one that a terminal shows and does not obey."""
    if text.isprintable():
        return text
    return _HALVES.sub("\N{REPLACEMENT CHARACTER}", _CONTROLS.sub("", text))


def counted(count: float, noun: str, plural: str = "") -> str:
    """Return `1 epoch`, `4,000 images` or `0.25 epochs`; a plural that is no -s is given."""
    number = f"{count:,}" if isinstance(count, int) else f"{count:.3g}"
    return f"{number} {noun if count == 1 else plural or noun + 's'}"


def option_text(option: Option) -> str:
    """Return an option as a file writes it."""
    return option if isinstance(option, str) else f"{option:.12g}"


def seconds_of(text: str, name: str) -> float:
    """Return the seconds of a text such as `90`, `90s`, `4m` or `1.5h`.

    Args:
        text: The text.
        name: Of the setting, for the error.

    Raises:
        ConfigError: If it is none, or not above 0.
    """
    found = _TIME.fullmatch(text.strip())
    seconds = float(found[1]) * _SECONDS[found[2]] if found else 0.0
    if not 0 < seconds < float("inf"):
        raise ConfigError(f"`{name}` {text!r} is no time above 0; write 90s, 4m or 1.5h")
    return seconds


def seconds_text(seconds: float) -> str:
    """Return a time as `seconds_of` reads it: `90s`, `4m`, `2h`."""
    for unit in ("h", "m"):
        if seconds % _SECONDS[unit] == 0:
            return f"{seconds / _SECONDS[unit]:g}{unit}"
    return f"{seconds:g}s"


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
