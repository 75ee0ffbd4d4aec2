"""Step time of EfficientNet-B4 with more and more fused stages, beside the paper's TPU and V100.

    python benchmarks/fused_stages.py [--device cpu] [--batch-size 4]

The observation of the paper behind training-aware search (EfficientNetV2, table 3): fused stages
have more FLOPs and may still be faster, and the fastest number of them depends on the device.
Networks are those rows of `benchmarks/table3.py` that match the paper's parameters, at the paper's
380 pixels, timed in turn with `effnas bench`. It takes about ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from effnas.arch.files import to_json
from table3 import IMAGE_SIZE, rows

#: Images per second: TPUv3 core and V100, EfficientNetV2 (arXiv 2104.00298), table 3.
PAPER = {"none": (262, 155), "1-3": (362, 216), "1-5": (327, 223), "1-7": (254, 206)}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--time-limit", type=float, default=300.0)
    given = parser.parse_args()
    # Of the two ways to make a row, the one that matches the paper's parameters and FLOPs.
    chosen = {row.stages: row for row in rows()}
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for stages, row in chosen.items():
            file = Path(folder) / f"b4-fused-{stages}.json"
            file.write_text(to_json(row.arch), encoding="utf-8")
            files.append(str(file))
        command = [sys.executable, "-m", "effnas", "bench", "--json", "--device", given.device]
        sizes = ["--image-size", str(IMAGE_SIZE), "--batch-size", str(given.batch_size)]
        limit = ["--time-limit", str(given.time_limit)]
        run = subprocess.run([*command, *sizes, *limit, *files], check=True, stdout=subprocess.PIPE)
    found = json.loads(run.stdout)
    table = Table(
        title=f"EfficientNet-B4 at {IMAGE_SIZE} px, images/s of a training step over those of the "
        f"unfused network"
    )
    for heading in ("fused", "FLOPs", "params", "TPUv3", "V100", "here", "here, images/s"):
        table.add_column(heading, justify="right", no_wrap=True)
    tpu, gpu = PAPER["none"]
    for (stages, row), measured in zip(chosen.items(), found["rows"], strict=True):
        low, high = 1 / measured["step_time_high"], 1 / measured["step_time_low"]
        table.add_row(
            stages,
            f"{row.counts.macs / 1e9:.1f} G",
            f"{row.counts.params / 1e6:.1f} M",
            f"{PAPER[stages][0] / tpu:.2f}",
            f"{PAPER[stages][1] / gpu:.2f}",
            f"{1 / measured['step_time']:.2f} ({low:.2f} to {high:.2f})",
            f"{measured['images_per_s']:.2f}",
        )
    screen = Console(width=120)
    screen.print(table)
    screen.print(f"here: {found['hardware']}, {found['setup']}")


if __name__ == "__main__":
    main()
