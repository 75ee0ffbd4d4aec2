"""Recipe files: YAML, found by name or path, whose values may be choice sets.

What a file does not say is taken from the recipe that its `base` names, else from the defaults of
`Recipe`. A strength (`dropout`, `randaugment`, `mixup`, `cutmix`, `drop_path`) is one number, or
one for the first and one for the last stage; so is `image_size`. See
`effnas.config.recipe_choice` for choice sets.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from effnas.config.catalog import Node, Source, find, load_keys
from effnas.config.recipe import Recipe
from effnas.config.recipe_choice import (
    ATTRIBUTES,
    RecipeChoice,
    read_attribute,
)
from effnas.errors import CatalogError, ConfigError

#: Name of the recipe that is taken where none is named.
DEFAULT = "default"
_MAX_BASES = 10
#: Arguments of `Recipe.overridden` that are about another attribute.
_NAMED_AS = {"learning_rate": "learning_rate_per_256"}


@dataclass(frozen=True)
class RecipeSpace:
    """A recipe with choices.

    Attributes:
        recipe: With the first option of every choice.
        choices: In the order of the attributes of `Recipe`; the first option of each is the one
            that is nearest to what the recipe says that the file is based on.
        name: What it was read from.
        given: Names of what the file itself, and not one that it is based on, sets to one value.
    """

    recipe: Recipe
    choices: tuple[RecipeChoice, ...] = ()
    name: str = "recipe"
    given: frozenset[str] = frozenset()

    @classmethod
    def load(cls, name: str | Path) -> RecipeSpace:
        """Read a recipe by the name or the path of its YAML file.

        Raises:
            CatalogError: The file cannot be found or read.
            ConfigError: It, or one that it is based on, breaks the rules of the module, with the
                place.
        """
        source = find("recipes", str(name))
        values, base = _read(source)
        given = {name for name, one in values.items() if not isinstance(one, RecipeChoice)}
        layers = [values]
        while base is not None:
            if len(layers) == _MAX_BASES:
                raise base.error(f"more than {_MAX_BASES} recipes, each the base of one")
            try:
                found = find("recipes", base.text())
            except CatalogError as error:
                raise base.error(str(error)) from None
            values, base = _read(found)
            layers.append(values)
        merged: dict[str, Any] = {}
        fixed: dict[str, Any] = {}
        for values in reversed(layers):
            merged |= values
            fixed |= {n: one for n, one in values.items() if not isinstance(one, RecipeChoice)}
        below = Recipe(**fixed)  # what choices are around
        open_ = {n: one for n, one in merged.items() if isinstance(one, RecipeChoice)}
        choices = tuple(
            open_[name].around(getattr(below, name)) for name in ATTRIBUTES if name in open_
        )
        fixed = {name: one for name, one in fixed.items() if name not in open_}
        first = {one.name: one.first_value for one in choices}
        return cls(Recipe(**fixed, **first), choices, source.name, frozenset(given))

    def for_trials(self, **values: Any) -> RecipeSpace:
        """Return it made short, as `Recipe.for_trials`.

        Raises:
            ConfigError: Also if one of them is a choice.
        """
        named = {_NAMED_AS.get(name, name): name for name, one in values.items() if one is not None}
        for choice in self.choices:
            if choice.name in named:
                raise ConfigError(
                    f"recipe {self.name}: {choice.name} is open, {choice.summary}; leave out "
                    f"`{named[choice.name]}`, or fix it in the recipe"
                )
        return replace(self, recipe=self.recipe.for_trials(**values))

    def without(self, names: Iterable[str]) -> RecipeSpace:
        """Return it without choices of what is set otherwise, by arguments of `for_trials`."""
        closed = {_NAMED_AS.get(name, name) for name in names}
        kept = tuple(one for one in self.choices if one.name not in closed)
        return replace(self, choices=kept)

    def opened(self, choices: tuple[RecipeChoice, ...], space: str) -> tuple[RecipeChoice, ...]:
        """Return its choices and those of a space.

        Raises:
            ConfigError: If it sets what the space opens.
        """
        for choice in choices:
            if choice.name in self.given:
                raise ConfigError(
                    f"recipe {self.name} sets {choice.name}, and the space {space} opens it, "
                    f"{choice.summary}; remove one of the two"
                )
        around = (one.around(getattr(self.recipe, one.name)) for one in choices)
        both = {one.name: one for one in (*self.choices, *around)}
        return tuple(both[name] for name in ATTRIBUTES if name in both)


def default_recipe() -> Recipe:
    """Return what networks are trained by where no recipe is named."""
    return load_recipe(DEFAULT)


def load_recipe(name: str | Path) -> Recipe:
    """Read a recipe without choices.

    Raises:
        CatalogError: The file cannot be found or read.
        ConfigError: As `RecipeSpace.load`, or it has a choice.
    """
    found = RecipeSpace.load(name)
    if found.choices:
        (first, *_) = found.choices
        raise ConfigError(
            f"recipe {name}: {first.name} is open, {first.summary}, which only `effnas search` "
            "decides; name a recipe without choices, or RUN:best of such a search"
        )
    return found.recipe


def _read(source: Source) -> tuple[dict[str, Any], Node | None]:
    """Return the attributes that a file sets, some of them to a choice, and its base's name."""
    nodes = load_keys(source.text, str(source.path), known=("base", *ATTRIBUTES), error=ConfigError)
    base = nodes.pop("base", None)
    return {name: read_attribute(name, node) for name, node in nodes.items()}, base
