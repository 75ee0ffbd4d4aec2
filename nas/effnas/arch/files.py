"""Architecture files: one network as JSON, for other programs and back.

    {"format": 1, "id": "...", "stem": 24, "head": 1280, "blocks": ["fused_r2_k3_s1_e1_c24", ...],
     "timm": [["cn_r2_k3_s1_c24_skip"], ...]}

`format`, `stem`, `head` and `blocks` say which network it is; the other keys are there for whoever
reads the file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from effnas.arch.architecture import Architecture
from effnas.errors import SpaceError, UserError, closest

FORMAT = 1
_REQUIRED = ("format", "stem", "head", "blocks")
_SIZES = ("image_size", "batch_size", "num_classes")
_INFORMATIVE = ("id", "timm", *_SIZES)
_MAX_BYTES = 1_000_000


def to_json(
    arch: Architecture,
    *,
    image_size: int | None = None,
    batch_size: int | None = None,
    num_classes: int | None = None,
) -> str:
    """Return an architecture as JSON text that `load_architecture` reads back from a file.

    Args:
        arch: The architecture.
        image_size: Height and width in pixels of the images it is meant for; None leaves it out.
        batch_size: Images in one training step.
        num_classes: Outputs of the classifier.
    """
    sizes = {"image_size": image_size, "batch_size": batch_size, "num_classes": num_classes}
    content = {
        "format": FORMAT,
        "id": arch.id,
        "stem": arch.stem,
        "head": arch.head,
        "blocks": list(arch.blocks),
        "timm": arch.to_timm(),
        **{name: size for name, size in sizes.items() if size is not None},
    }
    return json.dumps(content, indent=2) + "\n"


def load_architecture(path: str | Path) -> Architecture:
    """Read an architecture file.

    Raises:
        SpaceError: With the path, if the file cannot be read, is not JSON, lacks a key or has an
            unknown one, holds an invalid network, or its id belongs to another network.
    """
    return _load(path)[0]


def load_sizes(path: str | Path) -> dict[str, int]:
    """Read the sizes that an architecture file gives for its network.

    Returns:
        Those of `image_size` (pixels), `batch_size` and `num_classes` that are there.

    Raises:
        SpaceError: As `load_architecture`, or if a size is no whole number above 0.
    """
    _, content = _load(path)
    sizes = {name: content[name] for name in _SIZES if name in content}
    for name, size in sizes.items():
        if type(size) is not int or size < 1:
            raise SpaceError(f"{path}: {name} is {str(size)[:40]}, it must be 1 or more")
    return sizes


def _load(path: str | Path) -> tuple[Architecture, dict[str, Any]]:
    try:
        return _parse(read_text(path, most_bytes=_MAX_BYTES))
    except UserError as error:
        raise SpaceError(f"{path}: {error}") from None


def _parse(text: str) -> tuple[Architecture, dict[str, Any]]:
    try:
        pairs = json.loads(text, object_pairs_hook=tuple)
    except json.JSONDecodeError as error:
        raise UserError(
            f"not valid JSON: {error.msg} (line {error.lineno}, column {error.colno})"
        ) from None
    except (RecursionError, ValueError) as error:  # ValueError: a number of thousands of digits
        raise UserError(f"not valid JSON: {error}") from None
    if not isinstance(pairs, tuple):
        raise UserError("an architecture is a JSON object: {...}")
    content = dict(pairs)
    for key, _ in pairs:
        if key not in (*_REQUIRED, *_INFORMATIVE):
            raise UserError(f"unknown key {key!r}; {closest(key, (*_REQUIRED, *_INFORMATIVE))}")
    if len(content) < len(pairs):
        raise UserError("a key is given twice")
    if missing := [key for key in _REQUIRED if key not in content]:
        raise UserError(f"the key {missing[0]!r} is missing")
    if content["format"] != FORMAT or isinstance(content["format"], bool):
        found = str(content["format"])[:40]
        raise UserError(f"format {found} is not known to this version, which reads {FORMAT}")
    blocks = content["blocks"]
    if not isinstance(blocks, list) or not all(isinstance(block, str) for block in blocks):
        raise UserError("blocks: a list of block strings is needed, one for each stage")
    arch = Architecture.parse(blocks, stem=content["stem"], head=content["head"])
    if content.get("id", arch.id) != arch.id:
        raise UserError(
            f"the id is {str(content['id'])[:40]!r}, but stem, blocks and head are those of "
            f"{arch.id}; leave the id out if you changed them"
        )
    return arch, content


def read_text(path: str | Path, *, most_bytes: int) -> str:
    """Read a UTF-8 file of a size that is sane for what it should hold.

    Raises:
        UserError: It is not there, empty, not UTF-8, larger, or cannot be read. The text does not
            name the file.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(most_bytes + 1)
    except (OSError, ValueError) as error:  # ValueError: a path with a null
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise UserError(f"cannot be read ({reason.lower()})") from None
    if len(content) > most_bytes:
        raise UserError(f"larger than {most_bytes:,} bytes; is it the right file?")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"not UTF-8 text (byte {error.start + 1})") from None
    if not text.strip():
        raise UserError("the file is empty")
    return text
