"""`effnas export` as a person types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import Run

from effnas import Architecture, SearchSpace
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


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none.json"], ["none.json", "no such file"]),
        (["old.json"], ["old.json", "format 9 is not known"]),
        (["resnet50"], ["resnet50", "architecture file", "from timm"]),
        (["run:3", "--out", "x"], ["run: no run there"]),
        ([str(TINY)], ["give an --out"]),
        (["tiny.json", "--formats", "timm,tflite"], ["--formats 'tflite'", "torch-export"]),
        (["tiny.json", "--image-size", "0"], ["--image-size is 0", "1 to 4096"]),
        (["tiny.json", "--classes", "0"], ["--classes is 0"]),
        (["tiny.json", "--weights", "none.safetensors"], ["none.safetensors", "cannot be read"]),
        (["tiny.json", "--weights", "tiny.json"], ["tiny.json", "not a whole safetensors file"]),
        (["tiny.json", "--weights", "other.safetensors"], ["blocks.0.0.conv.weight is [24, 8, 3"]),
        (["tiny.json", "--weights", "w.safetensors", "--classes", "5"], ["classifier.weight"]),
        (["tiny.json", "--out", "tiny.json"], ["tiny.json", "exists already"]),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else None,
)
def test_a_mistake_is_one_line_with_place_and_remedy(
    effnas: Run, tiny: str, tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    del tiny
    (tmp_path / "old.json").write_text(to_json(TINY).replace('"format": 1', '"format": 9'))
    other = Architecture.parse(str(TINY).replace("c16", "c24"), stem=TINY.stem, head=TINY.head)
    for arch, name in ((TINY, "w"), (other, "other")):
        save_weights(tmp_path, arch, 0, arch.build(num_classes=4))
        weights_file(tmp_path, arch, 0).rename(tmp_path / f"{name}.safetensors")
    before = sorted(tmp_path.iterdir())
    result = effnas("export", *arguments)
    assert result.code == 2
    assert all(word in result.err for word in words), result.err
    assert result.err.count("\n") == 1
    assert [path for path in sorted(tmp_path.iterdir()) if path.name != "exports"] == before
    assert not any((tmp_path / "exports").glob("*"))
