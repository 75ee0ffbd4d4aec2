"""`effnas bench`: step times of any networks, side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.table import Table

from effnas.cli.search import INTERRUPTED
from effnas.cli.tables import console, facts
from effnas.search.cost_estimate import memory_text
from effnas.workflows.bench import BenchResult, bench

if TYPE_CHECKING:
    from effnas.timing.device_settings import DeviceSettings


def run_bench(
    networks: Sequence[str],
    settings: DeviceSettings,
    *,
    space: str | None,
    precision: float,
    time_limit_s: float,
    as_json: bool,
) -> int:
    """Time networks and show the result; return the exit code.

    Raises:
        UserError: If something given is wrong.
    """
    screen = console(stderr=True)
    try:
        with screen.status("starting") as status:
            result = bench(
                networks,
                settings,
                space=space,
                precision=precision,
                time_limit_s=time_limit_s,
                notify=status.update,
            )
    except KeyboardInterrupt:
        screen.print("Stopped.")
        return INTERRUPTED
    if as_json:
        print(json.dumps(asdict(result), indent=2))
    else:
        _show(result, precision, time_limit_s)
    return 0


def _show(result: BenchResult, precision: float, time_limit_s: float) -> None:
    screen = console()
    c = result.setup
    compiled = f", compiled ({c['compile_mode']})" if c["compile_mode"] != "none" else ""
    timed = [row for row in result.rows if "step_time" in row]
    settled = bool(timed[0]["step_time_settled"])
    ended = (
        f"all intervals within {precision:.1%}"
        if settled
        else f"the time limit of {time_limit_s:g} s, before all intervals were within "
        f"{precision:.1%}; a higher --time-limit narrows them"
    )
    hardware = ", ".join(f"{name} {value}" for name, value in result.hardware.items())
    screen.print(
        facts(
            [
                ("device", hardware),
                ("step", f"batch {c['batch_size']} at {c['image_size']} px, {c['num_classes']} "
                         f"classes, {c['optimizer']}, {c['precision']}, {c['memory_format']}"
                         f"{compiled}"),
                ("timed", f"{timed[0]['timed_steps']:.0f} steps each, in turn; ended by {ended}"),
            ]
        )
    )  # fmt: skip
    screen.print()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("ratio", "step", "forward", "backward", "optimizer", "images/s", "memory",
                 "params"):  # fmt: skip
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("network", overflow="fold", min_width=20)
    for row in result.rows:
        table.add_row(*_cells(row), f"{row['params'] / 1e6:.2f} M", row["network"])
    screen.print(table)
    for row in result.rows:
        if "reason" in row:
            screen.print(f"\n{row['network']}: {row['reason']}")


def _cells(row: dict[str, Any]) -> list[str]:
    if "reason" in row:
        return ["-"] * 7
    ratio = (row["step_time_high"] - row["step_time_low"]) / 2
    seconds = (row["step_time_high_s"] - row["step_time_low_s"]) / 2
    return [
        f"{row['step_time']:.3f} ±{ratio:.3f}",
        f"{row['step_time_s'] * 1e3:.1f} ±{seconds * 1e3:.1f} ms",
        *(f"{row[f'{phase}_time_s'] * 1e3:.1f} ms" for phase in
          ("forward", "backward", "optimizer")),
        f"{row['images_per_s']:,.0f}",
        memory_text(row["peak_memory_bytes"]),
    ]  # fmt: skip
