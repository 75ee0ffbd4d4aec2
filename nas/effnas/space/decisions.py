"""The decisions that an architecture of a space is made of, whatever constraints say."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from math import prod
from typing import TYPE_CHECKING

from effnas.arch.architecture import (
    DEFAULT_HEAD,
    DEFAULT_STEM,
    DEFAULT_STEM_STRIDE,
    Architecture,
)
from effnas.arch.blocks import Stage
from effnas.config.recipe_choice import RecipeChoice, recipe_value
from effnas.config.text import Option
from effnas.errors import SpaceError
from effnas.space.stage_space import StageSpace

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Choice:
    """One open decision: its name, such as `stage2.k`, and its options."""

    name: str
    options: tuple[Option, ...]


#: What the names of decisions of the recipe begin with.
RECIPE = "recipe."
#: A change of a single decision: the choice's name, and another option.
Move = tuple[str, Option]


@dataclass(frozen=True)
class DecisionSpace:
    """A finite set of architectures: one for each way to take all decisions.

    Where choices of the recipe are open, too, these are decisions like others, and an architecture
    comes with what was decided of its recipe.
    """

    stages: tuple[StageSpace, ...]
    stem: int = DEFAULT_STEM
    head: int = DEFAULT_HEAD
    stem_stride: int = DEFAULT_STEM_STRIDE
    recipe: tuple[RecipeChoice, ...] = ()
    model: str = ""
    name: str = field(default="space", compare=False)

    @cached_property
    def choices(self) -> tuple[Choice, ...]:
        """All open decisions, stage by stage, then those of the recipe."""
        of_stages = (
            Choice(f"stage{n}.{name}", options)
            for n, stage in enumerate(self.stages, start=1)
            for name, options in stage.choices.items()
        )
        of_recipe = (Choice(f"{RECIPE}{each.name}", each.options) for each in self.recipe)
        return (*of_stages, *of_recipe)

    @cached_property
    def size(self) -> int:
        """Number of architectures, before constraints."""
        of_recipe = prod(len(each.options) for each in self.recipe)
        return of_recipe * prod(stage.size for stage in self.stages)

    def decisions(self, arch: Architecture) -> dict[str, Option] | None:
        """Return the decisions, by choice name, that lead to `arch`, or None if none do."""
        own = self.stem, self.head, self.stem_stride, self.model
        theirs = arch.stem, arch.head, arch.stem_stride, arch.model
        if theirs != own or len(arch.stages) != len(self.stages):
            return None
        decided = dict(arch.recipe)
        if tuple(decided) != tuple(each.name for each in self.recipe):
            return None
        if any(decided[each.name] not in each.options for each in self.recipe):
            return None
        decisions: dict[str, Option] = {}
        for n, (space, stage) in enumerate(zip(self.stages, arch.stages, strict=True), start=1):
            found = space.decisions(stage)
            if found is None:
                return None
            decisions |= {f"stage{n}.{name}": option for name, option in found.items()}
        return decisions | {f"{RECIPE}{name}": option for name, option in decided.items()}

    def parse_blocks(self, blocks: str) -> Architecture:
        """Return the network of block strings with the space's stem and head.

        It need not be in the space.

        Raises:
            SpaceError: If a block string is not valid.
        """
        return Architecture.parse(
            blocks, stem=self.stem, head=self.head, stem_stride=self.stem_stride
        )

    def architecture(self, decisions: Mapping[str, Option]) -> Architecture:
        """Return the architecture that decisions, by choice name, lead to.

        Raises:
            SpaceError: If a decision is missing or its option unknown.
        """

        def look_up(name: str, options: tuple[Option, ...]) -> Option:
            if name not in decisions or decisions[name] not in options:
                known = ", ".join(map(str, options))
                raise SpaceError(f"{name}: {decisions.get(name)!r} is none of {known}")
            return decisions[name]

        return self.architecture_by(look_up)

    def architecture_by(self, choose: Callable[[str, tuple[Option, ...]], Option]) -> Architecture:
        """Return the architecture that `choose` leads to, whatever the constraints say.

        Args:
            choose: Takes the name and the options of a choice, and returns one of them. Called for
                every choice that the earlier ones leave open, in the order of the stages.
        """

        def of_stage(n: int) -> Callable[[str, tuple[Option, ...]], Option]:
            return lambda name, options: choose(f"stage{n}.{name}", options)

        return self._assemble(
            [space.decide_by(of_stage(n)) for n, space in enumerate(self.stages, start=1)],
            [choose(f"{RECIPE}{each.name}", each.options) for each in self.recipe],
        )

    def architectures(self) -> Iterator[Architecture]:
        """All architectures, in a fixed order, each once."""
        of_recipe = list(product(*(each.options for each in self.recipe)))
        for stages in product(*(list(space.stages()) for space in self.stages)):
            for options in of_recipe:
                yield self._assemble(stages, options)

    def sample_unconstrained(self, rng: np.random.Generator) -> Architecture:
        """Draw an architecture, every decision uniformly, whatever the constraints say."""
        stages = [space.draw(rng) for space in self.stages]
        return self._assemble(
            stages, [each.options[int(rng.integers(len(each.options)))] for each in self.recipe]
        )

    def moves(self, arch: Architecture) -> list[Move]:
        """Return the changes of a single decision: its name and another option.

        Raises:
            SpaceError: If `arch` is not in the space.
        """
        decisions = self.decisions(arch)
        if decisions is None:
            raise SpaceError(f"{self.name}: the architecture {arch} is not in the space")
        options = {choice.name: choice.options for choice in self.choices}
        return [
            (name, option)
            for name, taken in decisions.items()
            for option in options[name]
            if option != taken
        ]

    def moved(self, arch: Architecture, move: Move, rng: np.random.Generator) -> Architecture:
        """Return `arch` after a move, whatever the constraints say; what it opens is drawn."""
        name, option = move
        if name.startswith(RECIPE):
            decided = dict(arch.recipe) | {name.removeprefix(RECIPE): option}
            return replace(arch, recipe=tuple(decided.items()))
        stage = int(name.removeprefix("stage").split(".")[0])
        decisions = self.stages[stage - 1].decisions(arch.stages[stage - 1]) or {}
        given = {**decisions, name.split(".")[1]: option}
        stages = list(arch.stages)
        stages[stage - 1] = self.stages[stage - 1].draw(rng, given)
        return replace(arch, stages=tuple(stages))

    def moved_at_random(self, arch: Architecture, rng: np.random.Generator) -> Architecture:
        """Change one decision, each equally likely, whatever the constraints say."""
        moves = self.moves(arch)
        return self.moved(arch, draw_move(moves, rng), rng) if moves else arch

    def neighbours(self, arch: Architecture) -> Iterator[Architecture]:
        """Return all architectures that are one decision away from `arch`.

        Where that decision opens others, there is one for each way to take them.
        """
        for n, (space, stage) in enumerate(zip(self.stages, arch.stages, strict=True)):
            for other in space.neighbours(stage):
                yield replace(arch, stages=(*arch.stages[:n], other, *arch.stages[n + 1 :]))
        taken = dict(arch.recipe)
        for each in self.recipe:
            for option in each.options:
                if option != taken[each.name]:
                    yield replace(arch, recipe=tuple((taken | {each.name: option}).items()))

    @property
    def recipe_image_sizes(self) -> tuple[tuple[int, int], ...]:
        """The first and last image size of each option, in pixels; empty where they are fixed."""
        options = {each.name: each.options for each in self.recipe}.get("image_size", ())
        return tuple(recipe_value("image_size", option) for option in options)

    def with_default_recipe(self, network: Architecture) -> Architecture:
        """Return a network with the first option of every choice of the recipe: its default."""
        decided = tuple((each.name, each.options[0]) for each in self.recipe)
        return replace(network, recipe=decided)

    def _assemble(self, stages: Sequence[Stage], options: Sequence[Option] = ()) -> Architecture:
        return Architecture(
            tuple(stages),
            self.stem,
            self.head,
            self.stem_stride,
            tuple((each.name, option) for each, option in zip(self.recipe, options, strict=False)),
            self.model,
        )


def draw_move(moves: list[Move], rng: np.random.Generator) -> Move:
    """Draw a decision first, then an option: choices with many options are not favoured."""
    names = list(dict.fromkeys(name for name, _ in moves))
    name = names[int(rng.integers(len(names)))]
    options = [move for move in moves if move[0] == name]
    return options[int(rng.integers(len(options)))]
