"""The named files of spaces, rewards, scaling rules and recipes, and the strict YAML of them.

A name is looked up as a path, then in the working folder, then among the files that effnas ships.
YAML is read to a tree in which every value is text with a place, so that nothing is guessed (`no`
is not false, `30e6` is a number) and every error can point at the file.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from effnas.config.codec import FORMAT, read_text
from effnas.errors import CatalogError, Location, UserError, closest

if TYPE_CHECKING:
    import yaml
    from yaml._yaml import Mark as CMark

Kind = Literal["search_spaces", "rewards", "scaling_rules", "recipes"]
Origin = Literal["path", "working folder", "package"]

_MAX_DEPTH = 20
_INTEGER = re.compile(r"[+-]?(0|[1-9][0-9]{0,17})")
_NUMBER = re.compile(r"[+-]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
# How one character of a value is written between the quotes.
_WRITTEN = {"'": re.compile(r"''|."), '"': re.compile(r"\\(?:x..|u.{4}|U.{8}|.)|.")}


@dataclass(frozen=True)
class Source:
    """One file of the catalog, as it was read.

    Attributes:
        name: The name, or the file's name without its suffix.
        path: The file.
        text: Its content.
        digest: First 16 hexadecimal digits of the text's SHA-256.
        origin: Where it was found: by its path, in the working folder, or in the package.
    """

    name: str
    path: Path
    text: str
    digest: str
    origin: Origin


def find(kind: Kind, name: str) -> Source:
    """Read the file that `name` stands for.

    Args:
        kind: The kind of file.
        name: A path (with a separator, a YAML suffix, or of a file that is there), or the name of a
            file `NAME.yaml` in the working folder's `kind` or among those that effnas ships.

    Raises:
        CatalogError: There is no such file, or it is empty, not UTF-8, or cannot be read.
    """
    path, origin = _look_up(kind, name)
    try:
        text = read_text(path, may_be_pipe=True)
    except UserError as error:
        if isinstance(error.__context__, FileNotFoundError):
            hint = closest(path.stem, names(kind))
            problem = f"there is no file {name!r} in {Path.cwd()}; by name: {hint}"
            raise CatalogError(problem) from None
        raise CatalogError(f"{path}: {error}") from None
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return Source(path.stem, path, text, digest, origin)


def names(kind: Kind) -> list[str]:
    """List the names that `find` knows, in alphabetical order."""
    return sorted({path.stem for folder, _ in _folders(kind) for path in folder.glob("*.yaml")})


def _look_up(kind: Kind, name: str) -> tuple[Path, Origin]:
    path = Path(name)
    label = "family" if kind == "scaling_rules" else kind.replace("_", " ").removesuffix("s")
    if path.suffix in (".yaml", ".yml") or "/" in name or _is_file(path):
        return path, "path"
    for folder, origin in _folders(kind):
        if _is_file(folder / f"{name}.yaml"):
            return folder / f"{name}.yaml", origin
    hint = closest(name, names(kind))
    raise CatalogError(f"no {label} is called {name!r}; {hint}; the path of a YAML file works too")


def _folders(kind: Kind) -> list[tuple[Path, Origin]]:
    package = Path(str(resources.files("effnas")))
    shipped = package / "assets" / kind
    # Only a wheel has the files in the package; a checkout keeps them at its root.
    root = package.parents[1]
    if not shipped.is_dir() and (root / "pyproject.toml").is_file():
        shipped = root / kind
    return [(Path(kind), "working folder"), (shipped, "package")]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have: too long, or with a null
        return False


@dataclass(frozen=True)
class _Document:
    source: str
    text: str
    error: type[UserError]

    def fault(self, line: int, column: int, message: str) -> UserError:
        return self.error(self.location(line, column).describe(message))

    def location(self, line: int, column: int) -> Location:
        lines = self.text.splitlines()
        excerpt = lines[line - 1] if line <= len(lines) else ""
        excerpt = "".join(c if c.isprintable() else " " for c in excerpt)  # one column each
        return Location(self.source, line, column, excerpt)


@dataclass(frozen=True, eq=False)
class Node:
    """One value of a YAML text, with its place.

    Attributes:
        value: Text, a sequence of nodes, or a mapping of keys to the nodes of key and value.
        line: Its line, from 1.
        column: Its column, from 1.
        written: A text as it stands in the file, quotes and all.
    """

    value: str | tuple[Node, ...] | Mapping[str, tuple[Node, Node]]
    line: int
    column: int
    written: str
    document: _Document = field(repr=False)

    def mapping(
        self, known: Collection[str] | None = None, required: Collection[str] = ()
    ) -> dict[str, Node]:
        """Return the values by key; None as `known` allows all keys.

        Raises:
            UserError: This is not a mapping, or a key is unknown or missing.
        """
        if not isinstance(self.value, Mapping):
            raise self.error(f"expected a mapping (key: value), found {self._found()}")
        for key, (place, _) in self.value.items():
            if known is not None and key not in known:
                raise place.error(f"unknown key '{key}'; {closest(key, known)}")
        for key in required:
            if key not in self.value:
                raise self.error(f"the key '{key}' is missing")
        return {key: value for key, (_, value) in self.value.items()}

    def sequence(self) -> list[Node]:
        """Return the items of a list.

        Raises:
            UserError: This is not a list.
        """
        if not isinstance(self.value, tuple):
            raise self.error(f"expected a list, found {self._found()}")
        return list(self.value)

    def text(self) -> str:
        """Return a text as it is written: `no` is "no", and nothing is the empty text.

        Raises:
            UserError: This is a list or a mapping.
        """
        if not isinstance(self.value, str):
            raise self.error(f"expected a text, found {self._found()}")
        return self.value

    def integer(self, minimum: int | None = None) -> int:
        """Return a whole number, written with decimal digits only.

        Raises:
            UserError: This is something else, or below `minimum`.
        """
        if not isinstance(self.value, str) or not _INTEGER.fullmatch(self.value):
            raise self.error(f"expected a whole number, found {self._found()}")
        number = int(self.value)
        if minimum is not None and number < minimum:
            raise self.error(f"{number} is too small; the least is {minimum}")
        return number

    def number(self) -> float:
        """Return a finite number in decimal or exponent notation.

        Raises:
            UserError: This is something else.
        """
        if isinstance(self.value, str) and _NUMBER.fullmatch(self.value):
            number = float(self.value)
            if math.isfinite(number):
                return number
        raise self.error(f"expected a number, found {self._found()}")

    def location(self, offset: int = 0) -> Location:
        """Return the place of character `offset` of a text, or of the value when it has lines."""
        return self.document.location(self.line, self.column + self._written_offset(offset))

    def error(self, message: str, offset: int = 0) -> UserError:
        """Return an error of the kind that `load_yaml` was given, which points here."""
        return self.document.error(self.location(offset).describe(message))

    def _written_offset(self, offset: int) -> int:
        if "\n" in self.written:
            return 0
        characters = _WRITTEN.get(self.written[:1])
        if characters is None:
            return min(offset, len(self.written))
        end = len(self.written) - 1
        starts = [match.start() for match in characters.finditer(self.written, 1, end)]
        return starts[offset] if offset < len(starts) else end

    def _found(self) -> str:
        if isinstance(self.value, str):
            return repr(self.value[:60]) if self.written else "nothing"
        return "a list" if isinstance(self.value, tuple) else "a mapping"


def load_yaml(text: str, source: str, *, error: type[UserError] = CatalogError) -> Node:
    """Read one YAML document, strictly; `source` is the file's name, for an `error`.

    Raises:
        UserError: An `error` for what is not YAML, is empty, or has several documents, duplicate
            keys, anchors, aliases or tags.
    """
    import yaml

    document = _Document(source, text.removeprefix("\ufeff"), error)
    try:
        events = yaml.parse(document.text, Loader=yaml.SafeLoader)
        return _read_document(events, document)
    except yaml.reader.ReaderError as problem:
        before = document.text[: problem.position]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        raise document.fault(line, column, "this character is not allowed in YAML") from None
    except yaml.MarkedYAMLError as problem:
        line, column = _place(problem.problem_mark or problem.context_mark)
        raise document.fault(line, column, f"not valid YAML: {problem.problem}") from None


def load_keys(
    text: str,
    source: str,
    *,
    known: Collection[str],
    required: Collection[str] = (),
    error: type[UserError],
) -> dict[str, Node]:
    """Read a YAML mapping that may have a `format`: return the values of the other keys.

    Raises:
        UserError: An `error`, as of `load_yaml` and `Node.mapping`, or for another format.
    """
    root = load_yaml(text, source, error=error)
    keys = root.mapping(known=("format", *known), required=required)
    node = keys.pop("format", None)
    if node and node.integer(minimum=1) != FORMAT:
        shown = node.text()
        raise node.error(f"format {shown} is not known to this version, which reads {FORMAT}")
    return keys


def _read_document(events: Iterator[yaml.Event], document: _Document) -> Node:
    import yaml

    root: Node | None = None
    for event in events:
        if isinstance(event, yaml.DocumentStartEvent):
            if root is not None:
                raise _at(event, document, "a second document; a file holds one")
            root = _read_node(next(events), events, document, 0)
    if root is None or not (root.value or root.written):
        raise document.fault(1, 1, "the file is empty")
    return root


def _read_node(
    event: yaml.Event, events: Iterator[yaml.Event], document: _Document, depth: int
) -> Node:
    import yaml

    if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
        raise _at(event, document, "anchors and aliases are not allowed; write the value out")
    if getattr(event, "tag", None) is not None:
        raise _at(event, document, "tags are not allowed; write the value without '!'")
    if depth > _MAX_DEPTH:
        raise _at(event, document, f"nested more than {_MAX_DEPTH} deep")
    line, column = _place(event.start_mark)
    written = ""
    value: str | tuple[Node, ...] | dict[str, tuple[Node, Node]]
    if isinstance(event, yaml.ScalarEvent):
        value = event.value
        if event.start_mark and event.end_mark:
            written = document.text[event.start_mark.index : event.end_mark.index]
    elif isinstance(event, yaml.SequenceStartEvent):
        items = []
        while not isinstance(item := next(events), yaml.SequenceEndEvent):
            items.append(_read_node(item, events, document, depth + 1))
        value = tuple(items)
    else:
        value = {}
        while not isinstance(item := next(events), yaml.MappingEndEvent):
            key = _read_node(item, events, document, depth + 1)
            if not isinstance(key.value, str) or key.written == "<<":
                raise key.error("a key is a text, and not '<<'")
            if key.value in value:
                first = value[key.value][0].line
                raise key.error(f"the key '{key.value}' is there already, in line {first}")
            value[key.value] = (key, _read_node(next(events), events, document, depth + 1))
    return Node(value, line, column, written, document)


def _at(event: yaml.Event, document: _Document, message: str) -> UserError:
    return document.fault(*_place(event.start_mark), message)


def _place(mark: yaml.Mark | CMark | None) -> tuple[int, int]:
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)
