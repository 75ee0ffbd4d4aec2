"""How repeatable S is: one network timed in separate processes, idle and under load.

    python benchmarks/step_timer.py [--processes 10]

Every process times a network of `v2-cifar` beside the reference network with `effnas bench`. Then
the same with another program that keeps one of the cores busy. Wanted: a coefficient of variation
of S of 2 % or less when idle, and a drift of S of 5 % or less under load, while raw seconds move.
It takes about half an hour.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from effnas import SearchSpace

SPACE = "v2-cifar"
NETWORK = (
    "mbconv_r1_k3_s1_e6_c16_se0.25 mbconv_r2_k5_s2_e4_c24_se0.25 fused_r2_k3_s2_e4_c48 "
    "mbconv_r2_k3_s1_e4_c64_se0.25 fused_r1_k3_s2_e4_c96"
)
#: The same in all processes, so that they differ in nothing but time and chance.
WAY = ("--precision", "float32", "--memory-format", "channels_last")


def measure(processes: int) -> NDArray[np.float64]:
    """Return S, seconds and timed steps of each process, [processes, 3]."""
    found = []
    for _ in range(processes):
        command = [sys.executable, "-m", "effnas", "bench", "--space", SPACE, "--json", *WAY]
        networks = [str(SearchSpace.load(SPACE).reference), NETWORK]
        run = subprocess.run([*command, *networks], check=True, capture_output=True, text=True)
        row = json.loads(run.stdout)["rows"][1]
        found.append([row["step_time"], row["step_time_s"], row["timed_steps"]])
    return np.array(found)


@contextmanager
def load() -> Iterator[None]:
    """Keep one core busy with something that also moves memory."""
    program = "import numpy; a = numpy.ones(1 << 20)\nwhile True: a = a * 1.0"
    busy = subprocess.Popen([sys.executable, "-c", program], env={"OMP_NUM_THREADS": "1"})
    try:
        yield
    finally:
        busy.kill()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=10)
    processes = parser.parse_args().processes
    idle = measure(processes)
    with load():
        loaded = measure(processes)
    table = Table(title=f"one network of {SPACE}, timed in {processes} processes each")
    for heading in ("", "S: mean", "variation", "min", "max", "drift", "seconds: mean", "variation",
                    "drift", "steps"):  # fmt: skip
        table.add_column(heading, justify="right", no_wrap=True)
    for name, found in (("idle", idle), ("one core loaded", loaded)):
        mean, spread = found.mean(axis=0), found.std(axis=0, ddof=1)
        drift = mean / idle.mean(axis=0) - 1
        table.add_row(
            name,
            f"{mean[0]:.3f}",
            f"{spread[0] / mean[0]:.2%}",
            f"{found[:, 0].min():.3f}",
            f"{found[:, 0].max():.3f}",
            f"{drift[0]:+.1%}",
            f"{mean[1]:.3f}",
            f"{spread[1] / mean[1]:.1%}",
            f"{drift[1]:+.0%}",
            f"{mean[2]:.0f}",
        )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
