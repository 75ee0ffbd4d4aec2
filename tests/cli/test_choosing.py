"""What a search takes where no space, or no data, is given: by the images, or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command_line import NO_BASELINES, QUICK, Run
from PIL import Image

from effnas.cli.search import SearchCommand
from effnas.config.recipe_file import RecipeSpace
from effnas.errors import ConfigError
from effnas.evaluation.config import default_data, default_space
from effnas.trials.manifest import SearchManifest


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[SearchCommand]:
    """The commands that searches would have run."""
    found: list[SearchCommand] = []

    def run(command: SearchCommand) -> int:
        found.append(command)
        return 0

    monkeypatch.setattr(SearchCommand, "run", run)
    return found


def recipe_space(command: SearchCommand) -> RecipeSpace:
    found = command.settings.recipe_space
    assert found is not None
    return found


def write_photos(side: int) -> str:
    for label in "ab":
        Path("photos", label).mkdir(parents=True)
        for n in range(2):
            pixels = np.full((side, side + 8, 3), 60 * n, np.uint8)
            Image.fromarray(pixels).save(Path("photos", label, f"{n}.png"))
    return "photos"


@pytest.mark.parametrize(
    ("image_size", "space"),
    [(8, "tiny"), (16, "tiny"), (17, "small"), (32, "small"), (96, "small"), (97, "v2")],
)
def test_a_space_is_chosen_by_the_size_of_the_images(image_size: int, space: str) -> None:
    assert default_space(image_size) == space


def test_data_are_chosen_for_spaces_of_tiny_images_alone() -> None:
    assert default_data("tiny") == "digits"
    for space in ("v2", None):
        with pytest.raises(ConfigError, match=r"no `data` is given: .*; `space` tiny"):
            default_data(space)


@pytest.mark.parametrize(("side", "space", "other"), [(32, "small", "v2"), (120, "v2", "small")])
def test_a_search_of_images_takes_the_space_for_them_and_says_so(
    effnas: Run,
    commands: list[SearchCommand],
    capfd: pytest.CaptureFixture[str],
    side: int,
    space: str,
    other: str,
) -> None:
    assert effnas("search", "--data", write_photos(side), "--threads", "1").code == 0
    (command,) = commands
    assert command.settings.space == space
    assert command.settings.out == Path(f"runs/{space}-photos")
    asked = command.settings.asked
    assert asked is not None
    assert (asked.options["space"], asked.options["data"]) == (space, "photos")
    command.plan(("space", f"{space}: 12 architectures"), ("data", "2 images"))
    said = " ".join(capfd.readouterr().out.split())
    assert f"{space}: 12 architectures; chosen for images of {side} px; --space {other}" in said
    assert "--data" not in said


def test_a_space_that_is_named_is_taken_and_needs_data(
    effnas: Run, commands: list[SearchCommand], capfd: pytest.CaptureFixture[str]
) -> None:
    assert effnas("search", "--data", write_photos(32), "--space", "mnasnet").code == 0
    assert effnas("search", "--space", "tiny").code == 0
    named, tiny = commands
    assert (named.settings.space, named.chosen) == ("mnasnet", {})
    assert tiny.settings.data == "digits"
    tiny.plan(("data", "digits: 1,797 images"))
    assert "digits: 1,797 images; as no --data is given" in capfd.readouterr().out


def test_a_search_by_time_takes_the_choices_for_small_images_and_says_so(
    effnas: Run, commands: list[SearchCommand], capfd: pytest.CaptureFixture[str]
) -> None:
    data = ["search", "--data", write_photos(40), "--train-time", "60s"]
    assert effnas(*data).code == 0
    assert effnas(*data, "--batch-size", "64", "--out", "runs/fixed").code == 0
    assert effnas(*data, "--recipe", "default", "--out", "runs/default").code == 0
    assert effnas("search", "--data", "photos", "--out", "runs/epochs").code == 0
    opened, fixed, default, by_epochs = (
        {c.name for c in space.choices} for space in map(recipe_space, commands)
    )
    assert {"batch_size", "image_size", "optimizer", "learning_rate_per_256"} <= opened
    assert fixed == opened - {"batch_size"}
    assert commands[1].settings.recipe.batch_size == 64
    assert default == by_epochs == set()
    asked = commands[0].settings.asked
    assert asked is not None
    assert asked.options["recipe"] == "small"
    commands[0].plan(("recipe", "open"))
    said = " ".join(capfd.readouterr().out.split())
    assert "chosen for images of 40 px; --recipe default is without" in said


def test_a_search_by_time_of_large_images_keeps_the_default_recipe(
    effnas: Run, commands: list[SearchCommand]
) -> None:
    assert effnas("search", "--data", write_photos(120), "--train-time", "60s").code == 0
    assert recipe_space(commands[0]).choices == ()


@pytest.mark.parametrize("command", ["search", "proxy check", "proxy search"])
def test_without_data_nothing_begins(effnas: Run, command: str, tmp_path: Path) -> None:
    for space, said in (
        ([], "no --data is given"),
        (["--space", "small"], "of 32 px, and no --data"),
    ):
        done = effnas(*command.split(), *space)
        assert done.code == 2
        assert said in done.err
        assert done.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.usefixtures("short_timings")
def test_a_space_that_was_chosen_is_stored_and_resumed(effnas: Run) -> None:
    quick = [word for n, word in enumerate(QUICK) if n > 1]  # without its space
    command = ["search", "--data", "digits", *quick, *NO_BASELINES, "--target-batch-size", "8"]
    begun = effnas(*command, "--controller", "random", "--budget", "1")
    assert begun.code == 0, begun.err
    assert "chosen for images of 8 px" in " ".join(begun.out.split())
    manifest = SearchManifest.read(Path("runs/tiny-digits"))
    assert manifest.space.name == "tiny"
    assert manifest.asked is not None
    assert manifest.asked.options["space"] == "tiny"
    assert effnas("resume", "runs/tiny-digits", "--budget", "2").code == 0
    # The same command finds its folder.
    again = effnas(*command, "--controller", "random", "--budget", "2")
    assert again.code == 0, again.err
    assert "continues runs/tiny-digits" in again.out
