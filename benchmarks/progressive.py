"""Progressive learning with adaptive regularization against the paper's alternatives.

    python benchmarks/progressive.py train regimes --data tiny-imagenet-20.tar.gz --jobs 8
    python benchmarks/progressive.py train sizes --data cifar10.tar.gz --network searched
    python benchmarks/progressive.py train networks --data cifar10.tar.gz --recipe cifar
    python benchmarks/progressive.py times --data tiny-imagenet-20.tar.gz --device cpu
    python benchmarks/progressive.py show

`regimes`: each regime at equal epochs (Tables 12 and 13 of Tan & Le 2021). `sizes`: RandAugment's
magnitude against the image size, both fixed, with nothing else against overfitting (Table 5).
`networks`: a searched network and others of equal params, accuracy over training seconds. `times`:
one short training of each network with fixed and with growing images, for their seconds alone.
Every training is one line in `--out`; those that are there are not repeated. `--images` trains on
fewer images, equally many of each class. `show` prints the tables, and writes the figure beside it.

Accuracy is that of the last epoch's average of weights on the test part of the data (else its
validation part); all training images are trained on, and none chooses an epoch.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from statistics import fmean, median, stdev
from typing import Any

#: What a search of 60 trials in the space v2-cifar found best on an NVIDIA H100 (README).
SEARCHED = (
    "fused_r1_k3_s1_e6_c16 fused_r1_k3_s2_e6_c24 fused_r1_k3_s2_e1_c48 fused_r1_k5_s1_e1_c64 "
    "fused_r1_k5_s2_e1_c96"
)
#: EfficientNetV2-B0 at half its width, with strides for images of 32 to 64 px.
V2_B0 = (
    "fused_r1_k3_s1_e1_c8 fused_r2_k3_s1_e4_c16 fused_r2_k3_s2_e4_c24 "
    "mbconv_r3_k3_s2_e4_c48_se0.25 mbconv_r5_k3_s1_e6_c56_se0.25 mbconv_r8_k3_s2_e6_c96_se0.25"
)
#: Blocks, or a timm name; stem and head.
NETWORKS = {
    "searched": (SEARCHED, 16, 512),
    "EfficientNetV2-B0-like": (V2_B0, 16, 640),
    "ResNet-10": ("resnet10t", 0, 0),
}
#: Networks whose widths are to be scaled: blocks with strides for 32 px, stem and head.
LIKE = {
    "MobileNetV2-like": (
        "mbconv_r1_k3_s1_e1_c16 mbconv_r2_k3_s1_e6_c24 mbconv_r3_k3_s2_e6_c32 "
        "mbconv_r4_k3_s2_e6_c64 mbconv_r3_k3_s1_e6_c96 mbconv_r3_k3_s2_e6_c160 "
        "mbconv_r1_k3_s1_e6_c320", 32, 1280),
    "EfficientNet-B0-like": (
        "mbconv_r1_k3_s1_e1_c16_se0.25 mbconv_r2_k3_s1_e6_c24_se0.25 mbconv_r2_k5_s2_e6_c40_se0.25 "
        "mbconv_r3_k3_s2_e6_c80_se0.25 mbconv_r3_k5_s1_e6_c112_se0.25 "
        "mbconv_r4_k5_s2_e6_c192_se0.25 mbconv_r1_k3_s1_e6_c320_se0.25", 32, 1280),
    "EfficientNetV2-B0-like": (
        "fused_r1_k3_s1_e1_c16 fused_r2_k3_s1_e4_c32 fused_r2_k3_s2_e4_c48 "
        "mbconv_r3_k3_s2_e4_c96_se0.25 mbconv_r5_k3_s1_e6_c112_se0.25 "
        "mbconv_r8_k3_s2_e6_c192_se0.25", 32, 1280),
}  # fmt: skip
REGIMES = ("fixed", "progressive", "progressive-adaptive")
RANDOM_REGIMES = ("random-size", "random-size-adaptive")


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training.

    Attributes:
        kind: What it is for.
        network: Its name.
        arm: What is compared.
        seed: Of the training.
        settings: What differs from the recipe: `regime`, `image_size`, strengths.
    """

    kind: str
    network: str
    arm: str
    seed: int
    settings: dict[str, Any]

    @property
    def key(self) -> str:
        """Identifies the training."""
        return f"{self.kind} {self.network} {self.arm} {self.seed}"


def arms_of(arguments: argparse.Namespace) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield the network, the name and the settings of a part of the benchmark."""
    kind = arguments.kind
    if kind == "networks":
        yield from ((network, "curve", {}) for network in ("searched", *LIKE))
    elif kind == "sizes":
        alone = {"regime": "fixed", "dropout": [0, 0], "mixup": [0, 0], "drop_path": [0, 0]}
        for size in arguments.sizes:
            for magnitude in arguments.magnitudes:
                fixed = {"image_size": [size, size], "eval_image_size": size}
                changed = {"randaugment": [magnitude, magnitude]}
                yield arguments.network[0], f"{size} {magnitude}", {**alone, **fixed, **changed}
    else:
        regimes = REGIMES if kind == "regimes" else ("fixed", "progressive-adaptive")
        for network in arguments.network:
            yield from ((network, regime, {"regime": regime}) for regime in regimes)
        if kind == "regimes" and arguments.random:
            for network in arguments.network:
                yield from ((network, regime, {"regime": regime}) for regime in RANDOM_REGIMES)


def runs_of(arguments: argparse.Namespace) -> Iterator[Run]:
    """Yield the trainings of a part of the benchmark, one seed after the other."""
    for seed in range(arguments.seeds):
        for network, arm, settings in arms_of(arguments):
            yield Run(kind=arguments.kind, network=network, arm=arm, seed=seed, settings=settings)


def images_of(arguments: argparse.Namespace) -> Path:
    """Return what to train on: the data, or a folder beside `--out` with fewer training images."""
    data: Path = arguments.data
    if arguments.images is None:
        return data
    name = data.name.partition(".")[0]
    folder: Path = arguments.out.with_name(f"{name}-{arguments.images}")
    if folder.exists():
        return folder
    scratch = folder.with_name(f"{folder.name}.partial")
    with tarfile.open(data) as archive:
        files = [(one, PurePosixPath(one.name)) for one in archive if one.isfile()]
        train = {path.parts[1] for _, path in files if path.parts[0] == "train"}
        written: Counter[str] = Counter()
        for file, path in files:
            if path.parts[0] == "train":
                if written[path.parts[1]] == arguments.images // len(train):
                    continue
                written[path.parts[1]] += 1
            source = archive.extractfile(file)
            assert source is not None
            (scratch / path.parent).mkdir(parents=True, exist_ok=True)
            (scratch / path).write_bytes(source.read())
    return scratch.rename(folder)


def train(run: Run, arguments: argparse.Namespace) -> dict[str, Any]:
    """Do a training; return its line."""
    from effnas.timing.runtime import configure_process

    configure_process()
    from effnas.config.recipe import STRENGTHS
    from effnas.config.recipe_file import load_recipe
    from effnas.config.regularization import Ramp
    from effnas.workflows.train.launch import launch_training
    from effnas.workflows.train.settings import TrainSettings

    recipe = load_recipe(arguments.recipe).overridden(batch_size=arguments.batch_size)
    if arguments.epochs is not None:  # the strengths that are compared stay as they are
        recipe = replace(recipe, epochs=arguments.epochs, least_steps=0)
    changes = {
        name: Ramp(*value) if name in STRENGTHS else tuple(value) if name == "image_size" else value
        for name, value in run.settings.items()
    }
    minival = 0.05 if run.kind == "networks" else 0.0
    recipe = replace(recipe, holdout_share=minival, **changes)
    if run.kind == "times":
        recipe = replace(recipe, warmup_epochs=0)
    data = images_of(arguments)
    with tempfile.TemporaryDirectory() as folder:
        network = Path(folder, "network.json")
        write_network(run.kind, run.network, network, arguments)
        out = Path(folder, "training")
        name = NETWORKS.get(run.network, ("", 0, 0))
        report = launch_training(
            TrainSettings(
                network=str(network) if network.exists() else name[0],
                data=str(data),
                recipe=recipe,
                out=out,
                seed=run.seed,
                device=arguments.device,
                threads=arguments.threads,
                test=run.kind != "times",
            ),
            _Silent(),
        )
    assert report is not None
    return {
        **asdict(run),
        "data": data.name,
        "epochs": len(report.progress.rows),
        "params": report.plan.manifest.params,
        "accuracy": report.test.accuracy if report.test else None,
        "train_time_s": report.progress.train_time_s,
        "stage_times_s": report.progress.stage_times_s,
        "forecast_s": list(report.plan.manifest.forecast.stage_times_s),
        "stages": [asdict(stage) for stage in report.plan.manifest.stages],
        "curve": [[row.train_time_s, row.accuracy, row.train_loss] for row in report.progress.rows],
        "execution": str(report.plan.manifest.execution),
        "hardware": report.plan.manifest.hardware,
        "recipe": report.plan.manifest.recipe.to_dict(),
    }


class _Silent:
    """Shows nothing."""

    def preparing(self, what: str) -> None: ...
    def planned(self, plan: object) -> None: ...
    def stepped(self, step: int, remaining_s: float) -> None: ...
    def epoch_ended(self, row: object) -> None: ...


def write_network(kind: str, name: str, file: Path, arguments: argparse.Namespace) -> None:
    """Write the architecture file of a network, unless it is a timm model."""
    from effnas.arch.architecture import Architecture
    from effnas.arch.counts import count
    from effnas.arch.files import to_json

    if kind == "networks" and name in LIKE:
        blocks, stem, head = arguments.searched or SEARCHED, 16, 512
        searched = Architecture.parse(blocks, stem=stem, head=head)
        wanted = count(searched, 32, 10).params
        arch = scaled_to(wanted, *LIKE[name])
    else:
        blocks, stem, head = NETWORKS[name]
        if not stem:
            return
        if name == "searched" and arguments.searched:
            blocks = arguments.searched
        arch = Architecture.parse(blocks, stem=stem, head=head)
    file.write_text(to_json(arch))


def scaled_to(params: int, blocks: str, stem: int, head: int) -> Any:
    """Return a network with all widths scaled alike to the nearest number of params.

    Channels are multiples of 4, and the head is scaled with them.
    """
    from effnas.arch.architecture import Architecture
    from effnas.arch.counts import count

    base = Architecture.parse(blocks, stem=stem, head=head)

    def width(channels: int, factor: float) -> int:
        return max(4, 4 * round(channels * factor / 4))

    candidates = []
    for step in range(20, 401):
        factor = step / 400
        stages = tuple(replace(stage, c=width(stage.c, factor)) for stage in base.stages)
        candidates.append(Architecture(stages, stem=width(stem, factor), head=width(head, factor)))
    return min(candidates, key=lambda arch: abs(count(arch, 32, 10).params - params))


def lines(out: Path) -> dict[str, dict[str, Any]]:
    """Return the stored trainings, by key."""
    if not out.exists():
        return {}
    found = [json.loads(line) for line in out.read_text().splitlines()]
    return {Run(**{k: line[k] for k in Run.__dataclass_fields__}).key: line for line in found}


def train_all(arguments: argparse.Namespace) -> None:
    """Do the missing trainings: one by one, or `--jobs` at a time in processes of their own."""
    images_of(arguments)
    there = lines(arguments.out)
    missing = [run for run in runs_of(arguments) if run.key not in there]

    def keep(run: Run, line: str) -> None:
        with arguments.out.open("a") as file:
            file.write(line + "\n")
        found = json.loads(line)
        text = f"{found['accuracy']}, {found['train_time_s']:.1f} s, {found['execution']}"
        print(f"{run.key}: {text}", flush=True)

    def apart(run: Run) -> None:
        command = [sys.executable, __file__, *sys.argv[1:], "--only", json.dumps(asdict(run))]
        # A folder of its own for the lock of the device, so that they do not wait for each other.
        with tempfile.TemporaryDirectory() as folder:
            ended = subprocess.run(
                command,
                capture_output=True,
                text=True,
                check=False,
                env={**os.environ, "TMPDIR": folder},
            )
        if ended.returncode:
            print(f"{run.key}: {ended.stderr[-2000:]}", file=sys.stderr, flush=True)
        else:
            keep(run, ended.stdout.splitlines()[-1])

    if arguments.jobs == 1:
        for run in missing:
            keep(run, json.dumps(train(run, arguments)))
    else:  # their seconds mean nothing then
        with ThreadPoolExecutor(arguments.jobs) as pool:
            list(pool.map(apart, missing))


def spread(values: Sequence[float]) -> str:
    """Return mean and standard deviation of shares, in percent."""
    deviation = f" ± {100 * stdev(values):.2f}" if len(values) > 1 else ""
    return f"{100 * fmean(values):.2f}{deviation}"


def show(out: Path) -> None:
    """Print the tables, and write the figure."""
    found = list(lines(out).values())

    def of(kind: str, network: str, arm: str) -> list[dict[str, Any]]:
        return [one for one in found
                if (one["kind"], one["network"], one["arm"]) == (kind, network, arm)]  # fmt: skip

    if any(one["kind"] == "regimes" for one in found):
        print(
            "| network | regime | accuracy % | against fixed | seconds of training, short | saved |"
        )
        print("|---|---|---|---|---|---|")
    for network in NETWORKS:
        fixed = of("regimes", network, "fixed")
        for regime in (*REGIMES, *RANDOM_REGIMES):
            mine = of("regimes", network, regime)
            if not mine or not fixed:
                continue
            accuracies = [one["accuracy"] for one in mine]
            gain = 100 * (fmean(accuracies) - fmean(one["accuracy"] for one in fixed))
            times = [of("times", network, one) for one in ("fixed", regime)]
            seconds, saved = "", ""
            if all(times):
                full, less = (fmean(t["train_time_s"] for t in each) for each in times)
                seconds, saved = f"{less:.0f}", f"{1 - less / full:.0%}"
            print(f"| {network} | {regime} | {spread(accuracies)} | {gain:+.2f} | {seconds} | "
                  f"{saved} |")  # fmt: skip
    if any(one["kind"] == "sizes" for one in found):
        arms = [tuple(map(int, one["arm"].split())) for one in found if one["kind"] == "sizes"]
        network = next(one["network"] for one in found if one["kind"] == "sizes")
        sizes, magnitudes = (sorted(set(each)) for each in zip(*arms, strict=True))
        print(f"\n| RandAugment, {network} |" + "".join(f" {size} px |" for size in sizes))
        print("|---" * (len(sizes) + 1) + "|")
        for magnitude in magnitudes:
            cells = [of("sizes", network, f"{size} {magnitude}") for size in sizes]
            texts = [spread([one["accuracy"] for one in cell]) if cell else "-" for cell in cells]
            print(f"| {magnitude} | " + " | ".join(texts) + " |")
    for one in found:
        if one["kind"] == "times":
            expected, took = sum(one["forecast_s"]), one["train_time_s"]
            print(f"\nforecast, {one['network']}, {one['arm']}: {expected:.0f} s, measured "
                  f"{took:.0f} s ({expected / took - 1:+.0%})")  # fmt: skip
    if any(one["kind"] == "networks" for one in found):
        print("\n| network | params | accuracy % | seconds of training |\n|---|---|---|---|")
        for network in ("searched", *LIKE):
            mine = of("networks", network, "curve")
            if mine:
                print(f"| {network} | {mine[0]['params']:,} | "
                      f"{spread([one['accuracy'] for one in mine])} | "
                      f"{median(one['train_time_s'] for one in mine):.1f} |")  # fmt: skip
        draw({name: of("networks", name, "curve") for name in ("searched", *LIKE)}, out)


def draw(curves: dict[str, list[dict[str, Any]]], out: Path) -> None:
    """Write the figure of accuracy (mean of seeds) over training seconds (their median)."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for name, mine in curves.items():
        points = list(zip(*(one["curve"] for one in mine), strict=True))
        figure.add_scatter(
            name=name,
            x=[median(point[0] for point in each) for each in points],
            y=[100 * fmean(point[1] for point in each) for each in points],
            error_y={"array": [100 * stdev([p[1] for p in each]) if len(each) > 1 else 0
                               for each in points], "thickness": 1},
            mode="lines+markers",
        )  # fmt: skip
    figure.update_layout(
        title="CIFAR-10: accuracy on held-out images (mean ± deviation) over seconds (median)",
        xaxis_title="seconds of training",
        yaxis_title="accuracy %",
        template="plotly_white",
    )
    figure.write_html(out.with_suffix(".html"))


def main() -> None:
    """Train, or show what was trained."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["train", "times", "show"])
    parser.add_argument("kind", nargs="?", choices=["regimes", "sizes", "networks"])
    parser.add_argument("--network", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--random", action="store_true", help="random sizes too")
    parser.add_argument("--sizes", nargs="+", type=int, default=[32, 48, 64])
    parser.add_argument("--magnitudes", nargs="+", type=int, default=[1, 5, 10, 15])
    parser.add_argument("--images", type=int, help="training images")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--recipe", default="tiny")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--searched", help="blocks of the searched network; stem 16, head 512")
    parser.add_argument("--out", type=Path, default=Path("progressive.jsonl"))
    parser.add_argument("--only", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(train(Run(**json.loads(arguments.only)), arguments)))
    elif arguments.what == "show":
        show(arguments.out)
    else:
        arguments.kind = arguments.kind or "times"
        train_all(arguments)


if __name__ == "__main__":
    main()
