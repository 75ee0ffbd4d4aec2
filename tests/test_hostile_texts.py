"""Texts of files never run: whatever a run folder says where it names a reward or a controller."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from effnas import SearchSpace, load_run
from effnas.cli.following import code_of
from effnas.controllers.registry import make_controller
from effnas.errors import ConfigError, UserError
from effnas.trials.manifest import CommandPart, SearchManifest
from effnas.trials.manifest_parts import RewardPart, SourcedSpacePart
from effnas.trials.reward import Reward
from effnas.trials.store import RunFolder
from effnas.workflows.finals.stored import _reward_of

#: Ways to name Python of one's own; `{0}` stands for the module.
FORMS = ("{0}.py:score", " {0}.py:score", "./{0}.py:score", "{0}:score", " {0}:score\n",
         "optuna:{0}.py:score", "{0}.py:score (sha256 0123)", "{0}.py", "{0}.py:")  # fmt: skip


@pytest.fixture(params=FORMS)
def named(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """Python that leaves a file behind if it is run, by one of its names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("evil.py", "optuna:evil.py", " optuna:evil.py", " evil.py"):
        text = "open('taken', 'w').close()\ndef score(metrics):\n    return 1.0\n"
        Path(name).write_text(text)
    yield request.param.format("evil")
    sys.modules.pop("evil", None)
    assert not Path("taken").exists()


def write_run(reward: RewardPart) -> Path:
    space = SourcedSpacePart.of(SearchSpace.load("tiny"))
    with RunFolder.open(Path("run")) as folder:
        SearchManifest(space=space, reward=reward).write(folder.path)
    return Path("run")


@pytest.mark.parametrize("kind", ["expression", "function", ""])
def test_the_reward_of_a_run_is_an_expression_or_refused(named: str, kind: str) -> None:
    run = load_run(write_run(RewardPart(name="v2", kind=kind, text=named)))
    with pytest.raises(UserError):
        run.load_reward()
    if kind != "expression":
        assert run.known_reward is None


def test_the_reward_of_finals_is_an_expression_or_refused(named: str) -> None:
    run = load_run(write_run(RewardPart(name="v2", kind="expression", text="A")))
    finals = type("Finals", (), {"finished": named, "asked": None})
    with pytest.raises(UserError):
        _reward_of(run, finals)  # type: ignore[arg-type]


def test_what_a_file_says_is_read_and_what_a_person_says_is_run(named: str) -> None:
    with pytest.raises(UserError):
        Reward.read(named)
    asked = CommandPart(name="search", options={"reward": named, "controller": "surrogate"})
    if not named.rstrip().endswith(".py"):
        assert code_of(asked.options) == {"reward": named}


@pytest.mark.parametrize("prefix", ["", " ", "optuna:", " optuna:"])
def test_a_controller_that_is_code_is_named_again_or_is_none(named: str, prefix: str) -> None:
    text = prefix + named
    if not code_of({"controller": text}):  # what `resume` asks to be named again
        with pytest.raises(ConfigError, match="unknown controller"):
            make_controller(text, SearchSpace.load("tiny"), 0)


def test_no_text_of_a_manifest_is_run_by_reading_it(named: str) -> None:
    path = write_run(RewardPart(name="v2", kind="expression", text="A")) / "manifest.json"
    stored = json.loads(path.read_text())
    places = [(stored, key) for key in stored]
    while places:
        where, key = places.pop()
        value = where[key]
        if isinstance(value, (dict, list)):
            keys = value if isinstance(value, dict) else range(len(value))
            places += [(value, each) for each in keys]
            continue
        where[key] = named
        path.write_text(json.dumps(stored))
        try:
            run = load_run(path.parent)
            assert run.best is None
            run.load_reward()
        except UserError:
            pass
        finally:
            where[key] = value
