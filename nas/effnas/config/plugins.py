"""The user's own Python, run only where it is named: `FILE.py:NAME` or `package.module:NAME`."""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from effnas.errors import UserError, closest

_SPEC = re.compile(r".+\.py:.*|[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


@dataclass(frozen=True)
class Plugin:
    """A function or class that a text names.

    Attributes:
        name: Its name in the module.
        path: The file that it came from.
        text: Where it is, with a digest of the source.
        value: The function or class.
    """

    name: str
    path: str
    text: str
    value: Callable[..., object]


def is_plugin(spec: str) -> bool:
    """Return whether a text names Python."""
    return _SPEC.fullmatch(spec) is not None


def load_plugin(spec: str, what: str, *, kind: str, error: type[UserError]) -> Plugin:
    """Run the Python that a text names, and return the function or class.

    Args:
        spec: `FILE.py:NAME` or `package.module:NAME`.
        what: What it is used as, for messages, such as `reward`.
        kind: `function` or `class`, for messages.
        error: The class of the errors.

    Raises:
        UserError: It cannot be read or run, or holds nothing of that name that can be called.
    """
    place, _, name = spec.rpartition(":")
    is_file = place.endswith(".py")
    module, content = (_run_file if is_file else _import)(place, what, kind, error)
    value = getattr(module, name, None)
    path = module.__file__ or place
    if not callable(value):
        own = [
            n
            for n, found in vars(module).items()
            if callable(found) and getattr(found, "__module__", None) == module.__name__
        ]
        raise error(f"{path}: it has no {kind} {name!r}; {closest(name, own)}")
    digest = hashlib.sha256(content).hexdigest()[:16]
    return Plugin(name, path, f"{spec} (sha256 {digest})", value)


def describe(error: BaseException) -> str:
    """Return an error of the user's code as text on one line."""
    text = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def place_of(error: BaseException, path: str) -> str:
    """Return `path:line` of the last line of the file that the error went through."""
    if isinstance(error, SyntaxError) and error.filename == path:
        return f"{path}:{error.lineno}"
    line, frame = 1, error.__traceback__
    while frame:
        line = frame.tb_lineno if frame.tb_frame.f_code.co_filename == path else line
        frame = frame.tb_next
    return f"{path}:{line}"


def _run_file(place: str, what: str, kind: str, error: type[UserError]) -> tuple[ModuleType, bytes]:
    try:
        content = Path(place).read_bytes()
    except (OSError, ValueError) as reading:
        reason = (reading.strerror if isinstance(reading, OSError) else None) or str(reading)
        raise error(f"{place}: the {what} cannot be read ({reason.lower()})") from None
    # Registered, because dataclasses look their module up; under a name that nobody imports.
    key = os.fsencode(Path(place).resolve()) + b"\n" + content
    module = ModuleType(f"effnas_{what}_{hashlib.sha256(key).hexdigest()[:16]}")
    module.__file__ = place
    sys.modules[module.__name__] = module
    try:
        # Not through a loader, which may run a stale bytecode file of an earlier text.
        exec(compile(content, place, "exec", dont_inherit=True), vars(module))
    except (Exception, SystemExit) as running:
        del sys.modules[module.__name__]
        reason = f"the {what}'s file cannot be run: {describe(running)}"
        raise error(f"{place_of(running, place)}: {reason}") from running
    return module, content


def _import(place: str, what: str, kind: str, error: type[UserError]) -> tuple[ModuleType, bytes]:
    try:
        module = importlib.import_module(place)
    except (Exception, SystemExit) as importing:
        raise error(
            f"the {what}'s module {place} cannot be imported: {describe(importing)}; "
            f"install it, or give FILE.py:{kind.upper()}"
        ) from importing
    path = Path(module.__file__ or "")
    return module, path.read_bytes() if path.is_file() else b""
