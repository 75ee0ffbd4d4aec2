"""Architecture files: what is written is read back, and nothing else is taken for a network."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effnas import Architecture, SearchSpace
from effnas.arch.files import load_architecture, to_json
from effnas.errors import SpaceError

ARCH = Architecture.parse("fused_r2_k3_s1_e1_c24 mbconv_r3_k5_s2_e4_c48_se0.25", stem=16, head=96)
SPACES = [SearchSpace.load(name) for name in ("tiny", "v2", "mnasnet")]


def write(folder: Path, content: object) -> Path:
    path = folder / "arch.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def content_of(arch: Architecture, **changes: object) -> dict[str, Any]:
    content = json.loads(to_json(arch)) | changes
    return {key: value for key, value in content.items() if value is not ...}


def message(path: Path) -> str:
    with pytest.raises(SpaceError) as raised:
        load_architecture(path)
    assert str(raised.value).startswith(f"{path}: ")
    return str(raised.value)


@pytest.mark.slow
@given(st.sampled_from(SPACES), st.integers(0, 10**6))
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, space: SearchSpace, seed: int
) -> None:
    arch = space.sample(np.random.default_rng(seed))
    path = write(tmp_path_factory.getbasetemp(), to_json(arch, image_size=32, num_classes=10))
    assert load_architecture(path) == arch


def test_the_file_says_what_a_program_needs_that_has_no_effnas() -> None:
    content = json.loads(to_json(ARCH, image_size=48, batch_size=64, num_classes=10))
    assert content == {
        "format": 1,
        "id": ARCH.id,
        "stem": 16,
        "head": 96,
        "blocks": ["fused_r2_k3_s1_e1_c24", "mbconv_r3_k5_s2_e4_c48_se0.25"],
        "timm": [["cn_r2_k3_s1_c24_skip"], ["ir_r3_k5_s2_e4_c48_se0.25"]],
        "image_size": 48,
        "batch_size": 64,
        "num_classes": 10,
    }


def test_a_stem_of_stride_1_is_written_and_one_of_stride_2_is_not(tmp_path: Path) -> None:
    full = replace(ARCH, stem_stride=1)
    assert content_of(full)["stem_stride"] == 1
    assert "stem_stride" not in content_of(ARCH)
    assert load_architecture(write(tmp_path, to_json(full))) == full
    assert "the id is" in message(write(tmp_path, content_of(full, stem_stride=...)))
    said = message(write(tmp_path, content_of(full, stem_stride=3, id=...)))
    assert said.endswith("stem_stride: 3 must be 1 or 2")


def test_a_file_by_hand_needs_the_network_alone_and_may_use_aliases(tmp_path: Path) -> None:
    blocks = ["cn_r2_k3_s1_c24_skip", "ir_r3_k5_s2_e4_c48_se0.25"]
    path = write(tmp_path, {"format": 1, "stem": 16, "head": 96, "blocks": blocks})
    assert load_architecture(path) == load_architecture(str(path)) == ARCH


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"format": ...}, "format None is not known"),
        ({"blocks": ...}, "it lacks `blocks`"),
        ({"block": []}, "unknown key 'block'; did you mean 'blocks'"),
        ({"format": 2}, "format 2 is not known"),
        ({"stem": 0}, "stem: 0"),
        ({"blocks": []}, "at least one stage"),
        ({"blocks": ["fused_r2_k4_s1_e1_c24"]}, "kernels are odd"),
        ({"id": "0" * 16}, "leave the id out"),
        ({"stem": 24}, "leave the id out"),
    ],
)
def test_a_wrong_file_is_refused_with_its_path(
    tmp_path: Path, changes: dict[str, object], part: str
) -> None:
    assert part in message(write(tmp_path, content_of(ARCH, **changes)))


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "empty"),
        ("{", "not valid JSON"),
        ("[]", "it holds something else"),
        ('{"format": ' + "1" * 10_000 + "}", "not valid JSON"),
        ("{}" + " " * 1_000_000, "larger than 1,000,000 bytes"),
    ],
)
def test_what_is_no_architecture_is_refused(tmp_path: Path, text: str, part: str) -> None:
    assert part in message(write(tmp_path, text))


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    assert "no such file" in message(tmp_path / "none.json")
    assert "directory" in message(tmp_path)
    assert "null" in message(tmp_path / "a\0b")
    path = tmp_path / "latin.json"
    path.write_bytes(b'{"id": "\xe9"}')
    assert "not UTF-8 text (byte 9)" in message(path)
