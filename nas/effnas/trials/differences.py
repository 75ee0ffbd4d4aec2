"""What differs between two manifests, in words that users know: hashes and ids are not shown."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from effnas.config.codec import to_plain

#: Values up to this length are shown where they differ.
_SHOWN = 200
_DIGEST = re.compile(r" \(sha256 [0-9a-f]+\)")

#: Metadata of a field each of whose own fields, or keys, must be the same.
ALL_MUST_MATCH: dict[str, object] = {"all": True}


def must_match(
    name: str, key: Callable[[Any], object] = lambda value: value, *, shown: bool = True
) -> dict[str, object]:
    """Return metadata of a field called `name`: its `key` must stay for a folder to continue.

    Args:
        name: Of the field, in words.
        key: What counts of its values.
        shown: Whether values say something to people.
    """
    return {"name": name, "key": key, "shown": shown}


def differences(now: Any, before: Any) -> Iterator[str]:
    """Return what must be the same and is not, of two dataclasses; one may be None.

    A dataclass that has a method `differing` says itself what differs from another one.
    """
    for one in fields(before if now is None else now):
        here, there = (getattr(side, one.name, None) for side in (now, before))
        if "name" in one.metadata:
            key = one.metadata["key"]
            if key(here) != key(there):
                yield _difference(one.metadata["name"], here, there, one.metadata["shown"])
        elif "all" in one.metadata:
            ours, theirs = (to_plain(side) or {} for side in (here, there))
            for name in ours:
                if ours[name] != theirs.get(name):
                    yield _difference(name.replace("_", "-"), ours[name], theirs.get(name))
        elif here is not None and there is not None and hasattr(here, "differing"):
            yield from here.differing(there)
        elif is_dataclass(here) or is_dataclass(there):
            yield from differences(here, there)


def _difference(name: str, here: object, there: object, shown: bool = True) -> str:
    if not shown:
        return name
    was, now = (list(each) if isinstance(each, tuple) else each for each in (there, here))
    was, now = (_DIGEST.sub("", each) if isinstance(each, str) else each for each in (was, now))
    if was == now:
        return f"{name} ({now}, whose content is another one)"
    text = f"was {was}, is {now}"
    return f"{name} ({text})" if len(text) <= _SHOWN else name
