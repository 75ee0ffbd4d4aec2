"""What weights of `effnas train` bring along: sizes, class names, figures; all checked."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import create_autospec

import numpy as np
import pytest
from networks import ARCH
from PIL import Image

from effnas import Architecture
from effnas.arch.files import to_json
from effnas.config.recipe import Recipe
from effnas.config.regularization import Ramp
from effnas.errors import ConfigError, StoreError
from effnas.export.figures import Figure, figures_of
from effnas.export.launch import export_network
from effnas.export.network import ExportSettings, Network, resolve_network
from effnas.workflows.train.launch import launch_training
from effnas.workflows.train.provenance import trained_of
from effnas.workflows.train.settings import TrainSettings
from effnas.workflows.train.worker import TrainObserver, TrainReport

NAMES = ("ant", "bee", "[cat](x)")
RECIPE = Recipe(
    epochs=2, batch_size=16, stages=2, image_size=(12, 20), eval_image_size=24,
    dropout=Ramp(0.1, 0.3), optimizer="nadamw", ema_decay=0.9, holdout_share=0.2,
)  # fmt: skip


def write_images(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for part, count in (("train", 20), ("test", 3)):
        for label, name in enumerate(NAMES):
            (folder / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 100, (24, 24, 3), dtype=np.uint8)
                pixels[..., label] += 120
                Image.fromarray(pixels).save(folder / part / name / f"{number}.png")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainReport]:
    """A folder with an architecture file, and a training of it whose test part was read."""
    folder = tmp_path_factory.mktemp("trained")
    write_images(folder / "photos")
    network = folder / "a.json"
    network.write_text(to_json(ARCH, image_size=48, num_classes=9))
    settings = TrainSettings(
        network=str(network), data=str(folder / "photos"), recipe=RECIPE, out=folder / "first",
        seed=5, device="cpu", precision="float32", memory_format="contiguous", test=True,
    )  # fmt: skip
    report = launch_training(settings, create_autospec(TrainObserver))
    assert report
    return folder, report


@pytest.fixture
def copy(trained: tuple[Path, TrainReport], tmp_path: Path) -> Path:
    """The folder of the training, to be changed."""
    shutil.copytree(trained[0] / "first", tmp_path / "first")
    return tmp_path / "first"


def change(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    file = folder / "manifest.json"
    content = json.loads(file.read_text())
    edit(content)
    file.write_text(json.dumps(content))


def find(folder: Path, weights: Path, **given: Any) -> Network:
    network = str(folder / "a.json")
    return resolve_network(
        ExportSettings(network=network, out=Path("out"), weights=weights, **given)
    )


def by_name(network: Network) -> dict[str, Figure]:
    return {figure.name: figure for figure in figures_of(network)}


@pytest.mark.slow
def test_an_export_of_a_training_needs_no_option(
    trained: tuple[Path, TrainReport], tmp_path: Path
) -> None:
    folder, report = trained
    out = tmp_path / "out"
    exported = export_network(
        ExportSettings(
            network=str(folder / "a.json"), out=out, weights=folder / "first" / "best.safetensors",
            formats=("timm",),
        )
    )  # fmt: skip
    config = json.loads((out / "config.json").read_text())
    assert config["label_names"] == sorted(NAMES)
    assert config["num_classes"] == 3
    assert config["pretrained_cfg"]["input_size"] == [3, 20, 20]
    assert config["pretrained_cfg"]["test_input_size"] == [3, 24, 24]
    figures = {figure.name: figure for figure in exported.figures}
    progress, test = report.progress, report.test
    assert test
    accuracy = figures["accuracy of these weights"]
    assert (accuracy.value, accuracy.how) == (progress.best_accuracy, "measured")
    assert accuracy.at == (
        "12 held-out images of 24 px, which the epoch was chosen by, after "
        f"{progress.best_epoch} of 2 epochs"
    )
    assert figures["accuracy of these weights on the test part"].value == test.accuracy
    assert "9 images of 24 px, part 'test' of photos" in (
        figures["accuracy of these weights on the test part"].at
    )
    time = figures["time of the training of these weights"]
    assert time.value == pytest.approx(progress.train_time_s)
    assert report.plan.manifest.hardware in time.at
    text = (out / "README.md").read_text()
    for words in (f"epoch {progress.best_epoch} of 2, that of the highest accuracy",
                  "moving average", "`progressive-adaptive`, with images of 12 to 20 pixels in "
                  "batches of 16", "| dropout | 0.1 | 0.3 |", "seed 5",
                  "- images of the training: `photos`"):  # fmt: skip
        assert words in text
    assert str(folder) not in text


def test_another_network_than_the_trained_one_is_refused(copy: Path, tmp_path: Path) -> None:
    other = Architecture.parse("fused_r1_k3_s1_e1_c8", stem=8, head=32)
    (tmp_path / "a.json").write_text(to_json(other))
    weights = copy / "best.safetensors"
    moved = tmp_path / "best.safetensors"
    shutil.copy(weights, moved)
    (tmp_path / "manifest.json").write_text('{"name": "of another program"}')
    assert trained_of(moved) is None
    assert find(tmp_path, weights).trained is None
    settings = ExportSettings(network=str(tmp_path / "a.json"), out=tmp_path / "o", weights=weights)
    with pytest.raises(ConfigError, match="give weights of this network"):
        export_network(replace(settings, formats=("timm",)))
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (("format",), 2, "format 2 is not known"),
        (("recipe",), [], "recipe: Expected `object`, got `array`"),
        (("recipe", "regime"), "wild", "recipe.regime: Invalid enum value 'wild'"),
        (("recipe", "image_size"), [12, 10**9], "image_size goes from 12 to 1000000000 px"),
        (("recipe", "dropout"), [0, "much"], r"recipe.dropout\[1\]: Expected `float`"),
        (("data", "class_names"), [1, 2, 3], r"class_names\[0\]: Expected `str`"),
        (("progress", "rows"), [], "best_epoch is .*, which is none of the epochs"),
        (("test", "accuracy"), float("nan"), "NaN is not finite"),
    ],
)
def test_a_training_that_cannot_be_trusted_is_one_line(
    trained: tuple[Path, TrainReport], copy: Path, place: tuple[str, ...], value: Any, words: str
) -> None:
    def edit(content: dict[str, Any]) -> None:
        for key in place[:-1]:
            content = content[key]
        content[place[-1]] = value

    change(copy, edit)
    with pytest.raises(StoreError, match=words) as raised:
        find(trained[0], copy / "best.safetensors")
    assert str(raised.value).startswith(str(copy / "manifest.json"))
    assert "\n" not in str(raised.value)
