"""The report of a family: what its members cost, and how they grew from the base."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from effnas.arch.architecture import Architecture
from effnas.errors import UserError
from effnas.report.diagram import draw
from effnas.report.figures import ROWS_AXIS, Trace, axis, dots, rows_height
from effnas.report.parts import (
    Cell,
    Column,
    Figure,
    Page,
    Section,
    Table,
    count_text,
    counted,
    duration,
    listed,
    next_section,
)
from effnas.report.settings import settings_table
from effnas.scaling.family_file import Member, StoredFamily
from effnas.scaling.growth import factors_for, grow
from effnas.scaling.rules import MemberRule, ScalingRules

#: What members are compared by with the base: attribute, name, and colour.
_COSTS = (
    ("params", "parameters", "@green"), ("macs", "MACs", "@accent"),
    ("step_time_s", "step time", "@warm"), ("peak_memory_bytes", "memory", "@violet"),
)  # fmt: skip
#: Where the axis of ratios has its numbers.
_TICKS = (1, 1.5, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100)


def report_family(
    family: StoredFamily,
    commands: Callable[[StoredFamily], Sequence[tuple[str, str]]] | None = None,
) -> Page:
    """Return the report of a family.

    Args:
        family: It, as it is stored.
        commands: Returns what to do next: why, and the command.
    """
    base, largest = family.members[0], family.members[-1]
    parts = (_what_they_cost, _how_they_grew, _what_training_takes, _where_from)
    text = f"{counted(len(family.members), 'network')} from {base.name} to {largest.name}"
    if base.params and largest.params:
        text += f": {count_text(base.params)} to {count_text(largest.params)} parameters"
    tiles = [
        (name, f"{high / low:.1f}×", f"{largest.name} over {base.name}")
        for attribute, name, _ in _COSTS
        if (low := getattr(base, attribute)) and (high := getattr(largest, attribute))
    ]
    return Page(
        kind="a family",
        title=text,
        facts=[
            ("file", str(family.file)), ("base", base.base), ("rules", base.family),
            ("device", base.hardware or "none: step times were not predicted"),
        ],
        tiles=tiles,
        sections=[
            *(part(family) for part in parts), *next_section(commands and commands(family)),
        ],
    )  # fmt: skip


def _what_they_cost(family: StoredFamily) -> Section:
    base, members = family.members[0], family.members
    largest = members[-1]
    ratios = [
        f"{getattr(largest, attribute) / low:.1f} times the {name}"
        for attribute, name, _ in _COSTS
        if (low := getattr(base, attribute)) and getattr(largest, attribute)
    ]
    answer = (
        f"{largest.name} has {listed(ratios)} of {base.name}."
        if len(members) > 1
        else f"The base {base.name} is the only member."
    )
    if family.binding is not None:
        answer += (
            f" It is the largest within the limits; what binds: {listed(family.binding)}."
            if family.binding
            else " The largest of the rules is within all limits."
        )
    sure = "Parameters, MACs and activations are exact, those at inference's image size. "
    sure += (
        "Step times of one training step at the last image size of training are predicted from "
        f"those of the layers, which were measured on {base.hardware}; memory is estimated. No "
        "accuracy was measured: whether a larger member is better, its training will tell."
        if base.hardware
        else "Step times are not known: no device was given. No accuracy was measured."
    )
    lacking = [f"{m.name}: {m.reason}" for m in members if m.reason]
    sure += f" Not all costs are known: {'; '.join(lacking)}." if lacking else ""
    columns = [
        Column("member"), Column("params", ",d", "parameters"), Column("macs", ",d", "MACs"),
        Column("activations", ",d"), Column("layers", "d"),
        Column("image_size", "d", "px at inference"),
        Column("peak_memory_bytes", ",d", "memory, bytes"),
        Column("step_time", ".3f", "step time S"), Column("step_time_s", ".4g", "step, s"),
    ]  # fmt: skip
    rows: list[list[Cell]] = [
        [m.name, *(getattr(m, column.name) for column in columns[1:])] for m in members
    ]
    return Section(
        name="members", question="What does each member cost?", answer=answer, sure=sure,
        figures=[_ratios(members)] if len(members) > 1 and ratios else [],
        tables=[Table(name="members", columns=columns, rows=rows, is_open=True, is_turned=True)],
    )  # fmt: skip


def _ratios(members: Sequence[Member]) -> Figure:
    """Draw what members cost over the base, on a logarithmic axis."""
    names = [member.name for member in members]
    data: list[Trace] = []
    highest = 1.0
    for attribute, what, colour in _COSTS:
        low = getattr(members[0], attribute)
        known = [(m.name, getattr(m, attribute) / low) for m in members
                 if low and getattr(m, attribute)]  # fmt: skip
        if known:
            highest = max(highest, *(ratio for _, ratio in known))
            data.append(dots([r for _, r in known], [n for n, _ in known], colour, name=what,
                             size=11, opacity=0.85,
                             hovertemplate=f"%{{y}}: %{{x:.2f}} times the {what}"
                                           "<extra></extra>"))  # fmt: skip
    ticks = [each for each in _TICKS if each <= 1.5 * highest]
    return Figure(
        name="members",
        label="Costs of each member over those of the base",
        data=data,
        layout={
            "xaxis": axis("times the base's", type="log", tickvals=ticks,
                          ticktext=[f"{each:g}" for each in ticks]),
            "yaxis": {**ROWS_AXIS, "showgrid": True, "categoryarray": names[::-1]},
        },
        height=rows_height(len(names), 100) + 10 * len(names),
    )  # fmt: skip


def _network(member: Member) -> Architecture | None:
    try:
        return Architecture.parse(member.architecture, stem=member.stem, head=member.head,
                                  stem_stride=member.stem_stride)  # fmt: skip
    except UserError:
        return None


def _how_they_grew(family: StoredFamily) -> Section:
    question, base = "How did each grow?", _network(family.members[0])
    if base is None:
        return Section(name="growth", question=question,
                       answer="Not known: the base has no block strings here.")  # fmt: skip
    rules = _rules(family)
    rows: list[list[Cell]] = []
    differing, drawn = [], []
    for member in family.members:
        found = _network(member)
        if found is None:
            continue
        drawn.append(
            draw(f"{member.name}, {counted(member.layers, 'layer')}", found, member.image_size)
        )
        rule = _rule(rules, member)
        wanted = rule and rules and grow(base, rule.growth, round_limit=rules.round_limit)
        if wanted and wanted != found:
            differing.append(member.name)
        rows += _stages(member.name, base, found, rule)
    answer = "; ".join(
        f"{m.name} has {counted(m.layers, 'layer')}" for m in family.members
    ) + "."  # fmt: skip
    if rules is None:
        sure = (
            f"The rules {family.members[0].family!r} are none that this installation has by name, "
            "so what they ask for is not shown."
        )
    elif differing:
        sure = (
            f"By the rules {rules.name} as they are now, {listed(differing)} would be another "
            "network: options, a limit or other rules made this one."
        )
    else:
        sure = (
            f"All are as the rules {rules.name} have them. Channels are rounded to multiples of 8 "
            "and layers up, so that small networks grow by other factors than the rules name."
        )
    sure += " Drawn: one bar a layer, as wide as the square root of its channels."
    columns = [
        Column("member"), Column("stage"), Column("channels", "d"), Column("layers", "d"),
        Column("width", ".2f", "channels over the base's"), Column("rule_width", ".2f", "by rule"),
        Column("depth", ".2f", "layers over the base's"), Column("rule_depth", ".2f", "by rule "),
    ]  # fmt: skip
    return Section(name="growth", question=question, answer=answer, sure=sure, extra="networks",
                   content=drawn,
                   tables=[Table(name="growth", columns=columns, rows=rows)])  # fmt: skip


def _rules(family: StoredFamily) -> ScalingRules | None:
    name = family.members[0].family
    # Only by a name of the catalog: a path may be anything by now.
    try:
        return ScalingRules.load(name) if name.replace("-", "").isalnum() else None
    except UserError:
        return None


def _rule(rules: ScalingRules | None, member: Member) -> MemberRule | None:
    found = (rule for rule in rules.members if rule.name == member.name) if rules else iter(())
    return next(found, None)


def _stages(
    name: str, base: Architecture, found: Architecture, rule: MemberRule | None
) -> list[list[Cell]]:
    """Return a row for each stage of a member, the stem and the head."""
    growth = rule.growth if rule else None
    rows: list[list[Cell]] = [
        [name, "stem", found.stem, 1, found.stem / base.stem,
         growth.stem if growth else None, None, None]
    ]  # fmt: skip
    count = len(base.stages)
    for n, stage in enumerate(found.stages):
        if n >= count:
            rows.append([name, f"{n + 1}, added", stage.c, stage.r, None, None, None, None])
            continue
        before = base.stages[n]
        factors: list[Cell] = [None, None]
        if growth:
            factors = [factors_for(each, count)[n] for each in (growth.width, growth.depth)]
        rows.append([name, str(n + 1), stage.c, stage.r, stage.c / before.c, factors[0],
                     stage.r / before.r, factors[1]])  # fmt: skip
    rows.append([name, "head", found.head, 1, found.head / base.head,
                 growth.head if growth else None, None, None])  # fmt: skip
    return rows


def _what_training_takes(family: StoredFamily) -> Section:
    question, members = "What will their training take?", family.members
    known = [m for m in members if m.train_time_s is not None]
    if known:
        last = known[-1]
        growing = last.progressive_train_time_s
        answer = (
            f"{last.name} takes about {duration(last.train_time_s or 0)} for "
            f"{counted(last.epochs, 'epoch')} of {counted(last.images, 'image')}"
            + (f", {duration(growing)} with growing images" if growing else "")
            + f"; {known[0].name} takes {duration(known[0].train_time_s or 0)}."
        )
        sure = (
            f"Steps of {counted(last.batch_size, 'image')} on one {last.hardware}, by predicted "
            "step times; measuring accuracy comes on top."
        )
    else:
        answer, sure = "Not known: no device was given to predict step times for.", ""
    columns = [
        Column("member"), Column("first_px", "d", "px at first"), Column("last_px", "d", "at last"),
        Column("image_size", "d", "at inference"), Column("dropout"), Column("randaugment"),
        Column("mixup"), Column("drop_path", "", "drop path"),
        Column("train_time_s", ",.0f", "training, s"),
        Column("progressive_train_time_s", ",.0f", "with growing images, s"),
    ]  # fmt: skip
    rows: list[list[Cell]] = []
    for m in members:
        strengths = [f"{r.first:.3g} to {r.last:.3g}" if r.first != r.last else f"{r.last:.3g}"
                     for r in (m.dropout, m.randaugment, m.mixup, m.drop_path)]  # fmt: skip
        rows.append([m.name, m.first_image_size, m.train_image_size, m.image_size, *strengths,
                     m.train_time_s, m.progressive_train_time_s])  # fmt: skip
    return Section(
        name="training", question=question, answer=answer, sure=sure,
        tables=[Table(name="training", columns=columns, rows=rows, is_open=True, is_turned=True)],
    )  # fmt: skip


def _where_from(family: StoredFamily) -> Section:
    base = family.members[0]
    settings = {
        name.replace("_", " "): getattr(base, name)
        for name in ("base", "family", "batch_size", "num_classes", "epochs", "images", "hardware")
    }
    return Section(
        name="provenance", question="What was it made with?",
        answer=f"{base.base}, grown by the rules {base.family}.",
        tables=[settings_table(settings)],
    )  # fmt: skip
