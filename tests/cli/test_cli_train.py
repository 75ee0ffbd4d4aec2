"""`effnas train` as a person types it: results, mistakes, and trainings that are killed."""

from __future__ import annotations

import csv
import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Run, run_until
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from effnas.arch.architecture import Architecture
from effnas.arch.files import to_json

ARCH = Architecture.parse("fused_r1_k3_s2_e1_c8 mbconv_r1_k3_s2_e2_c8_se0.25", stem=8, head=16)
OTHER = Architecture.parse("fused_r1_k3_s2_e1_c8 mbconv_r1_k3_s2_e2_c12_se0.25", stem=8, head=16)
RECIPE = """
epochs: 2
batch_size: 18
stages: 2
image_size: [8, 12]
dropout: [0.1, 0.2]
mixup: [0, 0.2]
learning_rate_per_256: 0.1
optimizer: nadamw
ema_decay: 0.9
"""
#: Neither measured nor chosen, so that two commands do the same.
SETTLED = ("--device", "cpu", "--precision", "float32", "--memory-format", "contiguous",
           "--threads", "1")  # fmt: skip
TRAIN = ("train", "net.json", "--data", "photos", "--recipe", "recipe.yaml", *SETTLED)


def write_photos(folder: Path, classes: str = "abc", *, count: int = 20) -> None:
    """Write noise in a colour for each class."""
    rng = np.random.default_rng(0)
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for n in range(count):
            pixels = rng.integers(0, 90, (12, 12, 3), dtype=np.uint8)
            pixels[..., number % 3] += 120
            Image.fromarray(pixels).save(folder / name / f"{n:02}.png")


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with networks, a recipe and images: 54 to train on, 6 held out."""
    monkeypatch.chdir(tmp_path)
    Path("net.json").write_text(to_json(ARCH))
    Path("other.json").write_text(to_json(OTHER))
    Path("recipe.yaml").write_text(RECIPE)
    write_photos(Path("photos"))


def logged(out: str) -> list[dict[str, str]]:
    with Path(out, "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(float(row.pop("train_time_s")) > 0 for row in rows)
    return rows


def contents(out: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(out).iterdir()}


@pytest.mark.slow
def test_a_finished_training_shows_its_result_again(effnas: Run) -> None:
    result = effnas(*TRAIN, "--json")
    assert result.code == 0, result.err
    found = json.loads(result.out)
    out = "runs/train-net-photos"
    assert set(found) == {
        "network", "params", "epochs", "best_epoch", "accuracy", "test", "train_time_s",
        "forecast_s", "weights", "stages", "log",
    }  # fmt: skip
    assert (found["epochs"], found["test"]) == (2, None)
    assert found["weights"] == f"{out}/best.safetensors"
    assert [(s["steps"], s["image_size"]) for s in found["stages"]] == [(3, 8), (3, 12)]
    assert found["stages"][1]["strengths"]["mixup"] == 0.2
    assert sum(s["train_time_s"] for s in found["stages"]) == pytest.approx(found["train_time_s"])
    assert found["log"][found["best_epoch"] - 1]["accuracy"] == found["accuracy"]
    rows = logged(out)
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert list(rows[0]) == [
        "epoch", "step", "stage", "image_size", "dropout", "randaugment", "mixup", "cutmix",
        "drop_path", "learning_rate", "train_loss", "accuracy",
    ]  # fmt: skip
    assert float(rows[1]["train_loss"]) == found["log"][1]["train_loss"]
    model = ARCH.build(num_classes=3)
    model.load_state_dict(load_file(Path(out, "best.safetensors")))
    assert "Did it take as long as forecast?" in Path(out, "report.html").read_text()

    before = contents(out)
    again = effnas(*TRAIN, "--json")
    assert json.loads(again.out) == found
    assert contents(out) == before
    shown = effnas(*TRAIN)
    assert shown.code == 0
    assert f"accuracy {found['accuracy']:.4f}" in shown.out
    assert f"effnas export net.json --weights {out}/best.safetensors" in shown.out
    assert contents(out) == before


@pytest.mark.slow
def test_the_test_part_is_read_once_and_only_if_asked_for(effnas: Run, tmp_path: Path) -> None:
    write_photos(tmp_path / "parts" / "train")
    write_photos(tmp_path / "parts" / "test", count=4)
    (tmp_path / "parts/train/b/torn.png").write_bytes(b"\x89PNG nothing")
    command = [*TRAIN, "--data", "parts", "--out", "out", "--epochs", "1", "--json",
               "--on-bad-image", "skip"]  # fmt: skip
    assert json.loads(effnas(*command).out)["test"] is None
    found = json.loads(effnas(*command, "--test").out)["test"]
    assert (found["part"], found["images"], found["skipped"]) == ("test", 12, 0)
    assert 0 <= found["accuracy"] <= 1
    manifest = json.loads(Path("out/manifest.json").read_text())
    assert manifest["data"]["skipped"] == ["train/b/torn.png"]
    # If it were read again, the images would be missing.
    shutil.rmtree(tmp_path / "parts" / "test")
    before = contents("out")
    assert json.loads(effnas(*command, "--test").out)["test"] == found
    assert json.loads(effnas(*command).out)["test"] == found
    assert contents("out") == before


@pytest.mark.slow
def test_a_batch_that_does_not_fit_is_refused(effnas: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "effnas.workflows.train.prepare.available_memory_bytes", lambda device: 5_000_000
    )
    large = [*TRAIN, "--batch-size", "54", "--image-size", "64", "--device-batch-size", "100000"]
    crowded = effnas(*TRAIN, "--workers", "99")
    assert crowded.code == 2, crowded.err
    assert "99 workers" in crowded.err
    assert crowded.err.count("\n") == 1
    result = effnas(*large)
    assert result.code == 2
    assert "--device-batch-size 100000: 54 images at 64 px take" in result.err
    most = int(result.err.split("the most that fit are ")[1])
    assert 0 < most < 54
    assert result.err.count("\n") == 1
    accepted = effnas(*large[:-1], str(most), "--epochs", "1")
    assert accepted.code == 0, accepted.err
    assert accepted.err == ""
    # As many as fit are taken, if nothing is asked for.
    chosen = effnas(*large[:-2], "--epochs", "1", "--out", "chosen")
    assert "parts one after the other" in " ".join(chosen.out.split())


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the training that was stopped is kept for the tests that change it."""
    return tmp_path_factory.mktemp("kept") / "out"


@pytest.fixture
def stopped(effnas: Run, kept: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """A training in `out` that was stopped after its fourth step; what the folder holds."""
    if kept.exists():
        shutil.copytree(kept, "out")
        return contents("out")
    from effnas.cli import train

    launch, steps = train.launch_training, iter(range(1, 100))

    def stop(*arguments: Any, **options: Any) -> Any:
        return launch(*arguments, **{**options, "stopping": lambda: next(steps) == 4})

    with monkeypatch.context() as patch:
        patch.setattr(train, "launch_training", stop)
        result = effnas(*TRAIN, "--out", "out")
    assert result.code == 130, result.err
    assert "the same command continues" in " ".join(result.out.split())
    assert len(logged("out")) == 1
    shutil.copytree("out", kept)
    return contents("out")


@pytest.mark.slow
def test_another_training_does_not_continue_there(effnas: Run, stopped: dict[str, bytes]) -> None:
    write_photos(Path("others"), count=10)
    save_file(ARCH.build(num_classes=3).state_dict(), "net.safetensors")
    for arguments, word in (
        (["--seed", "1"], "seed"),
        (["--epochs", "3"], "epochs"),
        (["--data", "others"], "data"),
        (["--weights", "net.safetensors"], "weights"),
    ):
        result = effnas(*TRAIN, "--out", "out", *arguments)
        assert result.code == 2, result.err
        assert "out: the training began with other settings: " in result.err
        assert word in result.err
        assert result.err.count("\n") == 1
    assert effnas("train", "other.json", *TRAIN[2:], "--out", "out").code == 2
    assert contents("out") == stopped


def tear(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def claim(path: Path) -> None:
    """Write a whole file with the right owner that holds something else."""
    with safe_open(path, framework="pt") as file:
        owner = file.metadata()["owner"]
    save_file(
        ARCH.build(num_classes=3).state_dict(), path, {"owner": owner, "state": '{"dict": []}'}
    )


@pytest.mark.slow
@pytest.mark.parametrize("damage", [tear, claim])
def test_a_state_that_cannot_be_used_is_kept(
    effnas: Run, stopped: dict[str, bytes], damage: Callable[[Path], object]
) -> None:
    checkpoint = Path("out/checkpoint.safetensors")
    damage(checkpoint)
    damaged = contents("out")
    result = effnas(*TRAIN, "--out", "out")
    assert result.code == 2, result.err
    assert "out/checkpoint.safetensors" in result.err
    assert "delete the file" in result.err
    assert result.err.count("\n") == 1
    assert contents("out") == damaged
    checkpoint.write_bytes(stopped[checkpoint.name])
    assert effnas(*TRAIN, "--out", "out").code == 0
    assert [row["epoch"] for row in logged("out")] == ["1", "2"]


@pytest.mark.slow
@pytest.mark.parametrize("key", ["progress", "test"])
def test_a_manifest_that_cannot_be_used_is_refused(
    effnas: Run, stopped: dict[str, bytes], key: str
) -> None:
    file = Path("out/manifest.json")
    manifest = json.loads(file.read_text())
    if key == "test":
        assert effnas(*TRAIN, "--out", "out").code == 0
        manifest = json.loads(file.read_text())
    file.write_text(json.dumps({**manifest, key: {"sense": False}}, indent=2) + "\n")
    before = contents("out")
    result = effnas(*TRAIN, "--out", "out")
    assert result.code == 2, result.err
    assert f"out/manifest.json: {key}: " in result.err
    assert contents("out") == before


@pytest.mark.slow
def test_weights_are_fine_tuned_on_other_classes(effnas: Run) -> None:
    assert effnas(*TRAIN, "--out", "first").code == 0
    write_photos(Path("others"), "vwxyz")
    command = ["train", "net.json", "--data", "others", "--recipe", "recipe.yaml", *SETTLED,
               "--weights", "first/best.safetensors", "--out", "second"]  # fmt: skip
    refused = effnas(*command)
    assert refused.code == 2
    assert "the data have 5 classes" in refused.err
    assert not Path("second").exists()
    result = effnas(*command, "--new-head", "--json")
    assert result.code == 0, result.err
    first, second = (load_file(f"{name}/last.safetensors") for name in ("first", "second"))
    assert first.keys() == second.keys()
    assert second["classifier.weight"].shape == (5, 16)
    assert first["conv_stem.weight"].shape == second["conv_stem.weight"].shape

    # That it begins there shows where nothing is learned.
    Path("still.yaml").write_text(
        RECIPE.replace("learning_rate_per_256: 0.1", "learning_rate_per_256: 1.0e-12")
    )
    again = effnas(*TRAIN, "--recipe", "still.yaml", "--weights", "first/last.safetensors",
                   "--epochs", "1", "--out", "third")  # fmt: skip
    assert again.code == 0, again.err
    third = load_file("third/last.safetensors")
    assert np.allclose(third["conv_stem.weight"], first["conv_stem.weight"], atol=1e-6)
    # Another file of the same name is another training.
    shutil.copy("second/last.safetensors", "first/best.safetensors")
    other = effnas(*command, "--new-head")
    assert other.code == 2
    assert "weights (another file)" in other.err


LONGER = (*TRAIN, "--epochs", "16", "--checkpoint-every", "0")


@pytest.mark.slow
def test_a_training_that_is_stopped_or_killed_continues_to_the_same_result(effnas: Run) -> None:
    assert effnas(*LONGER, "--out", "whole").code == 0
    command = [*LONGER, "--out", "killed"]
    stopped = run_until(command, Path("killed/log.csv"), 3, signal.SIGINT)
    assert stopped.code == 130, stopped.err
    assert "Traceback" not in stopped.err
    assert "the same command continues" in " ".join(stopped.out.split())
    run_until(command, Path("killed/log.csv"), 7, signal.SIGKILL)
    assert Path("killed/checkpoint.safetensors").exists()
    assert len(logged("killed")) < 16
    result = effnas(*command)
    assert result.code == 0, result.err
    assert "continues" in result.out
    assert logged("killed") == logged("whole")
    for name in ("best.safetensors", "last.safetensors"):
        assert Path("killed", name).read_bytes() == Path("whole", name).read_bytes()
    assert not Path("killed/checkpoint.safetensors").exists()
