"""The strict reader of block strings, with or without choice sets.

    stage       = op ("_" field)*
    op          = code | "<" alternative ("|" alternative)* ">"
    alternative = code ("_" name number)*
    field       = name (number | "<" item ("|" item)* ">")
    item        = number | number ".." number [":" number]     (inclusive)

timm's reader of the same notation passes over what it does not understand; this one points at it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NoReturn, TypeVar

from effnas.arch.blocks import FIELDS, OPERATORS, Number, number_text, problem
from effnas.errors import Location, SpaceError, closest

#: timm's codes for our operators.
ALIASES = {"ir": "mbconv", "er": "fused", "ds": "mbconv", "cn": "conv"}

Locate = Callable[[int], Location]
_Value = TypeVar("_Value")

_WORD = re.compile(r"[A-Za-z]+")
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_MAX_DIGITS = 40
_MAX_ITEMS = 10_000  # of one choice set: beyond it a range is a slip of the pen


@dataclass(frozen=True)
class Alternative:
    """An operator with the fields that belong to it alone, e.g. `mbconv_se0.25`."""

    op: str
    fields: tuple[tuple[str, Number], ...] = ()

    def __str__(self) -> str:
        return "_".join([self.op, *(f"{name}{number_text(value)}" for name, value in self.fields)])


@dataclass(frozen=True)
class StageSyntax:
    """A block string taken apart: its alternatives and the values that each field may have."""

    alternatives: tuple[Alternative, ...]
    fields: tuple[tuple[str, tuple[Number, ...]], ...]


def read(text: str, locate: Locate | None = None) -> StageSyntax:
    """Take a block string apart; `locate` gives the place of the n-th character, for errors.

    Raises:
        SpaceError: With place, caret and the known fields, if the text breaks any rule.
    """
    return _Reader(text, locate or (lambda n: Location("block", 1, n + 1, text))).stage()


def _number(text: str) -> Number:
    value = float(text)
    return int(Decimal(text)) if value.is_integer() else value


def _in_order(fields: Mapping[str, _Value]) -> tuple[tuple[str, _Value], ...]:
    return tuple((name, fields[name]) for name in FIELDS if name in fields)


@dataclass
class _Draft:
    """An alternative while it is being read, with the places of what it holds."""

    code: str
    op: str
    start: int
    fields: dict[str, Number] = field(default_factory=dict)
    skip: bool = False


@dataclass
class _Reader:
    text: str
    locate: Locate
    at: int = 0
    starts: dict[str, int] = field(default_factory=dict)

    def stage(self) -> StageSyntax:
        drafts = list(self._alternatives())
        fields: dict[str, tuple[Number, ...]] = {}
        flagged = False
        while self.at < len(self.text):
            self._expect("_")
            start = self.at
            name = self._word("a field")
            if name == "skip":
                if any(d.code != "cn" for d in drafts):
                    self._fail(start, "skip is a flag of timm's cn alone")
                if flagged or any(d.skip for d in drafts):
                    self._fail(start, "the flag skip is given twice")
                flagged = True
                continue
            self._known(name, start, drafts)
            if name in fields:
                self._fail(start, f"field {name} is given twice")
            fields[name] = tuple(self._values(name))
            self.starts[name] = start
        for draft in drafts:
            draft.skip = draft.skip or flagged
            self._settle(draft, fields)
        self._check(drafts, fields)
        alternatives = tuple(Alternative(d.op, _in_order(d.fields)) for d in drafts)
        for n, alternative in enumerate(alternatives):
            if alternative in alternatives[:n]:
                self._fail(drafts[n].start, f"alternative {alternative} is given twice")
        return StageSyntax(alternatives, _in_order(fields))

    def _alternatives(self) -> Iterator[_Draft]:
        if not self._take("<"):
            start = self.at
            yield self._operator(start)
            return
        if self.text.startswith(">", self.at):
            known = ", ".join(OPERATORS)
            self._fail(self.at, f"the set of operators is empty: name at least one of {known}")
        while True:
            draft = self._operator(self.at)
            while self._take("_"):
                start = self.at
                name = self._word("a field")
                if name == "skip" and draft.code == "cn":
                    if draft.skip:
                        self._fail(start, "the flag skip is given twice")
                    draft.skip = True
                    continue
                self._known(name, start, [draft])
                if name in draft.fields:
                    self._fail(start, f"field {name} is given twice")
                draft.fields[name] = self._value(name)
            yield draft
            if self._take(">"):
                return
            self._expect("|", "| or >")

    def _operator(self, start: int) -> _Draft:
        code = self._word("an operator", known=[*OPERATORS, *ALIASES])
        op = ALIASES.get(code, code)
        if op not in OPERATORS:
            self._fail(start, f"unknown operator {code!r}; {closest(code, OPERATORS)}")
        draft = _Draft(code, op, start)
        if code == "ds":
            draft.fields["e"] = 1
        return draft

    def _values(self, name: str) -> list[Number]:
        if not self._take("<"):
            return [self._value(name)]
        values: list[Number] = []
        if self.text.startswith(">", self.at):
            what = f"the choice set of {name} ({FIELDS[name]})"
            self._fail(self.at, f"{what} is empty: name at least one value")
        while True:
            start = self.at
            for value in self._item(name):
                if value in values:
                    self._fail(start, f"{name}{value} is in the choice set twice")
                values.append(value)
            if self._take(">"):
                return values
            self._expect("|", "|, .. or >")

    def _item(self, name: str) -> list[Number]:
        start = self.at
        low = self._value(name)
        if not self._take(".."):
            return [low]
        high = self._value(name)
        step = Decimal(self._digits(name)) if self._take(":") else Decimal(1)
        if high < low:
            self._fail(start, f"the range {low}..{high} is empty: write the smaller number first")
        if step <= 0:
            self._fail(start, "the step of a range is above 0")
        count = int((Decimal(str(high)) - Decimal(str(low))) / step) + 1
        if count > _MAX_ITEMS:
            self._fail(
                start, f"the range {low}..{high} has {count:,} values; {_MAX_ITEMS:,} are the most"
            )
        values = [_number(str(Decimal(str(low)) + n * step)) for n in range(count)]
        for value in values:
            self._valid(name, value, start)
        return values

    def _value(self, name: str) -> Number:
        start = self.at
        value = _number(self._digits(name))
        self._valid(name, value, start)
        return value

    def _digits(self, name: str) -> str:
        match = _NUMBER.match(self.text, self.at)
        if not match:
            what = f"field {name} ({FIELDS[name]})"
            self._fail(self.at, f"{what} needs a number here, not {self._found()}")
        if len(match.group()) > _MAX_DIGITS:
            self._fail(self.at, f"a number has {_MAX_DIGITS} digits at most")
        self.at = match.end()
        return match.group()

    def _word(self, wanted: str, known: list[str] | None = None) -> str:
        match = _WORD.match(self.text, self.at)
        if not match:
            listing = ", ".join(known or FIELDS)
            self._fail(
                self.at, f"{wanted} is missing here, found {self._found()}; known: {listing}"
            )
        self.at = match.end()
        return match.group()

    def _take(self, token: str) -> bool:
        if self.text.startswith(token, self.at):
            self.at += len(token)
            return True
        return False

    def _expect(self, token: str, wanted: str | None = None) -> None:
        if not self._take(token):
            self._fail(self.at, f"expected {wanted or repr(token)}, found {self._found()}")

    def _found(self) -> str:
        return repr(self.text[self.at]) if self.at < len(self.text) else "the end"

    def _known(self, name: str, start: int, drafts: list[_Draft]) -> None:
        if any(name in OPERATORS[d.op].fields for d in drafts):
            return
        ops = " or ".join(dict.fromkeys(d.op for d in drafts))
        taken = dict.fromkeys(f for d in drafts for f in OPERATORS[d.op].fields)
        what = "takes no field" if name in FIELDS else "has an unknown field"
        self._fail(start, f"{ops} {what} {name!r}; its fields: {', '.join(taken)}")

    def _valid(self, name: str, value: Number, start: int) -> None:
        wrong = problem(name, value)
        if wrong:
            self._fail(start, wrong)

    def _settle(self, draft: _Draft, fields: dict[str, tuple[Number, ...]]) -> None:
        """Give timm's codes their meaning, or refuse where ours would be another network."""
        if draft.fields.get("se") == 0:
            del draft.fields["se"]  # the same as none
        if draft.op == "identity" and draft.fields.get("r") == 1:
            del draft.fields["r"]
        expansions = (draft.fields["e"],) if "e" in draft.fields else fields.get("e", ())
        if draft.skip:
            draft.op, draft.fields["e"] = "fused", 1
        elif draft.code == "er" and 1 in expansions:
            self._fail(
                draft.start,
                "timm's er with e1 is a k×k and a 1×1 convolution, ours is the "
                "first alone: write fused_..._e1 if that is what you want",
            )
        elif draft.code == "ds" and "e" in fields:
            if fields["e"] != (1,):
                self._fail(self.starts["e"], "ds has no expansion: leave e out, or write mbconv")
            del draft.fields["e"]

    def _check(self, drafts: list[_Draft], fields: dict[str, tuple[Number, ...]]) -> None:
        for draft in drafts:
            operator = OPERATORS[draft.op]
            for name in draft.fields:
                if name in fields:
                    self._fail(
                        self.starts[name],
                        f"field {name} is given twice: here and by the alternative {draft.code}",
                    )
            missing = [f for f in operator.required if f not in draft.fields and f not in fields]
            if missing:
                listing = ", ".join(f"{f} ({FIELDS[f]})" for f in missing)
                self._fail(
                    draft.start, f"{draft.code} lacks the field{'s' * (len(missing) > 1)} {listing}"
                )
            if len(drafts) > 1:
                continue
            single = {**{n: (v,) for n, v in draft.fields.items()}, **fields}
            if draft.op == "identity" and single.get("r", (1,)) != (1,):
                self._fail(self.starts["r"], "identity has no layers to repeat: leave r out")
            if draft.op == "fused" and single["e"] == (1,) and any(single.get("se", ())):
                self._fail(
                    self.starts["se"],
                    "fused with e1 is a single convolution, which has no "
                    "place for squeeze-and-excitation: leave se out",
                )

    def _fail(self, at: int, message: str) -> NoReturn:
        raise SpaceError(self.locate(at).describe(message))
