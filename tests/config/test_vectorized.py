"""Expressions over columns give what they give one by one."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effnas.config.expressions import Expression
from effnas.errors import ExpressionError, RewardError
from effnas.trials.reward import Reward

RNG = np.random.default_rng(0)
COLUMNS = {
    "A": np.append(RNG.random(40), [0.0, 1.0, 1e-300, 1e300, -2.0]),
    "S": np.append(RNG.normal(size=40), [0.0, -1.0, 1e200, 2.0, 0.0]),
}
atoms = st.one_of(st.sampled_from(sorted(COLUMNS)), st.floats(0, 100).map(repr))
comparisons = st.builds(
    "{} {} {} {} {}".format,
    atoms,
    st.sampled_from(["<", "<=", ">", ">=", "==", "!="]),
    atoms,
    st.sampled_from(["<", ">="]),
    atoms,
)


def _deeper(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    conditions = st.one_of(
        st.builds("({} < {})".format, inner, inner),
        st.builds("not ({})".format, comparisons),
        st.builds("({} {} {})".format, comparisons, st.sampled_from(["and", "or"]), comparisons),
        st.builds("({} >= {} or {})".format, inner, inner, comparisons),
    )
    return st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from("+-*/^"), inner),
        st.builds("(-{})".format, inner),
        st.builds("{}({})".format, st.sampled_from(["abs", "log", "exp", "sqrt"]), inner),
        st.builds("{}({}, {})".format, st.sampled_from(["min", "max"]), inner, inner),
        st.builds("({} if {} else {})".format, inner, conditions, inner),
    )


@pytest.mark.slow
@settings(deadline=None, max_examples=200)
@given(st.recursive(atoms, _deeper, max_leaves=8))
def test_columns_have_the_values_of_their_rows(text: str) -> None:
    try:
        expression = Expression.parse(text)
    except ExpressionError:
        return  # a part without names has no value
    found = expression.vectorized(COLUMNS)
    assert found.shape == COLUMNS["A"].shape
    for n, value in enumerate(found.tolist()):
        row = {name: float(column[n]) for name, column in COLUMNS.items()}
        try:
            expected = expression.evaluate(row)
        except ExpressionError:
            expected = math.nan
        if not math.isnan(value) or not math.isnan(expected):
            assert value == pytest.approx(expected, rel=1e-12, abs=1e-300)


def test_what_is_not_known_has_no_value() -> None:
    columns = {"A": np.array([0.5, np.nan]), "S": np.array([np.nan, 2.0])}
    found = Expression.parse("A if A > 0.1 else S").vectorized(columns)
    assert found[0] == 0.5
    assert np.isnan(found[1])


METRICS = {"accuracy": np.array([0.5, 0.6, 0.7]), "step_time": np.array([1.0, 0.0, 2.0])}


def test_rewards_of_many_trials_are_those_of_each() -> None:
    reward = Reward.load("A * S^-0.07 if A > 0.4 else 0")
    found = reward.score_vectorized(METRICS)
    assert found[0] == 0.5
    assert np.isnan(found[1])  # no power of zero
    assert found[2] == pytest.approx(reward.score({"accuracy": 0.7, "step_time": 2.0}))


def test_a_function_is_called_for_each(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("def mine(metrics):\n    return metrics['A'] / metrics['S']\n")
    found = Reward.load(f"{path}:mine").score_vectorized(METRICS)
    assert found[[0, 2]] == pytest.approx([0.5, 0.35])
    assert np.isnan(found[1])


def test_a_metric_that_is_missing_leaves_no_reward() -> None:
    reward = Reward.load("A - 0.1 * S")
    with pytest.raises(RewardError):
        reward.score({"accuracy": 0.5})
    assert np.isnan(reward.score_vectorized({"accuracy": METRICS["accuracy"]})).all()
