"""Expressions over columns: one reward for each of thousands of architectures, in one go."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from functools import lru_cache, reduce

import numpy as np
from numpy.typing import NDArray

from effnas.errors import EffnasError

Columns = Mapping[str, NDArray[np.float64]]


def _power(base: NDArray[np.float64], exponent: NDArray[np.float64]) -> NDArray[np.float64]:
    # NumPy has 1 for NaN to the 0 and for 1 to the NaN; here NaN stays what it is.
    return np.where(np.isnan(base) | np.isnan(exponent), np.nan, np.power(base, exponent))


_FUNCTIONS: Mapping[str, Callable[..., NDArray[np.float64]]] = {
    "min": lambda *parts: reduce(np.minimum, parts),
    "max": lambda *parts: reduce(np.maximum, parts),
    "abs": np.abs,
    "log": np.log,
    "exp": np.exp,
    "sqrt": np.sqrt,
}
_OPERATORS: Mapping[type[ast.AST], Callable[..., NDArray[np.float64]]] = {
    ast.UAdd: np.positive,
    ast.USub: np.negative,
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.Pow: _power,
    ast.Lt: np.less,
    ast.LtE: np.less_equal,
    ast.Gt: np.greater,
    ast.GtE: np.greater_equal,
    ast.Eq: np.equal,
    ast.NotEq: np.not_equal,
}


def evaluate_vectorized(text: str, columns: Columns) -> NDArray[np.float64]:
    """Return the values of an arithmetic expression, [N]; NaN where there is none.

    They are those of `Expression.evaluate`, to rounding, and NaN where that raises an error.

    Args:
        text: The text of an `Expression` that is a number and names no texts.
        columns: Quantities by name, [N] each; NaN where one is not known.
    """
    length = len(next(iter(columns.values())))
    with np.errstate(all="ignore"):
        return np.broadcast_to(_value(_tree(text), columns), (length,)).copy()


@lru_cache(maxsize=64)
def _tree(text: str) -> ast.expr:
    # `Expression` has read the text before, so that all that stands in it is allowed.
    return ast.parse(" ".join(text.replace("^", "**").split()), mode="eval").body


def _value(node: ast.AST, columns: Columns) -> NDArray[np.float64]:
    """Return numbers, [N] or [1]; those that are not finite become NaN and stay it."""
    match node:
        case ast.Constant(value=int() | float() as value):
            found = np.array([float(value)])
        case ast.Name(id=name):
            found = columns[name]
        case ast.BinOp(left=left, op=how, right=right):
            found = _OPERATORS[type(how)](_value(left, columns), _value(right, columns))
        case ast.UnaryOp(op=how, operand=operand):
            found = _OPERATORS[type(how)](_value(operand, columns))
        case ast.Call(func=ast.Name(id=name), args=arguments):
            found = _FUNCTIONS[name](*[_value(argument, columns) for argument in arguments])
        case ast.IfExp(test=test, body=yes, orelse=no):
            truth = _truth(test, columns)
            found = np.where(truth > 0, _value(yes, columns), _value(no, columns))
            found = np.where(np.isnan(truth), np.nan, found)
        case _:
            raise EffnasError(f"columns have no {type(node).__name__}")
    return np.where(np.isfinite(found), found, np.nan)


def _truth(node: ast.AST, columns: Columns) -> NDArray[np.float64]:
    """Return 1 where a condition holds, 0 where it does not, NaN where there is no saying."""
    match node:
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            sides = [_value(side, columns) for side in (left, *comparators)]
            steps = [
                np.where(np.isnan(a) | np.isnan(b), np.nan, _OPERATORS[type(how)](a, b))
                for a, how, b in zip(sides, ops, sides[1:], strict=False)
            ]
            return reduce(_and, steps)
        case ast.BoolOp(op=how, values=values):
            parts = [_truth(value, columns) for value in values]
            if isinstance(how, ast.And):
                return reduce(_and, parts)
            return 1 - reduce(_and, [1 - part for part in parts])
        case ast.UnaryOp(operand=operand):
            return 1 - _truth(operand, columns)
        case _:
            raise EffnasError(f"columns have no {type(node).__name__}")


def _and(first: NDArray[np.float64], then: NDArray[np.float64]) -> NDArray[np.float64]:
    # As Python has it: what follows a part that is false is not looked at.
    return np.where(first == 0, 0.0, np.where(np.isnan(first), np.nan, then))
