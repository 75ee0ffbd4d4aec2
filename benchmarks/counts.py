"""Counts per second of every packaged space, on one core.

    python benchmarks/counts.py

It takes about ten seconds. Counts of a stage are cached for each number of input channels and image
size. So there are three speeds: every network counted with an empty cache (cold), networks as a
search meets them, with a cache that is empty at the start (first pass), and the same networks again
(warm). A search counts at the pace of the first pass; 20,000 a second is wanted, so
that counting never weighs against drawing.
"""

from __future__ import annotations

from statistics import median
from time import perf_counter

import numpy as np
from rich.console import Console
from rich.table import Table

from effnas import Architecture, SearchSpace
from effnas.arch import counts
from effnas.config.catalog import names

ARCHITECTURES = 10_000
COLD_ARCHITECTURES = 500
REPEATS = 5
WANTED_PER_S = 20_000


def forget() -> None:
    """Empty the cache of counted stages."""
    counts.count_stage.cache_clear()


def counts_per_s(architectures: list[Architecture], image_size: int) -> float:
    """Count all architectures, one after the other."""
    start = perf_counter()
    for arch in architectures:
        counts.count(arch, image_size)
    return len(architectures) / (perf_counter() - start)


def cold_counts_per_s(architectures: list[Architecture], image_size: int) -> float:
    """Count all architectures, each with an empty cache."""
    elapsed_s = 0.0
    for arch in architectures:
        forget()
        start = perf_counter()
        counts.count(arch, image_size)
        elapsed_s += perf_counter() - start
    return len(architectures) / elapsed_s


def main() -> None:
    """Print the table."""
    table = Table(title=f"Counts per second, one core, median of {REPEATS}")
    table.add_column("space")
    for heading in ("cold", f"first pass over {ARCHITECTURES:,}", "warm"):
        table.add_column(heading, justify="right")
    table.add_column(f"first pass ≥ {WANTED_PER_S:,}")
    for name in names("search_spaces"):
        space = SearchSpace.load(name)
        rng = np.random.default_rng(0)
        drawn = [space.sample_unconstrained(rng) for _ in range(ARCHITECTURES)]
        size = space.target.image_size
        cold, first, warm = [], [], []
        for _ in range(REPEATS):
            cold.append(cold_counts_per_s(drawn[:COLD_ARCHITECTURES], size))
            forget()
            first.append(counts_per_s(drawn, size))
            warm.append(counts_per_s(drawn, size))
        speeds = [f"{median(speed):,.0f}" for speed in (cold, first, warm)]
        table.add_row(name, *speeds, "yes" if median(first) >= WANTED_PER_S else "no")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
