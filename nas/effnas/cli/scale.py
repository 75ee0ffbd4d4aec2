"""`effnas scale`: a family of networks, and what its members cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effnas.cli.pages import after_scaling
from effnas.cli.session import LongCommand
from effnas.cli.tables import (
    counted,
    duration,
    macs_text,
    networks,
    params_text,
    reasons,
    step_text,
    table,
)
from effnas.config.codec import read_object
from effnas.config.regularization import Ramp
from effnas.config.text import share_text
from effnas.errors import ConfigError
from effnas.scaling.budget import Limit
from effnas.scaling.compound import CompoundScaling
from effnas.scaling.family_file import read_family
from effnas.scaling.rules import ScalingRules
from effnas.scaling.sizing import ScaleSettings, SizedFamily, size_family
from effnas.search.cost_estimate import memory_text
from effnas.trials.store import FAMILY, FAMILY_KIND

if TYPE_CHECKING:
    from effnas.cli.tables import Table

#: What options limit: a number, and one over the base's; and an example of the first.
_METRICS = {
    "step_time": ("step_time_s", "step_time", "0.1 (seconds)"),
    "params": ("params", "params_ratio", "2e6"),
    "memory": ("peak_memory_bytes", "peak_memory_bytes_ratio", "8e9 (bytes)"),
    "macs": ("macs", "macs_ratio", "1e9"),
}


@dataclass(frozen=True, kw_only=True)
class RulesAsked:
    """The options that mean rules of scaling: those of a family, or compound scaling."""

    family: str | None
    alpha: float | None
    beta: float | None
    gamma: float | None
    phi: str | None
    image_size: int | None
    round_limit: float | None
    last_stage: bool

    def rules(self) -> ScalingRules:
        """Return the rules.

        Raises:
            UserError: If the options contradict each other or are out of range.
        """
        factors = {"alpha": self.alpha, "beta": self.beta, "gamma": self.gamma}
        given = {name: value for name, value in factors.items() if value is not None}
        if given or self.phi is not None:
            if self.family is not None:
                raise ConfigError(
                    f"--family {self.family} and --{next(iter(given), 'phi')}: a family has "
                    "factors of its own; choose one"
                )
            phis = numbers_of("--phi", self.phi or "1,2,3")
            rules = CompoundScaling(**given).rules(phis, image_size=self.image_size or 224)
        else:
            rules = ScalingRules.load(self.family or "v2")
        if (limit := self.round_limit) is not None:
            if not 0 <= limit <= 1:
                raise ConfigError(f"--round-limit is {limit:g}, it is a share of 0 to 1")
            rules = replace(rules, round_limit=limit)
        if self.last_stage:
            return rules
        members = (
            replace(rule, growth=replace(rule.growth, last_stage=None)) for rule in rules.members
        )
        return replace(rules, members=tuple(members))


def limits_of(**given: str | None) -> tuple[Limit, ...]:
    """Return the limits that options mean, by the names of `_METRICS`; 2x is twice the base's.

    Raises:
        ConfigError: If one is no number above 0.
    """
    found = []
    for name, value in given.items():
        if value is None:
            continue
        option = f"--{name.replace('_', '-')}"
        number, ratio, example = _METRICS[name]
        try:
            most = float(value.removesuffix("x"))
        except ValueError:
            most = -1.0
        if not 0 < most < inf:
            raise ConfigError(
                f"{option} {value}: a number above 0 is needed, such as {example}, or 2x for twice "
                "the base's"
            )
        metric = ratio if value.endswith("x") else number
        found.append(Limit(metric, most, f"{option} {value}"))
    return tuple(found)


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


class ScaleCommand(LongCommand[ScaleSettings, SizedFamily]):
    """Writes a family in a folder, if one is given, and shows its members.

    Raises:
        UserError: If the folder is a file, or holds the family of another base.
    """

    def __init__(self, settings: ScaleSettings, *, folder: Path | None, as_json: bool) -> None:
        if folder is not None and folder.exists() and not folder.is_dir():
            raise ConfigError(f"{folder}: not a folder; choose another --out")
        if folder is not None and (folder / FAMILY).exists():
            base = read_object(folder / FAMILY, FAMILY_KIND).get("base")
            if base != settings.base:
                raise ConfigError(f"{folder}: it holds the family of {base}; choose another --out")
        super().__init__(settings, as_json=as_json)
        self._folder = folder

    def work(self) -> SizedFamily:
        family = size_family(self.settings, progress=self.progress, waiting=self.waiting)
        if self._folder is not None:
            family.write(self._folder)
        return family

    def payload(self, family: SizedFamily) -> dict[str, Any]:
        return family.to_dict()

    def show(self, family: SizedFamily) -> None:
        base = family.members[0].member
        timed = family.hardware is not None
        rows = [
            ("base", f"{family.base}, at {base.train_image_size} px; S is relative to its step"),
            ("family", family.rules.name),
            ("step", f"batch {family.batch_size}, "
                     f"{counted(family.num_classes, 'class', 'classes')}"),
        ]  # fmt: skip
        if timed:
            rows += [
                ("device", f"{family.hardware}; step times are predicted from those of the layers"),
                ("training", f"{counted(family.epochs, 'epoch')} of "
                             f"{counted(family.images, 'image')}, at the last size or with growing "
                             "images"),
            ]  # fmt: skip
        self.plan(*rows)
        for part in (_costs(family), _trainings(family)):
            self.screen.print(part)
            self.screen.print()
        self.say(reasons((sized.member.name, sized.reason) for sized in family.members))
        self.screen.print(
            networks((each.member.name, each.member.architecture) for each in family.members)
        )
        if text := _fit_text(family):
            self.say(text)
        if (out := self._folder) is not None:
            self.say(
                f"\nWritten to {out}: family.json, and an architecture file for each member, such "
                f"as {out / base.name}.json."
            )
            self.next(*(words for _, words in after_scaling(read_family(out))))


def _fit_text(family: SizedFamily) -> str:
    fit = family.fit
    if fit is None:
        return ""
    names = [rule.name for rule in family.rules.members]
    below = int(fit.position)
    where = f"it is {names[below]}"
    if fit.position != below:
        share = share_text(fit.position - below)
        where = f"{share} of the way from {names[below]} to {names[below + 1]}"
    if not fit.binding:
        return f"\nThe largest of the family is within all limits ({where})."
    bound = " and ".join(limit.text for limit in fit.binding)
    return f"\nThe largest network within the limits: {where}. What binds: {bound}."


def _costs(family: SizedFamily) -> Table:
    times = ("S", "step") if family.hardware is not None else ()
    found = table("member", "params", "MACs", "activations", "layers", "memory", *times,
                  left=["member"])  # fmt: skip
    for sized in family.members:
        m = sized.metrics
        found.add_row(
            sized.member.name,
            params_text(m["params"]),
            macs_text(m["macs"]),
            params_text(m["activations"]),
            str(sized.member.architecture.layers),
            memory_text(m["peak_memory_bytes"]) if "peak_memory_bytes" in m else "-",
            *_times(m, times),
        )
    return found


def _trainings(family: SizedFamily) -> Table:
    times = ("training", "growing") if family.hardware is not None else ()
    found = table(
        "member", "train px", "infer px", "dropout", "RandAugment", "mixup", *times, left=["member"]
    )
    for sized in family.members:
        member, strengths = sized.member, sized.member.regularization
        first, last = member.stage_image_sizes[0], member.train_image_size
        found.add_row(
            member.name,
            str(last) if first == last else f"{first}-{last}",
            str(member.image_size),
            *map(_ramp_text, (strengths.dropout, strengths.randaugment, strengths.mixup)),
            *_times(sized.metrics, times),
        )
    return found


def _times(m: Mapping[str, float], columns: Iterable[str]) -> list[str]:
    """Return cells of columns of times; a member that cannot be timed has none."""
    if "step_time" not in m:
        return ["-" for _ in columns]
    texts = {
        "S": f"{m['step_time']:.2f}",
        "step": step_text(m["step_time_s"]),
        "training": duration(m["train_time_s"]),
        "growing": duration(m["progressive_train_time_s"]),
    }
    return [texts[column] for column in columns]


def _ramp_text(ramp: Ramp) -> str:
    low, high = f"{ramp.first:.3g}", f"{ramp.last:.3g}"
    return low if low == high else f"{low}-{high}"
