"""`effnas export` as a person types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import Run

from effnas import SearchSpace
from effnas.arch.files import to_json
from effnas.train.checkpoints import save_weights, weights_file

TINY = SearchSpace.load("tiny").reference
TIMM = ["--formats", "timm"]


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    """The architecture file of a small network."""
    (tmp_path / "tiny.json").write_text(to_json(TINY, image_size=16, num_classes=4))
    return "tiny.json"


@pytest.mark.slow
def test_files_checks_and_random_weights_are_shown(effnas: Run, tiny: str, tmp_path: Path) -> None:
    shown = effnas("export", tiny, "--formats", "timm,torch-export")
    assert shown.code == 0, shown.err
    for words in ("model.safetensors", "model.pt2", "allowed", "params", "counted",
                  "Written to exports/tiny", "The weights are random"):  # fmt: skip
        assert words in shown.out
    assert (tmp_path / "exports" / "tiny" / "README.md").exists()
    again = effnas("export", tiny, *TIMM)
    assert again.code == 2
    assert "exports/tiny: it exists already; choose another --out" in again.err


@pytest.mark.slow
def test_json_is_the_same_as_data(effnas: Run, tiny: str, tmp_path: Path) -> None:
    model = TINY.build(num_classes=6)
    save_weights(tmp_path, TINY, 0, model)
    weights = weights_file(tmp_path, TINY, 0)
    result = effnas("export", tiny, *TIMM, "--weights", str(weights), "--out", "out", "--json")
    told = json.loads(result.out)
    assert (told["num_classes"], told["image_size"], told["random_weights"]) == (6, 16, False)
    assert told["files"].keys() == {path.name for path in (tmp_path / "out").iterdir()}
    (check,) = told["checks"]
    assert check["file"] == "model.py"
    assert check["difference"] <= check["allowed"]
    assert {"name", "value", "text", "how", "at"} == set(told["figures"][0])


@pytest.mark.slow
def test_a_member_of_a_family_is_exported_from_its_folder(effnas: Run, tmp_path: Path) -> None:
    (tmp_path / "base.json").write_text(to_json(TINY))
    scaled = effnas("scale", "base.json", "--device", "none", "--image-size", "16", "--classes",
                    "4", "--batch-size", "2", "--out", "family")  # fmt: skip
    assert scaled.code == 0, scaled.err
    shown = effnas("export", "family/s.json", *TIMM)
    assert shown.code == 0, shown.err
    assert "trained at 16 px, 4 classes" in " ".join(shown.out.split())
    config = json.loads((tmp_path / "exports" / "family-s" / "config.json").read_text())
    sizes = config["pretrained_cfg"]
    assert sizes["input_size"] == [3, 16, 16]
    assert sizes["test_input_size"][1] > 16
    assert "by the rules `v2`" in (tmp_path / "exports" / "family-s" / "README.md").read_text()
