"""How long does it take to read what is stored? Commands on a search of 1,000 trials.

    python benchmarks/reading.py

A search of `v2` runs through `effnas search` as always, but for its workers: a function stands in
for images and a device. Evolution makes its trials, in a minute; then the manifest names the
default controller, so that resuming costs what it costs most users, and twice the budget. Every
command is a process of its own. Wanted: 5 s of `report`, 1 s of the others.

`resume` is measured up to the plan of its first new trial: its command line, manifest and trials
are read, checked and told to the controller; then it would wait for its workers.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from effnas.cli.app import app
from effnas.cli.search import SearchCommand
from effnas.config.settings import EvaluationConfig, Execution
from effnas.errors import InfeasibleError
from effnas.evaluation.backend import Backend
from effnas.evaluation.evaluator import Job
from effnas.evaluation.simulated import SimulatedBackend
from effnas.search import launch
from effnas.space.search_space import SearchSpace
from effnas.trials.manifest import SearchManifest
from effnas.trials.trial import Measurement
from effnas.trials.worker_info import WorkerInfo

SPACE = SearchSpace.load("v2").with_target(num_classes=10)
HOLDOUT = 5_000
COMMANDS = {
    "effnas report RUN": ("report", "RUN"),
    "effnas status RUN": ("status", "RUN"),
    "effnas runs FOLDER": ("runs", "FOLDER"),
    "effnas rescore RUN --reward A": ("rescore", "RUN", "--reward", "A"),
    "effnas rescore RUN --sweep w=-0.15..0 v=-0.1..0 (100 pairs)": (
        "rescore", "RUN", "--sweep", "w=-0.15..0", "v=-0.1..0",
    ),
    "effnas resume RUN, up to its plan": ("resume", "RUN"),
}  # fmt: skip


def measured(job: Job) -> Measurement:
    """Return what a job might measure: larger networks are better and slower, with some luck."""
    arch, reference = job.architecture, SPACE.count(SPACE.reference)
    own = np.random.default_rng(int(arch.id, 16)).normal()
    rng = np.random.default_rng([int(arch.id, 16), job.repeat])
    size, work, memory = (
        np.log(mine / theirs) for mine, theirs in zip(SPACE.count(arch), reference, strict=True)
    )
    if memory > 0.75:
        raise InfeasibleError(f"a training step needs {12 * np.exp(memory):.1f} GB; 24 GB are free")
    late = sum(stage.op == "mbconv" for stage in arch.stages[3:])
    level = (
        0.4
        + 0.1 * size
        + 0.25 * work
        - 0.05 * work**2
        + 0.06 * late
        + 0.06 * own
        + 0.015 * rng.normal()
    )
    step_time = float(np.exp(0.5 * work + 0.4 * memory + 0.02 * rng.normal()))
    metrics = {
        "accuracy": rng.binomial(HOLDOUT, 1 / (1 + np.exp(-level))) / HOLDOUT,
        "step_time": step_time,
        "step_time_low": 0.985 * step_time,
        "step_time_high": 1.015 * step_time,
        "step_time_s": 0.31 * step_time,
        "step_time_low_s": 0.3 * step_time,
        "step_time_high_s": 0.32 * step_time,
        "forward_time_s": 0.1 * step_time,
        "backward_time_s": 0.19 * step_time,
        "optimizer_time_s": 0.02 * step_time,
        "timed_steps": 66,
        "step_time_settled": 1,
        "peak_memory_bytes": round(12e9 * float(np.exp(memory))),
        "train_time_s": 140 * step_time,
        "train_loss": float(np.exp(-level)),
        **({"params": 11e6} if job.model else {}),
    }
    return Measurement(
        metrics={name: float(value) for name, value in metrics.items()},
        fidelity="4 epochs of 40000 images at 32 px",
        seed=int(rng.integers(1 << 31)),
        hardware="simulated",
        step_time_source="measured",
    )


def simulated_workers(
    config: EvaluationConfig, *_: object, **__: object
) -> tuple[Backend, WorkerInfo]:
    """Stand in for `start_workers`: no images, no device."""
    prepared = WorkerInfo(
        hardware="simulated", device={"device": "cpu"}, recipe=replace(config.recipe, flip=True),
        execution=Execution(), execution_seconds={}, timing_batch_size=64, step_times="measured",
        num_classes=10, class_names=tuple(f"class {n}" for n in range(10)), train_images=40_000,
        holdout_images=HOLDOUT, data_fingerprint="none", skipped_images=(),
        class_counts=(4_000,) * 10, holdout_class_counts=(HOLDOUT // 10,) * 10,
        timing_s=30.0, training_s=140.0, peak_memory_bytes=12 * 10**9,
        target_memory_bytes=12 * 10**9, available_memory_bytes=24 * 10**9,
    )  # fmt: skip
    return SimulatedBackend(measured, duration_s=lambda job: 170.0), prepared


def make_run(folder: Path, trials: int) -> None:
    """Write the folder of a search."""
    launch.start_workers = simulated_workers
    options = ["--space", "v2", "--data", "digits", "--image-size", "32", "--no-report"]
    options += ["--controller", "evolution", "--budget", str(trials), "--out", str(folder)]
    app(args=["search", *options], prog_name="effnas", standalone_mode=False)
    manifest = SearchManifest.read(folder)
    assert manifest.asked
    options = {**manifest.asked.options, "controller": "surrogate"}
    asked = replace(manifest.asked, options=options)
    replace(manifest, controller="surrogate", budget=2 * trials, asked=asked).write(folder)


def run_to_plan(arguments: list[str]) -> None:
    """Run a command that trains, up to its plan."""

    def planned(self: SearchCommand, plan: Any) -> None:
        show(self, plan)
        sys.stdout.flush()
        os._exit(0)

    show, SearchCommand.planned = SearchCommand.planned, planned
    launch.start_workers = simulated_workers
    app(args=arguments, prog_name="effnas")


def seconds(command: list[str]) -> tuple[float, float]:
    """Run a command; return its CPU seconds, and those on the wall."""
    # What is installed has its bytecode.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    wall_s, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, wall_s


def main() -> None:
    """Make the run and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--keep", type=Path, help="make the run here, or take the one that is here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.keep or Path(scratch)
        run = folder / "run"
        if not run.exists():
            make_run(run, arguments.trials)
        places = {"RUN": str(run), "FOLDER": str(folder)}
        print("| command | CPU seconds | wall |\n|---|---|---|")
        for name, words in COMMANDS.items():
            program = [__file__, "--to-plan"] if words[0] == "resume" else ["-m", "effnas"]
            command = [sys.executable, *program, *(places.get(word, word) for word in words)]
            times = [seconds(command) for _ in range(arguments.repeats)]
            cpu_s, wall_s = (median(column) for column in zip(*times, strict=True))
            print(f"| `{name}` | {cpu_s:.2f} | {wall_s:.2f} |", flush=True)
        print(f"\nThe report has {(run / 'report.html').stat().st_size / 1e6:.1f} MB.")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--to-plan"]:
        run_to_plan(sys.argv[2:])
    else:
        main()
