"""Finding and reading what effnas wrote."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from effnas.cli.folder_kinds import KINDS
from effnas.cli.folder_state import FolderState, is_running
from effnas.config.codec import parse_json, read_object, read_text
from effnas.errors import StoreError, UserError
from effnas.trials.store import FAMILY, FAMILY_KIND, MANIFEST, PROFILE_KIND

_LARGEST_OTHER_JSON = 10_000_000


def read_folder(path: Path) -> FolderState:
    """Return what a folder, or the file of a family or profile, holds.

    Raises:
        StoreError: If it is nothing of effnas, of an unknown kind, or cannot be read.
    """
    if path.is_dir():
        name = next((n for n in (MANIFEST, FAMILY) if (path / n).is_file()), None)
        if name is None and (inside := next(find_folders(path), None)):
            raise StoreError(
                f"{path}: it holds folders that effnas wrote, such as {inside}; "
                f"`effnas runs {path}` lists them"
            )
        if name is None and is_running(path):
            raise StoreError(f"{path}: a command has just begun there; look again in a minute")
        if name is None:
            raise StoreError(
                f"{path}: nothing that effnas wrote (no {MANIFEST}, no {FAMILY}); "
                "`effnas runs` lists the folders that there are"
            )
        file, folder = path / name, path
    else:
        file, folder = path, path.parent
    if not file.is_file():
        raise StoreError(f"{path}: there is no such folder; `effnas runs` lists those that are")
    try:
        content = parse_json(read_text(file))
        if not isinstance(content, dict):
            raise UserError("it holds something else than effnas writes")
        kind = content.get("kind")
        read = KINDS.get(kind) if kind is None or isinstance(kind, str) else None
        if read is None:
            raise UserError(f"its kind is not known to this version ({str(kind)[:40]})")
        read_object(file, kind)  # checks the format, too
        found = read(folder if kind not in (PROFILE_KIND, FAMILY_KIND) else path, content)
        return replace(found, continued_by="") if found.state == "running" else found
    except StoreError:
        raise
    except (UserError, ValueError) as error:
        raise StoreError(f"{file}: {error}; restore it from a copy") from None


def find_folders(top: Path) -> Iterator[Path]:
    """Return what effnas wrote below a folder, one or two levels deep, by name.

    Raises:
        StoreError: If there is no such folder.
    """
    if not top.is_dir():
        raise StoreError(f"{top}: there is no such folder; give the one that holds runs")
    for path in sorted(top.iterdir()):
        if _is_ours(path):
            yield path
        elif path.is_dir():
            with contextlib.suppress(OSError):
                yield from filter(_is_ours, sorted(path.iterdir()))


def _is_ours(path: Path) -> bool:
    if path.is_dir():
        return any((path / name).exists() for name in (MANIFEST, FAMILY))
    if path.suffix != ".json" or path.stat().st_size > _LARGEST_OTHER_JSON:
        return False
    with contextlib.suppress(UserError):
        read_object(path, PROFILE_KIND)
        return True
    return False
