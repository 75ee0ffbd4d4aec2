"""`effnas bench`: step times of any networks, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from effnas.cli.session import LongCommand
from effnas.cli.tables import counted, networks, params_text, reasons, step_text, table
from effnas.search.cost_estimate import memory_text
from effnas.timing.device_settings import DeviceSettings
from effnas.workflows.bench import BenchResult, bench

#: Longer names stand below the table.
_LONGEST_NAME = 24


@dataclass(frozen=True, kw_only=True)
class BenchSettings:
    """What is timed: arguments of `bench`, of which the interval is its precision."""

    networks: Sequence[str]
    device: DeviceSettings
    space: str | None = None
    interval: float
    time_limit: float


class BenchCommand(LongCommand[BenchSettings, BenchResult]):
    """Times networks and shows the result."""

    def work(self) -> BenchResult:
        asked = self.settings
        return bench(
            asked.networks, asked.device, space=asked.space, precision=asked.interval,
            time_limit_s=asked.time_limit, notify=self.preparing,
        )  # fmt: skip

    def payload(self, result: BenchResult) -> dict[str, Any]:
        return {"rows": result.rows, "conditions": result.setup, "hardware": result.hardware}

    def show(self, result: BenchResult) -> None:
        precision, time_limit_s = self.settings.interval, self.settings.time_limit
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
        hardware = ", ".join(
            str(value) if name in ("device", "name") else f"{name} {value}"
            for name, value in result.hardware.items()
        )
        self.plan(
            ("device", hardware),
            ("step", f"batch {c['batch_size']} at {c['image_size']} px, "
                     f"{counted(c['num_classes'], 'class', 'classes')}, {c['optimizer']}, "
                     f"{c['precision']}, {c['memory_format']}{compiled}"),
            ("timed", f"{counted(round(timed[0]['timed_steps']), 'step')} each, in turn; ended by "
                      f"{ended}"),
        )  # fmt: skip
        found = table(
            "network", "params", "ratio", "step", "images/s", "memory", "forward", "backward",
            "optimizer", left=["network"],
        )  # fmt: skip
        names = [_short(row["network"], n) for n, row in enumerate(result.rows, start=1)]
        for name, row in zip(names, result.rows, strict=True):
            found.add_row(name, params_text(row["params"]), *_cells(row))
        self.screen.print(found)
        both = [(name, row["network"]) for name, row in zip(names, result.rows, strict=True)]
        if longer := [pair for pair in both if pair[0] != pair[1]]:
            self.screen.print()
            self.screen.print(networks(longer))
        self.say(reasons(zip(names, (row.get("reason") for row in result.rows), strict=True)))


def _short(network: str, number: int) -> str:
    """Return what a network is called in the table: block strings have no name."""
    return network if len(network) <= _LONGEST_NAME else f"network {number}"


def _cells(row: dict[str, Any]) -> list[str]:
    if "reason" in row:
        return ["-"] * 7
    ratio = (row["step_time_high"] - row["step_time_low"]) / 2
    seconds = (row["step_time_high_s"] - row["step_time_low_s"]) / 2
    phases = (row[f"{phase}_time_s"] for phase in ("forward", "backward", "optimizer"))
    return [
        f"{row['step_time']:.3f} ±{ratio:.3f}",
        f"{row['step_time_s'] * 1e3:,.1f} ±{seconds * 1e3:,.1f} ms",
        f"{row['images_per_s']:,.0f}",
        memory_text(row["peak_memory_bytes"]),
        *map(step_text, phases),
    ]
