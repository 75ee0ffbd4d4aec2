"""`effnas train` as a person types it: results, mistakes, and trainings that are killed."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Run
from PIL import Image
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
SETTLED = ("--device", "cpu", "--precision", "float32", "--memory-format", "contiguous")
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
def test_a_training_tells_what_came_of_it_and_tells_it_again(effnas: Run) -> None:
    result = effnas(*TRAIN, "--json")
    assert result.code == 0, result.err
    told = json.loads(result.out)
    out = "runs/train-net-photos"
    assert set(told) == {
        "network", "params", "epochs", "best_epoch", "accuracy", "test", "train_time_s",
        "forecast_s", "weights", "stages", "log",
    }  # fmt: skip
    assert (told["epochs"], told["test"]) == (2, None)
    assert told["weights"] == f"{out}/best.safetensors"
    assert [(s["steps"], s["image_size"]) for s in told["stages"]] == [(3, 8), (3, 12)]
    assert told["stages"][1]["strengths"]["mixup"] == 0.2
    assert sum(s["train_time_s"] for s in told["stages"]) == pytest.approx(told["train_time_s"])
    assert told["log"][told["best_epoch"] - 1]["accuracy"] == told["accuracy"]
    rows = logged(out)
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert list(rows[0]) == [
        "epoch", "step", "stage", "image_size", "dropout", "randaugment", "mixup", "cutmix",
        "drop_path", "learning_rate", "train_loss", "accuracy",
    ]  # fmt: skip
    assert float(rows[1]["train_loss"]) == told["log"][1]["train_loss"]
    model = ARCH.build(num_classes=3)
    model.load_state_dict(load_file(Path(out, "best.safetensors")))

    before = contents(out)
    again = effnas(*TRAIN, "--json")
    assert json.loads(again.out) == told
    assert contents(out) == before
    shown = effnas(*TRAIN)
    assert shown.code == 0
    assert f"accuracy {told['accuracy']:.4f}" in shown.out
    assert f"effnas export net.json --weights {out}/best.safetensors" in shown.out
    assert contents(out) == before


@pytest.mark.slow
def test_the_test_part_is_read_once_and_only_if_asked_for(effnas: Run, tmp_path: Path) -> None:
    write_photos(tmp_path / "parts" / "train")
    write_photos(tmp_path / "parts" / "test", count=4)
    command = [*TRAIN, "--data", "parts", "--out", "out", "--epochs", "1", "--json"]
    assert json.loads(effnas(*command).out)["test"] is None
    told = json.loads(effnas(*command, "--test").out)["test"]
    assert (told["part"], told["images"], told["skipped"]) == ("test", 12, 0)
    assert 0 <= told["accuracy"] <= 1
    # Were it read again, the images would be missed.
    shutil.rmtree(tmp_path / "parts" / "test")
    before = contents("out")
    assert json.loads(effnas(*command, "--test").out)["test"] == told
    assert json.loads(effnas(*command).out)["test"] == told
    assert contents("out") == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--recipe", "none.yaml"], ["none.yaml"]),
        (["--recipe", "tini"], ["'tini'", "did you mean 'tiny'"]),
        (["--recipe", "smaller.yaml"], ["smaller.yaml:2:13", "do not decrease"]),
        (["--recipe", "weaker.yaml"], ["weaker.yaml:2:8", "do not decrease"]),
        (["--recipe", "unknown.yaml"], ["unknown.yaml:2:1", "did you mean 'mixup'"]),
        (["--image-size", "64..32"], ["64", "32", "do not decrease"]),
        (["--image-size", "big"], ["'big'", "32..64"]),
        (["--image-size", "9999"], ["9999", "4096"]),
        (["--epochs", "0"], ["epochs is 0", "1 or more"]),
        (["--batch-size", "0"], ["batch_size is 0", "1 or more"]),
        (["--device-batch-size", "0"], ["--device-batch-size is 0", "1 or more"]),
        (["--seed", "-1"], ["--seed is -1", "0 or more"]),
        (["--workers", "0"], ["--workers is 0", "1 or more"]),
        (["--checkpoint-every", "-1"], ["--checkpoint-every is -1", "0 seconds or more"]),
        (["--new-head"], ["--new-head goes with --weights"]),
        (["--weights", "none.safetensors"], ["none.safetensors", "cannot be read"]),
        (["--weights", "torn.safetensors"], ["torn.safetensors", "not a whole safetensors file"]),
        (["--weights", "other.safetensors"], ["other.safetensors", "the tensor", "weights of net"]),
        (["--weights", "classes.safetensors"], ["the tensor classifier.", "--new-head"]),
        (["--data", "nowhere"], ["'nowhere'"]),
        (["--data", "bad"], ["torn.png", "--on-bad-image skip"]),
        (["--out", "photos"], ["photos", "not empty", "--out"]),
        (["--out", "search"], ["search", "holds no training", "--out"]),
        (["--out", "torn"], ["torn/manifest.json", "not valid JSON", "restore it"]),
        (["--device", "abacus"], ["'abacus'", "cuda"]),
        (["--test"], ["photos", "no test part"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)  # fmt: skip
def test_a_mistake_is_one_line_with_place_and_remedy(
    effnas: Run, tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    Path("smaller.yaml").write_text("epochs: 1\nimage_size: [64, 32]\n")
    Path("weaker.yaml").write_text("epochs: 1\nmixup: [0.2, 0]\n")
    Path("unknown.yaml").write_text("epochs: 1\nmixpu: 0\n")
    Path("torn.safetensors").write_bytes(b"\0" * 20)
    save_file(OTHER.build(num_classes=3).state_dict(), "other.safetensors")
    save_file(ARCH.build(num_classes=5).state_dict(), "classes.safetensors")
    if "bad" in arguments:
        write_photos(Path("bad"))
        Path("bad/a/torn.png").write_bytes(b"\x89PNG nothing")
    for folder, text in (("search", '{"format": 1, "kind": "search"}'), ("torn", '{"forma')):
        Path(folder).mkdir()
        Path(folder, "manifest.json").write_text(text)
    before = {path.relative_to(tmp_path) for path in tmp_path.rglob("*")}
    result = effnas(*TRAIN, *arguments)
    assert result.code == 2, result.err
    error = result.err.splitlines()
    assert error[0].startswith("effnas: error: ")
    assert all(word in result.err for word in words), result.err
    assert len(error) == (3 if ".yaml:2" in error[0] else 1)  # a place is shown with its line
    made = {path.relative_to(tmp_path) for path in tmp_path.rglob("*")} - before
    assert made <= {Path("runs")}


@pytest.mark.slow
def test_a_batch_that_does_not_fit_is_refused(effnas: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "effnas.workflows.train.prepare.available_memory_bytes", lambda device: 5_000_000
    )
    large = [*TRAIN, "--batch-size", "54", "--image-size", "64", "--device-batch-size", "100000"]
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


def test_an_unknown_model_is_refused(effnas: Run) -> None:
    result = effnas("train", "resnet81", "--data", "photos")
    assert result.code == 2
    assert "no model 'resnet81'" in result.err
    assert result.err.count("\n") == 1


@pytest.mark.slow  # Ray says how many there may be
def test_too_many_workers_are_refused(effnas: Run) -> None:
    result = effnas(*TRAIN, "--workers", "99")
    assert result.code == 2, result.err
    assert "99 workers" in result.err
    assert "fewer --workers" in result.err
    assert result.err.count("\n") == 1


@pytest.fixture
def stopped(effnas: Run, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """A training in `out` that was stopped behind its fourth step; what the folder holds."""
    from effnas.cli import train

    launch, steps = train.launch_training, iter(range(1, 100))

    def stop(*arguments: Any, **options: Any) -> Any:
        return launch(*arguments, **{**options, "stopping": lambda: next(steps) == 4})

    with monkeypatch.context() as patch:
        patch.setattr(train, "launch_training", stop)
        result = effnas(*TRAIN, "--out", "out")
    assert result.code == 130, result.err
    assert "the same command goes on" in " ".join(result.out.split())
    assert len(logged("out")) == 1
    return contents("out")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--seed", "1"], ["seed (was 0, is 1)", "--out"]),
        (["--epochs", "3"], ["epochs (was 2, is 3)", "--out"]),
        (["--regime", "fixed"], ["regime (was", "--out"]),
        (["--data", "others"], ["data (was"]),
        (["--weights", "net.safetensors"], ["weights (was None", "--out"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_another_training_does_not_go_on_there(
    effnas: Run, stopped: dict[str, bytes], arguments: list[str], words: list[str]
) -> None:
    write_photos(Path("others"), count=10)
    save_file(ARCH.build(num_classes=3).state_dict(), "net.safetensors")
    result = effnas(*TRAIN, "--out", "out", *arguments)
    assert result.code == 2, result.err
    assert all(
        word in result.err for word in ["out: the training began with other settings", *words]
    )
    assert result.err.count("\n") == 1
    assert contents("out") == stopped


@pytest.mark.slow
def test_another_network_does_not_go_on_there(effnas: Run, stopped: dict[str, bytes]) -> None:
    result = effnas("train", "other.json", *TRAIN[2:], "--out", "out")
    assert result.code == 2, result.err
    assert "another network (architecture, architecture_id)" in result.err
    assert contents("out") == stopped


def tear(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def strange(path: Path) -> None:
    save_file(ARCH.build(num_classes=3).state_dict(), path, {"owner": "{}", "state": "{}"})


def claiming(path: Path) -> None:
    """Write a whole file that says whose it is, and holds something else."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        owner = file.metadata()["owner"]
    save_file(
        ARCH.build(num_classes=3).state_dict(), path, {"owner": owner, "state": '{"dict": []}'}
    )


@pytest.mark.slow
@pytest.mark.parametrize("damage", [tear, empty, strange, claiming])
def test_a_state_that_cannot_be_used_is_not_thrown_away(
    effnas: Run, stopped: dict[str, bytes], damage: Callable[[Path], object]
) -> None:
    checkpoint = Path("out/checkpoint.safetensors")
    damage(checkpoint)
    damaged = contents("out")
    result = effnas(*TRAIN, "--out", "out")
    assert result.code == 2, result.err
    assert "out/checkpoint.safetensors" in result.err
    assert "delete the file, and the same command starts from the beginning" in result.err
    assert result.err.count("\n") == 1
    assert contents("out") == damaged
    checkpoint.write_bytes(stopped[checkpoint.name])
    assert effnas(*TRAIN, "--out", "out").code == 0
    assert [row["epoch"] for row in logged("out")] == ["1", "2"]


@pytest.mark.slow
@pytest.mark.parametrize("key", ["forecast", "progress", "test"])
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
    assert f"manifest.json: {key}: Object missing required field" in result.err
    assert contents("out") == before


@pytest.mark.slow
def test_bad_images_are_skipped_if_that_is_asked_for(effnas: Run) -> None:
    Path("photos/b/torn.png").write_bytes(b"\x89PNG nothing")
    result = effnas(*TRAIN, "--epochs", "1", "--on-bad-image", "skip")
    assert result.code == 0, result.err
    assert "1 cannot be decoded" in result.out
    manifest = json.loads(Path("runs/train-net-photos/manifest.json").read_text())
    assert manifest["data"]["skipped"] == ["b/torn.png"]


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
    assert "another weights" in other.err


# Real processes, which are killed.

LONGER = (*TRAIN, "--epochs", "16", "--checkpoint-every", "0")


def begin(out: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "effnas", *LONGER, "--out", out],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_for_epochs(process: subprocess.Popen[str], out: str, count: int) -> None:
    deadline = time.monotonic() + 120
    log = Path(out, "log.csv")
    while not log.exists() or log.read_bytes().count(b"\n") <= count:
        assert time.monotonic() < deadline, "the training did not get so far"
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_training_that_is_killed_goes_on_to_the_same_result(
    effnas: Run, number: signal.Signals
) -> None:
    assert effnas(*LONGER, "--out", "whole").code == 0
    process = begin("killed")
    wait_for_epochs(process, "killed", 2)
    (os.killpg if number == signal.SIGKILL else os.kill)(process.pid, number)
    output, _ = process.communicate(timeout=60)
    assert "Traceback" not in output
    if number != signal.SIGKILL:
        assert process.returncode == 130, output
        assert "the same command goes on" in " ".join(output.split())
    assert Path("killed/checkpoint.safetensors").exists()
    assert len(logged("killed")) < 16
    result = effnas(*LONGER, "--out", "killed")
    assert result.code == 0, result.err
    assert "goes on" in result.out
    assert logged("killed") == logged("whole")
    for name in ("best.safetensors", "last.safetensors"):
        assert Path("killed", name).read_bytes() == Path("whole", name).read_bytes()
    assert not Path("killed/checkpoint.safetensors").exists()
