"""Texts of files never run: whatever a run folder says where it names a reward or a controller."""

from __future__ import annotations

import contextlib
import json
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from effnas import SearchSpace, load_run
from effnas.cli.following import code_of
from effnas.controllers.registry import make_controller
from effnas.errors import ConfigError, EffnasError, UserError
from effnas.trials.manifest import CommandPart, SearchManifest
from effnas.trials.manifest_parts import RewardPart, SourcedSpacePart
from effnas.trials.reward import Reward
from effnas.trials.store import RunFolder
from effnas.workflows.finals.stored import _reward_of
from readers import READERS, Reader, placed, places

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


#: Words of a file, each of which might be a text that somebody looks up.
WORD = re.compile(rb"[A-Za-z_][\w./-]*")


def with_each_text_replaced(reader: Reader, text: str) -> Iterator[bytes]:
    """Good inputs with another text in place of every string of JSON, or else of every word."""
    for content in reader.inputs:
        lines = content.splitlines(keepends=True)
        for n, line in enumerate(lines if reader.name.endswith(".jsonl") else [content]):
            if reader.name.endswith((".json", ".jsonl")):
                tree = json.loads(line)
                for where, key in places(tree):
                    if isinstance(value := where[key], str):
                        where[key] = text
                        new = json.dumps(tree).encode() + b"\n"
                        yield b"".join([*lines[:n], new, *lines[n + 1 :]]) if n else new
                        where[key] = value
            else:
                for word in [*WORD.finditer(line)][:60]:
                    yield line[: word.start()] + text.encode() + line[word.end() :]


#: Of the readers of texts; what is in images, archives and weights is no text.
OF_TEXTS = [name for name in READERS if name not in ("image", "archive", "weights")]


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_TEXTS)
@pytest.mark.parametrize("form", ["evil.py:score", "evil:score", " optuna:evil.py:score"])
def test_no_text_of_any_file_is_run_by_reading_it(
    name: str, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for file in ("evil.py", "optuna:evil.py", " optuna:evil.py"):
        Path(file).write_text("open('taken', 'w').close()\ndef score(metrics):\n    return 1.0\n")
    reader = READERS[name]
    path = placed(reader, tmp_path)
    for content in with_each_text_replaced(reader, form):
        path.write_bytes(content)
        with contextlib.suppress(EffnasError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reader.read(path)
    assert "evil" not in sys.modules
    assert not Path("taken").exists()


def test_no_text_of_a_manifest_is_run_by_reading_it(named: str) -> None:
    path = write_run(RewardPart(name="v2", kind="expression", text="A")) / "manifest.json"
    stored = json.loads(path.read_text())
    for where, key in places(stored):
        value = where[key]
        if isinstance(value, (dict, list)):
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
