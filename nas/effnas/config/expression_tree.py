"""The tree of an expression, evaluated in three ways.

`Node.value` computes one number or truth, `vectorized` those of many rows at once, and `shortfall`
how far a condition is from true. For speed a node keeps its `value` as a closure.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property, reduce
from itertools import pairwise
from math import inf, isfinite
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal

from effnas.errors import EffnasError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Quantities = Mapping[str, float | str]
#: Values of quantities by name, [N] each; NaN where one is not known.
Vectors = Mapping[str, "NDArray[np.float64]"]

#: The shortfall of a comparison that equal numbers fail, such as `2 < 2`.
_MIN_SHORTFALL = 1e-9


def _power(base: float, exponent: float) -> float:
    if base == 0 and exponent < 0:
        raise ZeroDivisionError
    return math.pow(base, exponent)  # unlike **, never complex


@dataclass(frozen=True, slots=True)
class Function:
    """A function of numbers, NumPy's name for it, and what its ValueError means."""

    scalar: Callable[..., float]
    ufunc: str
    undefined: str = ""


DIVIDE = Function(operator.truediv, "divide")
POWER = Function(_power, "power", "a negative number to a fractional power")
EQUAL, UNEQUAL = Function(operator.eq, "equal"), Function(operator.ne, "not_equal")


class Fault(Exception):  # noqa: N818 - `Expression` turns it into an error
    """A part has no value: for what reason, its text ("" is the whole), and the names to show."""

    def __init__(self, reason: str, part: str = "", names: Collection[str] = ()) -> None:
        super().__init__(reason)
        self.reason, self.part, self.names = reason, part, names


Kind = Literal["number", "name", "text", "function", "compare", "and", "or", "not", "if"]

_LOGIC = ("and", "or", "not", "if")


@dataclass(frozen=True, eq=False)
class Node:
    """A part of an expression.

    Attributes:
        text: As it is written; a text without its quotes.
        parts: What it is made of: arguments; sides; conditions; test, value if true, and if false.
        functions: The function, or the comparisons between the sides of a chain.
    """

    kind: Kind
    text: str
    parts: tuple[Node, ...] = ()
    functions: tuple[Function, ...] = ()
    number: float = 0.0

    def __getstate__(self) -> dict[str, object]:
        return {name: each for name, each in vars(self).items() if not callable(each)}

    def names(self) -> list[str]:
        """Return the quantities in it, each once."""
        if self.kind == "name":
            return [self.text]
        return list(dict.fromkeys(name for part in self.parts for name in part.names()))

    @cached_property
    def value(self) -> Callable[[Quantities], float]:
        """Takes quantities; returns a finite number or a truth, or raises a `Fault`."""
        number, text = self.number, self.text
        parts = [part.value for part in self.parts] if self.kind in _LOGIC else []
        match self.kind:
            case "number":
                return lambda _: number
            case "name":
                return lambda quantities: _number(text, quantities)
            case "function":
                return _application(self)
            case "compare":
                return _comparison(self)
            case "and" | "or":
                join = all if self.kind == "and" else any
                return lambda quantities: join(part(quantities) for part in parts)
            case "not":
                return lambda quantities: not parts[0](quantities)
            case "if":
                test, yes, no = parts
                return lambda quantities: (yes if test(quantities) else no)(quantities)
        raise EffnasError(f"a {self.kind} has no value")

    @cached_property
    def operand(self) -> Callable[[Quantities], float | str]:
        """Like `value`, for one side of a comparison, which may be a text."""
        text = self.text
        if self.kind == "text":
            return lambda _: text
        if self.kind != "name":
            return self.value

        def run(quantities: Quantities) -> float | str:
            given = quantities.get(text)
            return given if isinstance(given, str) else _number(text, quantities)

        return run


def finite(value: Real | float) -> float | None:
    """Return a number as a float, or None if it is not finite."""
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if isfinite(number) else None


def _number(name: str, quantities: Quantities) -> float:
    given = quantities.get(name)
    if given is None:
        raise Fault(f"no value for '{name}' (given: {', '.join(quantities) or 'none'})")
    # The types come first, because asking for a `Real` takes long.
    is_number = type(given) is float or type(given) is int or isinstance(given, Real)
    number = finite(given) if is_number else None  # type: ignore[arg-type]
    if number is None:
        raise Fault(f"'{name}' is {given!r}, not a finite number,")
    return number


def _application(node: Node) -> Callable[[Quantities], float]:
    [function], parts = node.functions, [part.value for part in node.parts]
    scalar = function.scalar

    def run(quantities: Quantities) -> float:
        try:
            result = scalar(*[part(quantities) for part in parts])
        except ZeroDivisionError:
            blamed = node.parts[-1] if function == DIVIDE else node
            raise Fault("division by zero", node.text, blamed.names()) from None
        except OverflowError:
            result = inf
        except ValueError:
            raise Fault(function.undefined, node.text, node.names()) from None
        if not isfinite(result):
            raise Fault("overflow", node.text, node.names())
        return result

    return run


def _comparison(node: Node) -> Callable[[Quantities], bool]:
    first, *others = [part.operand for part in node.parts]
    links = [(each.scalar, each, other) for each, other in zip(node.functions, others, strict=True)]

    def run(quantities: Quantities) -> bool:
        left = first(quantities)
        for compare, function, operand in links:
            right = operand(quantities)
            if isinstance(left, str) or isinstance(right, str):
                if type(left) is not type(right):
                    raise Fault("a number is compared with a text", node.text, node.names())
                if function not in (EQUAL, UNEQUAL):
                    raise Fault("texts have no order", node.text, node.names())
            if not compare(left, right):
                return False
            left = right
        return True

    return run


def shortfall(node: Node, quantities: Quantities) -> float:
    """Return how far a condition is from true, or raise a `Fault`; see `Expression.shortfall`."""
    parts = node.parts
    if node.kind == "compare" and len(parts) > 2:
        links = zip(pairwise(parts), node.functions, strict=True)
        chain = tuple(Node("compare", node.text, pair, (each,)) for pair, each in links)
        return shortfall(Node("and", node.text, chain), quantities)
    if node.kind == "and":
        total = 0.0
        for part in parts:
            try:
                total += shortfall(part, quantities)
            except Fault:
                if not total:
                    raise
                total += 1.0  # `and` does not look at what follows a part that is false
        return total
    if node.kind == "or":
        least = inf
        for part in parts:
            least = min(least, shortfall(part, quantities))
            if not least:  # `or` does not look further
                break
        return least
    if node.value(quantities):
        return 0.0
    if node.kind == "not":
        return 1.0
    a, b = (part.operand(quantities) for part in parts)
    if isinstance(a, str) or isinstance(b, str):
        return 1.0
    # Halves, because a sum of two large numbers may have no value.
    size = abs(a) / 2 + abs(b) / 2
    return max(abs(a / 2 - b / 2) / size if size else 0.0, _MIN_SHORTFALL)


def vectorized(node: Node, vectors: Vectors) -> NDArray[np.float64]:
    """Return a number for each row, [N] or [1], or 1 for true and 0 for false.

    It is NaN where `Node.value` raises a `Fault`.
    """
    import numpy as np

    if node.kind == "number":
        return np.array([node.number])
    parts = [vectorized(part, vectors) for part in node.parts]
    match node.kind:
        case "name":
            found = vectors[node.text]
        case "function":
            found = _apply(node.functions[0], *parts)
        case "if":
            test, yes, no = parts
            found = np.where(np.isnan(test), np.nan, np.where(test > 0, yes, no))
        case "compare":
            return reduce(_and, map(_apply, node.functions, parts, parts[1:]))
        case "and":
            return reduce(_and, parts)
        case "or":
            return 1 - reduce(_and, [1 - part for part in parts])
        case "not":
            return 1 - parts[0]
        case _:
            raise EffnasError(f"vectors have no {node.kind}")
    return np.where(np.isfinite(found), found, np.nan)


def _apply(function: Function, *arguments: NDArray[np.float64]) -> NDArray[np.float64]:
    import numpy as np

    ufunc: Callable[..., Any] = getattr(np, function.ufunc)
    found = reduce(ufunc, arguments) if len(arguments) > 1 else ufunc(*arguments)
    # NumPy has 1 for NaN to the 0, and False for a comparison with NaN; here NaN stays NaN.
    return np.where(reduce(np.logical_or, map(np.isnan, arguments)), np.nan, found)


def _and(first: NDArray[np.float64], then: NDArray[np.float64]) -> NDArray[np.float64]:
    import numpy as np

    # As in Python: what follows a part that is false is not looked at.
    return np.where(first == 0, 0.0, np.where(np.isnan(first), np.nan, then))
