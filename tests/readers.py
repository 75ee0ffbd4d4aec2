"""Every reader of files and texts that others may have written, with good inputs of each."""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from effnas import Architecture, Reward, SearchSpace, load_run
from effnas.arch.files import load_architecture, load_sizes
from effnas.arch.weights import shapes_of
from effnas.cli.folders import read_folder
from effnas.config.catalog import find, names
from effnas.config.expressions import Expression
from effnas.config.recipe_file import RecipeSpace
from effnas.data.loading import load_train_images
from effnas.scaling.family_file import read_family
from effnas.scaling.rules import ScalingRules
from effnas.timing.command import _seconds
from effnas.timing.profile import DeviceProfile
from effnas.timing.table import StepTimeTable
from effnas.trials.constraints import Constraints
from effnas.trials.objectives import Objectives
from effnas.workflows.finals.evaluate_test import stored_test
from effnas.workflows.finals.stored import load_finals
from effnas.workflows.train.folder import read_log

GOLDEN = Path(__file__).parent / "golden" / "folders"

Read = Callable[[Path], object]


@dataclass(frozen=True)
class Reader:
    """What is read, and good inputs.

    Attributes:
        read: Takes the file.
        inputs: Good ones.
        name: Of the file.
        around: The folder of `golden/folders` that it is in.
    """

    read: Read
    inputs: list[bytes]
    name: str = "input"
    around: str = ""


def text_of(read: Callable[[str], object]) -> Read:
    return lambda path: read(path.read_bytes().decode(errors="surrogateescape"))


def shipped(kind: Any) -> list[bytes]:
    return [find(kind, name).text.encode() for name in names(kind)]


def used_space(path: Path) -> None:
    space = SearchSpace.load(str(path))
    assert SearchSpace.parse(space.to_text()) == space
    rng = np.random.default_rng(0)
    arch = space.sample(rng)
    assert space.contains(arch)
    assert space.summary() if hasattr(space, "summary") else space.size
    space.mutate(arch, rng)


def used_run(path: Path) -> None:
    run = load_run(path.parent)
    ranked = run.ranking(run.known_reward)
    assert len(list(ranked)) <= len(run.trials)
    assert len(run.trials.to_pandas()) == len(run.trials)
    read_folder(path.parent)


def folder(name: str, file: str, read: Read) -> Reader:
    return Reader(read, [(GOLDEN / name / file).read_bytes()], file, name)


def kind_of(path: Path) -> object:
    return read_folder(path.parent)


def image(kind: str) -> bytes:
    out = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (9, 12, 3), dtype=np.uint8)
    Image.fromarray(noise).save(out, kind)
    return out.getvalue()


def archive(kind: str = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=kind) as tar:  # type: ignore[call-overload]
        for label in ("cat", "dog"):
            for n in range(3):
                member = tarfile.TarInfo(f"train/{label}/{n}.png")
                member.size = len(image("PNG"))
                tar.addfile(member, io.BytesIO(image("PNG")))
    return out.getvalue()


def load_images(path: Path) -> object:
    return load_train_images(str(path), image_size=8, eval_image_size=8, minival_share=0.4)


def image_in_folder(path: Path) -> object:
    data = path.parent / "data"
    for label in ("cat", "dog"):
        (data / label).mkdir(parents=True, exist_ok=True)
        for n in range(4):
            (data / label / f"{n}.png").write_bytes(image("PNG"))
    shutil.copy(path, data / "dog" / "0.png")
    return load_images(data)


TABLE = b"image,labels,part\n" + b"".join(
    b"%d.png,%s,train\n" % (n, b"ab"[n % 2 :][:1]) for n in range(8)
)

READERS: dict[str, Reader] = {
    "space": Reader(used_space, shipped("search_spaces"), "space.yaml"),
    "recipe": Reader(lambda p: RecipeSpace.load(p), shipped("recipes"), "recipe.yaml"),
    "rules": Reader(lambda p: ScalingRules.load(str(p)), shipped("scaling_rules"), "rules.yaml"),
    "reward": Reader(lambda p: Reward.read(str(p)), shipped("rewards"), "reward.yaml"),
    "expression": Reader(
        text_of(lambda text: Reward.read(text).score({"accuracy": 0.5, "step_time": 1.0,
                                                      "params_ratio": 2.0, "params": 1e6})),
        [b"A * S^-0.07 * P^-0.05", b"min(A, 0.9) if S < 1.2 else log(A) - 2 * S"],
    ),
    "condition": Reader(
        text_of(lambda text: Expression.parse_condition(text, known={"params", "stage1.r"})),
        [b"params <= 5e6 and (stage1.r == 1 or not stage1.r < 2)"],
    ),
    "constraint": Reader(
        text_of(lambda text: Constraints.parse([text], SearchSpace.load("tiny"))),
        [b"params <= 5e6", b"step_time <= 0.8 or A > 0.5"],
    ),
    "objectives": Reader(text_of(Objectives.parse), [b"accuracy:max,step_time:min"]),
    "blocks": Reader(
        text_of(lambda text: str(Architecture.parse(text))),
        [b"fused_r2_k3_s1_e1_c24 mbconv_r4_k3_s2_e4_c160_se0.25 conv_r1_k3_s1_c16"],
    ),
    "architecture": Reader(
        lambda p: (load_architecture(p), load_sizes(p)), [(GOLDEN / "net.json").read_bytes()]
    ),
    "profile": Reader(
        lambda p: DeviceProfile.load(p).description, [(GOLDEN / "profile.json").read_bytes()]
    ),
    "table": Reader(
        lambda p: StepTimeTable.load(p, SearchSpace.load(str(GOLDEN / "small.yaml"))),
        [(GOLDEN / "board.csv").read_bytes()], "board.csv",
    ),
    "command": Reader(text_of(_seconds), [b"0.5\n", b'text\n{"step_time_s": 0.5}\n']),
    "run": folder("run", "manifest.json", used_run),
    "trials": folder("objectives", "trials.jsonl", used_run),
    "rungs": folder("rungs", "trials.jsonl", used_run),
    "finals": folder("run-finals", "manifest.json", kind_of),
    "finals' results": folder("run-finals", "trainings.jsonl", lambda p: load_finals(p.parent)),
    "finals' test": folder(
        "run-finals", "test.json", lambda p: (stored_test(p.parent), kind_of(p))
    ),
    "training": folder("training", "manifest.json", kind_of),
    "training's log": folder("training", "log.csv", lambda p: (read_log(p.parent), kind_of(p))),
    "proxy": folder("proxy", "manifest.json", kind_of),
    "proxy's trainings": folder("proxy", "trainings.jsonl", kind_of),
    "scaling": folder("coefficients", "manifest.json", kind_of),
    "scaling's trainings": folder("layers", "trainings.jsonl", kind_of),
    "family": folder("family", "family.json", lambda p: (read_family(p), kind_of(p))),
    "weights": Reader(
        shapes_of, [(GOLDEN / "training" / "best.safetensors").read_bytes()], "a.safetensors"
    ),
    "table of images": Reader(load_images, [TABLE], "images.csv"),
    "archive": Reader(load_images, [archive(), archive("w:gz")], "images.tar"),
    "image": Reader(
        image_in_folder, [image(kind) for kind in ("PNG", "JPEG", "BMP", "GIF", "WEBP")]
    ),
}  # fmt: skip


def placed(reader: Reader, folder: Path) -> Path:
    """Put what is around the input of a reader into a folder; return where the input belongs."""
    if reader.around:
        for name in {"run", reader.around}:
            shutil.copytree(GOLDEN / name, folder / name)
        return folder / reader.around / reader.name
    if reader.name == "images.csv":
        for n in range(8):
            (folder / f"{n}.png").write_bytes(image("PNG"))
    return folder / reader.name


def places(tree: Any) -> list[tuple[Any, Any]]:
    """All values in a tree: the container, and the key there."""
    found, left = [], [tree]
    while left:
        node = left.pop()
        keys = list(node) if isinstance(node, dict) else range(len(node))
        found += [(node, key) for key in keys]
        left += [node[key] for key in keys if isinstance(node[key], (dict, list))]
    return found
