"""Options, help and completion of the commands, and how texts of the library name options."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from dataclasses import fields
from importlib import import_module
from typing import Any

import pytest
from command_line import Run
from typer.main import get_command

from effnas.cli.app import app
from effnas.cli.declare import ListOption, Options, _parameters
from effnas.cli.wording import with_options


def commands() -> dict[str, Any]:
    found = dict(get_command(app).commands)  # type: ignore[attr-defined]
    for group in ("proxy", "scaling"):
        inner = found.pop(group).commands
        found |= {f"{group} {name}": command for name, command in inner.items()}
    return found


DATA = "data data-root on-bad-image "
WORKERS = "device workers threads "
TRAINING = "epochs image-size batch-size learning-rate data-share "
RECIPE = TRAINING + "recipe holdout-share "
TIME = "train-time "
STEP_TIMES = "step-time profile step-times step-time-command step-time-timeout "
STEP = "device threads precision memory-format compile "
STUDY = "space out seed networks seeds high-seeds high-epochs target-image-size "
SCALING = "out tolerance data data-root seeds seed recipe " + TRAINING + WORKERS

#: Those without --json, which all have.
OPTIONS = {
    "search": DATA
    + WORKERS
    + RECIPE
    + TIME
    + STEP_TIMES
    + "backend target-image-size target-batch-size "
    "space network budget out reward controller objectives seed fidelity constraint baseline "
    "trial-timeout report",
    "resume": "budget",
    "runs": "",
    "rescore": "reward sweep store top",
    "status": "top",
    "space": "samples seed",
    "bench": STEP + "space image-size batch-size classes interval time-limit",
    "doctor": WORKERS + "backend data data-root out",
    "profile": STEP + "target-image-size target-batch-size space classes out seed",
    "retarget": WORKERS + STEP_TIMES + "backend out timings budget reward data data-root report",
    "promote": WORKERS + TRAINING + TIME + "recipe top seeds out reward test data data-root report",
    "report": "out tables open",
    "scale": "family alpha beta gamma phi round-limit last-stage step-time params memory space "
    "image-size max-image-size batch-size classes epochs images device threads out",
    "export": "weights out image-size classes formats",
    "train": DATA
    + STEP
    + TIME
    + "recipe out regime epochs image-size batch-size device-batch-size "
    "weights new-head seed test workers checkpoint-every log report",
    "scaling coefficients": SCALING + "grid-step macs memory round-limit",
    "scaling layers": SCALING + "family member slopes",
    "proxy check": DATA + WORKERS + RECIPE + STUDY + "backend",
    "proxy search": DATA + WORKERS + RECIPE + STUDY + "backend",
}


def test_the_options_are_those_that_were_decided_on() -> None:
    """A new option fails here until it is added on purpose."""
    found = {
        name: {option for p in command.params for option in p.opts if option.startswith("--")}
        for name, command in commands().items()
    }
    assert found == {
        name: {f"--{option}" for option in (*options.split(), "json")}
        for name, options in OPTIONS.items()
    }


def test_every_option_has_help_and_a_name_has_one_spelling() -> None:
    spellings: dict[str, set[str]] = {}
    for command in commands().values():
        for parameter in command.params:
            assert parameter.help
            if parameter.opts[0].startswith("--"):
                spellings.setdefault(parameter.name, set()).add(parameter.opts[0])
    assert {name: found for name, found in spellings.items() if len(found) > 1} == {}


def classes_below(kind: type) -> set[type]:
    return {kind}.union(*(classes_below(each) for each in kind.__subclasses__()))


def test_options_that_take_lists_are_of_the_kind_that_adds_up() -> None:
    found = {
        parameter.name
        for kind in classes_below(Options)
        for parameter in _parameters(kind)
        if isinstance(parameter.default, ListOption)
    }
    assert found == {"objectives", "fidelity", "phi", "slopes", "formats"}


@pytest.mark.slow  # imports torch
def test_every_option_is_read_or_fills_a_setting_of_its_name() -> None:
    unused = {}
    for kind in (each for each in classes_below(Options) if not inspect.isabstract(each)):
        groups = [each for each in kind.__mro__ if each in classes_below(Options) - {Options}]
        source = "".join(map(inspect.getsource, groups))
        homes = {
            name: module
            for module, names in re.findall(r"from (effnas[\w.]+) import (.+)", source)
            for name in names.split(", ")
        }
        filled = {
            field.name
            for name in re.findall(r"self\.fill\(\s*(\w+)", source)
            for field in fields(getattr(import_module(homes[name]), name))
        }
        read = {*re.findall(r"self\.(\w+)", source), *re.findall(r'"(\w+)"[,)]', source)}
        read |= {f"load_{name}" for name in filled}
        options = {option.name for option in _parameters(kind)} - filled
        loads = {name for name in dir(kind) if name.startswith("load_")}
        unused[kind.__name__] = (options | loads) - read
    assert len(unused) == len(commands())
    assert {name: options for name, options in unused.items() if options} == {}


@pytest.mark.parametrize("command", OPTIONS)
def test_the_help_of_a_command_shows_its_example_on_a_line_of_its_own(
    effnas: Run, command: str
) -> None:
    shown = effnas(*command.split(), "--help").out
    assert f"\n    effnas {command} " in shown
    argument = r"[A-Z=.]+|\[[A-Z=.]+\](\.\.\.)?"
    usage = rf"Usage: effnas {command} \[OPTIONS\]( ({argument}))*"
    assert re.fullmatch(usage, shown.splitlines()[0])
    assert not re.search(r"\n  --\S+ <list\[", shown)
    assert "\\b" not in shown


def test_help_needs_nothing_heavy() -> None:
    code = "import sys; from effnas.cli.app import app; app(['--help'], standalone_mode=False); \
        print(*sorted({'torch', 'numpy', 'pandas', 'rich', 'ray', 'yaml'} & sys.modules.keys()))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines()[-1] == ""


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("effnas pro", ["profile", "promote", "proxy"]),
        ("effnas search --space v2-c", ["v2-cifar"]),
        ("effnas search --on-bad-image r", ["refuse"]),
        ("effnas scale x --family v2", ["v2", "v2-b"]),
        ("effnas space tin", ["tiny"]),
    ],
)
def test_commands_values_and_names_of_the_catalog_are_completed(
    effnas: Run, monkeypatch: pytest.MonkeyPatch, typed: str, offered: list[str]
) -> None:
    monkeypatch.setenv("_EFFNAS_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split()) - 1))
    assert sorted(effnas().out.split()) == offered


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("`seed` is -1", "--seed is -1"),
        ("`image_size` and `compile_mode`", "--image-size and --compile"),
        ("leave out `last_stage`", "leave out --last-stage"),
        ("run `effnas profile`, or `x = 1`", "run `effnas profile`, or `x = 1`"),
        ("the rules `v2`, a `member_of`", "the rules `v2`, a `member_of`"),
        ("`seed", "`seed"),
    ],
)
def test_settings_in_backticks_become_options(text: str, shown: str) -> None:
    assert with_options(text) == shown
