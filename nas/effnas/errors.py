"""The errors that effnas raises, all below `EffnasError`.

A `UserError` is something that the user can fix: its text says what is wrong,
where, and what to do. The command line prints it as it is and exits with 2.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


#: Characters of a message: what it quotes may be of any length.
_LONGEST = 2_000


def shortened(text: str) -> str:
    """Return a text, of a very long one its beginning and its end."""
    if len(text) <= _LONGEST:
        return text
    return f"{text[: _LONGEST * 2 // 3]} [...] {text[-_LONGEST // 3 :]}"


class EffnasError(Exception):
    """Root of all errors that effnas raises on purpose."""

    def __str__(self) -> str:
        """Return the message, of a very long one its beginning and its end."""
        return shortened(super().__str__())


class UserError(EffnasError, ValueError):
    """A mistake in what the user gave: input, option, file or name."""


class ExpressionError(UserError):
    """An arithmetic expression that cannot be read, or has no value for the given quantities."""


class CatalogError(UserError):
    """A named file that cannot be found or read."""


class SpaceError(UserError):
    """A search space, or an architecture, that breaks the rules of the language."""


class RewardError(UserError):
    """A reward that cannot be read, or cannot be computed from a trial's metrics."""


class DataError(UserError):
    """Images that are missing, unreadable or unfit for a search."""


class ConfigError(UserError):
    """A setting that is out of range or contradicts another one."""


class StoreError(UserError):
    """A run folder that cannot be written, read, or continued as asked."""


class SearchFailedError(EffnasError):
    """A search that cannot continue, though nothing the user gave is wrong (exit code 1)."""


class ExportFailedError(EffnasError):
    """An exported file that does not compute what the network does (exit code 1)."""


class SpaceExhaustedError(EffnasError):
    """Every architecture of the space (within its constraints) has been proposed already."""


class InfeasibleError(EffnasError):
    """An architecture that cannot be built, timed or trained, or that breaks a constraint.

    It is a result, not a fault. Its text is the reason that the trial keeps.

    Attributes:
        metrics: Those that are known nevertheless.
    """

    def __init__(self, reason: str, *, metrics: Mapping[str, float] | None = None) -> None:
        super().__init__(reason)
        self.metrics = dict(metrics or {})


@dataclass(frozen=True)
class Location:
    """A place in a text: `line` and `column` count from 1, `excerpt` is the text of that line."""

    source: str
    line: int
    column: int
    excerpt: str

    def describe(self, message: str) -> str:
        """Return `source:line:column: message` and, below it, the line there with a caret."""
        first = max(self.column - 1 - _SHOWN, 0)
        excerpt = self.excerpt[first : first + 2 * _SHOWN]
        caret = " " * (self.column - 1 - first) + "^"
        return f"{self.source}:{self.line}:{self.column}: {message}\n  {excerpt}\n  {caret}"


#: Characters of a line that are shown before and after a place.
_SHOWN = 100


#: More known names than these are not all listed in one line.
_MOST_LISTED = 12


def nearest(name: str, known: Iterable[str], *, cutoff: float = 0.5) -> str:
    """Return `did you mean 'v2'?` for an unknown `name`; nothing if no known name is like it."""
    near = difflib.get_close_matches(name, sorted(known), n=3, cutoff=cutoff)
    return f"did you mean {' or '.join(repr(n) for n in near)}?" if near else ""


def closest(name: str, known: Iterable[str], lister: str = "") -> str:
    """Return a hint such as `did you mean 'v2'? known: tiny, v2` for an unknown `name`.

    Args:
        name: What is unknown.
        known: What is known; of many, those most like the name are listed.
        lister: A command that lists all of these, in backticks.
    """
    names = sorted(known)
    listing = f"known: {', '.join(names)}" if names else "none are known"
    if len(names) > _MOST_LISTED:
        shown = sorted(difflib.get_close_matches(name, names, n=_MOST_LISTED // 2, cutoff=0.0))
        listing = f"known: {', '.join(shown)} and {len(names) - len(shown)} more"
        listing += f"; {lister} lists them" if lister else ""
    return f"{nearest(name, names)} {listing}".lstrip()


#: The largest whole number that files of effnas hold.
_MOST = 2**63 - 1


def check_at_least(least: float, **settings: float | None) -> None:
    """Check that each setting is `least` or more; one that is None is not given, and passes.

    Raises:
        ConfigError: Names the first that is below, or larger than files hold.
    """
    for name, value in settings.items():
        if value is not None and not value >= least:
            raise ConfigError(f"`{name}` is {value}, it must be {least} or more")
        if value is not None and value > _MOST:
            raise ConfigError(f"`{name}` is {value:.3g}, it must be below 2^63")
