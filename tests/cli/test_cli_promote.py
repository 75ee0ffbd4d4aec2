"""`effnas promote` as a person types it: real trainings; Ray reads the test part."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import Run
from safetensors.torch import load_file

from effnas import Architecture, load_run
from effnas.data.images import ImageSet
from effnas.data.loading import load_test_part
from effnas.train.augment import normalize
from effnas.trials.uncertainty import Noise

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("inline")]


def test_other_images_than_those_of_the_search_are_refused(
    effnas: Run, finished_run: Path, tmp_path: Path
) -> None:
    file = finished_run / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["data"]["fingerprint"] = "a-b"
    file.write_text(json.dumps(manifest))
    result = effnas(
        "promote", "run", "--top", "1", "--seeds", "1", "--epochs", "1", "--threads", "1"
    )
    assert result.code == 2, result.err
    assert "not those of the search" in result.err
    assert (tmp_path / "run-finals" / "trainings.jsonl").read_text() == ""


@pytest.mark.usefixtures("finished_run")
def test_the_test_part_is_read_once_and_only_if_asked_for(effnas: Run, tmp_path: Path) -> None:
    command = ("promote", "run", "--top", "2", "--seeds", "2", "--epochs", "1", "--threads", "1")
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
    for one in whole:
        counts = np.array(one["confusion"])
        assert counts.trace() / counts.sum() == pytest.approx(one["accuracy"])
    assert f"Report: {Path('run-finals/report.html')}" in quiet.out
    assert "is recognized least" in (finals / "report.html").read_text()
    assert figures["accuracy of these weights"]["value"] in accuracies
    found = json.loads(effnas(*command, "--test", "--json").out)
    test = found["test"]
    arch = load_run("run").trials[found["base"]].architecture
    part = load_test_part("digits", image_size=16, classes=tuple("0123456789"))
    assert test["trial"] == found["base"]
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
    text, images = " ".join(again.out.split()), len(part)
    noise = Noise(holdout_images=images, seed_spread=test["spread"])
    error = noise.standard_error(test["mean_accuracy"], 2)
    assert error is not None
    assert error > test["spread"] / 2**0.5  # the choice of the images adds to it
    assert f"accuracy {test['mean_accuracy']:.4f} ±{error:.3f} (± its standard error)" in text
    assert tuple(test["class_counts"]) == part.class_counts
    assert "(the seed of lower accuracy)" in text

    # Another reward picks the other network.
    other = effnas(*command, "--test", "--reward", "1 - A")
    assert other.code == 2
    assert other.err.count("\n") == 1
    assert f"was read for trial {found['base']}" in other.err
    without = effnas(*command, "--reward", "1 - A")
    assert without.code == 0, without.err
    assert f"was read for trial {found['base']}" in without.out
    assert file.read_bytes() == before
    assert (finals / "trainings.jsonl").read_bytes() == results


def accuracy_of(arch: Architecture, weights: Path, part: ImageSet) -> float:
    model = arch.build(num_classes=10).eval()
    model.load_state_dict(load_file(weights))
    images = normalize(torch.from_numpy(part.images).permute(0, 3, 1, 2))
    with torch.inference_mode():
        right = model(images).argmax(1) == torch.from_numpy(part.labels)
    return float(right.float().mean())
