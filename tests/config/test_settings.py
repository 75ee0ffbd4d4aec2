"""Recipes and sources of step times: what may be in one, and how all else is refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from effnas.config.settings import Recipe, StepTimeConfig
from effnas.errors import ConfigError

NAN = float("nan")
SHARES_BELOW_ONE = ("warmup_share", "label_smoothing", "drop_rate", "drop_path_rate")
WRONG: Mapping[str, tuple[float, ...]] = {
    "epochs": (0, -1),
    "batch_size": (0, -8),
    "image_size": (0, -1),
    "data_share": (0, -0.1, 1.01, NAN),
    "holdout_share": (0, 1, -0.1, 1.5, NAN),
    "crop_area_min": (0, -1, 1.01, NAN),
    "learning_rate": (0, -1e-3, NAN),
    "weight_decay": (-1e-9, NAN),
    **dict.fromkeys(SHARES_BELOW_ONE, (-0.01, 1, 2, NAN)),
}


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", WRONG)
def test_a_value_out_of_range_is_refused_by_name(name: str) -> None:
    for value in WRONG[name]:
        with pytest.raises(ConfigError, match=f"^recipe: {name} is {value}, it must be") as caught:
            Recipe().overridden(**{name: value})
        assert "\n" not in str(caught.value)


def test_what_a_file_leaves_out_has_its_default(tmp_path: Path) -> None:
    path = write(tmp_path, "# short\nepochs: 2\nlearning_rate: 1e-3\ndata_share: ~\nflip:\n")
    assert Recipe.load(path) == Recipe(epochs=2, learning_rate=1e-3)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("epoch: 3", "unknown key 'epoch'; did you mean 'epochs'"),
        ("epochs: 2.5", "expected a whole number, found '2.5'"),
        ("epochs: [1, 2]", "expected a text, found a list"),
        ("learning_rate: fast", "expected a number, found 'fast'"),
        ("flip: perhaps", "flip must be true or false"),
    ],
)
def test_a_wrong_line_is_refused_with_its_place(tmp_path: Path, line: str, said: str) -> None:
    path = write(tmp_path, f"weight_decay: 0.1\n{line}\n")
    with pytest.raises(ConfigError) as caught:
        Recipe.load(path)
    assert re.match(rf"{re.escape(f'{path}:2:')}\d+: {re.escape(said)}", str(caught.value))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("epochs: 1\nepochs: 2\n", "epochs"),
        ("epochs: 0\n", "epochs is 0, it must be 1 or more"),
        *((text, r"recipe\.yaml") for text in ("", "- epochs", "epochs", "epochs: [", "\ta: 1")),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Recipe.load(write(tmp_path, text))


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"optimizer: caf\xe9\n")
    for name in ("gone.yaml", "", "latin.yaml"):
        with pytest.raises(ConfigError, match=r"the recipe: (cannot|not UTF-8)") as caught:
            Recipe.load(tmp_path / name)
        assert str(caught.value).startswith(str(tmp_path / name))


SOURCES: Mapping[str, Mapping[str, str]] = {
    "measured": {},
    "predicted": {"profile": "/board.json"},
    "auto": {"profile": "/board.json"},
    "table": {"table": "/times.csv"},
    "command": {"command": "time {arch_json}"},
}
ALL_SOURCES = {name: value for given in SOURCES.values() for name, value in given.items()}


@pytest.mark.parametrize("mode", SOURCES)
def test_a_source_of_step_times_needs_its_file_or_command(mode: str) -> None:
    found = StepTimeConfig(mode=mode, **SOURCES[mode])  # type: ignore[arg-type]
    given = {name: getattr(found, name) for name in ALL_SOURCES}
    assert given == dict.fromkeys(ALL_SOURCES) | dict(SOURCES[mode])
    if SOURCES[mode]:
        with pytest.raises(ConfigError, match=f"^`step_time` {mode} needs "):
            StepTimeConfig(mode=mode)  # type: ignore[arg-type]
    for other in ALL_SOURCES.keys() - SOURCES[mode].keys():
        both = {**SOURCES[mode], other: ALL_SOURCES[other]}
        with pytest.raises(ConfigError, match=r"^`.*` does not go with `.*; choose one"):
            StepTimeConfig(mode=mode, **both)  # type: ignore[arg-type]


def test_the_source_follows_from_what_is_given(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert StepTimeConfig.of() == StepTimeConfig()
    assert StepTimeConfig.of(profile=path) == StepTimeConfig(mode="auto", profile=str(path))
    assert StepTimeConfig.of(table=path) == StepTimeConfig(mode="table", table=str(path))
    assert StepTimeConfig.of(command="x {arch_json}", timeout_s=5.0) == StepTimeConfig(
        mode="command", command="x {arch_json}", timeout_s=5.0
    )
    assert StepTimeConfig.of(mode="predicted", profile=path).mode == "predicted"
