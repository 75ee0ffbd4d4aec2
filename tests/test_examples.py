"""The examples run as they say, and what they define can be named on a command line."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from effnas import Reward, SearchSpace
from effnas.controllers import Controller
from effnas.controllers.registry import make_controller
from effnas.testing import ControllerContract

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("own_evaluator", "of 200 networks were infeasible"),
        ("own_controller", "mbconv_r"),
        ("own_reward", "fast 90.0, slow 89.0"),
    ],
)
def test_an_example_runs(name: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert said in capsys.readouterr().out


def test_every_example_is_run() -> None:
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    assert names == {"own_evaluator", "own_controller", "own_reward"}


def test_the_reward_is_the_expression_that_its_text_names() -> None:
    function = Reward.load(f"{EXAMPLES / 'own_reward.py'}:accuracy_points")
    expression = Reward.load("100 * A - 2 * max(log(S / 0.5) / log(2), 0)")
    for step_time in (0.1, 0.5, 1.0, 3.0):
        metrics = {"accuracy": 0.8, "step_time": step_time}
        assert function.score(metrics) == pytest.approx(expression.score(metrics))


class TestHillClimber(ControllerContract):
    length = 16

    def make(self, space: SearchSpace, seed: int) -> Controller:
        return make_controller(f"{EXAMPLES / 'own_controller.py'}:HillClimber", space, seed)
