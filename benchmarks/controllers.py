"""How good is the best architecture after N trials? Every controller on Accel-NASBench.

    python benchmarks/controllers.py --data accel-nasbench.tar.gz --seeds 10
    python benchmarks/controllers.py --data accel-nasbench.tar.gz --seeds 10 --settings noise,known
    python benchmarks/controllers.py --data accel-nasbench.tar.gz --asks

The first runs every setting and adds a line per run to controllers.jsonl, so that it can be stopped
and resumed; then it prints the tables and draws controllers.html. The last times the proposals, and
needs the machine to itself.

Accuracy and the logarithm of the training time are predicted by gradient boosting on the table
(`accel_nasbench.Simulation`), params are counted. The reward is A * S^-0.07 * P^-0.05 with S the
training time over 2,000 s and P the params over 4 M. Regret is how far the best network that was
tried so far is below the best one known, in per cent of it: the best of 300 hill-climbs from random
networks and of all runs. Trials end in the order in which they would with trainings of their length
(`effnas.evaluation.simulated`). A run ends when it has found the best; its regret is 0 from there
on.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd

from accel_nasbench import DEVICES, SPACE, TRAINING, AccelNasBench, Simulation
from effnas import Architecture, InfeasibleError, Reward, Search, Trial
from effnas.controllers.registry import CONTROLLERS
from effnas.evaluation.evaluator import FunctionEvaluator, Job
from effnas.evaluation.simulated import SimulatedBackend

REWARD = Reward.load("accuracy * step_time^-0.07 * (params / 4e6)^-0.05")
BUDGETS = (50, 100, 200, 300, 500, 1000)
SOME = ("surrogate", "random", "evolution")
CLIMBS = 300
#: As good as the best: rewards are sums of the same floats in another order.
_EQUAL = 1e-9


@dataclass(frozen=True)
class Setting:
    """One way to search.

    Attributes:
        text: What is printed above its table.
        budget: Trials.
        controllers: Those that take part.
        device: What S is measured on.
        known: Whether S is known of every network beforehand.
        noise: Standard deviation of a measured accuracy.
        workers: Trials under way at once.
        failing: Share of trials that are infeasible by chance.
    """

    text: str
    budget: int = 300
    controllers: tuple[str, ...] = SOME
    device: str = TRAINING
    known: bool = False
    noise: float = 0.0
    workers: int = 1
    failing: float = 0.0


#: Trials of controllers whose proposals take long, and longer with each trial.
SLOW = {"optuna:gp": 50, "optuna:tpe": 300}
SETTINGS: Mapping[str, Setting] = {
    "learned": Setting("S learned from the trials", 1000, tuple(CONTROLLERS)),
    "known": Setting("S known of every network", controllers=("surrogate",), known=True),
    "noise": Setting("S learned, 0.2 points of noise on A", noise=0.002),
    "failing": Setting("S learned, one trial in ten infeasible by chance", failing=0.1),
    "16": Setting("S learned, 16 workers", workers=16),
    "64": Setting("S learned, 64 workers", workers=64),
    **{
        device: Setting(f"throughput of {name} for the training time", device=device)
        for device, name in DEVICES.items()
    },
}


class World:
    """True rewards on one device."""

    def __init__(self, simulation: Simulation, device: str) -> None:
        self.simulation = simulation
        self.device = device

    def metrics(self, archs: Sequence[Architecture]) -> list[dict[str, float]]:
        """Return accuracy and S of N networks."""
        values = zip(
            self.simulation.accuracy(archs).tolist(),
            self.simulation.step_time(self.device, archs).tolist(),
            strict=True,
        )
        return [{"accuracy": accuracy, "step_time": s} for accuracy, s in values]

    def rewards(self, archs: Sequence[Architecture]) -> list[float]:
        """Return the rewards of N networks."""
        return [
            REWARD.score({**metrics, "params": SPACE.count(arch).params})
            for arch, metrics in zip(archs, self.metrics(archs), strict=True)
        ]

    def best(self) -> float:
        """Return the best reward that hill-climbs over single decisions reach."""
        rng = np.random.default_rng(0)
        archs = [SPACE.sample(rng) for _ in range(CLIMBS)]
        rewards = dict(zip(archs, self.rewards(archs), strict=True))
        while True:
            near = {arch: list(SPACE.neighbours(arch)) for arch in archs}
            new = [a for a in {a: None for n in near.values() for a in n} if a not in rewards]
            rewards.update(zip(new, self.rewards(new), strict=True))
            reached = [max([arch, *near[arch]], key=rewards.__getitem__) for arch in near]
            if reached == archs:
                return max(rewards.values())
            archs = list(dict.fromkeys(reached))


class _FoundError(Exception):
    """The best network has been found."""


@dataclass(frozen=True)
class Run:
    """One search; plain data, so that another process can do it."""

    data: Path
    setting: str
    controller: str
    seed: int
    best: float

    def __call__(self) -> dict[str, object]:
        """Search, and return the improvements: the trial, and the true reward that it reached.

        `tried` follows the best network so far, `picked` the one with the highest measured reward.
        """
        setting = SETTINGS[self.setting]
        world = World(_simulation(self.data), setting.device)
        dice = np.random.default_rng((self.seed, 1))

        def measure(arch: Architecture) -> dict[str, float]:
            luck, chance = dice.normal(), dice.random()
            if chance < setting.failing:
                raise InfeasibleError("by chance")
            [metrics] = world.metrics([arch])
            return metrics | {"accuracy": metrics["accuracy"] + setting.noise * luck}

        def known(archs: Sequence[Architecture]) -> list[dict[str, float]]:
            if not setting.known:
                return [{} for _ in archs]
            return [{"step_time": metrics["step_time"]} for metrics in world.metrics(archs)]

        def duration_s(job: Job) -> float:
            return float(world.simulation.step_time(TRAINING, [job.architecture])[0])

        tried: list[tuple[int, float]] = []
        picked: list[tuple[int, float]] = []
        ended = 0
        highest = -np.inf

        def note(trial: Trial) -> None:
            nonlocal ended, highest
            ended += 1
            if trial.reward is None:
                return
            [true] = world.rewards([trial.architecture])
            if not tried or true > tried[-1][1]:
                tried.append((ended, true))
            if trial.reward > highest:
                highest = trial.reward
                picked.append((ended, true))
            if true > self.best - _EQUAL and not setting.noise:
                raise _FoundError

        search = Search(SPACE, REWARD, self.controller, self.seed, free_metrics=known)
        backend = SimulatedBackend(
            FunctionEvaluator(measure), capacity=setting.workers, duration_s=duration_s
        )
        started = time.perf_counter()
        budget = min(setting.budget, SLOW.get(self.controller, setting.budget))
        try:
            search.run(budget=budget, backend=backend, on_trial=note)
        except _FoundError:
            ended = budget
        return {
            "setting": self.setting,
            "controller": self.controller,
            "seed": self.seed,
            "trials": ended,
            "tried": tried,
            "picked": picked,
            "seconds": round(time.perf_counter() - started, 1),
        }


@cache
def _simulation(data: Path) -> Simulation:
    return Simulation(AccelNasBench.load(data))


def _do(run: Run) -> dict[str, object]:
    return run()


def run_all(data: Path, out: Path, names: Sequence[str], seeds: Sequence[int], only: str) -> None:
    """Do the runs that are not in the file yet, two at a time."""
    done = {(r["setting"], r["controller"], r["seed"]) for r in read(out)}
    best = optima(data, out, {SETTINGS[name].device for name in names})
    runs = [
        Run(data, name, controller, seed, best[SETTINGS[name].device])
        for name in names
        for controller in SETTINGS[name].controllers
        for seed in seeds
        if (name, controller, seed) not in done and controller in (only or controller).split(",")
    ]
    # Fresh processes: torch's threads do not outlive a fork.
    with get_context("spawn").Pool(2) as pool, out.open("a") as file:
        for row in pool.imap_unordered(_do, runs):
            file.write(json.dumps(row) + "\n")
            file.flush()


def optima(data: Path, out: Path, devices: set[str]) -> dict[str, float]:
    """Return the best known reward by device; results of hill-climbs are cached beside `out`."""
    path = out.with_suffix(".best.json")
    found: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}
    for device in devices - found.keys():
        found[device] = World(_simulation(data), device).best()
        path.write_text(json.dumps(found))
    for row in read(out):
        device = SETTINGS[row["setting"]].device
        if device in found:
            found[device] = max(found[device], row["tried"][-1][1])
    return found


def read(path: Path) -> list[dict]:
    """Return the results so far."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


# -- what is printed


def curve(row: Mapping[str, object], kind: str, best: float, budget: int) -> np.ndarray:
    """Return the regret in per cent after 1 to `budget` trials; NaN beyond those that were run."""
    regret = np.full(budget, np.nan)
    for place, reward in row[kind]:  # type: ignore[attr-defined]
        regret[place - 1 : row["trials"]] = 100 * (1 - reward / best)
    return regret


def curves(
    rows: Sequence[Mapping[str, object]], best: Mapping[str, float]
) -> Iterator[tuple[str, str, str, np.ndarray]]:
    """Yield setting, controller, kind, and the regrets of all its runs, [runs, trials]."""
    for name, setting in SETTINGS.items():
        for controller in setting.controllers:
            mine = [r for r in rows if (r["setting"], r["controller"]) == (name, controller)]
            for kind in ("tried", "picked") if setting.noise else ("tried",):
                if mine:
                    device = best[setting.device]
                    yield (
                        name,
                        controller,
                        kind,
                        np.stack([curve(r, kind, device, setting.budget) for r in mine]),
                    )


def report(rows: Sequence[Mapping[str, object]], best: Mapping[str, float]) -> str:
    """Return a table for every setting: mean ± standard deviation of the regret, [most]."""
    lines: list[str] = []
    last = ""
    for name, controller, kind, regret in curves(rows, best):
        budgets = [n for n in BUDGETS if n <= SETTINGS[name].budget]
        if name != last:
            lines += [
                "",
                f"{SETTINGS[name].text}:",
                "",
                f"| controller | {' | '.join(map(str, budgets))} | seeds | found |",
                "|---|" + "---|" * (len(budgets) + 2),
            ]
            last = name
        cells = []
        for n in budgets:
            at = regret[:, n - 1]
            filled = np.isfinite(at).all()
            cells.append(f"{at.mean():.2f} ± {at.std():.2f} [{at.max():.2f}]" if filled else "-")
        found = f"{(regret[:, -1] < 1e-6).sum()}" if np.isfinite(regret[:, -1]).all() else "-"
        shown = f"{controller}, highest measured" if kind == "picked" else controller
        lines.append(f"| {shown} | {' | '.join(cells)} | {len(regret)} | {found} |")
    return "\n".join(lines[1:])


def draw(rows: Sequence[Mapping[str, object]], best: Mapping[str, float], path: Path) -> None:
    """Write a figure for every setting: mean regret over trials."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    names = list(dict.fromkeys(name for name, *_ in curves(rows, best)))
    figure = make_subplots(
        rows=-(-len(names) // 2), cols=2, subplot_titles=[SETTINGS[name].text for name in names]
    )
    colours: dict[str, str] = {}
    palette = ["#1f77b4", "#d62728", "#2ca02c", "#ff7f0e", "#9467bd", "#8c564b", "#e377c2"]
    palette += ["#7f7f7f", "#bcbd22", "#17becf"]
    for name, controller, kind, regret in curves(rows, best):
        if kind == "picked":
            continue
        shown = controller not in colours
        colour = colours.setdefault(controller, palette[len(colours) % len(palette)])
        place = names.index(name)
        figure.add_trace(
            go.Scatter(
                x=np.arange(1, regret.shape[1] + 1),
                y=regret.mean(axis=0),
                name=controller,
                legendgroup=controller,
                showlegend=shown,
                line={"color": colour, "width": 3 if controller == "surrogate" else 1.5},
            ),
            row=place // 2 + 1,
            col=place % 2 + 1,
        )
    figure.update_xaxes(title="trials", type="log", range=[1, 3])
    figure.update_yaxes(title="regret, %", rangemode="tozero")
    figure.update_layout(height=380 * -(-len(names) // 2), template="plotly_white")
    figure.write_html(path)


# -- the time of a proposal


def asks(data: Path, controllers: Sequence[str]) -> str:
    """Return a table: seconds of a proposal and memory, after N reported trials."""
    world = World(_simulation(data), TRAINING)
    rng = np.random.default_rng(0)
    archs = list(dict.fromkeys(SPACE.sample(rng) for _ in range(5100)))
    metrics = world.metrics(archs)
    sizes = (100, 300, 1000)
    frame = []
    for controller in controllers:
        search = Search(SPACE, REWARD, controller)
        row: dict[str, object] = {"controller": controller}
        told = 0
        some = sizes[:1] if controller == "optuna:gp" else sizes
        for size in (*some, 5000) if controller in SOME else some:
            while told < size:
                search.tell(archs[told], **metrics[told])
                told += 1
            seconds = []
            for _ in range(11):  # one more trial is reported before each, as with one worker
                started = time.perf_counter()
                search.controller.ask(told)
                seconds.append(time.perf_counter() - started)
                search.tell(archs[told], **metrics[told])
                told += 1
            # the first learns from all trials reported before, as a resumed search does
            row[f"{size} trials"] = f"{1000 * median(seconds[1:]):.1f} ms"
            row[f"first at {size}"] = f"{1000 * seconds[0]:.0f} ms"
            row[f"MB at {size}"] = round(_resident_bytes() / 1e6)
        frame.append(row)
    return pd.DataFrame(frame).to_string(index=False)


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="accel-nasbench.tar.gz")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--settings", default=",".join(SETTINGS), help="names with commas")
    parser.add_argument("--controllers", default="", help="only these; names with commas")
    parser.add_argument("--out", type=Path, default=Path("controllers.jsonl"))
    parser.add_argument("--asks", action="store_true", help="time the proposals instead")
    arguments = parser.parse_args()
    if arguments.asks:
        print(
            asks(
                arguments.data,
                arguments.controllers.split(",") if arguments.controllers else [*CONTROLLERS],
            )
        )
        return
    names = arguments.settings.split(",")
    run_all(arguments.data, arguments.out, names, range(arguments.seeds), arguments.controllers)
    rows = read(arguments.out)
    best = optima(arguments.data, arguments.out, {SETTINGS[r["setting"]].device for r in rows})
    print(report(rows, best))
    draw(rows, best, arguments.out.with_suffix(".html"))


if __name__ == "__main__":
    main()
