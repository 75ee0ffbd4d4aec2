"""Trainings with a folder: stopped and resumed, diverging, ending early, of many labels."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_training
import torch
from PIL import Image
from safetensors.torch import load_file
from tiny_training import ARCH, BLOCKS, RECIPE, Watching, prepare, stop_after, timeless

import effnas.data.images
from effnas.config.recipe import Recipe
from effnas.config.settings import Execution
from effnas.data.images import ImageSet
from effnas.data.loading import load_train_images
from effnas.errors import DataError, InfeasibleError, StoreError
from effnas.train.network import make_network
from effnas.train.training import Training
from effnas.workflows.train.worker import TrainReport

OUT = Path("out")


#: Of the 60 images six are held out: four steps in an epoch.
SHORT = replace(RECIPE, batch_size=13, epochs=2)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with a network and images in it."""
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path)


def launch(
    recipe: Recipe = SHORT, stopping: Callable[[], bool] = lambda: False, **options: Any
) -> tuple[TrainReport | None, Watching]:
    return tiny_training.launch(recipe, options.pop("out", OUT), stopping, **options)


def logged(out: Path) -> list[dict[str, str]]:
    with (out / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(float(row.pop("train_time_s")) > 0 for row in rows)
    return rows


def check_weights(report: TrainReport, out: Path) -> None:
    """See that the best and the last weights have the accuracies of their epochs."""
    accuracies = [row.accuracy or 0.0 for row in report.progress.rows]
    best = report.progress.best_epoch
    assert best == 1 + accuracies.index(max(accuracies))
    found = load_train_images("photos", image_size=12, eval_image_size=12, minival_share=0.1)
    assert isinstance(found.minival, ImageSet)
    model = make_network(ARCH, BLOCKS, SHORT, num_classes=4)
    again = Training(
        model, found.train, None, SHORT, report.plan.manifest.stages, report.plan.manifest.parts,
        execution=Execution(), device=torch.device("cpu"), flip=True, seed=0,
    )  # fmt: skip
    again._average = None
    for name, accuracy in (("best", accuracies[best - 1]), ("last", accuracies[-1])):
        model.load_state_dict(load_file(out / f"{name}.safetensors"))
        assert again.measure(found.minival) == accuracy


@pytest.mark.slow
def test_a_launched_training_that_was_stopped_leaves_the_same_files() -> None:
    whole = Path("whole")
    report, watching = launch(out=whole, device_batch_size=5)
    assert report is not None
    (plan,) = watching.plans
    assert plan.manifest.parts == (3, 3)
    assert watching.rows == report.progress.rows
    assert not (whole / "checkpoint.safetensors").exists()
    check_weights(report, whole)

    for stop, done in ((2, 0), (3, 2)):
        nothing, watching = launch(stopping=stop_after(stop), device_batch_size=5)
        assert nothing is None
        assert watching.plans[0].first_step == done
        assert (OUT / "checkpoint.safetensors").exists()
    again, watching = launch(device_batch_size=5)
    assert again is not None
    assert watching.plans[0].first_step == 5
    assert timeless(again.progress.rows) == timeless(report.progress.rows)
    for name in ("best.safetensors", "last.safetensors"):
        assert (OUT / name).read_bytes() == (whole / name).read_bytes()
    assert logged(OUT) == logged(whole)
    names = {path.name for path in OUT.iterdir()}
    assert names == {".lock", "best.safetensors", "last.safetensors", "log.csv", "manifest.json"}


@pytest.mark.slow
def test_a_diverging_training_says_so_and_keeps_what_is_stored() -> None:
    recipe = replace(SHORT, optimizer="sgd", learning_rate_per_256=1e6, warmup_epochs=0.0)
    with pytest.raises(InfeasibleError, match="diverged"):
        launch(recipe)
    assert (OUT / "manifest.json").exists()
    assert logged(OUT) == []
    with pytest.raises(InfeasibleError, match="diverged"):  # and not an error about the folder
        launch(recipe)


@pytest.mark.slow
def test_images_that_were_streamed_are_streamed_when_memory_is_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for broken in sorted(Path("photos").rglob("*.png"))[::5]:
        broken.write_bytes(b"no image")

    def train(out: Path, free_bytes: int, stop: int | None = None) -> TrainReport | None:
        monkeypatch.setattr(effnas.data.images, "available_memory_bytes", lambda: free_bytes)
        stopping = stop_after(stop) if stop else lambda: False
        options: dict[str, Any] = {"on_bad_image": "skip", "checkpoint_every_s": 0}
        return launch(out=out, stopping=stopping, **options)[0]

    assert train(Path("whole"), 0) is not None
    assert train(OUT, 0, stop=5) is None
    assert train(OUT, 10**9) is not None
    for name in ("best.safetensors", "last.safetensors"):
        assert (OUT / name).read_bytes() == (Path("whole") / name).read_bytes()


@pytest.mark.slow
def test_a_training_is_resumed_with_the_same_images_in_memory_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert launch(stopping=stop_after(3))[0] is None
    kept = {path.name: path.read_bytes() for path in OUT.iterdir()}
    with monkeypatch.context() as short:
        short.setattr(effnas.data.images, "available_memory_bytes", lambda: 0)
        with pytest.raises(DataError, match=r"another `out`, .* or free some memory"):
            launch()
    assert {path.name: path.read_bytes() for path in OUT.iterdir()} == kept
    Path("photos").rename("moved")  # which is no difference
    image = next(Path("moved").rglob("*.png"))
    content = image.read_bytes()
    image.unlink()
    with pytest.raises(
        StoreError, match=r"the training began with other settings: data \(other images"
    ):
        launch(data="moved")
    image.write_bytes(content)
    assert launch(data="moved")[0] is not None


@pytest.mark.slow
def test_patience_ends_a_training_in_its_last_stage_only() -> None:
    # Next to no learning rate: accuracy stays as it is, from the first epoch on.
    recipe = replace(
        SHORT, epochs=6, patience_epochs=1, learning_rate_per_256=1e-12, ema_decay=None,
        batch_norm_momentum=0.999999, image_size=(8, 8),
    )  # fmt: skip
    report, _ = launch(recipe)
    assert report is not None
    rows = report.progress.rows
    assert report.progress.stopped_early
    assert rows[-1].stage == 2
    assert len(rows) < 6
    assert sum(row.stage == 2 for row in rows) == 1
    again, watching = launch(recipe)
    assert again is not None
    assert asdict(again.progress) == asdict(report.progress)
    assert watching.rows == []


@pytest.mark.slow
def test_without_a_minival_the_last_epoch_is_kept() -> None:
    report, _ = launch(replace(SHORT, holdout_share=0.0, epochs=1))
    assert report is not None
    assert report.plan.manifest.data.minival == 0
    assert report.progress.best_epoch == 0
    assert [row.accuracy for row in report.progress.rows] == [None]
    assert [row["accuracy"] for row in logged(OUT)] == [""]
    last = (OUT / "last.safetensors").read_bytes()
    assert (OUT / "best.safetensors").read_bytes() == last


@pytest.mark.slow
def test_images_of_several_labels_are_trained_on() -> None:
    lines = ["image,labels"]
    for n in range(40):
        Image.new("RGB", (12, 12), ("red", "blue")[n % 2]).save(f"{n}.png")
        lines.append(f"{n}.png,{('red|warm', 'blue|cold')[n % 2]}")
    Path("images.csv").write_text("\n".join(lines) + "\n")
    recipe = replace(SHORT, epochs=3, batch_size=8, randaugment=None, optimizer="sgd")
    report, _ = launch(recipe, data="images.csv")
    assert report is not None
    assert report.plan.manifest.data.class_names == ("blue", "cold", "red", "warm")
    assert all(np.isfinite(row.train_loss) for row in report.progress.rows)
    # Two of four classes are right for each image, and each of two labels as good as the other.
    assert report.progress.best_accuracy >= 0.5
