"""Arithmetic over named quantities: the language of rewards and of a space's constraints.

Python's own parser reads the text, every node of the tree must be on a short list, and what passes
becomes nested closures over floats, once. Nothing is ever handed to `eval`.
"""

from __future__ import annotations

import ast
import math
import operator
import re
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, isfinite
from numbers import Real

from effnas.errors import ExpressionError, Location, closest

MAX_LENGTH = 2000
MAX_DEPTH = 100  # evaluation nests two Python calls a level, so this stays far from its limit
#: The shortfall of a comparison that equal numbers fail, such as `2 < 2`.
_MIN_MISSED = 1e-9

Quantities = Mapping[str, float | str]
_Number = Callable[[Quantities], float]
_Truth = Callable[[Quantities], bool]


def _power(base: float, exponent: float) -> float:
    if base == 0 and exponent < 0:
        raise ZeroDivisionError
    return math.pow(base, exponent)  # unlike **, never complex


FUNCTIONS: Mapping[str, Callable[..., float]] = {
    "min": min,
    "max": max,
    "abs": abs,
    "log": math.log,
    "exp": math.exp,
    "sqrt": math.sqrt,
}
_OPERATORS: Mapping[type[ast.AST], Callable[..., float]] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: _power,
}
_COMPARISONS: Mapping[type[ast.cmpop], Callable[..., bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_REASONS: Mapping[type[Exception], str] = {
    ZeroDivisionError: "division by zero",
    OverflowError: "overflow",
}
_UNDEFINED: Mapping[Callable[..., float], str] = {
    _power: "a negative number to a fractional power",
    math.log: "log of a number that is not positive",
    math.sqrt: "sqrt of a negative number",
}
_ALLOWED = (
    "allowed: numbers, names, + - * / ^, < <= > >= == !=, and, or, not, x if c else y, "
    + ", ".join(FUNCTIONS)
)
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
    _run: _Number | _Truth = field(compare=False, repr=False)
    _missed: _Number | _Truth = field(compare=False, repr=False)

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

    def evaluate(self, quantities: Quantities) -> float:
        """Return the value, always finite.

        Raises:
            ExpressionError: It is a condition, a quantity is missing or not a finite number, or
                there is no value: division by zero, log of 0, overflow and the like.
        """
        if self.is_condition:
            raise ExpressionError(f"{self.source}: '{self.text}' {_NOT_A_NUMBER}")
        return float(self._value(quantities))

    def holds(self, quantities: Quantities) -> bool:
        """Return whether the condition is true.

        Raises:
            ExpressionError: It is a number, or one of its parts has no value (see `evaluate`).
        """
        if not self.is_condition:
            raise ExpressionError(f"{self.source}: '{self.text}' {_NOT_A_CONDITION}")
        return bool(self._value(quantities))

    def shortfall(self, quantities: Quantities) -> float:
        """Return how far the condition is from true: 0 where it holds, above 0 elsewhere.

        A comparison of numbers a and b that fails is missed by |a - b| / (|a| + |b|), at most 1. A
        failed comparison of texts, or a `not`, counts 1. `and` adds up, `or` takes the least.

        Raises:
            ExpressionError: As `holds` does.
        """
        if not self.is_condition:
            raise ExpressionError(f"{self.source}: '{self.text}' {_NOT_A_CONDITION}")
        return float(self._value(quantities, self._missed))

    def _value(self, quantities: Quantities, run: _Number | _Truth | None = None) -> float | bool:
        try:
            return (run or self._run)(quantities)
        except _Fault as fault:
            whole = " ".join(self.text.split())
            part = " ".join(fault.part.split()) or whole
            message = f"{self.source}: {fault.reason} in '{part}'"
            # A name in a branch that was not taken may have no value.
            values = [f"{n} = {_show(quantities[n])}" for n in fault.names if n in quantities]
            message += f": {', '.join(values)}" if values else ""
            message += f", part of '{whole}'" if part != whole else ""
            raise ExpressionError(message) from None

    def __reduce__(self) -> tuple[Callable[[str], Expression], tuple[str]]:
        return Expression.parse, (self.text,)  # closures cannot be pickled


_NOT_A_NUMBER = "is true or false where a number is needed; write 'x if c else y'"
_NOT_A_CONDITION = "is a number where a condition is needed; compare it with something"


class _Fault(Exception):  # noqa: N818 - it never leaves this module
    """A part has no value; an empty `part` stands for the whole expression."""

    def __init__(self, reason: str, part: str = "", names: Collection[str] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.part = part
        self.names = names


@dataclass
class _Reader:
    """Turns one text into closures; each method reads one kind of node, or says what is wrong."""

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
        condition = _is_condition(body)
        run = self._truth(body) if condition else self._number(body)
        missed = self._shortfall(body) if condition else run
        names = frozenset(_names(body))
        return Expression(self.text.strip(), names, condition, self.source, run, missed)

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

    def _number(self, node: ast.expr) -> _Number:
        run = self._read_number(node)
        if isinstance(node, ast.Constant) or _names(node):
            return run
        try:
            value = run({})
        except _Fault as fault:
            raise self._error(node, f"{fault.reason} in '{fault.part}'") from None
        return lambda quantities: value

    def _read_number(self, node: ast.expr) -> _Number:
        if isinstance(node, ast.Constant):
            return self._constant(node)
        if (name := _dotted(node)) is not None:
            return self._quantity(node, name)
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            return self._apply(node, _OPERATORS[type(node.op)], [node.left, node.right])
        if isinstance(node, ast.UnaryOp) and type(node.op) in _OPERATORS:
            return self._apply(node, _OPERATORS[type(node.op)], [node.operand])
        if isinstance(node, ast.Call):
            return self._call(node)
        if isinstance(node, ast.IfExp):
            test = self._truth(node.test)
            yes, no = self._number(node.body), self._number(node.orelse)
            return lambda quantities: yes(quantities) if test(quantities) else no(quantities)
        if _is_condition(node):
            raise self._error(node, f"'{self._segment(node)}' {_NOT_A_NUMBER}")
        raise self._refusal(node)

    def _truth(self, node: ast.expr) -> _Truth:
        if isinstance(node, ast.Compare):
            return self._compare(node)
        if isinstance(node, ast.BoolOp):
            parts = [self._truth(value) for value in node.values]
            join = all if isinstance(node.op, ast.And) else any
            return lambda quantities: join(part(quantities) for part in parts)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            operand = self._truth(node.operand)
            return lambda quantities: not operand(quantities)
        self._number(node)  # what is not even a number is refused as that
        raise self._error(node, f"'{self._segment(node)}' {_NOT_A_CONDITION}")

    def _shortfall(self, node: ast.expr) -> _Number:
        """Read by how much a condition that `_truth` has read is missed."""
        if isinstance(node, ast.BoolOp):
            parts = [self._shortfall(value) for value in node.values]
            return _sum_missed(parts) if isinstance(node.op, ast.And) else _least_missed(parts)
        if isinstance(node, ast.Compare) and len(node.ops) > 1:  # a < b < c
            sides = [node.left, *node.comparators]
            steps = zip(sides, node.ops, sides[1:], strict=False)
            pairs = [ast.copy_location(ast.Compare(a, [how], [b]), node) for a, how, b in steps]
            return _sum_missed([self._shortfall(pair) for pair in pairs])
        holds = self._truth(node)
        if not isinstance(node, ast.Compare):
            return lambda quantities: 0.0 if holds(quantities) else 1.0
        left, right = self._operand(node.left), self._operand(node.comparators[0])

        def run(quantities: Quantities) -> float:
            if holds(quantities):
                return 0.0
            a, b = left(quantities), right(quantities)
            if isinstance(a, str) or isinstance(b, str):
                return 1.0
            # Halves, because a sum of two large numbers may have no value.
            size = abs(a) / 2 + abs(b) / 2
            return max(abs(a / 2 - b / 2) / size if size else 0.0, _MIN_MISSED)

        return run

    def _constant(self, node: ast.Constant) -> _Number:
        if isinstance(node.value, str):
            reason = f"the text {node.value!r} can only be compared with a name, by == or !="
            raise self._error(node, reason)
        if isinstance(node.value, bool) or not isinstance(node.value, (int, float)):
            raise self._refusal(node)
        value = _finite(node.value)
        if value is None:
            raise self._error(node, "the number is too large")
        return lambda quantities: value

    def _quantity(self, node: ast.expr, name: str) -> _Number:
        if name in FUNCTIONS:
            raise self._error(node, f"'{name}' is a function: write {name}(...)")
        if self.known is not None and name not in self.known:
            raise self._error(node, f"unknown name '{name}'; {closest(name, self.known)}")

        def run(quantities: Quantities) -> float:
            value = quantities.get(name)
            if type(value) is float and isfinite(value):
                return value
            if value is None:
                raise _Fault(f"no value for '{name}' (given: {', '.join(quantities) or 'none'})")
            number = _finite(value) if isinstance(value, Real) else None
            if number is None:
                raise _Fault(f"'{name}' is {value!r}, not a finite number,")
            return number

        return run

    def _call(self, node: ast.Call) -> _Number:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name not in FUNCTIONS or node.keywords:
            raise self._refusal(node)
        several = name in ("min", "max")
        if (len(node.args) > 1) is not several or not node.args:
            count = "two or more arguments" if several else "one argument"
            raise self._error(node, f"{name} needs {count}")
        return self._apply(node, FUNCTIONS[name], node.args)

    def _apply(
        self, node: ast.expr, function: Callable[..., float], arguments: Sequence[ast.expr]
    ) -> _Number:
        parts = [self._number(argument) for argument in arguments]
        text, names = self._segment(node), _names(node)
        to_blame = names
        if function is operator.truediv:
            to_blame = _names(arguments[1])
            if not to_blame and parts[1]({}) == 0:
                raise self._error(arguments[1], f"division by zero in '{text}'")

        def run(quantities: Quantities) -> float:
            try:
                value = function(*[part(quantities) for part in parts])
            except (ArithmeticError, ValueError) as error:
                reason = _REASONS.get(type(error)) or _UNDEFINED[function]
                raise _Fault(reason, text, to_blame) from None
            if not isfinite(value):
                raise _Fault("overflow", text, names)
            return value

        return run

    def _compare(self, node: ast.Compare) -> _Truth:
        first = self._operand(node.left)
        steps: list[tuple[Callable[..., bool], Callable[[Quantities], float | str]]] = []
        left = node.left
        for how, right in zip(node.ops, node.comparators, strict=True):
            if type(how) not in _COMPARISONS:
                raise self._refusal(node)
            equality = isinstance(how, (ast.Eq, ast.NotEq))
            for side, other in ((left, right), (right, left)):
                if _is_text(side) and not (equality and _dotted(other)):
                    self._number(side)  # says what a text is for
            steps.append((_COMPARISONS[type(how)], self._operand(right)))
            left = right
        part, names = self._segment(node), _names(node)

        def run(quantities: Quantities) -> bool:
            left = first(quantities)
            for compare, operand in steps:
                right = operand(quantities)
                if isinstance(left, str) or isinstance(right, str):
                    if type(left) is not type(right):
                        raise _Fault("a number is compared with a text", part, names)
                    if compare not in (operator.eq, operator.ne):
                        raise _Fault("texts have no order", part, names)
                if not compare(left, right):
                    return False
                left = right
            return True

        return run

    def _operand(self, node: ast.expr) -> Callable[[Quantities], float | str]:
        """Read one side of a comparison: beside numbers, a text, or a name that stands for one."""
        if isinstance(node, ast.Constant) and _is_text(node):
            text = str(node.value)
            return lambda quantities: text
        number = self._number(node)
        if (name := _dotted(node)) is None:
            return number

        def run(quantities: Quantities) -> float | str:
            value = quantities.get(name)
            return value if isinstance(value, str) else number(quantities)

        return run

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


def _sum_missed(parts: Sequence[_Number]) -> _Number:
    def run(quantities: Quantities) -> float:
        total = 0.0
        for part in parts:
            try:
                total += part(quantities)
            except _Fault:
                if not total:
                    raise
                total += 1.0  # `and` does not look at what follows a part that is false
        return total

    return run


def _least_missed(parts: Sequence[_Number]) -> _Number:
    def run(quantities: Quantities) -> float:
        least = inf
        for part in parts:
            least = min(least, part(quantities))
            if not least:  # `or` does not look further
                break
        return least

    return run


def _finite(value: Real | float) -> float | None:
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if isfinite(number) else None


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
    # With a prefix (u, r), triple quotes or a second text behind it, it is longer.
    return node.end_col_offset == node.col_offset + len(node.value) + 2


def _dotted(node: ast.AST) -> str | None:
    """Return `a` or `a.b.c` when that is all the node says."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (owner := _dotted(node.value)) is not None:
        return f"{owner}.{node.attr}"
    return None


def _names(node: ast.AST) -> list[str]:
    """List the quantities below a node, each once, in the order of the text."""
    if (name := _dotted(node)) is not None:
        return [] if name in FUNCTIONS else [name]
    found = [name for child in ast.iter_child_nodes(node) for name in _names(child)]
    return list(dict.fromkeys(found))


def _show(value: float | str) -> str:
    return f"{value:.6g}" if isinstance(value, float) else repr(value)
