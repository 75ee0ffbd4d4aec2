"""A search space: stages with choices, constraints, and the conditions of measurement."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING

from effnas.arch.architecture import DEFAULT_HEAD, DEFAULT_STEM, Architecture
from effnas.arch.blocks import FIELDS, Stage
from effnas.arch.counts import Counts, count
from effnas.config.catalog import Source, find
from effnas.config.expressions import Expression, Quantities
from effnas.errors import ExpressionError, SpaceError
from effnas.space.feasible import find_feasible, wander
from effnas.space.stage_space import Option, StageSpace

if TYPE_CHECKING:
    import numpy as np

FORMAT = 1
#: Draws of a sample that may be rejected before it is looked for in another way.
_MAX_REJECTIONS = 2_000
#: Draws that show whether drawing finds what meets the constraints at all.
_TRIED = 200
_COUNTED = frozenset(("params", "params_ratio", "P", "macs", "activations"))


@dataclass(frozen=True)
class Target:
    """What S and P are measured at.

    Attributes:
        image_size: Height and width in pixels.
        batch_size: Images in one training step.
        num_classes: Outputs of the classifier; None takes those of the data, or 1000 without data.
    """

    image_size: int = 224
    batch_size: int = 128
    num_classes: int | None = None

    def __post_init__(self) -> None:
        for name in ("image_size", "batch_size", "num_classes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise SpaceError(f"target: {name} is {value}, it must be 1 or more")


@dataclass(frozen=True)
class Choice:
    """One open decision: its name, such as `stage2.k`, and its options."""

    name: str
    options: tuple[Option, ...]


@dataclass(frozen=True)
class SearchSpace:
    """A finite set of architectures.

    Attributes:
        stages: The stages in order.
        stem: Channels of the stem.
        head: Channels of the head.
        target: What S and P are measured at.
        given_reference: The network that S and P are relative to, if the space names one.
        constraints: Conditions that every architecture of the space meets.
        name: What the space is called; two spaces that differ only in it are equal.
    """

    stages: tuple[StageSpace, ...]
    stem: int = DEFAULT_STEM
    head: int = DEFAULT_HEAD
    target: Target = field(default_factory=Target)
    given_reference: Architecture | None = None
    constraints: tuple[Expression, ...] = ()
    name: str = field(default="space", compare=False)

    def __post_init__(self) -> None:
        Architecture((Stage("identity"),), self.stem, self.head)  # checks stem and head
        if not self.stages:
            raise SpaceError(f"{self.name}: a space has at least one stage")
        known = self.quantity_names(len(self.stages))
        reference = self.given_reference
        if reference and (len(reference.stages), reference.stem, reference.head) != (
            len(self.stages),
            self.stem,
            self.head,
        ):
            raise SpaceError(
                f"{self.name}: the reference has {len(reference.stages)} stages, stem "
                f"{reference.stem} and head {reference.head}; the space has {len(self.stages)}, "
                f"{self.stem} and {self.head}"
            )
        for constraint in self.constraints:
            if not constraint.is_condition:
                raise SpaceError(
                    f"{self.name}: the constraint {constraint.text!r} is a number; a constraint is "
                    "a condition, such as params <= 30e6"
                )
            unknown = sorted(constraint.names - known)
            if unknown:
                raise SpaceError(
                    f"{self.name}: constraint {constraint.text!r} names the unknown "
                    f"{unknown[0]!r}; known: {', '.join(sorted(known))}"
                )

    # -- reading and writing

    @classmethod
    def load(cls, name: str) -> SearchSpace:
        """Read a space by its name or path.

        Args:
            name: A path, or a name that is looked up in `./search_spaces` and then in the package.

        Raises:
            CatalogError: If there is no such space.
            SpaceError: If the file breaks the rules of the language.
        """
        source = find("search_spaces", name)
        return cls.read(source)

    @classmethod
    def read(cls, source: Source) -> SearchSpace:
        """Read a space from a file that has been found already."""
        return replace(cls.parse(source.text, source=str(source.path)), name=source.name)

    @classmethod
    def parse(cls, text: str, *, source: str = "space") -> SearchSpace:
        """Read a space from YAML text.

        Raises:
            SpaceError: With file, line, column and a caret, if the text breaks a rule.
        """
        from effnas.space.reader import parse_space

        return parse_space(text, source)

    def to_text(self) -> str:
        """Return YAML that `parse` reads back to an equal space."""
        target = {"image_size": self.target.image_size, "batch_size": self.target.batch_size}
        if self.target.num_classes is not None:
            target["num_classes"] = self.target.num_classes
        lines = [
            f"format: {FORMAT}",
            f"stem: {self.stem}",
            "stages:",
            *(f"  - {stage}" for stage in self.stages),
            f"head: {self.head}",
            "target: {" + ", ".join(f"{k}: {v}" for k, v in target.items()) + "}",
        ]
        if self.given_reference:
            lines += ["reference:", *(f"  - {block}" for block in self.given_reference.blocks)]
        if self.constraints:
            quoted = (c.text.replace("'", "''") for c in self.constraints)
            lines += ["constraints:", *(f"  - '{text}'" for text in quoted)]
        return "\n".join(lines) + "\n"

    @cached_property
    def id(self) -> str:
        """Sixteen hexadecimal digits; comments, order of keys and names do not change them."""
        return hashlib.sha256(self.to_text().encode()).hexdigest()[:16]

    def with_target(
        self,
        *,
        image_size: int | None = None,
        batch_size: int | None = None,
        num_classes: int | None = None,
    ) -> SearchSpace:
        """Return the space with other conditions of measurement; None keeps what there is."""
        given = {"image_size": image_size, "batch_size": batch_size, "num_classes": num_classes}
        changes = {name: value for name, value in given.items() if value is not None}
        return replace(self, target=replace(self.target, **changes))

    # -- what is in it

    @cached_property
    def choices(self) -> tuple[Choice, ...]:
        """All open decisions, stage by stage."""
        return tuple(
            Choice(f"stage{n}.{name}", options)
            for n, stage in enumerate(self.stages, start=1)
            for name, options in stage.choices.items()
        )

    @cached_property
    def size(self) -> int:
        """Number of architectures before constraints."""
        total = 1
        for stage in self.stages:
            total *= stage.size
        return total

    @cached_property
    def reference(self) -> Architecture:
        """The network that S and P are relative to: the given one, or the largest of the space."""
        return self.given_reference or self._largest()

    def contains(self, arch: Architecture) -> bool:
        """Say whether an architecture is in the space and meets its constraints."""
        return self.decisions(arch) is not None and not self.violated(arch)

    def decisions(self, arch: Architecture) -> dict[str, Option] | None:
        """Return the decisions, by choice name, that lead to `arch`, or None if none do."""
        if (arch.stem, arch.head) != (self.stem, self.head) or len(arch.stages) != len(self.stages):
            return None
        decisions: dict[str, Option] = {}
        for n, (space, stage) in enumerate(zip(self.stages, arch.stages, strict=True), start=1):
            found = space.decisions(stage)
            if found is None:
                return None
            decisions |= {f"stage{n}.{name}": option for name, option in found.items()}
        return decisions

    def architecture(self, decisions: Mapping[str, Option]) -> Architecture:
        """Return the architecture that the decisions lead to.

        Args:
            decisions: An option for every choice that the others leave open, by choice name.

        Raises:
            SpaceError: If a decision is missing or its option unknown.
        """
        return self._assemble(
            [space.decide(_of_stage(decisions, n)) for n, space in enumerate(self.stages, start=1)]
        )

    def architecture_by(self, choose: Callable[[str, tuple[Option, ...]], Option]) -> Architecture:
        """Return the architecture that `choose` leads to, whatever the constraints say.

        Args:
            choose: Takes the name and the options of a choice, and returns one of them. Called for
                every choice that the earlier ones leave open, in the order of the stages.
        """

        def of_stage(n: int) -> Callable[[str, tuple[Option, ...]], Option]:
            return lambda name, options: choose(f"stage{n}.{name}", options)

        return self._assemble(
            [space.decide_by(of_stage(n)) for n, space in enumerate(self.stages, start=1)]
        )

    def architectures(self) -> Iterator[Architecture]:
        """All architectures that meet the constraints, in a fixed order, each once."""
        for stages in product(*(list(space.stages()) for space in self.stages)):
            arch = self._assemble(stages)
            if not self.violated(arch):
                yield arch

    # -- drawing

    def sample(self, rng: np.random.Generator) -> Architecture:
        """Draw an architecture that meets the constraints.

        Every decision is drawn uniformly until they are met. Where that hardly ever is so, it is
        a random walk among those that meet them, from one of several that a descent has found.

        Raises:
            SpaceError: If nothing that meets the constraints is found; names them, and what comes
                closest.
        """
        if self._is_roomy:
            for _ in range(_MAX_REJECTIONS):
                arch = self.sample_unconstrained(rng)
                if not self.violated(arch):
                    return arch
        starts = self._found_by_descent
        return wander(self, starts[int(rng.integers(len(starts)))], rng)

    def check_satisfiable(self) -> None:
        """Look for an architecture that meets the constraints.

        Raises:
            SpaceError: If none is found; names the constraints, and what comes closest.
        """
        if not self._is_roomy:
            _ = self._found_by_descent

    @cached_property
    def _is_roomy(self) -> bool:
        """Whether drawing finds what meets the constraints: the same for whoever asks first."""
        import numpy as np

        rng = np.random.default_rng(0)
        return any(not self.violated(self.sample_unconstrained(rng)) for _ in range(_TRIED))

    @cached_property
    def _found_by_descent(self) -> tuple[Architecture, ...]:
        return find_feasible(self)

    def sample_unconstrained(self, rng: np.random.Generator) -> Architecture:
        """Draw an architecture, every decision uniformly, whatever the constraints say."""
        return self._assemble([space.draw(rng) for space in self.stages])

    def mutate(self, arch: Architecture, rng: np.random.Generator) -> Architecture:
        """Change one decision of `arch` at random, and draw what that opens.

        Returns:
            Another architecture of the space, or `arch` itself if the space holds no other one
            that is a single decision away.

        Raises:
            SpaceError: If `arch` is not in the space.
        """
        moves = self.moves(arch)
        while moves:
            # A decision first, then an option: choices with many options are not favoured.
            names = list(dict.fromkeys(name for name, _ in moves))
            name = names[int(rng.integers(len(names)))]
            mine = [move for move in moves if move[0] == name]
            move = mine[int(rng.integers(len(mine)))]
            moves.remove(move)
            mutant = self.moved(arch, move, rng)
            if mutant != arch and not self.violated(mutant):
                return mutant
        return arch

    def moves(self, arch: Architecture) -> list[tuple[str, Option]]:
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

    def moved(
        self, arch: Architecture, move: tuple[str, Option], rng: np.random.Generator
    ) -> Architecture:
        """Return `arch` after a move, whatever the constraints say; what it opens is drawn."""
        name, option = move
        stage = int(name.removeprefix("stage").split(".")[0])
        decisions = self.stages[stage - 1].decisions(arch.stages[stage - 1]) or {}
        given = {**decisions, name.split(".")[1]: option}
        stages = list(arch.stages)
        stages[stage - 1] = self.stages[stage - 1].draw(rng, given)
        return self._assemble(stages)

    def neighbours(self, arch: Architecture) -> Iterator[Architecture]:
        """Return all architectures of the space that are one decision away from `arch`.

        Where that decision opens others, there is one for each way to take them.
        """
        for n, (space, stage) in enumerate(zip(self.stages, arch.stages, strict=True)):
            for other in space.neighbours(stage):
                neighbour = self._assemble((*arch.stages[:n], other, *arch.stages[n + 1 :]))
                if not self.violated(neighbour):
                    yield neighbour

    # -- constraints

    @staticmethod
    def quantity_names(stages: int) -> frozenset[str]:
        """Names that constraints may use in a space of so many stages."""
        decisions = [f"stage{n}.{name}" for n in range(1, stages + 1) for name in ("op", *FIELDS)]
        return frozenset([*decisions, *_COUNTED, "layers"])

    def constrained(self, texts: Iterable[str]) -> SearchSpace:
        """Return the space with further constraints.

        Raises:
            SpaceError: If one is no condition over the space's quantities.
        """
        known = self.quantity_names(len(self.stages))
        try:
            added = [
                Expression.parse(" ".join(text.split()), known=known, source="constraint")
                for text in texts
            ]
        except ExpressionError as error:
            raise SpaceError(str(error)) from None
        return replace(self, constraints=tuple(dict.fromkeys((*self.constraints, *added))))

    def count(self, arch: Architecture) -> Counts:
        """Count `arch` at the space's target."""
        return count(arch, self.target.image_size, self.target.num_classes or 1000)

    def counted_metrics(self, arch: Architecture) -> dict[str, float]:
        """Return what is known of an architecture without running it, at the space's target.

        The names are those of `effnas.trials.reward.METRICS`.
        """
        counts = self.count(arch)
        return {
            "params": counts.params,
            "params_ratio": counts.params / self._reference_params,
            "macs": counts.macs,
            "activations": counts.activations,
        }

    @cached_property
    def _reference_params(self) -> int:
        return self.count(self.reference).params

    def quantities(self, arch: Architecture, *, counted: bool = True) -> dict[str, float | str]:
        """Return what constraints speak of: choices, layers and, if wanted, what is counted."""
        quantities: dict[str, float | str] = {"layers": arch.layers}
        for n, stage in enumerate(arch.stages, start=1):
            for name in ("op", *FIELDS):
                quantities[f"stage{n}.{name}"] = getattr(stage, name)
        if counted:
            quantities |= self.counted_metrics(arch)
            quantities["P"] = quantities["params_ratio"]
        return quantities

    def violated(self, arch: Architecture) -> list[Expression]:
        """Return the constraints that `arch` does not meet."""
        return [c for c, quantities in self.checks(arch) if not c.holds(quantities)]

    def shortfall(self, arch: Architecture) -> float:
        """Return by how much `arch` misses the constraints: 0 if it meets them all."""
        return sum(c.shortfall(quantities) for c, quantities in self.checks(arch))

    def checks(self, arch: Architecture) -> Iterator[tuple[Expression, Quantities]]:
        """Return every constraint with the quantities of `arch` that it is about."""
        if self.constraints:
            quantities = self.quantities(arch, counted=self.needs_counts)
            for constraint in self.constraints:
                yield constraint, quantities

    @cached_property
    def needs_counts(self) -> bool:
        """Whether constraints depend on counts, and so on the number of classes."""
        return any(not _COUNTED.isdisjoint(condition.names) for condition in self._conditions)

    @property
    def _conditions(self) -> tuple[Expression, ...]:
        return self.constraints

    def _assemble(self, stages: list[Stage] | tuple[Stage, ...]) -> Architecture:
        return Architecture(tuple(stages), self.stem, self.head)

    def _largest(self) -> Architecture:
        """The network with the most parameters, stage by stage."""
        stages: list[Stage] = []
        for space in self.stages:
            candidates = [
                space.decide(
                    {"op": str(alternative)}
                    | {name: min(v) if name == "s" else max(v) for name, v in space.fields}
                )
                for alternative in space.alternatives
            ]
            stages.append(
                max(
                    candidates, key=lambda stage: count(self._assemble([*stages, stage]), 32).params
                )
            )
        return self._assemble(stages)


def _of_stage(decisions: Mapping[str, Option], stage: int) -> dict[str, Option]:
    prefix = f"stage{stage}."
    return {
        name.removeprefix(prefix): option
        for name, option in decisions.items()
        if name.startswith(prefix)
    }
