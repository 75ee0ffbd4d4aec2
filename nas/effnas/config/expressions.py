"""Arithmetic over named quantities: the language of rewards and of a space's constraints.

Python's own parser reads the text, every node of its tree must be on a short list, and what passes
becomes a tree of our own (`effnas.config.expression_tree`). Nothing is ever handed to `eval`.
"""

from __future__ import annotations

import ast
import math
import operator
import re
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from effnas.config import expression_tree as tree
from effnas.config.expression_tree import Function, Node, Quantities, Vectors
from effnas.errors import ExpressionError, Location, closest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: The command that lists what expressions of rewards and constraints may name.
LISTER = "`effnas space v2`"
MAX_LENGTH = 2000
MAX_DEPTH = 100  # evaluation nests two Python calls a level, so this stays far from its limit

FUNCTIONS: Mapping[str, Function] = {
    "min": Function(min, "minimum"),
    "max": Function(max, "maximum"),
    "abs": Function(abs, "abs"),
    "log": Function(math.log, "log", "log of a number that is not positive"),
    "exp": Function(math.exp, "exp"),
    "sqrt": Function(math.sqrt, "sqrt", "sqrt of a negative number"),
}
_OPERATORS: Mapping[type[ast.AST], Function] = {
    ast.UAdd: Function(operator.pos, "positive"),
    ast.USub: Function(operator.neg, "negative"),
    ast.Add: Function(operator.add, "add"),
    ast.Sub: Function(operator.sub, "subtract"),
    ast.Mult: Function(operator.mul, "multiply"),
    ast.Div: tree.DIVIDE,
    ast.Pow: tree.POWER,
    ast.Lt: Function(operator.lt, "less"),
    ast.LtE: Function(operator.le, "less_equal"),
    ast.Gt: Function(operator.gt, "greater"),
    ast.GtE: Function(operator.ge, "greater_equal"),
    ast.Eq: tree.EQUAL,
    ast.NotEq: tree.UNEQUAL,
}
_ALLOWED = (
    "allowed: numbers, names, + - * / ^, < <= > >= == !=, and, or, not, x if c else y, "
    + ", ".join(FUNCTIONS)
)
_NOT_A_NUMBER = "is true or false where a number is needed; write 'x if c else y'"
_NOT_A_CONDITION = "is a number where a condition is needed; compare it with something"
# Only ASCII, so that the parser's byte offsets are character offsets and no two names look alike.
_REFUSED_CHARACTER = re.compile(r"[^\t\n\r\x20-\x7e]|[\\#]|(?<![<>=!:])=(?!=)")
_QUOTED_OR_CHARACTER = re.compile(r"'[^']*'|\"[^\"]*\"|.")


@dataclass(frozen=True)
class Expression:
    """One parsed expression; two are equal when their texts are.

    Attributes:
        text: The text as written, without the white space around it.
        names: The quantities that it needs.
        is_condition: Whether it is true or false (for `holds`) and not a number (for `evaluate`).
        source: Where it was written, for error messages.
    """

    text: str
    names: frozenset[str] = field(compare=False)
    is_condition: bool = field(compare=False)
    source: str = field(compare=False)
    _tree: Node = field(compare=False, repr=False)

    @staticmethod
    def parse(
        text: str,
        *,
        known: Collection[str] | None = None,
        source: str = "expression",
        locate: Callable[[int], Location] | None = None,
    ) -> Expression:
        """Read `text`; `^` and `**` are both power and bind as `**` does in Python.

        Args:
            text: The expression, of at most 2,000 characters.
            known: The names that may be used; None allows all.
            source: Where the text was written, for error messages.
            locate: Gives the place of a character of `text` in the file that holds it, when errors
                should point there and not into `text`.

        Raises:
            ExpressionError: The text is not an expression of this language, uses an unknown name,
                or has a part without names that has no value, as `1 / 0`.
        """
        if not text.strip():
            raise ExpressionError(f"{source}: the expression is empty")
        if len(text.strip()) > MAX_LENGTH:
            raise ExpressionError(f"{source}: the expression has over {MAX_LENGTH:,} characters")
        try:
            return _Reader(text, known, source, locate).read()
        except (RecursionError, MemoryError):
            raise ExpressionError(f"{source}: the expression nests too deep") from None

    @staticmethod
    def parse_condition(
        text: str, *, known: Collection[str], locate: Callable[[int], Location] | None = None
    ) -> Expression:
        """Read a constraint, whose white space means nothing.

        Raises:
            ExpressionError: As `parse`, or if it is a number.
        """
        text = " ".join(text.split())
        found = Expression.parse(text, known=known, source="constraint", locate=locate)
        if not found.is_condition:
            place = locate(0) if locate else Location("constraint", 1, 1, text)
            reason = f"'{text}' {_NOT_A_CONDITION}, such as params <= 30e6"
            raise ExpressionError(place.describe(reason))
        return found

    def evaluate(self, quantities: Quantities) -> float:
        """Return the value, always finite.

        Raises:
            ExpressionError: It is a condition, a quantity is missing or not a finite number, or
                there is no value: division by zero, log of 0, overflow and the like.
        """
        self._check_kind(is_condition=False)
        return self._compute(self._tree.value, quantities)

    def vectorized(self, vectors: Vectors) -> NDArray[np.float64]:
        """Return the values for N rows at once, [N].

        They are those of `evaluate`, to rounding, and NaN where that raises an error.

        Args:
            vectors: Quantities by name, [N] each; NaN where one is not known. None are texts.
        """
        import numpy as np

        self._check_kind(is_condition=False)
        rows = len(next(iter(vectors.values())))
        with np.errstate(all="ignore"):
            return np.broadcast_to(tree.vectorized(self._tree, vectors), (rows,)).copy()

    def holds(self, quantities: Quantities) -> bool:
        """Return whether the condition is true.

        Raises:
            ExpressionError: It is a number, or one of its parts has no value (see `evaluate`).
        """
        self._check_kind(is_condition=True)
        return bool(self._compute(self._tree.value, quantities))

    def shortfall(self, quantities: Quantities) -> float:
        """Return how far the condition is from true: 0 where it holds, above 0 elsewhere.

        A comparison of numbers a and b that fails is missed by |a - b| / (|a| + |b|), at most 1. A
        failed comparison of texts, or a `not`, counts 1. `and` adds up, `or` takes the least.

        Raises:
            ExpressionError: As `holds` does.
        """
        self._check_kind(is_condition=True)
        return self._compute(lambda given: tree.shortfall(self._tree, given), quantities)

    def _check_kind(self, *, is_condition: bool) -> None:
        if self.is_condition is not is_condition:
            wrong = _NOT_A_CONDITION if is_condition else _NOT_A_NUMBER
            raise ExpressionError(f"{self.source}: '{self.text}' {wrong}")

    def _compute(self, function: Callable[[Quantities], float], quantities: Quantities) -> float:
        try:
            return function(quantities)
        except tree.Fault as fault:
            whole = " ".join(self.text.split())
            part = " ".join(fault.part.split()) or whole
            message = f"{self.source}: {fault.reason} in '{part}'"
            # A name in a branch that was not taken may have no value.
            values = [f"{n} = {_show(quantities[n])}" for n in fault.names if n in quantities]
            message += f": {', '.join(values)}" if values else ""
            message += f", part of '{whole}'" if part != whole else ""
            raise ExpressionError(message) from None


@dataclass
class _Reader:
    """Turns one text into a tree; each method reads one kind of node, or says what is wrong."""

    text: str
    known: Collection[str] | None
    source: str
    locate: Callable[[int], Location] | None
    # Where each character that Python's parser sees stands in `text`: '^' becomes two.
    origins: list[int] = field(default_factory=list)

    def read(self) -> Expression:
        body = self._parse()
        if (depth := _depth(body)) > MAX_DEPTH:
            raise self._error(0, f"the expression nests {depth} deep; the limit is {MAX_DEPTH}")
        is_condition = _is_condition(body)
        read = self._condition(body) if is_condition else self._number(body)
        names = frozenset(read.names())
        return Expression(self.text.strip(), names, is_condition, self.source, read)

    def _parse(self) -> ast.expr:
        if refused := _REFUSED_CHARACTER.search(self.text):
            hint = "to compare, write '=='" if refused[0] == "=" else _ALLOWED
            raise self._error(refused.start(), f"{refused[0]!r} is not allowed; {hint}")
        pieces: list[str] = []
        start = len(self.text) - len(self.text.lstrip())
        for match in _QUOTED_OR_CHARACTER.finditer(re.sub(r"\s", " ", self.text), start):
            pieces.append("**" if match[0] == "^" else match[0])
            self.origins += [match.start()] * 2 if match[0] == "^" else range(*match.span())
        self.origins.append(len(self.text))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # '1if' and the like: old syntax, same meaning
                return ast.parse("".join(pieces), mode="eval").body
        except SyntaxError as error:
            # At the end of the text the parser says 0.
            at = min((error.offset or len(self.origins)) - 1, len(self.origins) - 1)
            vague = error.msg.startswith("invalid syntax")
            reason = f"this is not an expression; {_ALLOWED}" if vague else error.msg
            raise self._error(self.origins[at], reason) from None

    def _number(self, node: ast.expr) -> Node:
        read = self._read_number(node)
        if read.kind != "number" and not read.names():
            try:
                read.value({})
            except tree.Fault as fault:
                raise self._error(node, f"{fault.reason} in '{fault.part}'") from None
        return read

    def _read_number(self, node: ast.expr) -> Node:
        if isinstance(node, ast.Constant):
            return self._constant(node)
        if (name := _dotted(node)) is not None:
            return self._quantity(node, name)
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            return self._apply(node, _OPERATORS[type(node.op)], [node.left, node.right])
        if isinstance(node, ast.UnaryOp) and type(node.op) in _OPERATORS:
            read = self._apply(node, _OPERATORS[type(node.op)], [node.operand])
            is_constant = read.parts[0].kind == "number"
            return Node("number", read.text, number=read.value({})) if is_constant else read
        if isinstance(node, ast.Call):
            return self._call(node)
        if isinstance(node, ast.IfExp):
            test = self._condition(node.test)
            parts = (test, self._number(node.body), self._number(node.orelse))
            return Node("if", self._segment(node), parts)
        if _is_condition(node):
            raise self._error(node, f"'{self._segment(node)}' {_NOT_A_NUMBER}")
        raise self._refusal(node)

    def _condition(self, node: ast.expr) -> Node:
        if isinstance(node, ast.Compare):
            return self._compare(node)
        if isinstance(node, ast.BoolOp):
            kind: tree.Kind = "and" if isinstance(node.op, ast.And) else "or"
            return Node(kind, self._segment(node), tuple(map(self._condition, node.values)))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return Node("not", self._segment(node), (self._condition(node.operand),))
        self._number(node)  # what is not even a number is refused as that
        raise self._error(node, f"'{self._segment(node)}' {_NOT_A_CONDITION}")

    def _constant(self, node: ast.Constant) -> Node:
        if isinstance(node.value, str):
            reason = f"the text {node.value!r} can only be compared with a name, by == or !="
            raise self._error(node, reason)
        if isinstance(node.value, bool) or not isinstance(node.value, (int, float)):
            raise self._refusal(node)
        value = tree.finite(node.value)
        if value is None:
            raise self._error(node, "the number is too large")
        return Node("number", self._segment(node), number=value)

    def _quantity(self, node: ast.expr, name: str) -> Node:
        if name in FUNCTIONS:
            raise self._error(node, f"'{name}' is a function: write {name}(...)")
        if self.known is not None and name not in self.known:
            raise self._error(node, f"unknown name '{name}'; {closest(name, self.known, LISTER)}")
        return Node("name", name)

    def _call(self, node: ast.Call) -> Node:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name not in FUNCTIONS or node.keywords:
            raise self._refusal(node)
        several = name in ("min", "max")
        if (len(node.args) > 1) is not several or not node.args:
            count = "two or more arguments" if several else "one argument"
            raise self._error(node, f"{name} needs {count}")
        return self._apply(node, FUNCTIONS[name], node.args)

    def _apply(self, node: ast.expr, function: Function, arguments: Sequence[ast.expr]) -> Node:
        parts = tuple(map(self._number, arguments))
        text = self._segment(node)
        if function is tree.DIVIDE and not parts[1].names() and parts[1].value({}) == 0:
            raise self._error(arguments[1], f"division by zero in '{text}'")
        return Node("function", text, parts, (function,))

    def _compare(self, node: ast.Compare) -> Node:
        parts = [self._operand(node.left)]
        for left, how, right in zip(
            [node.left, *node.comparators], node.ops, node.comparators, strict=False
        ):
            if type(how) not in _OPERATORS:
                raise self._refusal(node)
            equality = isinstance(how, (ast.Eq, ast.NotEq))
            for side, other in ((left, right), (right, left)):
                if _is_text(side) and not (equality and _dotted(other)):
                    self._number(side)  # says what a text is for
            parts.append(self._operand(right))
        functions = tuple(_OPERATORS[type(how)] for how in node.ops)
        return Node("compare", self._segment(node), tuple(parts), functions)

    def _operand(self, node: ast.expr) -> Node:
        """Read one side of a comparison, which may be a text."""
        if isinstance(node, ast.Constant) and _is_text(node):
            return Node("text", str(node.value))
        return self._number(node)

    def _segment(self, node: ast.expr) -> str:
        end = node.col_offset if node.end_col_offset is None else node.end_col_offset
        return self.text[self.origins[node.col_offset] : self.origins[end]]

    def _refusal(self, node: ast.expr) -> ExpressionError:
        return self._error(node, f"'{self._segment(node)}' is not allowed; {_ALLOWED}")

    def _error(self, where: int | ast.expr, reason: str) -> ExpressionError:
        offset = where if isinstance(where, int) else self.origins[where.col_offset]
        if self.locate is not None:
            return ExpressionError(self.locate(offset).describe(reason))
        line = self.text.count("\n", 0, offset)
        column = offset - (self.text.rfind("\n", 0, offset) + 1)
        excerpt = "".join(c if c.isprintable() else " " for c in self.text.split("\n")[line])
        location = Location(self.source, line + 1, column + 1, excerpt)
        return ExpressionError(location.describe(reason))


def _depth(node: ast.AST) -> int:
    # Level by level and not by recursion, which is what this is there to prevent.
    depth, level = 0, [node]
    while level:
        depth += 1
        level = [child for parent in level for child in ast.iter_child_nodes(parent)]
    return depth


def _is_condition(node: ast.expr) -> bool:
    negation = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)
    return negation or isinstance(node, (ast.Compare, ast.BoolOp))


def _is_text(node: ast.expr) -> bool:
    if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
        return False
    # With a prefix (u, r), triple quotes or a second text after it, it is longer.
    return node.end_col_offset == node.col_offset + len(node.value) + 2


def _dotted(node: ast.AST) -> str | None:
    """Return `a` or `a.b.c` when that is all the node says."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (owner := _dotted(node.value)) is not None:
        return f"{owner}.{node.attr}"
    return None


def _show(value: float | str) -> str:
    return f"{value:.6g}" if isinstance(value, float) else repr(value)
