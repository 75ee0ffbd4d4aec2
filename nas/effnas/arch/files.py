"""Architecture files: one network as JSON, for programs outside effnas and back.

    {"format": 1, "id": "...", "stem": 24, "head": 1280, "blocks": ["fused_r2_k3_s1_e1_c24", ...],
     "timm": [["cn_r2_k3_s1_c24_skip"], ...]}

`format`, `stem`, `head` and `blocks` say which network it is, and `stem_stride` (2 unless it is
given); the other keys are there for whoever reads the file.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from effnas.arch.architecture import DEFAULT_STEM_STRIDE, Architecture
from effnas.config.codec import FORMAT, Size, dump_json, from_plain, read_object
from effnas.errors import SpaceError, UserError, closest

_SIZES = ("image_size", "batch_size", "num_classes")
_MAX_BYTES = 1_000_000


def to_json(
    arch: Architecture,
    *,
    image_size: int | None = None,
    batch_size: int | None = None,
    num_classes: int | None = None,
) -> str:
    """Return an architecture and its sizes as JSON text that `load_architecture` reads."""
    sizes = {"image_size": image_size, "batch_size": batch_size, "num_classes": num_classes}
    content = {
        "format": FORMAT,
        "id": arch.id,
        **arch.ends,
        "blocks": list(arch.blocks),
        "timm": arch.to_timm(),
        **{name: size for name, size in sizes.items() if size is not None},
    }
    return dump_json(content) + "\n"


def load_architecture(path: str | Path) -> Architecture:
    """Read an architecture file.

    Raises:
        SpaceError: With the path, if the file cannot be read, is not JSON, lacks a key or has an
            unknown one, holds an invalid network or size, or its id belongs to another network.
    """
    return _read(path)[0]


def load_sizes(path: str | Path) -> dict[str, int]:
    """Read what an architecture file says of the sizes that its network is meant for.

    Returns:
        Those of `image_size` (pixels), `batch_size` and `num_classes` that are there.

    Raises:
        SpaceError: As `load_architecture`.
    """
    content = _read(path)[1]
    return {name: size for name in _SIZES if (size := getattr(content, name)) is not None}


@dataclass(frozen=True, kw_only=True)
class _Content:
    """The keys of a file."""

    format: int
    stem: int
    head: int
    blocks: list[str]
    stem_stride: int = DEFAULT_STEM_STRIDE
    id: str | None = None
    timm: Any = None
    image_size: Size | None = None
    batch_size: Size | None = None
    num_classes: Size | None = None


def _read(path: str | Path) -> tuple[Architecture, _Content]:
    known = [one.name for one in fields(_Content)]
    try:
        plain = read_object(path, most_bytes=_MAX_BYTES)
        for key in plain:
            if key not in known:
                raise UserError(f"unknown key {key!r}; {closest(key, known)}")
        content = from_plain(plain, _Content)
        arch = Architecture.parse(
            content.blocks, stem=content.stem, head=content.head, stem_stride=content.stem_stride
        )
        if content.id not in (None, arch.id):
            raise UserError(
                f"the id is {str(content.id)[:40]!r}, but stem, blocks and head are those of "
                f"{arch.id}; leave the id out if you changed them"
            )
    except UserError as error:
        raise SpaceError(f"{path}: {error}") from None
    return arch, content
