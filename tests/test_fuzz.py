"""Every reader, of what nobody would write: it reads it or says in a line why not, at once.

The inputs are good ones that are changed: a value for another one, a key away or twice, pieces of
text doubled, cut or replaced. Each is read within a second and a gigabyte. EFFNAS_FUZZ makes it
longer: `EFFNAS_FUZZ=100 python -m pytest tests/test_fuzz.py` tries a hundred times as many.
"""

from __future__ import annotations

import copy
import json
import os
import resource
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from effnas.errors import EffnasError
from readers import READERS, Reader, placed, places

TIMES = int(os.environ.get("EFFNAS_FUZZ", "1"))
MOST_S, MOST_BYTES = 1.0, 1_000_000_000

#: In place of a value, and as pieces of text.
VALUES: list[Any] = [
    None, True, -1, 0, 1, 2**63, 10**30, -(10**30), 1e308, 5e-324, float("nan"), float("inf"),
    "", " ", "evil.py:f", "../../../etc/passwd", "\x00", "\x1b]0;x\x07", "\udce9", "9" * 400, [],
    {},
    [[[]]], [0] * 3000, "x" * 100_000, {"a": {"b": 1}}, "NaN", "1e999", "0x10", "<1..1000000000>",
]  # fmt: skip
PIECES = [
    "NaN", "Infinity", "-1", "1e999", "1" * 5000, "<", ">", "|", "..",
    "<1..999999999:1>",
    "<0.1..9:log>", "mbconv_r1000000000_k3_s1_e4_c16", "_r<1..1000000>", "c<1..1000000>", "k0",
    "**",
    "(" * 300, ")", "[" * 3000, "{", "}", "[", "]", ":", ",", "\n", "\r", "\t", "  ", "- ", "#",
    "'",
    '"', "\\", "&a", "*a", "!!python/object/apply:os.system [id]",
    "%YAML 9", "---", "...",
    "? ",
    "\x00", "\x1b[31m", "\u202e", "\ufeff", "evil.py:f", "__import__('os')", "A**A**A**9999",
    "1/0",
    "stages:", "constraints: ['size > 0']", "format: 1", "log(0)", "stage1.r", "params", "e" * 5000,
]  # fmt: skip


# -- changing what is good


@st.composite
def changed_json(draw: st.DrawFn, line: bytes) -> bytes:
    tree = copy.deepcopy(json.loads(line))
    for _ in range(draw(st.integers(1, 3))):
        found = places(tree)
        if not found:
            break
        node, key = draw(st.sampled_from(found))
        match draw(st.sampled_from(["value", "other", "gone", "deep"])):
            case "value":
                node[key] = copy.deepcopy(draw(st.sampled_from(VALUES)))
            case "other":
                other, its = draw(st.sampled_from(found))
                node[key] = copy.deepcopy(other[its])
            case "gone":
                del node[key]
            case "deep":
                node[key] = json.loads("[" * 500 + "]" * 500)
    return json.dumps(tree).encode("utf-8", "surrogatepass")


@st.composite
def changed_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    for _ in range(draw(st.integers(1, 4))):
        first = draw(st.integers(0, len(content)))
        last = min(first + draw(st.integers(0, 40)), len(content))
        match draw(st.sampled_from(["piece", "cut", "double", "end", "bytes"])):
            case "piece":
                new = draw(st.sampled_from(PIECES)).encode()
            case "double":
                new = content[first:last] * draw(st.integers(2, 50))
            case "cut":
                new = b""
            case "end":
                first, last, new = first, len(content), b""
            case _:
                new = draw(st.binary(max_size=8))
        content = content[:first] + new + content[last:]
    return content


@st.composite
def changed(draw: st.DrawFn, reader: Reader) -> bytes:
    content = draw(st.sampled_from(reader.inputs))
    if not reader.name.endswith((".json", ".jsonl")) or draw(st.booleans()):
        return draw(changed_bytes(content))
    if reader.name.endswith(".json"):
        return draw(changed_json(content))
    lines = content.splitlines()
    n = draw(st.integers(0, len(lines) - 1))
    lines[n] = draw(changed_json(lines[n]))
    return b"\n".join(lines) + b"\n"


# -- reading it


@contextmanager
def bounded() -> Iterator[None]:
    """Give this process a gigabyte more memory than it has, and a second."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    most = pages * resource.getpagesize() + MOST_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
    # Time of this process: the machine may be busy.
    started = time.process_time()
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert time.process_time() - started < MOST_S


def read(reader: Reader, content: bytes, tmp: Path) -> str | None:
    """Return what is said of an input; None if it is read."""
    (tmp / reader.name).write_bytes(content)
    with bounded(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            reader.read(tmp / reader.name)
        except EffnasError as error:
            return str(error)
    return None


@pytest.fixture(params=READERS)
def reader(request: pytest.FixtureRequest) -> Reader:
    return READERS[request.param]


@pytest.fixture
def here(reader: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the input, with what is around it."""
    monkeypatch.chdir(tmp_path)
    return placed(reader, tmp_path).parent


def test_good_inputs_are_read(reader: Reader, here: Path) -> None:
    assert [read(reader, one, here) for one in reader.inputs] == [None] * len(reader.inputs)


@pytest.mark.slow
def test_whatever_is_read_ends_at_once_and_with_a_line(reader: Reader, here: Path) -> None:
    @settings(
        max_examples=30 * TIMES, deadline=None, database=None, derandomize=TIMES == 1,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(changed(reader))
    def tried(content: bytes) -> None:
        said = read(reader, content, here)
        assert said is None or (len(said) < 2_100 and "Traceback" not in said)

    tried()
