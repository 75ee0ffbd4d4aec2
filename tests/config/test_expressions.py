"""The expression engine: Python's arithmetic and nothing else of Python."""

from __future__ import annotations

import math
import pickle
import re
import time
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from effnas.config.expressions import MAX_DEPTH, MAX_LENGTH, Expression
from effnas.errors import ExpressionError

QUANTITIES = {"A": 0.8, "S": 0.5, "P": 3.0, "stage1.r": 4.0}
FUNCTIONS = {**vars(math), "min": min, "max": max, "abs": abs}

TOKENS = re.findall(
    r"\S+",
    "A S stage1.r 0 1 2.5 1e9 + - * / ^ ** ( ) < == 'x' and or not if else min( max( , log( exp( "
    "sqrt( lambda : [ ] for in is % // . x := = None True __class__",
)

numbers = st.floats(0, 100, allow_nan=False).map(repr)
atoms = st.one_of(st.sampled_from(sorted(QUANTITIES)), numbers)


def _combine(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/"]), inner).map(" ".join),
        st.tuples(inner, st.sampled_from(["^", "**"]), st.sampled_from(["2", "-1", "3"])).map(
            "".join
        ),
        st.tuples(st.sampled_from(["-", "+"]), inner).map("".join),
        inner.map(lambda text: f"({text})"),
        st.tuples(st.sampled_from(["abs", "log", "exp", "sqrt"]), inner).map(
            lambda pair: f"{pair[0]}({pair[1]})"
        ),
        st.tuples(st.sampled_from(["min", "max"]), inner, inner).map(
            lambda triple: f"{triple[0]}({triple[1]}, {triple[2]})"
        ),
    )


arithmetic = st.recursive(atoms, _combine, max_leaves=8)
comparisons = st.builds(
    lambda first, rest: " ".join([first, *rest]),
    atoms,
    st.lists(
        st.tuples(st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), atoms).map(" ".join),
        min_size=1,
        max_size=3,
    ),
)
conditions = st.recursive(
    comparisons,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(" ".join),
        inner.map(lambda text: f"not {text}"),
        inner.map(lambda text: f"({text})"),
    ),
    max_leaves=5,
)


def python_value(text: str) -> float:
    """Evaluate a generated text by Python itself."""
    names = {**QUANTITIES, "stage1": SimpleNamespace(r=QUANTITIES["stage1.r"]), **FUNCTIONS}
    return eval(text.replace("^", "**"), {"__builtins__": {}}, names)


def value(text: str, **quantities: float | str) -> float:
    return Expression.parse(text).evaluate(quantities)


def caret_column(message: str) -> int:
    return message.splitlines()[-1].index("^") - 2


@pytest.mark.slow
@given(arithmetic)
def test_arithmetic_is_that_of_python(text: str) -> None:
    try:
        expected = python_value(text)
    except (ArithmeticError, ValueError):
        expected = math.nan
    refusal = ""
    try:
        assert value(text, **QUANTITIES) == expected
    except ExpressionError as error:
        refusal = str(error)
    # Python lets an infinity pass through where we stop.
    assert not refusal or not math.isfinite(expected) or "overflow" in refusal


@pytest.mark.slow
@given(conditions)
def test_conditions_are_those_of_python(text: str) -> None:
    assert Expression.parse(text).holds(QUANTITIES) is python_value(text)


@pytest.mark.slow
@given(conditions)
def test_a_condition_is_missed_by_nothing_where_it_holds_and_by_something_elsewhere(
    text: str,
) -> None:
    condition = Expression.parse(text)
    missed = condition.shortfall(QUANTITIES)
    assert (missed == 0) is condition.holds(QUANTITIES)
    assert 0 <= missed < math.inf


@pytest.mark.parametrize(
    ("text", "missed"),
    [
        ("A < 0.4", 0.4 / 1.2),
        ("A < 0.4 and S < 0.25 and P > 1", 0.4 / 1.2 + 0.25 / 0.75),
        ("A < 0.4 or S < 0.25", 0.25 / 0.75),
        ("A < 0.4 < S < 0.25", 0.4 / 1.2 + 0.25 / 0.75),
        ("A > -0.8", 0),
        ("A < -0.8", 1),
        ("S < S", 1e-9),
        ("not A < 1", 1),
        ("op == 'fused'", 1),
        ("op != 'mbconv' and A < 0.4", 1 + 0.4 / 1.2),
        ("A < 0 and 1 / (A - A) > 0", 2),  # what follows a false part need not have a value
        ("A < 1e308 * -1", 1),
    ],
)
def test_how_far_a_condition_is_missed(text: str, missed: float) -> None:
    found = Expression.parse(text).shortfall({**QUANTITIES, "op": "mbconv"})
    assert found == pytest.approx(missed, rel=1e-12)


@pytest.mark.slow
@given(
    st.one_of(
        st.text(),
        st.text("AS.0129eE()+-*/^<>=!,'\" \n\\#[]{}:;@_j", max_size=60),
        st.lists(st.sampled_from(TOKENS), max_size=25).map(" ".join),
    )
)
@example("1" * MAX_LENGTH)
@example("(" * 1999 + "A")
@example("-" * 1999 + "A")
@example("~" * 1999 + "A")
@example("A" + ".a" * 999)
@example("not " * 499 + "A<1")
@example("A if " * 300 + "A")
@example("[" * 1000 + "]" * 1000)
@example("A^\ud800")
@settings(max_examples=300)
def test_any_text_is_an_expression_or_an_expression_error(text: str) -> None:
    try:
        expression = Expression.parse(text)
    except ExpressionError:
        return
    try:
        result = (expression.holds if expression.is_condition else expression.evaluate)(
            dict.fromkeys(expression.names, 0.5)
        )
    except ExpressionError:
        return
    assert math.isfinite(result)


REFUSED = """
__import__('os').system('true')
abs(A).real
lambda: 1
[x for x in (1, 2)]
A[0]
f'{A}'
(A := 3)
eval('1')
min(*A)
max(1, key=A)
A // 2
A | 1
~A
A is S
True
A # S
A == 'x' 'y'
'x'
A < 'x'
'x' == 'y'
"""


@pytest.mark.parametrize("text", REFUSED.strip().split("\n"))
def test_nothing_else_of_python_is_allowed(text: str) -> None:
    with pytest.raises(ExpressionError, match=r"allowed|expression|==|argument"):
        Expression.parse(text)


@pytest.mark.parametrize("text", ["9^9^9^9", "9**9**9", "exp(1000)", "1e999", "1" * 400, "1e308*9"])
def test_huge_numbers_are_refused_at_once(text: str) -> None:
    started = time.process_time()  # a busy machine does not count
    with pytest.raises(ExpressionError, match=r"overflow|too large"):
        Expression.parse(text)
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    ("opening", "closing", "depth"),
    [("1 / (", ")", 90), ("min(A, ", ")", 90), ("(1 if 0 < ", " < 2 else 3)", 45)],
)
def test_nested_parts_are_read_and_computed_once(opening: str, closing: str, depth: int) -> None:
    # Twice at each level would take longer than anyone waits.
    assert value(opening * depth + "1" + closing * depth, A=2.0) == 1


def test_depth_and_length_have_limits_and_up_to_them_all_is_well() -> None:
    deep = "+".join(["A"] * (MAX_DEPTH - 2))
    assert value(deep, A=1.0) == MAX_DEPTH - 2
    with pytest.raises(ExpressionError, match="deep"):
        Expression.parse("+".join(["A"] * (MAX_DEPTH + 1)))
    wide = "A" * MAX_LENGTH
    assert value(wide, **{wide: 2.0}) == 2.0
    with pytest.raises(ExpressionError, match="2,000"):
        Expression.parse("A" * (MAX_LENGTH + 1))


def test_power_binds_as_in_python_however_it_is_written() -> None:
    assert value("A * S^-0.07", A=2.0, S=3.0) == 2 * 3**-0.07
    assert value("-A^2", A=3.0) == -9
    assert value("2^3^2") == value("2**3^2") == 512
    assert value("A\n  * S\n  ^ 2", A=2.0, S=3.0) == 18


def test_texts_are_compared_with_names_only_by_equality() -> None:
    quantities = {"stage2.op": "fused", "stage3.op": "mbconv", "stage2.r": 2}
    for text, truth in {
        "stage2.op == 'fused'": True,
        '"fused" != stage3.op': True,
        "stage2.op == stage3.op": False,
        "stage2.op == 'mbconv' or stage2.r <= 2": True,
        "stage2.op == 'a^b'": False,
    }.items():
        assert Expression.parse(text).holds(quantities) is truth
    for text in ("stage2.op == 2", "stage2.r == 'fused'", "stage2.op < stage3.op", "stage2.op > 1"):
        with pytest.raises(ExpressionError, match=r"text|not a finite number"):
            Expression.parse(text).holds(quantities)


@pytest.mark.parametrize(
    ("text", "quantities", "message"),
    [
        ("A / (S - 1)", {"A": 0.8, "S": 1}, "division by zero in 'A / (S - 1)': S = 1"),
        ("A * S^-0.07", {"A": 0.8, "S": 0.0}, "division by zero in 'S^-0.07': S = 0, part of"),
        ("2 + log(A - 1)", {"A": 1.0}, "log of a number that is not positive in 'log(A - 1)': A"),
        ("(-A)^0.5", {"A": 1.0}, "a negative number to a fractional power in '(-A)^0.5': A = 1"),
        ("A^S", {"A": 1e200, "S": 2.0}, "overflow in 'A^S': A = 1e+200, S = 2"),
        ("1 / (A*A)", {"A": 1e200}, "overflow in 'A*A': A = 1e+200, part of '1 / (A*A)'"),
        ("A * P", {"A": 1.0}, "no value for 'P' (given: A) in 'A * P'"),
        ("A", {"A": math.nan}, "'A' is nan, not a finite number"),
        ("A", {"A": "x"}, "'A' is 'x', not a finite number"),
    ],
)
def test_an_error_names_the_part_at_fault_and_its_values(
    text: str, quantities: dict[str, float | str], message: str
) -> None:
    with pytest.raises(ExpressionError) as raised:
        Expression.parse(text, source="here").evaluate(quantities)
    assert str(raised.value).startswith("here: ")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ["1/0", "A/0", "A/(2-2)", "log(0)", "sqrt(1-2)", "0^-1"])
def test_what_can_have_no_value_is_refused_when_read(text: str) -> None:
    with pytest.raises(ExpressionError, match="expression:1:"):
        Expression.parse(text)


def test_numbers_and_conditions_are_not_mixed_up() -> None:
    assert Expression.parse("A > 1").is_condition
    assert not Expression.parse("A").is_condition
    with pytest.raises(ExpressionError, match="true or false"):
        Expression.parse("A > 1").evaluate({"A": 2.0})
    with pytest.raises(ExpressionError, match="condition"):
        Expression.parse("A").holds({"A": 2.0})
    for text in ("(A > 1) * 2", "A and S", "not A", "1 if A else 2"):
        with pytest.raises(ExpressionError, match=r"true or false|condition"):
            Expression.parse(text)


@pytest.mark.slow
@given(st.lists(st.sampled_from(["A^2", "A**2", "S ^ -1", "(A)", "\n S"]), max_size=6))
def test_the_caret_stands_under_the_fault_whatever_power_is_written(parts: list[str]) -> None:
    text = " + ".join([*parts, "wrong"])
    with pytest.raises(ExpressionError) as raised:
        Expression.parse(text, known=["A", "S"])
    head, excerpt, _ = str(raised.value).splitlines()
    line, column = map(int, head.split(":")[1:3])
    assert text.split("\n")[line - 1] == excerpt.removeprefix("  ")
    assert excerpt[2:].index("wrong") == caret_column(str(raised.value)) == column - 1


def test_expressions_are_values() -> None:
    one, same, other = (Expression.parse(text) for text in (" A * 2 ", "A * 2", "A*2"))
    assert one == same
    assert hash(one) == hash(same)
    assert one != other
    assert one.text == "A * 2"
    assert pickle.loads(pickle.dumps(one)).evaluate({"A": 3.0}) == 6


RNG = np.random.default_rng(0)
VECTORS = {
    "A": np.append(RNG.random(40), [0.0, 1.0, 1e-300, 1e300, -2.0]),
    "S": np.append(RNG.normal(size=40), [0.0, -1.0, 1e200, 2.0, 0.0]),
    "P": RNG.normal(size=45),
    "stage1.r": np.ones(45),
}


@pytest.mark.slow
@settings(max_examples=200)
@given(st.builds("{} if {} else {}".format, arithmetic, conditions, arithmetic))
def test_vectors_have_the_values_of_their_rows(text: str) -> None:
    try:
        expression = Expression.parse(text)
    except ExpressionError:
        return  # a part without names has no value
    for n, value in enumerate(expression.vectorized(VECTORS).tolist()):
        try:
            expected = expression.evaluate({k: float(v[n]) for k, v in VECTORS.items()})
        except ExpressionError:
            expected = math.nan
        assert value == pytest.approx(expected, rel=1e-12, abs=1e-300, nan_ok=True)
