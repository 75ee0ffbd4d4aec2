"""Retargeting a finished search to another accelerator, on Accel-NASBench.

    python benchmarks/retarget.py --data accel-nasbench.tar.gz --seeds 0:5 --out retarget.jsonl
    python benchmarks/retarget.py --data accel-nasbench.tar.gz --seeds 5:20 --out retarget.jsonl
    python benchmarks/retarget.py --data accel-nasbench.tar.gz --seeds 5 --table --out table.jsonl

The first two run some seeds each, add to the file, and print the tables of all that is in it. All
their figures, also that of the table's best network, come from `accel_nasbench.Simulation`, so both
sides of a comparison have the same values. With --table nothing is simulated: the finished
search is 200 networks of the table drawn at random, only the table's networks may be trained, and
all values are the table's own; 49 networks that lack a value on some device are left out.

Wanted, relative to the table's best: a reward within 0.3 % with no new training and 50 timings, and
within 0.1 % with 20 new trainings.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from accel_nasbench import DEVICES, SPACE, AccelNasBench, Simulation, params_ratio
from effnas import Architecture, Reward, Search, Trials
from effnas.workflows.retarget.retargeting import Retargeting

REWARD = Reward.load("v2")
TRIALS = 200
TIMINGS = 50
TRAININGS = 20
#: Column -> what is printed above it, and the regret that is wanted, in per cent.
COLUMNS = {
    "kept": ("parent's best kept", None),
    "parent": ("best of the parent's 200", None),
    "timed": (f"{TIMINGS} timings", 0.3),
    "trained": (f"and {TRAININGS} trainings", 0.1),
    "scratch": (f"search from scratch, {TRIALS} trainings", None),
}


class Target:
    """Rewards on one device, and how far they are below the table's best."""

    def __init__(self, values: Simulation | TableValues, device: str) -> None:
        self.device = device
        self._values = values
        is_table = isinstance(values, TableValues)
        rivals = values.feasible if is_table else values.table.architectures
        self._best = self.rewards(rivals).max()

    def rewards(self, archs: Sequence[Architecture]) -> np.ndarray:
        """Return the reward of N networks, [N]."""
        accuracy = self._values.accuracy(archs)
        step_time = self._values.step_time(self.device, archs)
        return reward_v2(accuracy, step_time, params_ratio(archs))

    def regret(self, archs: Sequence[Architecture]) -> float:
        """Return how far the best of `archs` is below the table's best, in per cent of the latter.

        Negative where it is better.
        """
        return float(100 * (1 - self.rewards(archs).max() / self._best))


class TableValues:
    """What `Simulation` gives, as the table has it; for its own networks only."""

    def __init__(self, table: AccelNasBench) -> None:
        self.table = table
        self._rows = {arch: n for n, arch in enumerate(table.architectures)}

    def accuracy(self, archs: Sequence[Architecture]) -> np.ndarray:
        """Return accuracies, 0 to 1, of N networks, [N]."""
        return self.table.accuracy[[self._rows[arch] for arch in archs]]

    def step_time(self, device: str, archs: Sequence[Architecture]) -> np.ndarray:
        """Return S of N networks, [N]; NaN where there is none."""
        return self.table.step_time(device)[[self._rows[arch] for arch in archs]]

    def metrics(self, device: str, arch: Architecture) -> dict[str, float]:
        """Return what a trial on a device would measure."""
        return {
            "accuracy": float(self.accuracy([arch])[0]),
            "step_time": float(self.step_time(device, [arch])[0]),
        }

    @cached_property
    def feasible(self) -> list[Architecture]:
        """The networks that have a throughput on every device."""
        known = np.isfinite([self.table.step_time(device) for device in DEVICES]).all(axis=0)
        return [arch for arch, k in zip(self.table.architectures, known, strict=True) if k]


def reward_v2(accuracy: np.ndarray, step_time: np.ndarray, params: np.ndarray) -> np.ndarray:
    columns = {"accuracy": accuracy, "step_time": step_time, "params_ratio": params}
    rows = zip(*(values.tolist() for values in columns.values()), strict=True)
    return np.array([REWARD.score(dict(zip(columns, row, strict=True))) for row in rows])


def search(simulation: Simulation, device: str, seed: int) -> Trials:
    """Run the search that is to be retargeted, which is also the one from scratch."""
    return Search(SPACE, REWARD, "evolution", seed).run(
        lambda arch: simulation.metrics(device, arch), budget=TRIALS
    )


def draw(values: TableValues, device: str, seed: int) -> Trials:
    """Return a finished random search within the table."""
    picked = np.random.default_rng(seed).choice(len(values.feasible), TRIALS, replace=False)
    finished = Search(SPACE, REWARD)
    for n in picked:
        finished.tell(values.feasible[n], **values.metrics(device, values.feasible[n]))
    return finished.trials


def retarget(
    values: Simulation | TableValues, parent: Trials, target: Target, seed: int
) -> dict[str, float]:
    """Return the regrets of the parent's best, and of what retargeting ranks first."""
    assert parent.best is not None
    values.step_time(target.device, [trial.architecture for trial in parent])  # all at once
    started = time.perf_counter()
    pool = values.feasible if isinstance(values, TableValues) else None
    engine = Retargeting(SPACE, REWARD, parent, seed, pool=pool)
    timings = trainings = 0
    while timings < TIMINGS and (arch := engine.next_to_time()):
        step_time = values.step_time(target.device, [arch])[0]
        engine.tell_step_time(arch, {"step_time": float(step_time)})
        timings += 1
    timed = engine.ranking()[0].architecture
    while trainings < TRAININGS and (arch := engine.next_to_train()):
        engine.tell_trained(arch, values.metrics(target.device, arch))
        trainings += 1
    return {
        "kept": target.regret([parent.best.architecture]),
        "parent": target.regret([trial.architecture for trial in parent]),
        "timed": target.regret([timed]),
        "trained": target.regret([engine.ranking()[0].architecture]),
        "timings": timings,
        "trainings": trainings,
        "seconds": time.perf_counter() - started,
    }


def run(values: Simulation | TableValues, seeds: Iterable[int], out: Path) -> None:
    """Add a line for every seed, source and target that the file does not have."""
    targets = {device: Target(values, device) for device in DEVICES}
    done = {(r["seed"], r["source"], r["target"]) for r in read(out)}
    for seed in seeds:
        wanted = [(s, t) for s in DEVICES for t in DEVICES if s != t and (seed, s, t) not in done]
        if not wanted:
            continue
        parents = {
            device: search(values, device, seed)
            if isinstance(values, Simulation)
            else draw(values, device, seed)
            for device in DEVICES
        }
        for source, name in wanted:
            row = {"seed": seed, "source": source, "target": name}
            row |= retarget(values, parents[source], targets[name], seed)
            row["scratch"] = targets[name].regret([t.architecture for t in parents[name]])
            with out.open("a") as file:
                file.write(json.dumps(row) + "\n")


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def report(rows: list[dict]) -> str:
    """Return two tables: by target device, and by pair of devices."""
    frame = pd.DataFrame(rows)
    lines = [
        f"{frame.seed.nunique()} seeds, {len(frame)} runs. Regret in per cent of the table's best: "
        "mean ± standard deviation [runs within what is wanted].",
        "",
        "| to | " + " | ".join(head for head, _ in COLUMNS.values()) + " | trainings used |",
        "|---|" + "---|" * (len(COLUMNS) + 1),
    ]
    groups = [(DEVICES[d], frame[frame.target == d]) for d in DEVICES if (frame.target == d).any()]
    for name, part in [*groups, ("all", frame)]:
        cells = [_cell(part[column], wanted) for column, (_, wanted) in COLUMNS.items()]
        lines.append(f"| {name} | {' | '.join(cells)} | {part.trainings.mean():.1f} |")
    lines += [
        "",
        f"Mean regret after {TIMINGS} timings / and {TRAININGS} trainings, by pair:",
        "",
        "| from \\ to | " + " | ".join(DEVICES.values()) + " |",
        "|---|" + "---|" * len(DEVICES),
    ]
    for source, name in DEVICES.items():
        cells = []
        for target in DEVICES:
            pair = frame[(frame.source == source) & (frame.target == target)]
            means = f"{pair.timed.mean():.2f} / {pair.trained.mean():.2f}"
            cells.append(means if len(pair) else "")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(values: pd.Series, wanted: float | None) -> str:
    text = f"{values.mean():.2f} ± {values.std():.2f}"
    return text if wanted is None else f"{text} [{(values <= wanted).mean():.0%}]"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="accel-nasbench.tar.gz")
    parser.add_argument("--seeds", default="20", help="how many, or FIRST:LAST+1")
    parser.add_argument("--out", type=Path, default=Path("retarget.jsonl"), help="lines of results")
    parser.add_argument("--table", action="store_true", help="with the table's networks alone")
    arguments = parser.parse_args()
    first, _, last = arguments.seeds.rpartition(":")
    table = AccelNasBench.load(arguments.data)
    values = TableValues(table) if arguments.table else Simulation(table)
    run(values, range(int(first or 0), int(last)), arguments.out)
    print(report(read(arguments.out)))


if __name__ == "__main__":
    main()
