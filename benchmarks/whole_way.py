"""The whole pipeline: search, finals, three sizes, export, and loading without effnas.

    python benchmarks/whole_way.py --data cifar10.tar.gz --out runs/whole-way

Runs the commands that a user types, one by one, and times them. At the end a fresh virtual
environment gets torch, timm and onnxruntime, without effnas; there each exported network is loaded
from its `model.py`, by `timm.create_model("local-dir:...")`, and from its ONNX file, and its logits
for random images are compared with those of the network in effnas. Wanted: 60 minutes on two cores,
1e-5 for timm, 1e-4 for ONNX.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import venv
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from effnas.arch.files import load_architecture
from effnas.export.weights import make_model

EFFNAS = [sys.executable, "-m", "effnas"]
SIZES = ("s", "m", "l")
#: What runs in the fresh environment: FOLDER IMAGES LOGITS.
CHECK = """
import importlib.util, sys
import numpy, onnxruntime, timm, torch
assert importlib.util.find_spec("effnas") is None
folder, images, wanted = sys.argv[1], numpy.load(sys.argv[2]), numpy.load(sys.argv[3])
sys.path.insert(0, folder)
import model
with torch.inference_mode():
    own = model.load()(torch.from_numpy(images)).numpy()
    through_timm = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()(
        torch.from_numpy(images)).numpy()
session = onnxruntime.InferenceSession(f"{folder}/model.onnx", providers=["CPUExecutionProvider"])
(onnx,) = session.run(None, {"images": images})
print(*(abs(found - wanted).max() for found in (own, through_timm, onnx)), abs(wanted).max())
"""


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/whole-way"))
    parser.add_argument("--budget", default="16")
    arguments = parser.parse_args()
    out = arguments.out.absolute()
    steps: list[tuple[str, float]] = []

    def run(what: str, command: list[str]) -> str:
        print(f"\n$ {' '.join(command)}", flush=True)
        started = time.perf_counter()
        result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        steps.append((what, time.perf_counter() - started))
        return result.stdout

    search, finals, family = (str(out / name) for name in ("run", "run-finals", "family"))
    run("search", [*EFFNAS, "search", "--space", "v2-cifar", "--data", arguments.data,
                   "--budget", arguments.budget, "--out", search, "--json"])  # fmt: skip
    told = json.loads(
        run("promote", [*EFFNAS, "promote", search, "--top", "3", "--seeds", "3", "--epochs", "6",
                        "--data-share", "0.2", "--test", "--out", finals, "--json"])
    )  # fmt: skip
    base = f"{search}:{told['base']}"
    run("scale", [*EFFNAS, "scale", base, "--family", "v2", "--out", family, "--json"])
    for size in SIZES:
        weights = ["--weights", told["weights"]] if size == "s" else []
        run(f"export {size}", [*EFFNAS, "export", f"{family}/{size}.json", *weights,
                               "--out", str(out / size), "--json"])  # fmt: skip
    python = str(out / "fresh" / "bin" / "python")
    started = time.perf_counter()
    venv.create(out / "fresh", with_pip=True)
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "torch", "timm", "onnxruntime"], check=True
    )
    steps.append(("fresh environment", time.perf_counter() - started))
    differences = Table(title="largest differences of a logit, in the fresh environment")
    for heading in ("member", "model.py", "local-dir:", "ONNX", "largest logit"):
        differences.add_column(heading, justify="right")
    for size in SIZES:
        config = json.loads((out / size / "config.json").read_text())
        pixels = config["pretrained_cfg"].get(
            "test_input_size", config["pretrained_cfg"]["input_size"]
        )
        images = np.random.default_rng(0).uniform(-1, 1, (4, *pixels)).astype(np.float32)
        model = make_model(
            load_architecture(f"{family}/{size}.json"),
            config["num_classes"],
            Path(told["weights"]) if size == "s" else None,
        )
        with torch.inference_mode():
            np.save(out / "logits.npy", model(torch.from_numpy(images)).numpy())
        np.save(out / "images.npy", images)
        found = run(f"load {size}", [python, "-c", CHECK, str(out / size), str(out / "images.npy"),
                                     str(out / "logits.npy")])  # fmt: skip
        differences.add_row(size, *(f"{float(text):.2g}" for text in found.split()))
    table = Table(title="the whole pipeline")
    table.add_column("step")
    table.add_column("seconds", justify="right")
    for what, seconds in (*steps, ("all", sum(seconds for _, seconds in steps))):
        table.add_row(what, f"{seconds:,.0f}")
    screen = Console(width=120)
    screen.print(table)
    screen.print(differences)
    screen.print({name: told[name] for name in ("base", "proxy_correlation", "test")})


if __name__ == "__main__":
    main()
