"""JSON that effnas writes reads back, and what cannot be trusted is refused in a line."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import pytest

from effnas.config.codec import Count, Share, dump_json, from_plain, parse_json, to_plain
from effnas.errors import UserError


class Version(str):
    """A kind of text, as torch's version is."""


@dataclass(frozen=True, kw_only=True)
class Part:
    share: Share = 0.5
    names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Whole:
    count: Count
    version: str = ""
    parts: tuple[Part, ...] = ()
    more: dict[int, float] = field(default_factory=dict)


def test_what_is_written_reads_back() -> None:
    whole = Whole(count=3, version="2.6", parts=(Part(share=0.25, names=("a",)),), more={2: 0.5})
    assert from_plain(parse_json(dump_json(whole)), Whole) == whole


def test_numbers_texts_and_mappings_of_other_libraries_are_written_as_plain_ones() -> None:
    written = {"x": np.float64(0.5), "v": Version("2.6"), "m": MappingProxyType({"a": 1})}
    assert parse_json(dump_json(written)) == {"x": 0.5, "v": "2.6", "m": {"a": 1}}
    assert to_plain(Part(), sparse=True) == {}
    assert to_plain(from_plain({}, Part)) == to_plain(Part())
    with pytest.raises(ValueError, match="not JSON compliant"):
        dump_json({"x": float("nan")})


@pytest.mark.parametrize(
    "text",
    ["{", "NaN", "[1e999]", "-Infinity", '{"a": 1, "a": 2}', "[" * 100_000, "1" * 10_000],
    ids=lambda text: text[:10],
)
def test_text_that_cannot_be_trusted_is_refused_in_a_line(text: str) -> None:
    with pytest.raises(UserError) as raised:
        parse_json(text)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 200


@pytest.mark.parametrize(
    ("plain", "place"),
    [
        ({}, "count"),
        ({"count": True}, "count"),
        ({"count": -1}, "count"),
        ({"count": 10**30}, "count"),
        ({"count": 1, "parts": [{"share": 1.5}]}, "parts[0].share"),
        ({"count": 1, "parts": [{"names": [1]}]}, "parts[0].names[0]"),
        ([], "Expected `object`"),
    ],
)
def test_a_field_that_is_missing_or_wrong_is_named(plain: object, place: str) -> None:
    with pytest.raises(UserError) as raised:
        from_plain(plain, Whole)
    assert place in str(raised.value)


def test_plurals_of_one_in_older_texts_are_read_in_the_singular() -> None:
    def read(text: str) -> object:
        return parse_json(json.dumps({"hardware": text, "reason": text}))

    one = "a CPU, 1 threads, torch 2"
    assert read(one) == {"hardware": "a CPU, 1 thread, torch 2", "reason": one}
    for text in ("a CPU, 11 threads, torch 2", "1 thread", "1.1 epochs", "21 epochs of 1 image"):
        assert read(text) == {"hardware": text, "reason": text}
