"""`effnas scale`: a family of networks, and what its members cost."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

from rich.progress import BarColumn
from rich.table import Table

from effnas.cli.search import INTERRUPTED
from effnas.cli.tables import (
    console,
    duration,
    facts,
    macs_text,
    progress_on,
)
from effnas.config.regularization import Ramp
from effnas.errors import ConfigError
from effnas.scaling.budget import Limit
from effnas.scaling.compound import CompoundScaling
from effnas.scaling.rules import ScalingRules
from effnas.scaling.sizing import ScaleSettings, SizedFamily, size_family
from effnas.search.cost_estimate import memory_text

#: What options limit: a number, and one over the base's.
_METRICS = {
    "step_time": ("step_time_s", "step_time"),
    "params": ("params", "params_ratio"),
    "memory": ("peak_memory_bytes", "peak_memory_bytes_ratio"),
    "macs": ("macs", "macs_ratio"),
}


def rules_of(
    family: str | None,
    *,
    coefficients: Mapping[str, float | None],
    phi: str | None,
    image_size: int | None,
    round_limit: float | None,
    last_stage: bool,
) -> ScalingRules:
    """Return the rules that options mean: those of a family, or compound scaling.

    Raises:
        UserError: If they contradict each other or are out of range.
    """
    given = {name: value for name, value in coefficients.items() if value is not None}
    if given or phi is not None:
        if family is not None:
            option = next(iter(given), "phi")
            raise ConfigError(
                f"--family {family} and --{option}: a family has factors of its own; choose one"
            )
        scaling = CompoundScaling(**given)
        rules = scaling.rules(numbers_of("--phi", phi or "1,2,3"), image_size=image_size or 224)
    else:
        rules = ScalingRules.load(family or "v2")
    if round_limit is not None:
        if not 0 <= round_limit <= 1:
            raise ConfigError(f"--round-limit is {round_limit:g}, it is a share of 0 to 1")
        rules = replace(rules, round_limit=round_limit)
    if not last_stage:
        rules = replace(
            rules,
            members=tuple(
                replace(rule, growth=replace(rule.growth, last_stage=None))
                for rule in rules.members
            ),
        )
    return rules


def limits_of(**given: str | float | None) -> tuple[Limit, ...]:
    """Return the limits that options mean.

    Args:
        given: Of `step_time`, `params`, `memory` and `macs`; 2x is twice the base's.

    Raises:
        ConfigError: If one is no number above 0.
    """
    found = []
    for name, value in given.items():
        if value is None:
            continue
        option = f"--{name.replace('_', '-')}"
        text = value if isinstance(value, str) else f"{value:g}"
        is_ratio = text.endswith("x")
        most = _positive(option, text)
        found.append(Limit(_METRICS[name][is_ratio], most, f"{option} {text}"))
    return tuple(found)


def _positive(option: str, text: str) -> float:
    """Return the number that a text means, without the x of a ratio."""
    try:
        number = float(text.removesuffix("x"))
    except ValueError:
        number = -1.0
    if not 0 < number < inf:
        hint = " (2x for twice the base's, 0.1 for seconds)" if option == "--step-time" else ""
        raise ConfigError(f"{option} {text}: a number above 0 is needed{hint}")
    return number


def numbers_of(option: str, text: str) -> list[float]:
    """Return the numbers that a text with commas means.

    Raises:
        ConfigError: If it is none.
    """
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(
            f"{option} {text!r}: numbers with commas are needed, such as 0.5,1"
        ) from None


def run_scale(settings: ScaleSettings, *, out: Path | None, as_json: bool) -> int:
    """Scale, write and show a family; return the exit code.

    Raises:
        UserError: If something given is wrong.
    """
    if out is not None and out.exists() and not out.is_dir():
        raise ConfigError(f"{out}: not a folder; choose another --out")
    screen = console(stderr=True)
    try:
        with progress_on(screen, BarColumn()) as progress:
            task = progress.add_task("starting", total=None)
            family = size_family(
                settings,
                progress=lambda what, done, total: progress.update(
                    task, description=what, completed=done, total=total
                ),
                waiting=lambda: progress.update(
                    task, description="waiting for the device, which others use"
                ),
            )
    except KeyboardInterrupt:
        screen.print("Stopped.")
        return INTERRUPTED
    if out is not None:
        family.write(out)
    if as_json:
        print(json.dumps(family.to_dict(), indent=2))
    else:
        _show(family, out)
    return 0


def _show(family: SizedFamily, out: Path | None) -> None:
    screen = console()
    base, last = family.members[0].member, family.members[-1].member
    timed = family.hardware is not None
    rows = [
        ("base", f"{family.base}, trained at {base.train_image_size} px"),
        ("family", family.rules.name),
        ("step", f"batch {family.batch_size}, {family.num_classes} classes"),
    ]
    if timed:
        rows += [
            ("device", f"{family.hardware}; step times are predicted from those of the layers"),
            ("training", f"{family.epochs} epochs of {family.images:,} images, at the last size or "
                         "with growing images"),
        ]  # fmt: skip
    screen.print(facts(rows))
    screen.print()
    screen.print(_table(family, timed))
    for sized in family.members:
        if sized.reason:
            screen.print(f"\n{sized.member.name}: {sized.reason}")
    screen.print()
    for sized in family.members:
        screen.print(f"[bold]{sized.member.name}[/]  {sized.member.architecture}")
    if family.fit:
        screen.print(f"\n{_fit_text(family)}")
    if out is not None:
        screen.print(
            f"\nWritten to {out}: family.json, and an architecture file for each member, such as "
            f"{out / base.name}.json.\nTo train one:\n  effnas train {out / last.name}.json --data "
            "DATA --recipe family"
        )


def _fit_text(family: SizedFamily) -> str:
    fit = family.fit
    assert fit is not None
    names = [rule.name for rule in family.rules.members]
    if fit.position == int(fit.position):
        where = f"it is {names[int(fit.position)]}"
    else:
        below = int(fit.position)
        where = f"{fit.position - below:.0%} of the way from {names[below]} to {names[below + 1]}"
    if not fit.binding:
        return f"The largest of the family is within all limits ({where})."
    bound = " and ".join(limit.text for limit in fit.binding)
    return f"The largest network within the limits: {where}. What binds: {bound}."


def _table(family: SizedFamily, timed: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    names = ["", "params", "MACs", "activations", "layers", "train px", "infer px", "memory"]
    if timed:
        names += ["S", "step", "training", "growing"]
    for name in (*names, "dropout", "RandAugment", "mixup"):
        table.add_column(name, justify="right", no_wrap=True)
    for sized in family.members:
        member, m = sized.member, sized.metrics
        first, last = member.stage_image_sizes[0], member.train_image_size
        cells = [
            member.name,
            f"{m['params'] / 1e6:,.2f} M",
            macs_text(m["macs"]),
            f"{m['activations'] / 1e6:,.2f} M",
            str(member.architecture.layers),
            str(last) if first == last else f"{first}-{last}",
            str(member.image_size),
            memory_text(m["peak_memory_bytes"]) if "peak_memory_bytes" in m else "-",
        ]
        if timed:
            cells += _times(m)
        strengths = member.regularization
        ramps = (strengths.dropout, strengths.randaugment, strengths.mixup)
        table.add_row(*cells, *map(_ramp_text, ramps))
    return table


def _times(metrics: Mapping[str, Any]) -> list[str]:
    if "step_time" not in metrics:
        return ["-"] * 4
    return [
        f"{metrics['step_time']:.2f}",
        f"{metrics['step_time_s'] * 1e3:,.0f} ms",
        duration(metrics["train_time_s"]),
        duration(metrics["progressive_train_time_s"]),
    ]


def _ramp_text(ramp: Ramp) -> str:
    low, high = f"{ramp.first:.3g}", f"{ramp.last:.3g}"
    return low if low == high else f"{low}-{high}"
