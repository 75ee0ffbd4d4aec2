"""`effnas bench`: step times of any networks, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.markup import escape

from effnas.cli.session import LongCommand
from effnas.cli.tables import reasons, table
from effnas.search.cost_estimate import memory_text
from effnas.timing.device_settings import DeviceSettings
from effnas.workflows.bench import BenchResult, bench


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
        hardware = ", ".join(f"{name} {value}" for name, value in result.hardware.items())
        self.plan(
            ("device", hardware),
            ("step", f"batch {c['batch_size']} at {c['image_size']} px, {c['num_classes']} "
                     f"classes, {c['optimizer']}, {c['precision']}, {c['memory_format']}"
                     f"{compiled}"),
            ("timed", f"{timed[0]['timed_steps']:.0f} steps each, in turn; ended by {ended}"),
        )  # fmt: skip
        found = table(
            "ratio", "step", "forward", "backward", "optimizer", "images/s", "memory", "params",
            "network",
        )  # fmt: skip
        for row in result.rows:
            found.add_row(*_cells(row), f"{row['params'] / 1e6:.2f} M", escape(row["network"]))
        self.screen.print(found)
        self.say(reasons((row["network"], row.get("reason")) for row in result.rows))


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
