"""Rewards: the published ones with the published numbers, and errors that say what to mend."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effnas.config.catalog import names
from effnas.errors import RewardError
from effnas.trials.reward import Reward

ROOT = Path(__file__).resolve().parents[2]
V2 = Reward.load("v2")

# EfficientNetV2, table 3: EfficientNet-B4 with its first stages fused.
TABLE_3 = {  # parameters in millions, top-1, images a second on a TPU core and on a V100
    "none": (19.3, 82.8, 262, 155),
    "1-3": (20.0, 83.1, 362, 216),
    "1-5": (43.4, 83.1, 327, 223),
    "1-7": (132.0, 81.7, 254, 206),
}
PUBLISHED = {
    "TPU": {"none": 0.8280, "1-3": 0.8485, "1-5": 0.8105, "1-7": 0.7405},
    "V100": {"none": 0.8280, "1-3": 0.8490, "1-5": 0.8186, "1-7": 0.7570},
}


def metrics(
    accuracy: float = 0.8, step_time: float = 1.0, params_ratio: float = 1.0, **others: float
) -> dict[str, float]:
    given = {"accuracy": accuracy, "step_time": step_time, "params_ratio": params_ratio}
    return given | others


def table_3(device: str) -> dict[str, dict[str, float]]:
    column = {"TPU": 2, "V100": 3}[device]
    base = TABLE_3["none"]
    return {
        row: metrics(cells[1] / 100, base[column] / cells[column], cells[0] / base[0])
        for row, cells in TABLE_3.items()
    }


@pytest.mark.parametrize("device", sorted(PUBLISHED))
def test_the_published_reward_of_table_3(device: str) -> None:
    scores = {row: V2.score(values) for row, values in table_3(device).items()}
    assert {row: round(score, 4) for row, score in scores.items()} == PUBLISHED[device]
    assert max(scores, key=scores.__getitem__) == "1-3"
    assert min(scores, key=scores.__getitem__) == "1-7"


positive = st.floats(1e-3, 1e3)
trials = st.lists(
    st.builds(metrics, st.floats(0.01, 1), positive, positive), min_size=2, max_size=8
)


@pytest.mark.slow
@given(st.floats(0.01, 1), positive)
def test_mnasnet_soft_and_hard_are_the_two_settings_of_its_formula(a: float, s: float) -> None:
    def mnasnet(alpha: float, beta: float) -> float:
        return a * s ** (alpha if s <= 1 else beta)

    values = metrics(a, s)
    assert Reward.load("mnasnet-soft").score(values) == pytest.approx(mnasnet(-0.07, -0.07))
    assert Reward.load("mnasnet-hard").score(values) == pytest.approx(mnasnet(0, -1))


def test_every_shipped_reward_scores_the_reference_and_is_read_back_from_its_text() -> None:
    shipped = {path.stem for path in (ROOT / "rewards").glob("*.yaml")}
    assert shipped == {"v2", "accuracy", "mnasnet-soft", "mnasnet-hard", "tunas"}
    for name in shipped:
        reward = Reward.load(name)
        reward.check(metrics())
        assert (reward.name, reward.kind) == (name, "expression")
        assert reward.source is not None
        again = Reward.load(reward.text)
        for values in (metrics(0.5, 0.3, 2.0), metrics(0.9, 4.0, 0.1)):
            assert again.score(values) == reward.score(values)
        assert again.text == reward.text


def test_a_reward_is_a_name_a_path_or_an_expression(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("expression: A - S\n")
    values = metrics(0.8, 0.5)
    assert Reward.load("mine.yaml").score(values) == pytest.approx(0.3)
    assert Reward.load(f"{tmp_path}/mine.yaml").name == "mine"
    assert Reward.load("A/S").score(values) == 1.6
    assert Reward.load("A-S").score(values) == pytest.approx(0.3)
    assert Reward.load("accuracy / step_time").metrics == {"accuracy", "step_time"}
    assert Reward.load("step_time").score(values) == 0.5
    # A file of the working folder stands before the shipped one.
    (tmp_path / "rewards").mkdir()
    (tmp_path / "rewards" / "v2.yaml").write_text("expression: A\n")
    assert Reward.load("v2").score(values) == 0.8


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "empty"),
        ("mnasnet", "no reward, and no metric, is called 'mnasnet'; did you mean 'mnasnet-"),
        ("acuracy", "did you mean 'accuracy'"),
        ("A * acuracy", r"reward:1:5: unknown name 'acuracy'; did you mean 'accuracy'"),
        ("A > 0.5", "a reward is a number"),
        ("rewards/memory_aware.py", "give rewards/memory_aware.py:FUNCTION"),
        ("no_such_module_at_all:f", "ModuleNotFoundError.*FILE.py:FUNCTION"),
        ("math:pi", "it has no function 'pi'.*known: .*sin.* more"),
    ],
)
def test_what_is_no_reward_is_told_with_what_would_be(spec: str, message: str) -> None:
    with pytest.raises(RewardError, match=message):
        Reward.load(spec)


def test_constants_are_put_into_the_text(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "format: 1\n"
        "expression: >\n  A * (S / T)^w\n  * max(S, T)^-w  \n"
        "constants:\n  T: 2e-1\n  w: -0.5\n"
    )
    reward = Reward.load(str(path))
    assert reward.text == "A * (S / 2e-1)^(-0.5) * max(S, 2e-1)^-(-0.5)"
    assert reward.score(metrics(0.8, 0.4)) == pytest.approx(0.8 * 2**-0.5 * 0.4**0.5)


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("# mine\nexpression: A * SS\n", "2:17", "unknown name 'SS'; did you mean 'S'"),
        ("expression: A\nformat: 2\n", "2:9", "which reads 1"),
        ("expresion: A\n", "1:1", "unknown key 'expresion'; did you mean 'expression'"),
        ("expression: A*T\nconstants: {T: fast}\n", "2:16", "expected a number"),
        ("expression: A\nconstants: {S: 1}\n", "2:16", "'S' would hide"),
        ("expression: A\nconstants: {if: 1}\n", "2:17", "'if' cannot be used"),
    ],
)
def test_a_wrong_file_is_told_with_the_place(
    tmp_path: Path, text: str, place: str, message: str
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(RewardError) as raised:
        Reward.load(str(path))
    assert str(raised.value).startswith(f"{path}:{place}: ")
    assert message in str(raised.value)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_a_reward_without_a_value_is_told_in_one_line(value: float) -> None:
    with pytest.raises(RewardError, match=r"^reward 'v2': .*S.* network$") as raised:
        V2.score(metrics(step_time=value))
    assert "\n" not in str(raised.value)


VECTORS = {"accuracy": np.array([0.5, 0.6, 0.7]), "step_time": np.array([1.0, 0.0, 2.0])}


def test_rewards_of_many_trials_are_those_of_each() -> None:
    reward = Reward.load("A * S^-0.07 if A > 0.4 else 0")
    found = reward.score_vectorized(VECTORS)
    assert found[0] == 0.5
    assert np.isnan(found[1])  # no power of zero
    assert found[2] == pytest.approx(reward.score({"accuracy": 0.7, "step_time": 2.0}))


def test_the_shipped_function_is_v2_with_a_memory_term() -> None:
    reward = Reward.load(f"{ROOT}/rewards/memory_aware.py:memory_aware")
    assert (reward.name, reward.kind, reward.metrics) == ("memory_aware", "function", frozenset())
    at_budget = metrics(0.7, 0.3, 2.0, peak_memory_bytes=4e9)
    assert reward.score(at_budget) == pytest.approx(V2.score(at_budget))
    doubled = reward.score({**at_budget, "peak_memory_bytes": 8e9})
    assert doubled / reward.score(at_budget) == pytest.approx(2**-0.05)
    with pytest.raises(RewardError, match=r"memory_aware.py:\d+: .*peak_memory_bytes.*metrics are"):
        reward.score(metrics())


FUNCTIONS = """from __future__ import annotations
from dataclasses import dataclass
@dataclass
class Weights:
    step: float = -0.07
def weighted(metrics): return metrics["A"] * metrics["step_time"] ** Weights().step
def fails(metrics): return helper(metrics)
def helper(metrics): raise RuntimeError("two\\nlines")
def nothing(metrics): return None
def huge(metrics): return 10**400
def whole(metrics): return 1
constant = 3
"""


@pytest.fixture
def functions(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(FUNCTIONS)
    return path


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("fails", 8, "RuntimeError: two lines"),
        ("nothing", 9, "returned None"),
        ("huge", 1, "OverflowError"),
        ("constant", None, "no function 'constant'; .*fails.*weighted"),
    ],
)
def test_a_function_that_fails_is_told_with_file_and_line(
    functions: Path, name: str, line: int | None, message: str
) -> None:
    place = f"{functions}:{line}: " if line else f"{functions}: "
    with pytest.raises(RewardError, match=message) as raised:
        Reward.load(f"{functions}:{name}").score(metrics())
    assert str(raised.value).startswith(place)
    assert "\n" not in str(raised.value)


def test_a_function_of_a_file_scores(functions: Path) -> None:
    assert Reward.load(f"{functions}:weighted").score(metrics(0.8, 2.0)) == 0.8 * 2.0**-0.07


def test_the_text_of_a_function_changes_with_its_source(functions: Path) -> None:
    before = Reward.load(f"{functions}:whole")
    assert Reward.load(f"{functions}:whole") == before
    # Of the same length and within one second: what a bytecode cache would take for the old file.
    functions.write_text(FUNCTIONS.replace("return 1\n", "return 2\n"))
    after = Reward.load(f"{functions}:whole")
    assert before.text.startswith(f"{functions}:whole ")
    assert after.text != before.text
    assert (before.score({}), after.score({})) == (1.0, 2.0)
    assert not (functions.parent / "__pycache__").exists()


def test_a_file_cannot_displace_a_module_of_its_name(tmp_path: Path) -> None:
    path = tmp_path / "json.py"
    path.write_text("def f(metrics):\n    return 1.0\n")
    import json

    assert Reward.load(f"{path}:f").score({}) == 1.0
    assert sys.modules["json"] is json
    assert importlib.util.find_spec("json").origin == json.__file__


def test_python_is_not_run_for_anything_but_a_function(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rewards").mkdir()
    (tmp_path / "rewards" / "trap.py").write_text("open('sprung', 'w')\n")
    assert "trap" not in names("rewards")
    for spec in ("trap", "rewards/trap.py", "v2", "trap.f", "A"):
        try:
            Reward.load(spec)
        except RewardError:
            continue
    assert not (tmp_path / "sprung").exists()
