"""An exported network: its sizes, its figures, and where they are from."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from networks import ARCH, CLASSES, write_weights

from effnas import SearchSpace
from effnas.arch.files import to_json
from effnas.config.recipe import Recipe
from effnas.config.regularization import STRENGTHS
from effnas.errors import ConfigError, StoreError, UserError
from effnas.export.card import card
from effnas.export.figures import Figure, figures_of
from effnas.export.network import ExportSettings, Network, resolve_network
from effnas.trials.manifest import SearchManifest
from effnas.trials.manifest_parts import DataPart, RewardPart, SourcedSpacePart
from effnas.trials.store import RunFolder
from effnas.trials.trial import Measurement, Trial, TrialState
from effnas.workflows.finals.evaluate_test import FinalTest
from effnas.workflows.finals.folder import FinalsManifest
from effnas.workflows.trainings.folder import Result, TrainingsFolder

SPACE = SearchSpace.load("tiny")
METRICS = {"accuracy": 0.75, "step_time": 0.9, "step_time_s": 0.012, "peak_memory_bytes": 5e7}


def find(network: Path | str, **given: Any) -> Network:
    return resolve_network(ExportSettings(network=str(network), out=Path("out"), **given))


def write_run(path: Path, **data: Any) -> None:
    """Write a search of one trial on images in a folder of somebody's."""
    manifest = SearchManifest(
        created="2026-01-01T00:00:00Z",
        seed=4,
        space=SourcedSpacePart.of(SPACE),
        reward=RewardPart(name="v2", kind="expression", text="A * S^-0.07 * P^-0.05"),
        data=DataPart(name="/home/somebody/photos", path="/home/somebody/photos", **data),
        timing_batch_size=48,
        device={"device": "cpu"},
        versions={"effnas": "0.1.0", "torch": "2.6.0", "timm": "1.0.20", "python": "3.11"},
    )
    trial = Trial(
        number=0,
        architecture=SPACE.reference,
        state=TrialState.COMPLETE,
        measurement=Measurement(
            metrics=METRICS,
            fidelity="4 epochs of 1000 images at 16 px",
            hardware="a CPU",
            step_time_source="measured",
        ),
        reward=0.7,
    )
    with RunFolder.open(path) as folder:
        manifest.write(path)
        folder.append(trial, durable=True)


def write_family(folder: Path, **changes: Any) -> Path:
    """Write a family of one member, m."""
    member: dict[str, Any] = {
        "name": "m",
        "architecture_id": ARCH.id,
        "image_size": 40,
        "train_image_size": 32,
        "step_time_s": 0.25,
        "train_time_s": 7200.0,
        "peak_memory_bytes": 3e9,
        **{name: [0.0, 0.3] for name in STRENGTHS},
    }
    family: dict[str, Any] = {
        "kind": "effnas model family", "format": 1, "family": "v2", "base": "b", "batch_size": 16,
        "num_classes": 5, "epochs": 350, "images": 1000, "hardware": "a GPU",
        "members": [member],
    }  # fmt: skip
    for name, value in changes.items():
        (family if name in family else member)[name] = value
    (folder / "family.json").write_text(json.dumps(family))
    file = folder / "m.json"
    file.write_text(to_json(ARCH, image_size=32, num_classes=5))
    return file


def by_name(network: Network) -> dict[str, Figure]:
    return {figure.name: figure for figure in figures_of(network)}


def test_sizes_are_those_of_the_file_of_the_options_or_of_imagenet(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text(to_json(ARCH, image_size=48, num_classes=3))
    found = find(file)
    assert (found.image_size, found.train_image_size, found.num_classes) == (48, 48, 3)
    found = find(file, image_size=20, num_classes=9)
    assert (found.image_size, found.train_image_size, found.num_classes) == (20, 20, 9)
    assert find(file, weights=write_weights(tmp_path)).num_classes == CLASSES
    file.write_text(to_json(ARCH))
    assert (find(file).image_size, find(file).num_classes) == (224, 1000)
    for key, value in (("image_size", '"48"'), ("num_classes", "-1"), ("image_size", "true")):
        file.write_text(to_json(ARCH)[:-3] + f', "{key}": {value}}}')
        with pytest.raises(UserError, match=f"{key}: Expected"):
            find(file)
    file.write_text(to_json(ARCH, image_size=10**9))
    with pytest.raises(ConfigError, match="too many"):
        find(file)


def test_a_trial_brings_its_figures_and_each_says_how_it_was_found(tmp_path: Path) -> None:
    write_run(tmp_path / "run", classes=3, class_names=["cat", "dog", "[x](y) | <b>"])
    network = find(f"{tmp_path / 'run'}:best")
    assert (network.image_size, network.num_classes) == (SPACE.target.image_size, 3)
    assert network.class_names == ("cat", "dog", "[x](y) | <b>")
    figures = by_name(network)
    accuracy = figures["accuracy in the search"]
    assert (accuracy.value, accuracy.how) == (0.75, "measured")
    assert "4 epochs of 1000 images" in accuracy.at
    step = figures["step time"]
    assert (step.value, step.how) == (0.012, "measured")
    assert "48 images of 16 px, a CPU" in step.at
    assert figures["peak memory"].how == "predicted"  # on a CPU it is a dry run's
    assert figures["params"].how == "counted"
    text = card(network, figures.values(), [], is_random=True)
    for words in ("A * S^-0.07 * P^-0.05", "seed 4", "- data: `photos`", "- search space: `tiny` (",
                  "2026-01-01", "torch 2.6.0", "| 12.0 ms | measured |"):  # fmt: skip
        assert words in text
    assert "somebody" not in text
    assert str(tmp_path) not in text


def test_a_member_of_a_family_brings_its_sizes_costs_and_strengths(tmp_path: Path) -> None:
    network = find(write_family(tmp_path))
    assert (network.image_size, network.train_image_size, network.num_classes) == (40, 32, 5)
    figures = by_name(network)
    assert (figures["step time"].value, figures["step time"].how) == (0.25, "predicted")
    assert "a GPU" in figures["step time"].at
    assert figures["peak memory"].how == "predicted"
    assert figures["time of a training"].text == "2.00 h"
    text = card(network, figures.values(), [], is_random=True)
    assert "up to 32 pixels and use it at 40" in text
    assert all(f"| {name} | 0 | 0.3 |" in text for name in STRENGTHS)
    assert find(tmp_path / "m.json", image_size=64).image_size == 64
    (tmp_path / "m.json").rename(tmp_path / "other.json")  # no member is called so
    assert find(tmp_path / "other.json").member is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": 2}, "format 2 is not known"),
        ({"architecture_id": "0" * 16}, "another network than m.json"),
        ({"image_size": "40"}, "image_size: Expected `int`, got `str`"),
        ({"step_time_s": float("nan")}, "NaN is not finite"),
        ({"dropout": [1]}, "dropout: Expected `array` of length 2"),
    ],
)
def test_a_family_that_cannot_be_trusted_is_one_line(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    file = write_family(tmp_path, **changes)
    with pytest.raises(ConfigError, match=words) as raised:
        find(file)
    assert str(raised.value).startswith(str(tmp_path / "family.json"))
    assert "\n" not in str(raised.value)


def test_weights_of_finals_bring_their_accuracy_and_image_size(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text(to_json(ARCH, image_size=48))
    recipe = Recipe(epochs=6, data_share=1.0).sized(28, 28)
    with TrainingsFolder.open(tmp_path / "finals") as folder:
        folder.begin(
            FinalsManifest(run="run", run_created="then", finalists=(), recipe=recipe, seeds=1)
        )
        for epochs, accuracy in ((3, 0.5), (6, 0.8)):
            folder.add(Result(candidate=ARCH.id, repeat=0, epochs=epochs, accuracy=accuracy))
    weights = write_weights(tmp_path / "finals" / "weights")
    network = find(file, weights=weights)
    assert network.image_size == 28
    accuracy = by_name(network)["accuracy of these weights"]
    assert (accuracy.value, accuracy.how) == (0.8, "measured")
    assert "28 px, after 6 epochs of 100%" in accuracy.at
    assert "accuracy of these weights on the test part" not in by_name(network)
    test = FinalTest(
        trial=0, architecture_id=ARCH.id, data="pets", part="test", images=200, skipped=(),
        fingerprint="f", accuracies=(0.7, 0.9), date="2026-01-31T12:00:00Z",
    )  # fmt: skip
    (tmp_path / "finals" / "test.json").write_text(json.dumps({"format": 1, **asdict(test)}))
    tested = by_name(find(file, weights=weights))["accuracy of these weights on the test part"]
    assert tested.value == 0.7
    assert tested.at == "200 images of 28 px, part 'test' of pets"
    manifest = tmp_path / "finals" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"epochs": 6', '"epochs": 0'))
    with pytest.raises(StoreError, match=r"recipe: .*epochs is 0"):
        find(file, weights=weights)
    elsewhere = tmp_path / "w.safetensors"
    weights.rename(elsewhere)
    assert find(file, weights=elsewhere).final is None
