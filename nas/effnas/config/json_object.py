"""JSON from elsewhere: what is taken out of it is checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import inf, isfinite, nan
from typing import Any, Self

from effnas.errors import UserError

_SHOWN = 40


class JsonObject:
    """An object of JSON whose values are read by key.

    Every method raises UserError, with the key and what stands there, if the value is not as asked.

    Args:
        content: As `json.loads` gives it.
    """

    def __init__(self, content: Mapping[str, Any]) -> None:
        self._content = content

    @classmethod
    def parse(cls, text: str, *, kind: str, format: int) -> Self:  # noqa: A002  # the key's name
        """Read a file that effnas wrote.

        Args:
            text: Of the file.
            kind: Its `kind`.
            format: Its `format`, which this version reads.

        Raises:
            WrongKindError: If it is JSON of something else.
            UserError: If it is not JSON, or of another format.
        """
        try:
            content = json.loads(text)
        except (RecursionError, ValueError) as error:
            raise UserError(f"not valid JSON ({error})") from None
        if not isinstance(content, dict) or content.get("kind") != kind:
            raise WrongKindError(f"its kind is not {kind!r}")
        if content.get("format") != format:
            found = str(content.get("format"))[:_SHOWN]
            raise UserError(f"format {found} is not known to this version, which reads {format}")
        return cls(content)

    def __contains__(self, key: str) -> bool:
        return self._content.get(key) is not None

    def text(self, key: str) -> str:
        """Return a text."""
        value = self._content.get(key)
        if not isinstance(value, str):
            raise UserError(f"{key}: a text is needed")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of texts."""
        values = self._content.get(key)
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise UserError(f"{key}: a list of texts is needed")
        return tuple(values)

    def object(self, key: str) -> JsonObject:
        """Return an object."""
        value = self._content.get(key)
        if not isinstance(value, dict):
            raise UserError(f"{key} is {str(value)[:_SHOWN]}, and must be an object")
        return JsonObject(value)

    def objects(self, key: str) -> list[JsonObject]:
        """Return a list of objects."""
        values = self._content.get(key)
        if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
            raise UserError(f"{key}: a list of objects is needed")
        return [JsonObject(value) for value in values]

    def whole(self, key: str, *, least: int = 1, most: float = inf) -> int:
        """Return a whole number."""
        return _whole(self._content.get(key), key, least, most)

    def wholes(
        self, key: str, *, length: int | None = None, least: int = 1, most: float = inf
    ) -> list[int]:
        """Return a list of whole numbers: one or more, or `length`."""
        return [_whole(value, key, least, most) for value in self._list(key, length)]

    def number(self, key: str, *, most: float = inf) -> float:
        """Return a finite number of 0 or more."""
        return _number(self._content.get(key), key, most)

    def ramp(self, key: str, *, most: float) -> tuple[float, float]:
        """Return two numbers that do not decrease, 0 to `most`."""
        first, last = (_number(value, key, most) for value in self._list(key, length=2))
        if first > last:
            raise UserError(f"{key} goes from {first:g} to {last:g}, and must not decrease")
        return first, last

    def _list(self, key: str, length: int | None = None) -> list[Any]:
        values = self._content.get(key)
        if not isinstance(values, list) or len(values) != (length or len(values)) or not values:
            raise UserError(f"{key}: a list of {length or 'one or more'} numbers is needed")
        return values


class WrongKindError(UserError):
    """A file is JSON, but not of the kind that was asked for."""


def _whole(value: object, key: str, least: int, most: float) -> int:
    if type(value) is not int or not least <= value <= most:
        raise UserError(f"{key} is {str(value)[:_SHOWN]}, and must be {least} {_limit(most)}")
    return value


def _number(value: object, key: str, most: float) -> float:
    try:
        found = float(value) if isinstance(value, int | float) else nan
    except OverflowError:  # of a whole number with hundreds of digits
        found = inf
    if isinstance(value, bool) or not isfinite(found) or not 0 <= found <= most:
        raise UserError(f"{key} is {str(value)[:_SHOWN]}, and must be 0 {_limit(most)}")
    return found


def _limit(most: float) -> str:
    return "or more" if most == inf else f"to {most:g}"
