"""Progressive learning with adaptive regularisation against what the paper holds it against.

    python benchmarks/progressive.py train regimes --data tiny-imagenet-20.tar.gz --jobs 8
    python benchmarks/progressive.py train sizes --data tiny-imagenet-20.tar.gz
    python benchmarks/progressive.py train networks --data cifar10.tar.gz
    python benchmarks/progressive.py times --data tiny-imagenet-20.tar.gz --device cpu
    python benchmarks/progressive.py show

`regimes`: each regime at equal epochs (Tables 12 and 13 of Tan & Le 2021). `sizes`: RandAugment's
magnitude against the image size, both fixed (Table 5). `networks`: a searched network and others of
equal params, accuracy over training seconds. `times`: one short training of each network with fixed
and with growing images, for their seconds alone. Every training is one line in `--out`; what is
there is not trained again. `show` prints the tables, and writes the figure beside it.

Accuracy is that of the last epoch's average of weights on the test part of the data (else its
validation part); all training images are trained on, and none chooses an epoch.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
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
#: Blocks, or a name of timm's; stem and head.
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
GRID = {"sizes": (32, 48, 64), "magnitudes": (5, 10, 15)}


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
        """Tells it from others."""
        return f"{self.kind} {self.network} {self.arm} {self.seed}"


def arms_of(kind: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield the network, the name and the settings of what a part of the benchmark compares."""
    if kind == "networks":
        yield from ((network, "curve", {}) for network in ("searched", *LIKE))
    elif kind == "sizes":
        for size in GRID["sizes"]:
            for magnitude in GRID["magnitudes"]:
                yield (
                    "EfficientNetV2-B0-like",
                    f"{size} {magnitude}",
                    {
                        "regime": "fixed",
                        "image_size": [size, size],
                        "eval_image_size": size,
                        "randaugment": [magnitude, magnitude],
                    },
                )
    else:
        regimes = REGIMES if kind == "regimes" else ("fixed", "progressive-adaptive")
        for network in NETWORKS:
            yield from ((network, regime, {"regime": regime}) for regime in regimes)
        if kind == "regimes":
            for regime in RANDOM_REGIMES:
                yield "EfficientNetV2-B0-like", regime, {"regime": regime}


def runs_of(kind: str, seeds: Sequence[int]) -> Iterator[Run]:
    """Yield the trainings of a part of the benchmark, one seed after the other."""
    for seed in seeds:
        for network, arm, settings in arms_of(kind):
            yield Run(kind=kind, network=network, arm=arm, seed=seed, settings=settings)


def train(run: Run, arguments: argparse.Namespace) -> dict[str, Any]:
    """Do a training; return its line."""
    from effnas.runtime import settle_process

    settle_process()
    from effnas.progressive import TrainSettings, launch_training
    from effnas.progressive.recipe import STRENGTHS, TrainingRecipe
    from effnas.scaling import Ramp

    recipe = TrainingRecipe.load(arguments.recipe).overridden(
        epochs=arguments.epochs, batch_size=arguments.batch_size
    )
    changes = {
        name: Ramp(*value) if name in STRENGTHS else tuple(value) if name == "image_size" else value
        for name, value in run.settings.items()
    }
    minival = 0.05 if run.kind == "networks" else 0.0
    recipe = replace(recipe, minival_share=minival, **changes)
    if run.kind == "times":
        recipe = replace(recipe, warmup_epochs=0)
    with tempfile.TemporaryDirectory() as folder:
        network = Path(folder, "network.json")
        write_network(run.kind, run.network, network, arguments)
        out = Path(folder, "training")
        name = NETWORKS.get(run.network, ("", 0, 0))
        report = launch_training(
            TrainSettings(
                network=str(network) if network.exists() else name[0],
                data=str(arguments.data),
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
        "epochs": len(report.progress.rows),
        "params": report.plan.params,
        "accuracy": report.test.accuracy if report.test else None,
        "train_time_s": report.progress.train_time_s,
        "stage_times_s": report.progress.stage_times_s,
        "forecast_s": list(report.plan.forecast.stage_times_s),
        "stages": [asdict(stage) for stage in report.plan.stages],
        "curve": [[row.train_time_s, row.accuracy, row.train_loss] for row in report.progress.rows],
        "execution": str(report.plan.execution),
        "hardware": report.plan.hardware,
        "recipe": report.plan.recipe.to_dict(),
    }


class _Silent:
    """Shows nothing."""

    def preparing(self, what: str) -> None: ...
    def planned(self, plan: object) -> None: ...
    def stepped(self, step: int, remaining_s: float) -> None: ...
    def epoch_ended(self, row: object) -> None: ...


def write_network(kind: str, name: str, file: Path, arguments: argparse.Namespace) -> None:
    """Write the architecture file of a network, unless timm knows it by its name."""
    from effnas.architecture import Architecture
    from effnas.architecture.files import to_json
    from effnas.counts import count

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
    """Return a network whose widths, all scaled alike, give the nearest number of params.

    Channels are multiples of 4, and the head is scaled with them.
    """
    from effnas.architecture import Architecture
    from effnas.counts import count

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
    """Return what is there, by key."""
    if not out.exists():
        return {}
    found = [json.loads(line) for line in out.read_text().splitlines()]
    return {Run(**{k: line[k] for k in Run.__dataclass_fields__}).key: line for line in found}


def train_all(kind: str, arguments: argparse.Namespace) -> None:
    """Do what is missing: one after the other, or `--jobs` at a time in processes of their own."""
    there = lines(arguments.out)
    missing = [run for run in runs_of(kind, range(arguments.seeds)) if run.key not in there]

    def keep(run: Run, line: str) -> None:
        with arguments.out.open("a") as file:
            file.write(line + "\n")
        found = json.loads(line)
        text = f"{found['accuracy']}, {found['train_time_s']:.1f} s, {found['execution']}"
        print(f"{run.key}: {text}", flush=True)

    def apart(run: Run) -> None:
        command = [sys.executable, __file__, *sys.argv[1:], "--only", json.dumps(asdict(run))]
        # A folder of its own for the lock of the device, which would have them wait for each other.
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
        print("\n| RandAugment |" + "".join(f" {size} px |" for size in GRID["sizes"]))
        print("|---" * (len(GRID["sizes"]) + 1) + "|")
        for magnitude in GRID["magnitudes"]:
            cells = [of("sizes", "EfficientNetV2-B0-like", f"{size} {magnitude}")
                     for size in GRID["sizes"]]  # fmt: skip
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
                      f"{fmean(one['train_time_s'] for one in mine):.1f} |")  # fmt: skip
        draw({name: of("networks", name, "curve") for name in ("searched", *LIKE)}, out)


def draw(curves: dict[str, list[dict[str, Any]]], out: Path) -> None:
    """Write the figure of accuracy over training seconds, each point a mean over seeds."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for name, mine in curves.items():
        points = list(zip(*(one["curve"] for one in mine), strict=True))
        figure.add_scatter(
            name=name,
            x=[fmean(point[0] for point in each) for each in points],
            y=[100 * fmean(point[1] for point in each) for each in points],
            error_y={"array": [100 * stdev([p[1] for p in each]) if len(each) > 1 else 0
                               for each in points], "thickness": 1},
            mode="lines+markers",
        )  # fmt: skip
    figure.update_layout(
        title="CIFAR-10: accuracy on held-out images over seconds of training (mean of seeds)",
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
        train_all(arguments.kind or "times", arguments)


if __name__ == "__main__":
    main()
