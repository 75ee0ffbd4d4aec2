"""The most accurate network after a training time: found by a search, or made by hand.

    python benchmarks/training_time.py --data cifar10.tar.gz --time 60s --out runs/training-time

Every cell is one training by `effnas train --train-time T --test`: a network, how it is trained,
and a seed. It is one line of OUT/cells.jsonl, and is not done again: a stopped benchmark continues.

* `found`: `RUN:best` of `effnas search --space small --recipe small --train-time T/4 --budget 60`,
  that is, what learning curves predict to be best after T, trained by its own recipe made longer.
* `a`: a network made by hand, by effnas's default recipe, made short for T.
* `b`: the same by the best recipe of `effnas search --network NAME --recipe small` with 30 trials
  of the same length.
* `own`: the network of the speed record by its own recipe, as near as effnas comes to it.

`--searched 4m` takes what was searched for that T, made longer. What a search costs is a line of
its own. Accuracy is that on the test part, which nothing else reads; without one of such a name it
is the validation part. `--table` prints what there is so far; OUT/accuracy.html draws it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from plotly.colors import qualitative
from plotly.subplots import make_subplots

from effnas.config.text import seconds_of, seconds_text

RECORD = "cifar_speed_record"
#: Made by hand, by timm's names.
HAND_MADE = (
    "resnet10t", "resnet18", "mobilenetv3_small_100", "mobilenetv2_050", "tf_efficientnetv2_b0",
    "regnetx_002", "levit_128s", RECORD,
)  # fmt: skip
TRIALS, RECIPE_TRIALS = 60, 30
#: Of the training images, held out in searches.
HOLDOUT_SHARE = "0.05"
PROGRAM = Path(__file__).with_name("speed_record.py")
#: Recipes of the ways that take none from a search.
RECIPES = {"a": "default", "own": str(PROGRAM.with_suffix(".yaml"))}


def run(*words: str) -> None:
    """Run a command of effnas; what it prints goes on."""
    print("$ effnas", *words, flush=True)
    subprocess.run([sys.executable, str(PROGRAM), *words], check=True)


class Cells:
    """The results, a line each.

    Args:
        folder: Of the results and of all trainings.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._file = folder, folder / "cells.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        lines = self._file.read_text().splitlines() if self._file.exists() else []
        self.all: list[dict[str, Any]] = [json.loads(line) for line in lines]

    def has(self, **key: Any) -> bool:
        """Return whether there is a result with these values."""
        return any(all(one.get(n) == v for n, v in key.items()) for one in self.all)

    def add(self, **cell: Any) -> None:
        """Store a result."""
        self.all.append(cell)
        with self._file.open("a") as file:
            file.write(json.dumps(cell) + "\n")
        print(cell, flush=True)


def search(cells: Cells, data: Path, time_s: float, network: str | None, trials: int) -> Path:
    """Search a network and its recipe, or the recipe of a network; return the run's folder."""
    name, trial_s = network or "found", time_s / 4
    out = cells.folder / f"search-{data.name.split('.')[0]}-{seconds_text(trial_s)}-{name}"
    key = {"kind": "search", "data": data.name, "trial_s": trial_s, "network": name}
    if cells.has(**key):
        return out
    what = ["--network", network] if network else ["--space", "small"]
    backend = ["--backend", "inline"] if network == RECORD else []
    began = time.monotonic()
    run("search", *what, "--recipe", "small", "--data", str(data), "--train-time",
        seconds_text(trial_s), "--fidelity", "none", "--budget", str(trials), "--holdout-share",
        HOLDOUT_SHARE, "--baseline", "none", "--out", str(out), *backend)  # fmt: skip
    cells.add(**key, seconds=round(time.monotonic() - began))
    return out


def train(
    cells: Cells, data: Path, time_s: float, way: str, name: str, network: str, seed: int
) -> None:
    """Train one cell, if it has no result yet."""
    key = {"kind": "training", "data": data.name, "time_s": time_s, "network": name, "way": way,
           "seed": seed}  # fmt: skip
    if cells.has(**key):
        return
    out = cells.folder / f"{data.name.split('.')[0]}-{seconds_text(time_s)}-{name}-{way}-{seed}"
    recipe = ["--recipe", RECIPES[way]] if way in RECIPES else []
    began = time.monotonic()
    try:
        run("train", network, "--data", str(data), "--train-time", seconds_text(time_s), "--test",
            "--seed", str(seed), "--out", str(out), "--no-report", *recipe)  # fmt: skip
    except subprocess.CalledProcessError as error:
        cells.add(**key, failed=error.returncode)
        return
    manifest = json.loads((out / "manifest.json").read_text())
    rows = manifest["progress"]["rows"]
    cells.add(
        **key,
        test=manifest["test"]["accuracy"],
        train_time_s=rows[-1]["train_time_s"],
        epochs=round(manifest["recipe"]["epochs"], 2),
        params=manifest["params"],
        seconds=round(time.monotonic() - began),
    )


def trainings(cells: Cells, *keys: str) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    """Return all trainings that have a result, grouped by some of their values."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for one in cells.all:
        if one["kind"] == "training" and "test" in one:
            groups[tuple(one[key] for key in keys)].append(one)
    return groups


def draw(cells: Cells) -> None:
    """Draw accuracies over training times, a curve for each network and way."""
    colours = qualitative.Plotly
    names = sorted({str(data) for (data,) in trainings(cells, "data")})
    figure = make_subplots(1, max(len(names), 1), subplot_titles=names, shared_yaxes=True)
    lines, shown = sorted(trainings(cells, "network", "way")), set()
    for (data, network, way), found in sorted(trainings(cells, "data", "network", "way").items()):
        times = sorted({one["time_s"] for one in found})
        tests = [[100 * one["test"] for one in found if one["time_s"] == t] for t in times]
        means = [mean(each) for each in tests]
        line = lines.index((network, way))
        figure.add_scatter(
            x=times, y=means, name=f"{network} ({way})", legendgroup=f"{network} ({way})",
            showlegend=(network, way) not in shown,
            line={"width": 4 if way == "found" else 1.5, "color": colours[line % len(colours)]},
            marker={"symbol": line, "size": 9}, mode="lines+markers", col=1 + names.index(data),
            row=1, error_y={"array": [max(e) - m for e, m in zip(tests, means, strict=True)],
                            "arrayminus": [m - min(e) for e, m in zip(tests, means, strict=True)]},
        )  # fmt: skip
        shown.add((network, way))
    ticks = sorted({float(time_s) for (time_s,) in trainings(cells, "time_s")})
    figure.update_xaxes(type="log", title="training time", tickvals=ticks,
                        ticktext=[seconds_text(t) for t in ticks])  # fmt: skip
    figure.update_yaxes(title="test accuracy, %", col=1)
    figure.update_layout(template="plotly_white")
    figure.write_html(cells.folder / "accuracy.html")


def figures(cells: Cells) -> Iterator[str]:
    """Yield the table of all trainings so far, the most accurate first."""
    groups: dict[tuple[str, float], dict[tuple[str, str], list[dict[str, Any]]]] = defaultdict(dict)
    grouped = trainings(cells, "data", "time_s", "network", "way")
    for (data, time_s, network, way), found in grouped.items():
        groups[data, time_s][network, way] = found
    for (data, time_s), rows in sorted(groups.items()):
        yield f"\n{data}, {seconds_text(time_s)} of training"
        yield "| network | recipe | params | epochs | test accuracy | seeds |"
        yield "|---|---|---|---|---|---|"
        for (network, way), found in sorted(
            rows.items(), key=lambda item: -mean(one["test"] for one in item[1])
        ):
            tests = [100 * one["test"] for one in found]
            spread = f" ±{stdev(tests):.1f}" if len(tests) > 1 else ""
            yield (
                f"| {network} | {way} | {found[0]['params'] / 1e6:.2f} M | "
                f"{found[0]['epochs']:.2g} | {mean(tests):.1f}{spread} | {len(tests)} |"
            )
    for one in cells.all:
        if one["kind"] == "search":
            yield (
                f"search {one['network']} on {one['data']}, trials of {one['trial_s']:g} s: "
                f"{one['seconds'] / 60:.0f} min"
            )


def main(argv: Sequence[str] | None = None) -> None:
    """Run the cells that are missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--time", default="60s", help="of the trainings, such as 60s or 4m")
    parser.add_argument("--out", type=Path, default=Path("runs/training-time"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--networks", nargs="*", default=list(HAND_MADE))
    parser.add_argument("--ways", nargs="*", default=["found", "a", "b"],
                        choices=["found", "a", "b", "own"])  # fmt: skip
    parser.add_argument("--best", type=int, default=3, help="of (a), which (b) takes")
    parser.add_argument("--trials", type=int, default=TRIALS, help="of a search for (found)")
    parser.add_argument("--recipe-trials", type=int, default=RECIPE_TRIALS, help="for (b)")
    parser.add_argument("--searched", help="time that searches are for [default: --time]")
    parser.add_argument("--table", action="store_true", help="print what there is, and stop")
    options = parser.parse_args(argv)
    cells, time_s = Cells(options.out), seconds_of(options.time, "time")
    data, searched_s = options.data, seconds_of(options.searched or options.time, "searched")
    if not options.table:
        if "found" in options.ways:
            folder = search(cells, data, searched_s, None, options.trials)
            for seed in range(options.seeds):
                train(cells, data, time_s, "found", "found", f"{folder}:best", seed)
        for way in (each for each in options.ways if each in RECIPES):
            for network in options.networks if way == "a" else [RECORD]:
                for seed in range(options.seeds):
                    train(cells, data, time_s, way, network, network, seed)
        if "b" in options.ways:
            means = {
                network: mean(found)
                for network in options.networks
                if (found := [one["test"] for one in cells.all if one.get("network") == network
                              and one.get("way") == "a" and one.get("time_s") == searched_s
                              and one["data"] == data.name and "test" in one])
            }  # fmt: skip
            for network in sorted(means, key=lambda one: -means[one])[: options.best]:
                folder = search(cells, data, searched_s, network, options.recipe_trials)
                for seed in range(options.seeds):
                    train(cells, data, time_s, "b", network, f"{folder}:best", seed)
    draw(cells)
    print("\n".join(figures(cells)))


if __name__ == "__main__":
    main()
