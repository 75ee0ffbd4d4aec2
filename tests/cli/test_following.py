"""What is offered next can be typed: every command is understood, and what it names is there."""

from __future__ import annotations

import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import typer.main
from command_line import Run as Command

from effnas.cli.app import app
from effnas.cli.following import after_search, again, longer
from effnas.cli.report import page_of
from effnas.config.recipe import Recipe
from effnas.trials.manifest import CommandPart
from effnas.trials.manifest_parts import DataPart, RewardPart
from effnas.trials.network_ref import find_network
from effnas.trials.run import Run, load_run
from effnas.trials.trial import Trials

GOLDEN = Path(__file__).parents[1] / "golden/folders"


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(GOLDEN, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)


def parsed(line: list[str]) -> dict[str, object]:
    """Return the options of a command as the program reads them."""
    words, found = line[1:], typer.main.get_command(app)
    assert line[0] == "effnas"
    while inside := getattr(found, "commands", None):
        found = inside[words.pop(0)]
    return {**found.make_context("effnas", list(words)).params, "command": found.name}


def offered(path: str) -> list[list[str]]:
    sections = {section.name: section for section in page_of(Path(path)).sections}
    return [shlex.split(line) for _, line in sections["next"].content] if "next" in sections else []


@pytest.mark.parametrize(
    "name",
    ["run", "constrained", "expression", "rungs", "objectives", "predicted", "run-board",
     "search-stopped", "run-finals", "training", "training-stopped", "family"],
)  # fmt: skip
def test_what_a_report_offers_is_understood_and_there(name: str) -> None:
    for line in offered(name):
        found = parsed(line)
        for place in ("search", "folder"):
            assert not found.get(place) or Path(str(found[place])).is_dir()
        for network in ("network", "base"):
            if found.get(network):
                assert find_network(str(found[network]), None).arch is not None
        assert found.get("data") in (None, "digits")  # that is what all are of


def training(**data: object) -> list[list[str]]:
    """What is offered after a training that stored its command line, its data with changes."""
    file = Path("training/manifest.json")
    stored = json.loads(file.read_text())
    stored |= {"asked": {"name": "train", "options": {"network": "run:best", "epochs": 2}}}
    stored["test"] = None
    arch = load_run("run").best.architecture
    stored["network"] = {"architecture": str(arch), "architecture_id": arch.id,
                         "stem": arch.stem, "head": arch.head}  # fmt: skip
    stored["data"] |= data
    file.write_text(json.dumps(stored))
    return offered("training")


@pytest.mark.parametrize(("part", "reads"), [("test", True), ("", False), (None, False)])
def test_the_test_part_is_only_offered_where_there_is_one(part: str | None, reads: bool) -> None:
    lines = training(test_part=part)
    assert ("--test" in lines[0]) is reads
    # RUN:best may be another trial by the time that it is pasted.
    number = load_run("run").best.number
    assert lines[-1][1:] == ["export", f"run:{number}", "--weights",
                             "training/best.safetensors"]  # fmt: skip


def test_a_training_that_does_not_beat_guessing_is_to_be_longer() -> None:
    [line] = training(minival=352, minival_class_counts=[280, *[8] * 9])
    epochs = json.loads(Path("training/manifest.json").read_text())["recipe"]["epochs"]
    assert parsed(line)["epochs"] == 4 * epochs
    assert parsed(line)["network"] == "run:best"


def test_images_that_are_not_known_are_said_to_be_missing() -> None:
    shutil.rmtree("run")
    section = page_of(Path("family")).sections[-1]
    assert section.answer == "Put your images for DATA, and paste:"
    assert "--data DATA" in section.content[0][1]


def guessing_run() -> Run:
    run = load_run("run")
    worst = replace(run.trials[0].measurement, metrics={**run.trials[0].metrics, "accuracy": 0.1})
    data = DataPart(name="digits", path="digits", classes=10, holdout_images=100)
    asked = CommandPart(name="search", options={"space": "tiny", "budget": 4,
                                                "constraint": ("params <= 1e6",)})  # fmt: skip
    manifest = replace(run.manifest, data=data, asked=asked, recipe=Recipe(epochs=2), budget=1)
    return replace(run, manifest=manifest, trials=Trials([replace(run.trials[0],
                                                                  measurement=worst)]))  # fmt: skip


def test_where_nothing_beats_guessing_the_next_search_is_longer_or_holds_out_more() -> None:
    lines = [words for _, words in after_search(guessing_run())]
    longer, more, proxy = map(parsed, lines)
    assert (longer["command"], longer["epochs"], longer["space"]) == ("search", 8, "tiny")
    assert longer["constraint"] == ["params <= 1e6"]
    assert more["holdout_share"] == 0.2
    assert {str(each["out"]) for each in (longer, more)}.isdisjoint({"run"})
    assert (proxy["command"], proxy["data"]) == ("search", "digits")


def test_where_nothing_beats_guessing_by_time_trials_get_all_of_a_longer_time() -> None:
    run = guessing_run()
    recipe = replace(run.manifest.recipe or Recipe(), train_time_s=60.0)
    found = replace(run, manifest=replace(run.manifest, recipe=recipe, full_train_time_s=240.0))
    longer = parsed(after_search(found)[0][1])
    assert (longer["train_time"], longer["fidelity"]) == ("4m", ["none"])


def test_what_is_best_after_the_time_that_was_searched_for_is_said() -> None:
    run = load_run("run")
    curves = ((0.58, 0.60, 0.62), (0.44, 0.52, 0.61))
    trials = []
    for each, curve in zip(list(run.trials)[:2], curves, strict=True):
        points = tuple(zip((1024, 2048, 4096), curve, strict=True))
        measured = replace(each.measurement, metrics={"accuracy": curve[-1]}, curve=points)
        trials.append(replace(each, measurement=measured, reward=curve[-1]))
    data = DataPart(name="digits", path="digits", holdout_images=400)
    reward = RewardPart(name="accuracy", kind="expression", text="A")
    recipe = Recipe(train_time_s=60.0)
    manifest = replace(run.manifest, data=data, reward=reward, recipe=recipe, baselines=None)
    for full_s, said in (
        (None, "Train the best trial to the end."),
        (240.0, "Train trial 1, which learning curves predict to be the best after 4.0 min."),
    ):
        found = replace(manifest, full_train_time_s=full_s)
        found_run = replace(run, manifest=found, trials=Trials(trials), baselines=())
        assert said in [why for why, _ in after_search(found_run)]


def test_a_reward_that_is_code_is_named_again() -> None:
    run = load_run("run")
    reward = RewardPart(name="f", kind="function", text="mine.py:f (sha256 0123)")
    coded = replace(run, manifest=replace(run.manifest, reward=reward))
    promote = next(words for _, words in after_search(coded) if words[1] == "promote")
    assert parsed(promote)["reward"] == "mine.py:f"


def test_a_command_line_is_written_again_with_what_changes() -> None:
    asked = CommandPart(name="train", options={"network": "-a b", "epochs": 2, "report": False,
                                               "compile_mode": "none", "seed": None})  # fmt: skip
    words = again(asked, {"epochs": 3})
    assert words == ["effnas", "train", "./-a b", "--epochs", "3", "--no-report",
                     "--compile", "none"]  # fmt: skip


def test_finals_that_do_not_beat_guessing_are_to_be_longer() -> None:
    run = Path("run/manifest.json")
    stored = json.loads(run.read_text())
    stored["data"] |= {"classes": 2, "holdout_class_counts": [280, 8], "holdout_images": 288}
    run.write_text(json.dumps(stored))
    file = Path("run-finals/manifest.json")
    stored = json.loads(file.read_text())
    stored["asked"] = {"name": "promote", "options": {"search": "run", "top": 2}}
    file.write_text(json.dumps(stored))
    [line] = offered("run-finals")
    found = parsed(line)
    assert (found["command"], found["search"], found["top"]) == ("promote", Path("run"), 2)
    assert found["epochs"] == 4 * stored["recipe"]["epochs"]


def test_longer_trainings_are_longer_in_what_they_were_asked_in() -> None:
    run = Path("run")
    assert longer(Recipe(epochs=2), run) == {"epochs": 8, "out": "run-8-epochs"}
    by_time = Recipe(epochs=1.7, train_time_s=30)
    assert longer(by_time, run) == {"train_time": "2m", "out": "run-2m"}


def test_what_a_search_found_is_trained_on_its_images_unless_others_are_given(
    effnas: Command,
) -> None:
    file = Path("run/manifest.json")
    stored = json.loads(file.read_text())
    stored["data"] |= {"name": "gone", "path": "/nowhere/gone"}
    file.write_text(json.dumps(stored))
    for words, missing in (((), "/nowhere/gone"), (("--data", "other/"), "other/")):
        result = effnas("train", "run:best", *words)
        assert result.code == 2
        assert missing in result.err
    assert not Path("runs").exists()
