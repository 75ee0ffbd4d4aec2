"""The choices of one stage: a finite set of fixed stages, described by alternatives and fields."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import product
from math import prod
from typing import TYPE_CHECKING

from effnas.arch.blocks import FIELDS, OPERATORS, Number, Stage, number_text
from effnas.arch.notation import Alternative, read
from effnas.config.text import Option
from effnas.errors import Location, SpaceError

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class StageSpace:
    """All stages that a block string with choice sets stands for.

    Attributes:
        alternatives: The operators, each with the fields that belong to it alone.
        fields: The values of every field that the alternatives share. A field counts only where
            the chosen operator has a place for it: `conv` has no expansion, and Fused-MBConv with
            expansion 1 has no squeeze-and-excitation.

    Raises:
        SpaceError: If the parts do not make a valid block string.
    """

    alternatives: tuple[Alternative, ...]
    fields: tuple[tuple[str, tuple[Number, ...]], ...]

    def __post_init__(self) -> None:
        # The notation holds all rules, so a space written in Python obeys the same ones.
        syntax = read(str(self))
        object.__setattr__(self, "alternatives", syntax.alternatives)
        object.__setattr__(self, "fields", syntax.fields)

    @classmethod
    def parse(cls, text: str, locate: Callable[[int], Location] | None = None) -> StageSpace:
        """Read a block string with choice sets, such as `<fused|mbconv>_r<1..3>_k3_s1_e4_c24`.

        Raises:
            SpaceError: If the text breaks the notation.
        """
        syntax = read(text, locate)
        return cls(syntax.alternatives, syntax.fields)

    def __str__(self) -> str:
        ops = [str(a) for a in self.alternatives]
        op = ops[0] if len(ops) == 1 else f"<{'|'.join(ops)}>"
        parts = [
            name + (texts[0] if len(texts) == 1 else f"<{'|'.join(texts)}>")
            for name, values in self.fields
            for texts in [[number_text(value) for value in values]]
        ]
        return "_".join([op, *parts])

    @cached_property
    def choices(self) -> Mapping[str, tuple[Option, ...]]:
        """Decision -> its options, for every decision that is open."""
        choices: dict[str, tuple[Option, ...]] = {}
        if len(self.alternatives) > 1:
            choices["op"] = tuple(str(a) for a in self.alternatives)
        return choices | {name: values for name, values in self.fields if len(values) > 1}

    @cached_property
    def size(self) -> int:
        """Number of different stages."""
        if len({alternative.op for alternative in self.alternatives}) < len(self.alternatives):
            return sum(1 for _ in self.stages())  # two alternatives may come to the same stage
        total = 0
        for alternative in self.alternatives:
            shared = self._active(alternative, 2)
            for e in shared.get("e", (dict(alternative.fields).get("e", 2),)):
                active = self._active(alternative, e)
                total += prod(len(values) for name, values in active.items() if name != "e")
        return total

    def draw(self, rng: np.random.Generator, given: Mapping[str, Option] | None = None) -> Stage:
        """Draw what is not `given` of a stage, every open decision uniformly among its options."""
        return self.decide_by(lambda name, options: options[int(rng.integers(len(options)))], given)

    def decisions(self, stage: Stage) -> dict[str, Option] | None:
        """Return the decisions that lead to `stage`, or None if it lies outside the space."""
        for alternative in self.alternatives:
            if alternative.op != stage.op:
                continue
            fixed = dict(alternative.fields)
            shared = self._active(alternative, stage.e)
            found: dict[str, Option] = {}
            if len(self.alternatives) > 1:
                found["op"] = str(alternative)
            for name in FIELDS:
                value = getattr(stage, name)
                if name in shared:
                    if value not in shared[name]:
                        break
                    if len(shared[name]) > 1:
                        found[name] = value
                elif name in fixed:
                    squeezed_away = name == "se" and stage.op == "fused" and stage.e == 1
                    if value != fixed[name] and not squeezed_away:
                        break
                elif name == "se" and value != 0:
                    break
            else:
                return found
        return None

    def stages(self) -> Iterator[Stage]:
        """All stages, in a fixed order, each once."""
        seen = set()
        for alternative in self.alternatives:
            names = [name for name, _ in self.fields if name in OPERATORS[alternative.op].fields]
            values = dict(self.fields)
            for combination in product(*(values[name] for name in names)):
                stage = self._make(alternative, dict(zip(names, combination, strict=True)))
                if stage not in seen:
                    seen.add(stage)
                    yield stage

    def neighbours(self, stage: Stage) -> tuple[Stage, ...]:
        """Return the stages that differ from `stage` in one of the decisions that both have."""
        if stage not in self._neighbours:
            mine = self._all_decisions[stage]
            self._neighbours[stage] = tuple(
                other
                for other, theirs in self._all_decisions.items()
                if sum(option != theirs.get(name, option) for name, option in mine.items()) == 1
            )
        return self._neighbours[stage]

    @cached_property
    def _texts(self) -> tuple[str, ...]:
        return tuple(str(a) for a in self.alternatives)

    @cached_property
    def _all_decisions(self) -> dict[Stage, dict[str, Option]]:
        return {stage: self.decisions(stage) or {} for stage in self.stages()}

    @cached_property
    def _neighbours(self) -> dict[Stage, tuple[Stage, ...]]:
        return {}

    def _active(self, alternative: Alternative, expansion: Number) -> dict[str, tuple[Number, ...]]:
        """The shared fields that the alternative has a place for, given its expansion."""
        key = alternative.op, expansion == 1
        if key not in self._places:
            taken = set(OPERATORS[alternative.op].fields)
            if alternative.op == "identity":
                taken.discard("r")
            if alternative.op == "fused" and expansion == 1:
                taken.discard("se")
            self._places[key] = {name: values for name, values in self.fields if name in taken}
        return self._places[key]

    @cached_property
    def _places(self) -> dict[tuple[str, bool], dict[str, tuple[Number, ...]]]:
        return {}

    def decide_by(
        self,
        choose: Callable[[str, tuple[Option, ...]], Option],
        given: Mapping[str, Option] | None = None,
    ) -> Stage:
        """Return the stage that `choose` leads to.

        Args:
            choose: Takes the name and the options of a decision, and returns one of them. Called
                for every decision that is open, the operator first; those that an earlier one has
                closed are left out.
            given: Decisions that are taken already.

        Raises:
            SpaceError: If a given option is unknown.
        """
        given = given or {}

        def pick(name: str, options: tuple[Option, ...]) -> Option:
            if len(options) == 1:
                return options[0]
            if name not in given:
                return choose(name, options)
            if given[name] not in options:
                raise SpaceError(
                    f"{name}: {given[name]!r} is none of {', '.join(map(str, options))}"
                )
            return given[name]

        texts = self._texts
        alternative = self.alternatives[texts.index(str(pick("op", texts)))]
        values = dict(alternative.fields)
        # The expansion comes first: whether squeeze-and-excitation has a place depends on it.
        shared = self._active(alternative, 2)
        if "e" in shared:
            values["e"] = pick("e", shared["e"])  # type: ignore[assignment]
        for name, options in self._active(alternative, values.get("e", 2)).items():
            if name != "e":
                values[name] = pick(name, options)  # type: ignore[assignment]
        return self._make(alternative, values)

    def _make(self, alternative: Alternative, values: Mapping[str, Number]) -> Stage:
        fields = {**dict(alternative.fields), **values}
        if alternative.op == "identity":
            fields.pop("r", None)
        if alternative.op == "fused" and fields.get("e") == 1:
            fields.pop("se", None)
        return _stage(alternative.op, *fields.items())


@lru_cache(maxsize=1 << 16)  # drawing makes the same stages again and again
def _stage(op: str, *fields: tuple[str, Number]) -> Stage:
    return Stage(op, **dict(fields))  # type: ignore[arg-type]
