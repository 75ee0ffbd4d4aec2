"""Exports as programs without effnas find them: the same numbers, all files or none."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from networks import ARCH, CLASSES, SIZE, trained_like, write_weights
from safetensors.torch import load_file

from effnas import SearchSpace
from effnas.arch.files import to_json
from effnas.errors import ConfigError, ExportFailedError
from effnas.export import launch, programs
from effnas.export.launch import Exported, export_network
from effnas.export.model_file import load_exported, model_py
from effnas.export.network import ExportSettings, Network

FILES = {
    "README.md", "arch_def.json", "config.json", "model.onnx", "model.pt2", "model.py",
    "model.safetensors",
}  # fmt: skip
#: Makes `import effnas` fail in the program that follows.
BLOCKER = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "effnas":
            raise ImportError("effnas is blocked")
sys.meta_path.insert(0, Blocker())
try:
    import effnas
except ImportError:
    pass
else:
    raise SystemExit("effnas can be imported")
"""
OUTSIDE = """
import json, os, numpy, timm, torch
import model
images = torch.from_numpy(numpy.load("images.npy"))
loaded = model.load()
local = timm.create_model("local-dir:.", pretrained=True).eval()
program = torch.export.load("model.pt2").module()
config = timm.data.resolve_data_config({}, model=local, use_test_size=True)
with torch.inference_mode():
    numpy.savez("logits.npz", load=loaded(images), local=local(images), program=program(images),
                features=local.forward_features(images))
other = timm.create_model("local-dir:.", pretrained=True, num_classes=3)
sys.path.insert(0, "s")
del sys.modules["model"]
import model as s
with torch.device("meta"):
    params = sum(p.numel() for p in timm.create_model(s.NAME).parameters())
print(json.dumps({"config": config, "params": params, "labels": local.pretrained_cfg["label_names"],
    "names": list(loaded.state_dict()), "other": other.classifier.out_features}))
"""
ONNX = """
import numpy, onnxruntime
assert "torch" not in sys.modules
images = numpy.load("images.npy")
(logits,) = onnxruntime.InferenceSession("model.onnx").run(None, {"images": images})
numpy.save("onnx.npy", logits)
"""


def outside(program: str, folder: Path) -> str:
    """Run a program that cannot import effnas; return what it prints."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, "-c", BLOCKER + program], cwd=folder, env=environment, check=True,
        stdout=subprocess.PIPE, text=True,
    ).stdout  # fmt: skip


def settings(folder: Path, **changes: Any) -> ExportSettings:
    """Settings for the small network with weights."""
    folder.mkdir(exist_ok=True)
    file = folder / "small.json"
    file.write_text(to_json(ARCH, image_size=SIZE, num_classes=CLASSES))
    given: dict[str, Any] = {
        "network": str(file),
        "out": folder / "out",
        "weights": write_weights(folder),
        **changes,
    }
    return ExportSettings(**given)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export_network(settings(tmp_path_factory.mktemp("export")))


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(5, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(3)) * 2 - 1


@pytest.mark.slow
def test_programs_without_effnas_find_the_same_network(
    exported: Exported, images: torch.Tensor, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    folder.mkdir()
    for name in FILES:  # elsewhere: no file knows where it was written
        (folder / name).write_bytes((exported.folder / name).read_bytes())
    config = folder / "config.json"
    labels = [f"class {n}" for n in range(CLASSES)]
    config.write_text(json.dumps(json.loads(config.read_text()) | {"label_names": labels}))
    np.save(folder / "images.npy", images.numpy())
    (folder / "s").mkdir()
    s = SearchSpace.load("v2").reference
    network = Network(arch=s, image_size=384, train_image_size=300, num_classes=1000)
    (folder / "s" / "model.py").write_text(model_py(network))

    told = json.loads(outside(OUTSIDE, folder))
    outside(ONNX, folder)
    model = trained_like()
    with torch.inference_mode():
        expected = model(images).numpy()
    assert np.abs(expected).max() > 0.1
    with np.load(folder / "logits.npz") as logits:
        for way in ("load", "local", "program"):
            np.testing.assert_allclose(logits[way], expected, atol=1e-5)
    np.testing.assert_allclose(np.load(folder / "onnx.npy"), expected, atol=1e-4)
    assert told["names"] == list(model.state_dict())
    assert told["params"] == 21_458_488  # EfficientNetV2-S
    assert told["config"]["input_size"] == [3, SIZE, SIZE]
    assert told["config"]["mean"] == told["config"]["std"] == [0.5] * 3
    assert told["config"]["crop_pct"] == 1.0
    assert told["labels"] == labels
    assert told["other"] == 3


@pytest.mark.slow
def test_files_are_complete_checked_and_name_no_place_of_this_machine(exported: Exported) -> None:
    assert exported.files.keys() == FILES
    for name, size in exported.files.items():
        content = (exported.folder / name).read_bytes()
        assert len(content) == size
        places = (str(exported.folder.parent), str(Path.home()), str(Path(__file__).parents[2]))
        assert not any(place.encode() in content for place in places if place != "/"), name
        assert b"import effnas" not in content
    assert {check.file for check in exported.checks} == {"model.py", "model.pt2", "model.onnx"}
    card = (exported.folder / "README.md").read_text()
    assert "random" not in card.split("## Figures")[0]
    for check in exported.checks:
        assert 0 <= check.difference <= check.allowed
        assert check.largest_logit > 0.1
        assert f"| `{check.file}` | {check.difference:.2g} |" in card
    state = load_file(exported.folder / "model.safetensors")
    for name, tensor in trained_like().state_dict().items():
        assert torch.equal(state[name], tensor)
    assert json.loads((exported.folder / "config.json").read_text())["random_weights"] is False


@pytest.mark.slow
def test_the_same_export_has_the_same_bytes(exported: Exported, tmp_path: Path) -> None:
    again = export_network(settings(tmp_path, formats=("timm",)))
    for name in again.files.keys() - {"README.md"}:  # which lists the files beside it
        assert (again.folder / name).read_bytes() == (exported.folder / name).read_bytes(), name


@pytest.mark.slow
def test_arch_def_has_all_that_timm_needs(exported: Exported) -> None:
    from functools import partial

    from timm.models._efficientnet_builder import decode_arch_def
    from timm.models.efficientnet import EfficientNet

    told = json.loads((exported.folder / "arch_def.json").read_text())
    assert (told["format"], told["act_layer"], told["round_channels"]) == (1, "silu", False)
    model = EfficientNet(
        decode_arch_def(told["arch_def"]),
        num_classes=told["num_classes"],
        stem_size=told["stem_size"],
        num_features=told["num_features"],
        output_stride=told["output_stride"],
        norm_layer=partial(torch.nn.BatchNorm2d, eps=told["norm_eps"]),
        act_layer=torch.nn.SiLU,
        round_chs_fn=int,
    )
    model.load_state_dict(load_file(exported.folder / "model.safetensors"))


def test_random_weights_are_said_to_be_random(tmp_path: Path) -> None:
    random = export_network(settings(tmp_path, weights=None, formats=("timm",)))
    assert random.files.keys() == FILES - {"model.onnx", "model.pt2"}
    assert random.is_random
    config = json.loads((random.folder / "config.json").read_text())
    assert config["random_weights"] is True
    assert "not trained" in config["weights"]
    card = (random.folder / "README.md").read_text()
    assert "**The weights are random**" in card
    assert "onnxruntime" not in card
    front = yaml.safe_load(card.split("---")[1])
    assert (front["license"], front["library_name"]) == ("apache-2.0", "timm")


def test_a_file_that_computes_something_else_is_an_error_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(network: Network) -> str:
        return model_py(network).replace("0.001", "0.1")

    monkeypatch.setattr(launch, "model_py", wrong)
    with pytest.raises(ExportFailedError, match=r"model\.py: its logits differ .* by"):
        export_network(settings(tmp_path, formats=("timm",)))
    assert {path.name for path in tmp_path.iterdir()} == {
        "small.json", f"{ARCH.id}-0.safetensors",
    }  # fmt: skip


def test_nan_is_no_small_difference() -> None:
    model = trained_like()
    with pytest.raises(ExportFailedError, match="differ"):
        programs.compare("model.onnx", lambda images: model(images) * torch.nan, model, SIZE)
    with pytest.raises(ExportFailedError, match=r"logits \[1, 3\] for \[1, 7\]"):
        programs.compare("model.onnx", lambda images: model(images)[:, :3], model, SIZE)


def test_a_folder_that_holds_something_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = settings(tmp_path, formats=("timm",))
    how.out.mkdir()
    (how.out / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="exists already"):
        export_network(how)
    assert [path.name for path in how.out.iterdir()] == ["mine.txt"]
    with pytest.raises(ConfigError, match="cannot be written"):
        export_network(settings(tmp_path, out=tmp_path / "small.json" / "out"))
    found = programs.find_spec
    monkeypatch.setattr(
        programs, "find_spec", lambda name: None if name == "onnxscript" else found(name)
    )
    with pytest.raises(ConfigError, match=r"needs onnxscript: pip install 'effnas\[export\]'"):
        export_network(settings(tmp_path))


@pytest.mark.slow
def test_an_export_that_is_killed_leaves_no_folder_and_is_done_again(tmp_path: Path) -> None:
    how = settings(tmp_path)
    command = [sys.executable, "-m", "effnas", "export", how.network, "--out", "out"]
    command += ["--formats", "timm"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (tmp_path / ".out.effnas-export" / "model.safetensors").exists():
        assert time.monotonic() < deadline, "the export wrote no weights"
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out").exists()
    export_network(settings(tmp_path, formats=("timm",)))
    assert (tmp_path / "out" / "model.py").exists()
    assert not (tmp_path / ".out.effnas-export").exists()


@pytest.mark.parametrize("stem_stride", [1, 2])
def test_the_exported_stem_has_the_stride_of_the_network(tmp_path: Path, stem_stride: int) -> None:
    arch = replace(ARCH, stem_stride=stem_stride)
    (tmp_path / "net.json").write_text(to_json(arch, image_size=SIZE, num_classes=CLASSES))
    # Compares its logits with those of the network in effnas.
    exported = export_network(
        settings(tmp_path, network=str(tmp_path / "net.json"), weights=None, formats=("timm",))
    )
    assert json.loads((exported.folder / "arch_def.json").read_text())["stem_stride"] == stem_stride
    loaded = load_exported(exported.folder, "exported_stem")
    stem = loaded.get_submodule("conv_stem")(torch.zeros(1, 3, SIZE, SIZE))
    assert stem.shape[-1] == SIZE // stem_stride
    card = (exported.folder / "README.md").read_text()
    assert f"A 3×3 stem of 8 channels and stride {stem_stride}" in card
