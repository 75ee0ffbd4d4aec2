"""JSON that effnas writes and reads: dataclasses say what is in it, and nothing in it can execute.

What is read is strict: finite numbers, no key twice, every field of the type and within the range
that its annotation says. Keys that no field has are ignored, but by those who check them; fields
with a default may be missing.
Every file has the `format` 1; most have a `kind`.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections import Counter
from dataclasses import MISSING, fields, is_dataclass, replace
from functools import cache
from math import isfinite
from pathlib import Path
from typing import IO, Annotated, Any, Literal, NoReturn, TypeVar, cast

from msgspec import Meta, ValidationError, convert, to_builtins

from effnas.config.text import in_singular
from effnas.errors import UserError

FORMAT = 1
_MAX_BYTES = 100_000_000
_SHOWN = 40
_MAX_INT = 2**63 - 1
#: Keys of texts that earlier versions wrote in the plural.
_TEXTS = frozenset({"hardware", "fidelity", "step_times"})

#: Types of fields: whole numbers from 0 and from 1, numbers from 0, image sizes, and shares.
Count = Annotated[int, Meta(ge=0, le=_MAX_INT)]
Size = Annotated[int, Meta(ge=1, le=_MAX_INT)]
Amount = Annotated[float, Meta(ge=0)]
Pixels = Annotated[int, Meta(ge=1, le=4096)]
Share = Annotated[float, Meta(ge=0, le=1)]

T = TypeVar("T")


class WrongKindError(UserError):
    """A file is JSON, but not of the kind that was asked for.

    Attributes:
        kind: What it is of; empty if it does not say.
    """

    def __init__(self, kind: str) -> None:
        super().__init__("it holds something else" + f" ({kind})" * bool(kind))
        self.kind = kind


def to_plain(value: object, *, sparse: bool = False) -> Any:
    """Return a dataclass as plain JSON data; `sparse` leaves out fields that have their default."""
    if is_dataclass(value):  # msgspec leaves fields that a file lacked to the class
        value = replace(cast("Any", value))
    plain = to_builtins(value, enc_hook=_plain, str_keys=True)
    if sparse:
        for one in fields(cast("Any", value)):
            make = one.default_factory
            if plain[one.name] == (one.default if make is MISSING else make()):
                del plain[one.name]
    return plain


def dump_json(value: object, *, indent: int | None = 2) -> str:
    """Return a dataclass, or plain data, as JSON text.

    Raises:
        ValueError: If a number is not finite.
    """
    return json.dumps(to_plain(value), indent=indent, allow_nan=False)


def from_plain(value: object, kind: type[T]) -> T:
    """Return the dataclass that plain JSON data stand for.

    Raises:
        UserError: Names the field that is missing or wrong.
    """
    try:
        return convert(value, kind, str_keys=True)
    except ValidationError as error:
        text = str(error).replace("Object missing required field", "it lacks")
        what, _, place = text.partition(" - at `$")
        place = place.strip(".`")
        raise UserError(f"{place}: {what}" if place else what) from None
    except UnicodeEncodeError:
        raise UserError("a text in it has half of a character") from None


def pick(kind: type[T], whole: object, **others: object) -> T:
    """Return a dataclass of those fields of a larger one that it has, but for `others`."""
    names = (name for name in _names(cast("Any", kind)) if name not in others)
    return kind(**{name: getattr(whole, name) for name in names}, **others)


@cache
def _names(kind: type) -> tuple[str, ...]:
    return tuple(one.name for one in fields(cast("Any", kind)))


def parse_json(text: str | bytes) -> Any:
    """Return what JSON text holds, as plain data.

    Raises:
        UserError: It is not JSON, nested too deeply, has a key twice, or a number is not finite.
    """
    try:
        return json.loads(
            text, object_pairs_hook=_object, parse_float=_finite, parse_constant=_refused
        )
    except json.JSONDecodeError as error:
        raise UserError(
            f"not valid JSON: {error.msg} (line {error.lineno}, column {error.colno})"
        ) from None
    except (RecursionError, ValueError) as error:  # ValueError: a number of thousands of digits
        raise UserError(f"not valid JSON: {error}") from None


def read_object(
    path: str | Path, kind: str | None = None, *, most_bytes: int = _MAX_BYTES
) -> dict[str, Any]:
    """Return the JSON object of a file that effnas wrote; None as `kind` stands for none.

    Raises:
        WrongKindError: It is JSON of something else.
        UserError: It cannot be read, is not JSON, or of another format. The text does not name the
            file.
    """
    content = parse_json(read_text(path, most_bytes=most_bytes))
    if not isinstance(content, dict) or content.get("kind") != kind:
        found = content.get("kind") if isinstance(content, dict) else None
        raise WrongKindError(found[:_SHOWN] if isinstance(found, str) else "")
    version = content.get("format")
    if type(version) is not int or version != FORMAT:
        shown = repr(version)[:_SHOWN]
        raise UserError(f"format {shown} is not known to this version, which reads {FORMAT}")
    return content


#: Flags of `open_file` by its mode.
_MODES = {
    "rb": os.O_RDONLY,
    "rb+": os.O_RDWR,
    "ab": os.O_WRONLY | os.O_APPEND | os.O_CREAT,
}


def open_file(path: str | Path, mode: Literal["rb", "rb+", "ab"] = "rb") -> IO[bytes]:
    """Open a file of someone else's folder; of a pipe or a device there may be no end.

    Raises:
        OSError: It cannot be opened, or is none.
    """
    # Without O_NONBLOCK, to open a pipe is to wait for whoever opens its other end.
    flags = _MODES[mode] | os.O_CLOEXEC | os.O_NONBLOCK
    descriptor = os.open(path, flags, 0o666)
    kind = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(kind):
        os.close(descriptor)
        number = errno.EISDIR if stat.S_ISDIR(kind) else errno.EINVAL
        reason = os.strerror(number) if stat.S_ISDIR(kind) else "Not a regular file"
        raise OSError(number, reason, str(path))
    return os.fdopen(descriptor, mode)


def read_text(path: str | Path, *, most_bytes: int = _MAX_BYTES, may_be_pipe: bool = False) -> str:
    """Read a UTF-8 file of a size that is sane for what it should hold.

    Args:
        path: The file.
        most_bytes: That it may have.
        may_be_pipe: Whether a pipe is read, too, as a shell makes of `<(COMMAND)`.

    Raises:
        UserError: It is not there, empty, not UTF-8, larger, or cannot be read. The text does not
            name the file.
    """
    try:
        with Path(path).open("rb") if may_be_pipe else open_file(path) as file:
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


def replace_file(path: Path, content: bytes) -> None:
    """Write a file, or replace it, in one step: a crash leaves the old one or the new one.

    Raises:
        OSError: If it cannot be written.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.unlink(missing_ok=True)  # of a crash, or a link that somebody has left there
    with temporary.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _plain(value: Any) -> object:
    """Return what msgspec does not know: NumPy's float64, torch's version, read-only mappings."""
    for kind in (float, str):
        if isinstance(value, kind):
            return kind(value)
    return dict(value)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        [(key, _), *_] = Counter(key for key, _ in pairs).most_common(1)
        raise UserError(f"the key {key[:_SHOWN]!r} is there twice")
    for key in _TEXTS & content.keys():
        if isinstance(content[key], str):
            content[key] = in_singular(content[key])
    return content


def _finite(text: str) -> float:
    if not isfinite(number := float(text)):
        _refused(text)
    return number


def _refused(text: str) -> NoReturn:
    raise UserError(f"the number {text[:_SHOWN]} is not finite")
