"""Values of a recipe as YAML has them, and the choice sets that they may be instead.

A value may be a choice set as in a search space, which a search decides:

    choice = "<" item ("|" item)* ">"
    item   = value | number ".." number (":" step | ":log" [points])
    value  = as without a choice; two ends are written first..last

`<0.004..0.06:log>` is a geometric sequence of both ends and what lies between, neighbours a factor
of at most √2 apart; `:log5` has five values. Image sizes may be shares of the images' own, such as
`<75%..100%|100%..100%>`, until `RecipeChoice.sized` makes pixels of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from math import ceil, isfinite, log, sqrt
from typing import Any

from effnas.config.catalog import Node
from effnas.config.recipe import STRENGTHS, Recipe
from effnas.config.regularization import Ramp
from effnas.config.text import Option, option_text
from effnas.errors import ConfigError

_MAX_OPTIONS = 1000
#: Options that a summary names one by one.
_SHOWN = 6
#: Neighbours in a geometric sequence differ by no more than this factor.
_LOG_STEP = sqrt(2)
_DIGITS = 3
#: Rounded to that, factors of neighbours differ by less than this factor.
_SAME_FACTOR = 1.1
#: What all candidates of a search have in common, so that it cannot be a choice.
_SHARED = frozenset(
    ("epochs", "train_time_s", "least_steps", "data_share", "holdout_share", "patience_epochs",
     "flip", "optimizer_arguments", "eval_image_size")
)  # fmt: skip
#: Names of what a recipe sets, in their order.
ATTRIBUTES = tuple(one.name for one in fields(Recipe))
_TYPES = {one.name: str(one.type) for one in fields(Recipe)}
_SHARES = re.compile(r"(\d+(?:\.\d+)?)%(?:\.\.(\d+(?:\.\d+)?)%)?")
#: The largest image size that is a share of the images' own, in percent.
_MOST_SHARE = 400
_RANGE = re.compile(r"(?P<low>[^.:]+(?:\.\d+)?)\.\.(?P<high>[^.:]+(?:\.\d+)?)(?::(?P<step>.+))?")


@dataclass(frozen=True)
class RecipeChoice:
    """A value of a recipe that is open.

    Attributes:
        name: Of the attribute of `Recipe`.
        options: In the order of the file, numbers or texts; two ends are texts such as `20..32`.
    """

    name: str
    options: tuple[Option, ...]

    @property
    def is_log(self) -> bool:
        """Whether the options are a geometric sequence, but for what was rounded."""
        numbers = [each for each in self.options if not isinstance(each, str)]
        if len(numbers) < max(len(self.options), 3) or min(numbers) <= 0:
            return False
        factors = [high / low for low, high in pairwise(sorted(numbers))]
        return max(factors) <= _SAME_FACTOR * min(factors)

    def __str__(self) -> str:
        return f"<{'|'.join(map(option_text, self.options))}>"

    @property
    def summary(self) -> str:
        """The options in short: long rows of numbers are `0.002..0.128 (13)`."""
        numbers = [one for one in self.options if not isinstance(one, str)]
        if len(numbers) < len(self.options) or len(numbers) <= _SHOWN:
            return "|".join(map(option_text, self.options))
        return f"{option_text(min(numbers))}..{option_text(max(numbers))} ({len(numbers)})"

    def around(self, value: Any) -> RecipeChoice:
        """Return the choice with the option that is nearest to a value first.

        It is what a search begins with; the value is that of the recipe that this one is based on.
        """
        wanted = value[-1] if isinstance(value, tuple) else value
        numbers = [one for one in self.options if not isinstance(one, str)]
        if isinstance(wanted, int | float) and len(numbers) == len(self.options):
            first: Option = min(numbers, key=lambda one: abs(one - wanted))
        else:
            first = wanted if wanted in self.options else self.options[0]
        return replace(self, options=(first, *(one for one in self.options if one != first)))

    @property
    def in_shares(self) -> bool:
        """Whether an option is a share of the images' own size."""
        return any("%" in str(one) for one in self.options)

    def sized(self, image_size: int) -> RecipeChoice:
        """Return the choice in pixels, where its options are shares of the images' own size.

        Args:
            image_size: That size in pixels, 1 or more.
        """
        options = (_pixels(str(one), image_size) or one for one in self.options)
        return replace(self, options=tuple(dict.fromkeys(options)))

    @property
    def first_value(self) -> Any:
        """What the first option stands for; None for a share of a size that is not known."""
        first = self.options[0]
        return None if "%" in str(first) else recipe_value(self.name, first)


def decided(
    recipe: Recipe, decisions: Mapping[str, Option], *, full_epochs: float | None = None
) -> Recipe:
    """Return a recipe with decisions in place of its own values.

    Args:
        recipe: With image sizes.
        decisions: Options by the names of the attributes.
        full_epochs: Epochs of the recipe that decisions are about, where this one was made shorter;
            None takes it as it is.

    Raises:
        ConfigError: If an option is no value of the attribute.
    """
    changes = {name: recipe_value(name, option) for name, option in decisions.items()}
    if "image_size" in changes:
        changes["eval_image_size"] = changes["image_size"][1]
    full = recipe.lasting(full_epochs or recipe.epochs)
    return replace(full, **changes).lasting(recipe.epochs)


def recipe_value(name: str, option: Option) -> Any:
    """Return the value of an attribute that an option of a choice stands for.

    Raises:
        ConfigError: If it is none.
    """
    if name not in _TYPES or name in _SHARED:
        raise ConfigError(f"recipe: {name} cannot be a choice")
    first, dots, last = str(option).partition("..")
    try:
        if name == "image_size":
            return int(first), int(last if dots else first)
        if name in STRENGTHS:
            return Ramp(float(first), float(last if dots else first))
        kind = _TYPES[name]
        if kind.startswith("int"):
            if float(option) % 1:
                raise ValueError
            return int(option)
        if kind.startswith("float"):
            if not isfinite(number := float(option)):
                raise ValueError
            return number
    except (ValueError, OverflowError):
        raise ConfigError(f"recipe: {option!r} is no value of {name}") from None
    if kind.startswith("bool"):
        return {"true": True, "false": False}[str(option)]
    return str(option)


def read_attribute(name: str, node: Node) -> Any:
    """Read a value of a recipe from YAML, or the choice that it is.

    Raises:
        ConfigError: With the place.
    """
    if isinstance(node.value, str) and node.value.startswith("<"):
        return _choice(name, node)
    value = _value(node, name, _TYPES[name])
    _check(name, value, node)
    return value


def _check(name: str, value: Any, node: Node) -> None:
    try:
        Recipe(**{name: value})
    except ConfigError as error:
        raise node.error(str(error).removeprefix("recipe: ")) from None


def _choice(name: str, node: Node) -> RecipeChoice:
    """Read a choice set; errors as `_read` has them."""
    text = node.text()
    if name in _SHARED:
        raise node.error(f"{name} is the same for all candidates of a search, so it is no choice")
    if not text.endswith(">") or "<" in text[1:]:
        raise node.error("a choice set is written <item|item>")
    options: list[Option] = []
    for item in text[1:-1].split("|"):
        found = _RANGE.fullmatch(item) if name not in (*STRENGTHS, "image_size") else None
        if found is None:
            options.append(_number(item) if _is_number(name) else item)
            continue
        try:
            options += _between(found["low"], found["high"], found["step"], _TYPES[name])
        except ValueError as error:
            raise node.error(f"{item!r}: {error}") from None
    if len(options) > _MAX_OPTIONS or len(set(options)) < max(len(options), 2):
        raise node.error(f"a choice has 2 to {_MAX_OPTIONS} different options")
    for option in options:
        try:
            if name == "image_size" and _check_shares(str(option)):
                continue
            value = recipe_value(name, option)
        except (ConfigError, KeyError):
            raise node.error(f"{option!r} is no value of {name}") from None
        except ValueError as error:
            raise node.error(f"{option!r}: {error}") from None
        _check(name, value, node)
    return RecipeChoice(name, tuple(options))


def _pixels(text: str, image_size: int) -> str:
    """Return sizes in percent in pixels, first..last; nothing if they are in pixels already."""
    found = _SHARES.fullmatch(text)
    if found is None:
        return ""
    shares = [float(share) / 100 for share in (found[1], found[2] or found[1])]
    first, last = (max(1, round(share * image_size)) for share in shares)
    return f"{first}..{last}"


def _check_shares(text: str) -> bool:
    """Return whether an option is sizes in percent; raise ValueError if they are no sizes."""
    if (found := _SHARES.fullmatch(text)) is None:
        return False
    first, last = float(found[1]), float(found[2] or found[1])
    if not 0 < first <= last <= _MOST_SHARE:
        raise ValueError(f"shares do not decrease, and are above 0% to {_MOST_SHARE}%")
    return True


def _is_number(name: str) -> bool:
    return name != "image_size" and (name in STRENGTHS or _TYPES[name].startswith(("int", "float")))


def _number(text: str) -> Option:
    """Return the number of a text; the text itself where it is none, such as `0..2`."""
    try:
        number = float(text)
    except ValueError:
        return text
    return int(number) if number.is_integer() and abs(number) < 1e15 else number  # "4" and "4.0"


def _between(low: str, high: str, step: str | None, kind: str) -> list[Option]:
    """Return the numbers of a range; raise ValueError with the reason if it is none."""
    first, last = float(low), float(high)
    if not 0 <= first < last < float("inf"):
        raise ValueError("a range goes from a number to a larger one")
    if step and step.startswith("log"):
        if not first:
            raise ValueError("a geometric sequence begins above 0")
        points = int(step[3:]) if step[3:] else 1 + ceil(log(last / first) / log(_LOG_STEP) - 1e-9)
        if not 2 <= points <= _MAX_OPTIONS:
            raise ValueError(f"a sequence has 2 to {_MAX_OPTIONS} values")
        found = [first * (last / first) ** (n / (points - 1)) for n in range(points)]
        found = [first, *(float(f"{value:.{_DIGITS}g}") for value in found[1:-1]), last]
    elif step or kind.startswith("int"):
        by = float(step) if step else 1.0
        if not by > 0 or (last - first) / by > _MAX_OPTIONS:
            raise ValueError(f"a step is above 0, and a choice has at most {_MAX_OPTIONS} options")
        found = [
            float(f"{first + n * by:.12g}") for n in range(int((last - first) / by + 1e-9) + 1)
        ]
    else:
        raise ValueError("say how numbers lie between: 0.1..0.3:0.1, or 0.004..0.06:log")
    if kind.startswith("int"):
        return list(dict.fromkeys(round(value) for value in found))
    return [int(v) if v.is_integer() else v for v in found]


def _value(node: Node, name: str, kind: str) -> object:
    if name == "optimizer_arguments":
        return {key: _argument(value) for key, value in node.mapping().items()}
    if node.value in ("null", "~") or (name not in STRENGTHS and name != "image_size"):
        return _scalar(node, name, kind)
    if name == "image_size":
        small, large = (one.integer() for one in _ends(node))
        return small, large
    return Ramp(*(one.number() for one in _ends(node)))


def _argument(node: Node) -> float | bool:
    return node.text() == "true" if node.text() in ("true", "false") else node.number()


def _ends(node: Node) -> list[Node]:
    """Return the first and the last value of a node with one or two."""
    items = node.sequence() if isinstance(node.value, tuple) else [node, node]
    if len(items) != 2:
        raise node.error("give one number, or two: for the first and the last stage")
    return items


def _scalar(node: Node, name: str, kind: str) -> int | float | bool | str | None:
    """Read the value of an attribute by the text of its type: `int | None` and the like."""
    if node.text() in ("null", "~", ""):
        if "None" not in kind:
            raise node.error(f"{name} needs a value")
        return None
    if kind.startswith("int"):
        return node.integer()
    if kind.startswith("float"):
        return node.number()
    if kind.startswith("bool"):
        if node.text() not in ("true", "false"):
            raise node.error(f"{name} must be true or false")
        return node.text() == "true"
    return node.text()
