"""Controllers of the user's: found where they are named, and blamed for what goes wrong in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from effnas import Search, SearchSpace
from effnas.controllers.registry import controller_text, make_controller
from effnas.errors import ConfigError, SearchFailedError

TINY = SearchSpace.load("tiny")
HEAD = "from effnas.controllers import Controller\n\n\nclass Mine(Controller):\n    name = 'mine'\n"
SHALLOW = HEAD + (
    "    def propose(self, rng):\n"
    "        return min((self.space.sample(rng) for _ in range(9)), key=lambda a: a.layers)\n"
)


def written(folder: Path, text: str) -> str:
    path = folder / "mine.py"
    path.write_text(text)
    return f"{path}:Mine"


def test_a_class_in_a_file_is_a_controller(tmp_path: Path) -> None:
    search = Search(TINY, "A", written(tmp_path, SHALLOW), seed=1)
    search.run(lambda arch: {"accuracy": 0.5}, budget=20)
    drawn = Search(TINY, "A", "random", seed=1).run(lambda arch: {"accuracy": 0.5}, budget=20)
    assert search.controller.problem == search.problem
    mine, others = (sum(t.architecture.layers for t in found) for found in (search.trials, drawn))
    assert mine < others


def test_a_run_records_which_text_it_was(tmp_path: Path) -> None:
    spec = written(tmp_path, SHALLOW)
    before = controller_text(spec)
    assert before.startswith(f"{spec} (sha256 ")
    assert controller_text(written(tmp_path, SHALLOW + "\n")) != before
    assert controller_text("evolution") == "evolution"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("class Other: pass", "it has no class 'Mine'"),
        ("class Mine: pass", "Mine is no controller: make it a subclass of effnas.controllers"),
        ("def Mine(space, seed, goal): return 1", "Mine is no controller"),
        ("x = 1 /", r"mine.py:1: the controller's file cannot be run: SyntaxError"),
        (HEAD, r"the controller Mine cannot be made: TypeError: .*propose"),
        (
            HEAD + "    def __init__(self, *a, **k):\n        raise OSError('no such table')\n"
            "    def propose(self, rng): ...\n",
            "mine.py:7: the controller Mine cannot be made: OSError: no such table",
        ),
    ],
)
def test_what_is_no_controller_is_told_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        make_controller(written(tmp_path, text), TINY)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_missing_package_are_told() -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.py: the controller cannot be read"):
        make_controller("nowhere.py:Mine", TINY)
    with pytest.raises(
        ConfigError, match=r"module nowhere cannot be imported.*give FILE\.py:CLASS"
    ):
        make_controller("nowhere:Mine", TINY)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("    def propose(self, rng):\n        return 1 / 0\n", "mine failed: ZeroDivisionError"),
        ("    def propose(self, rng):\n        return SearchSpace.load('v2').sample(rng)\n",
         "mine proposed 'fused_.*which is no architecture of the space tiny"),
        ("    def propose(self, rng):\n        return self.space.sample(rng)\n"
         "    def learn(self, trial):\n        trial.nothing\n",
         r"mine\.py:\d+: the controller mine failed: AttributeError"),
    ],
)  # fmt: skip
def test_what_goes_wrong_later_is_blamed_on_it_and_nothing_is_lost(
    tmp_path: Path, body: str, message: str
) -> None:
    spec = written(tmp_path, "from effnas import SearchSpace\n" + HEAD + body)
    search = Search(TINY, "A", spec)
    with pytest.raises(SearchFailedError, match=message):
        search.run(lambda arch: {"accuracy": 0.5}, budget=5)
