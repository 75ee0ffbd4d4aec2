"""`effnas promote` as a person types it: real trainings under a real Ray Tune."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from command_line import SMALL, Run
from safetensors.torch import load_file

from effnas import (
    Architecture,
    Measurement,
    SearchSpace,
    Trial,
    TrialState,
    load_run,
)
from effnas.config.settings import Execution, Recipe
from effnas.data.images import ImageSet
from effnas.data.loading import load_test_part
from effnas.train.augment import normalize
from effnas.trials.store import Json, RunFolder

SPACE = SearchSpace.load(SMALL).with_target(num_classes=10)
NETWORKS = [
    "fused_r1_k3_s2_e1_c8 fused_r1_k3_s2_e1_c16",
    "mbconv_r1_k3_s2_e1_c8_se0.25 fused_r1_k3_s2_e1_c16",
]


def write_run(path: Path, *, states: TrialState = TrialState.COMPLETE) -> None:
    """Write a finished search on the digits, of two small networks."""
    recipe = Recipe(epochs=1, image_size=16, batch_size=32, flip=False)
    manifest: dict[str, Json] = {
        "created": "2026-01-01T00:00:00Z",
        "seed": 0,
        "space": {"name": "small", "text": SPACE.to_text()},
        "reward": {"name": "v2", "kind": "expression", "text": "A * S^-0.07 * P^-0.05"},
        "data": {"name": "digits", "path": "digits", "on_bad_image": "refuse"},
        "recipe": dict(recipe.to_dict()),
        "execution": dict(vars(Execution())),
    }
    with RunFolder.open(path) as folder:
        folder.write_manifest(manifest)
        for n, blocks in enumerate(NETWORKS):
            arch = type(SPACE.reference).parse(blocks, stem=SPACE.stem, head=SPACE.head)
            metrics = {"accuracy": 0.5 + n / 10, "step_time": 1.0, "params_ratio": 1.0,
                       "params": 1e4}  # fmt: skip
            done = states is TrialState.COMPLETE
            trial = Trial(
                number=n,
                architecture=arch,
                state=states,
                measurement=Measurement(metrics=metrics if done else {}),
                reward=metrics["accuracy"] if done else None,
                reason=None if done else "none fits",
            )
            folder.append(trial, durable=True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], ["nowhere", "no run there"]),
        (["none"], ["none: none of its 2 trials is complete", "let the search continue"]),
        (["run", "--top", "0"], ["--top is 0", "1 or more"]),
        (["run", "--seeds", "0"], ["--seeds is 0", "1 or more"]),
        (["run", "--epochs", "0"], ["epochs", "1 or more"]),
        (["run", "--data-share", "2"], ["data_share"]),
        (["run", "--out", "run"], ["run", "holds no finals"]),
        (["function"], ["function", "the Python function", "--reward"]),
        (["bare"], ["bare", "recipe cannot be used"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_mistake_is_one_line_with_place_and_remedy(
    effnas: Run, tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    write_run(tmp_path / "run")
    write_run(tmp_path / "none", states=TrialState.INFEASIBLE)
    write_run(tmp_path / "function")
    file = tmp_path / "function" / "manifest.json"
    file.write_text(file.read_text().replace('"kind": "expression"', '"kind": "function"'))
    write_run(tmp_path / "bare")
    file = tmp_path / "bare" / "manifest.json"
    file.write_text(file.read_text().replace('"recipe"', '"recept"'))
    result = effnas("promote", *arguments)
    assert result.code == 2
    assert all(word in result.err for word in words), result.err
    assert result.err.count("\n") == 1


@pytest.mark.slow
def test_other_images_than_those_of_the_search_are_refused(effnas: Run, tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    file = tmp_path / "run" / "manifest.json"
    content = file.read_text()
    file.write_text(content.replace('"name": "digits"', '"name": "digits", "fingerprint": "a-b"'))
    result = effnas("promote", "run", "--top", "1", "--seeds", "1", "--epochs", "1")
    assert result.code == 2, result.err
    assert "not those of the search" in result.err
    assert (tmp_path / "run-finals" / "trainings.jsonl").read_text() == ""


@pytest.mark.slow
def test_the_test_part_is_read_once_and_only_if_asked_for(effnas: Run, tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    command = ("promote", "run", "--top", "2", "--seeds", "2", "--epochs", "1")
    finals = tmp_path / "run-finals"
    file, weights = finals / "test.json", finals / "weights"
    quiet = effnas(*command)
    assert quiet.code == 0, quiet.err
    assert "test part of the data was not read" in " ".join(quiet.out.split())
    assert not file.exists()

    # The command that is shown exports the picked network with its weights.
    command_line = next(s for s in quiet.out.splitlines() if s.startswith("  effnas export "))
    exported = json.loads(effnas(*shlex.split(command_line)[1:], "--formats", "timm", "--json").out)
    figures = {figure["name"]: figure for figure in exported["figures"]}
    assert (exported["image_size"], exported["random_weights"]) == (16, False)

    results = (finals / "trainings.jsonl").read_bytes()
    whole = [json.loads(line) for line in results.splitlines()]
    accuracies = {one["accuracy"] for one in whole}
    assert figures["accuracy of these weights"]["value"] in accuracies
    told = json.loads(effnas(*command, "--test", "--json").out)
    test = told["test"]
    arch = load_run("run").trials[told["base"]].architecture
    part = load_test_part("digits", image_size=16, classes=tuple("0123456789"))
    assert test["trial"] == told["base"]
    assert (test["data"], test["part"], test["images"]) == ("digits", "test", len(part))
    assert test["fingerprint"] == part.fingerprint
    assert test["accuracies"] == [
        pytest.approx(accuracy_of(arch, weights / f"{arch.id}-{seed}.safetensors", part))
        for seed in range(2)
    ]
    assert test["mean_accuracy"] == pytest.approx(sum(test["accuracies"]) / 2)

    # Were it read again, the weights would be missed.
    weights.rename(tmp_path / "elsewhere")
    before = file.read_bytes()
    again = effnas(*command, "--test")
    assert again.code == 0, again.err
    assert f"accuracy {test['mean_accuracy']:.4f} ±{test['spread']:.4f}" in again.out

    # Another reward picks the other network.
    other = effnas(*command, "--test", "--reward", "1 - A")
    assert other.code == 2
    assert other.err.count("\n") == 1
    assert f"was read for trial {told['base']}" in other.err
    without = effnas(*command, "--reward", "1 - A")
    assert without.code == 0, without.err
    assert f"was read for trial {told['base']}" in without.out
    assert file.read_bytes() == before
    assert (finals / "trainings.jsonl").read_bytes() == results


def accuracy_of(arch: Architecture, weights: Path, part: ImageSet) -> float:
    model = arch.build(num_classes=10).eval()
    model.load_state_dict(load_file(weights))
    images = normalize(torch.from_numpy(part.images).permute(0, 3, 1, 2))
    with torch.inference_mode():
        right = model(images).argmax(1) == torch.from_numpy(part.labels)
    return float(right.float().mean())


@pytest.mark.slow
def test_finals_that_are_killed_are_finished_by_the_same_command(
    effnas: Run, tmp_path: Path
) -> None:
    write_run(tmp_path / "run")
    command = ["promote", "run", "--top", "2", "--seeds", "1", "--epochs", "2", "--json", "--out",
               "killed"]  # fmt: skip
    file = tmp_path / "killed" / "trainings.jsonl"

    def lines() -> list[dict[str, object]]:
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    process = subprocess.Popen(
        [sys.executable, "-m", "effnas", *command], cwd=tmp_path, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not lines():
        assert time.monotonic() < deadline, "the finals did not get so far"
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = lines()

    done = effnas(*command)
    assert done.code == 0, done.err
    told = json.loads(done.out)
    results = lines()
    assert results[: len(before)] == before
    assert len(results) > len(before)
    keys = {(r["candidate"], r["repeat"], r["epochs"]) for r in results}
    assert len(keys) == len(results)  # nothing was trained twice
    picked = load_run(tmp_path / "run").trials[told["base"]].architecture
    model = picked.build(num_classes=10)
    model.load_state_dict(load_file(tmp_path / told["weights"]))
    assert not (tmp_path / "killed" / "checkpoints").exists()
    standings = told["standings"]
    assert [row["epochs"] for row in standings] == sorted(
        (row["epochs"] for row in standings), reverse=True
    )
    assert sum(row["chance"] for row in standings) == pytest.approx(1)
