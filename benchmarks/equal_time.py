"""Do trials of equal training time rank better, and does a search of them beat random search?

    python benchmarks/equal_time.py ranks --data cifar10.tar.gz
    python benchmarks/equal_time.py random --data cifar10.tar.gz

`ranks`: networks of the space `small`, spread by their MACs, are trained for --time (two seeds,
whose mean counts), for a quarter of it, and for four epochs of as many images as cost the same in
all: by the same recipe (`quick`), and by the one that a search without a training time takes
(`default`). Kendall's tau of each of the short trainings with the long ones, and what they cost.

`random`: searches of networks and recipes by the surrogate and at random, of as many trials of
equal time, with three seeds each; the best accuracy on the held-out images after some of them.

Each search is a folder in --out, and is not done again: a stopped benchmark continues.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from math import log
from pathlib import Path
from statistics import mean, stdev

import numpy as np
from scipy.stats import kendalltau

import effnas
from effnas.arch.architecture import Architecture
from effnas.config.text import seconds_of, seconds_text
from effnas.controllers.base import Controller
from effnas.errors import SpaceExhaustedError

NETWORKS, MOST_MACS, DRAWS, EPOCHS = 12, 30e6, 400, 4


class Spread(Controller):
    """Proposes networks of the space that are spread by their MACs; the same in every search."""

    name = "spread"

    def propose(self, rng: np.random.Generator) -> Architecture:
        """Return the next of them."""
        del rng
        found = _spread(self)
        left = [arch for arch in found if arch.id not in self._proposed]
        if not left:
            raise SpaceExhaustedError("all of them are proposed")
        return left[0]


def _spread(controller: Controller) -> list[Architecture]:
    space, rng = controller.space, np.random.default_rng(0)
    drawn = {arch.id: arch for arch in (space.sample(rng) for _ in range(DRAWS))}.values()
    macs = {arch: space.count(arch).macs for arch in drawn}
    ordered = sorted((a for a in macs if macs[a] <= MOST_MACS), key=lambda a: macs[a])
    # By the logarithm: as many small ones as large ones.
    low, high = log(macs[ordered[0]]), log(macs[ordered[-1]])
    wanted = [low + (high - low) * n / (NETWORKS - 1) for n in range(NETWORKS)]
    chosen = (min(ordered, key=lambda a: abs(log(macs[a]) - place)) for place in wanted)
    return list(dict.fromkeys(chosen))


def search(out: Path, *words: str) -> effnas.Run:
    """Run a search, or continue it; return its run."""
    command = ["effnas", "search", "--space", "small", "--baseline", "none", "--no-report",
               "--holdout-share", "0.1", "--out", str(out), *words]  # fmt: skip
    print("$", *command, flush=True)
    subprocess.run([sys.executable, "-m", *command], check=True)
    return effnas.load_run(out)


def ranks(data: str, time_s: float, out: Path) -> None:
    """Print the rank correlations of both kinds of short trainings."""
    found: dict[str, list[dict[str, float]]] = defaultdict(list)
    minutes: dict[str, list[float]] = defaultdict(list)

    def train(way: str, *words: str) -> effnas.Run:
        for seed in (0, 1):
            run = search(
                out / f"ranks-{way.replace(' ', '-')}-{seed}", "--data", data, *words,
                "--controller", f"{__file__}:Spread", "--budget", str(NETWORKS),
                "--seed", str(seed), "--fidelity", "none",
            )  # fmt: skip
            done = [t for t in run.trials if "accuracy" in t.metrics]
            found[way].append({str(t.architecture): t.metrics["accuracy"] for t in done})
            minutes[way] += [(t.duration_s or 0.0) / 60 for t in done]
        return run

    long, short = seconds_text(time_s), seconds_text(time_s / 4)
    train(long, "--recipe", "quick", "--train-time", long)
    share = f"{_share_of_equal_cost(train(short, '--recipe', 'quick', '--train-time', short)):.4f}"
    ways = [short]
    for recipe in ("quick", "default"):
        ways.append(f"{EPOCHS} epochs {recipe}")
        train(ways[-1], "--recipe", recipe, "--epochs", str(EPOCHS), "--reward", "accuracy",
              "--data-share", share)  # fmt: skip
    common = sorted(set.intersection(*(set(one) for each in found.values() for one in each)))
    truth = [mean(one[arch] for one in found[long]) for arch in common]
    again = kendalltau(*([one[arch] for arch in common] for one in found[long])).statistic
    print(f"\n{len(common)} networks; the two seeds of {long} with each other: tau {again:.2f}")
    print(f"| trials | tau with {long}, by seed | minutes a trial |\n|---|---|---|")
    for way in ways:
        taus = (kendalltau([one[a] for a in common], truth).statistic for one in found[way])
        print(f"| {way} | {', '.join(f'{tau:.2f}' for tau in taus)} | {mean(minutes[way]):.2f} |")


def _share_of_equal_cost(run: effnas.Run) -> float:
    """Return the share of the images of which `EPOCHS` epochs take a trial's time on average."""
    images, batch_size = run.train_images, run.recipe.batch_size
    epochs = [
        sum(stage.steps for stage in trial.measurement.stages) * batch_size / images
        for trial in run.trials
        if trial.measurement.stages
    ]
    return min(1.0, 1 / (EPOCHS * mean(1 / each for each in epochs)))


def against_random(data: str, time_s: float, budget: int, seeds: Iterable[int], out: Path) -> None:
    """Print the best accuracy after some trials, of both controllers."""
    marks = [n for n in (10, 20, 30, 40, 60, 100) if n <= budget]
    best: dict[str, list[list[float]]] = {}
    for seed in seeds:
        for controller in ("surrogate", "random"):
            run = search(
                out / f"joint-{controller}-{seed}", "--data", data, "--recipe", "small",
                "--train-time", seconds_text(time_s), "--controller", controller,
                "--budget", str(budget), "--seed", str(seed), "--fidelity", "none",
            )  # fmt: skip
            reached = [max([t.metrics.get("accuracy", 0.0) for t in run.trials if t.number < n])
                       for n in marks]  # fmt: skip
            best.setdefault(controller, []).append(reached)
    print(f"\n| best after N trials of {time_s:g} s |", " | ".join(map(str, marks)), "|")
    print("|---" * (1 + len(marks)) + "|")
    for controller, rows in best.items():
        cells = (f"{100 * mean(c):.1f}" + (f" ±{100 * stdev(c):.1f}" if len(c) > 1 else "")
                 for c in zip(*rows, strict=True))  # fmt: skip
        print(f"| {controller} |", " | ".join(cells), "|")


def main(argv: Sequence[str] | None = None) -> None:
    """Run what is missing, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", choices=["ranks", "random"])
    parser.add_argument("--data", required=True)
    parser.add_argument("--time", help="of the trainings [default: 60s of ranks, 15s of random]")
    parser.add_argument("--budget", type=int, default=60)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/equal-time"))
    given = parser.parse_args(argv)
    time_s = seconds_of(given.time or {"ranks": "60s", "random": "15s"}[given.study], "time")
    if given.study == "ranks":
        ranks(given.data, time_s, given.out)
    else:
        against_random(given.data, time_s, given.budget, given.seeds, given.out)


if __name__ == "__main__":
    main()
