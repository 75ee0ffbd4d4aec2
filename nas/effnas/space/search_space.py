"""A search space: stages with choices, constraints, and the conditions of measurement."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, lru_cache

from effnas.arch.architecture import DEFAULT_STEM_STRIDE, Architecture
from effnas.arch.blocks import Stage
from effnas.arch.counts import Counts, count
from effnas.config.catalog import Source, find
from effnas.config.codec import FORMAT
from effnas.config.expression_tree import Quantities
from effnas.config.expressions import Expression
from effnas.config.text import Option, counted
from effnas.errors import ExpressionError, SpaceError
from effnas.space.feasible import ConstrainedSpace
from effnas.space.quantities import COUNTED, Target, quantity_names, stage_quantities
from effnas.space.reader import read_space

#: Architectures whose metrics are cached.
_CACHED = 1 << 16


@dataclass(frozen=True)
class SearchSpace(ConstrainedSpace):
    """A finite set of architectures.

    Attributes:
        stages: The stages in order.
        stem: Channels of the stem.
        head: Channels of the head.
        stem_stride: Stride of the stem, 1 or 2.
        recipe: Choices of the recipe.
        model: Name of a model of timm's, which is its only network; empty where it has stages.
        target: What S and P are measured at.
        given_reference: The network that S and P are relative to, if the space names one.
        constraints: Conditions that every architecture of the space meets.
        name: What the space is called; two spaces that differ only in it are equal.
    """

    target: Target = field(default_factory=Target)
    given_reference: Architecture | None = None
    constraints: tuple[Expression, ...] = ()

    def __post_init__(self) -> None:
        own = self._assemble([Stage("identity")])  # checks stem and head
        if not self.stages and not self.model:
            raise SpaceError(f"{self.name}: a space has at least one stage")
        known = self.quantity_names
        reference = self.given_reference
        if reference and (len(reference.stages) != len(self.stages) or reference.ends != own.ends):
            raise SpaceError(
                f"{self.name}: the reference has {counted(len(reference.stages), 'stage')}, "
                f"{reference.ends_text}; the space has {len(self.stages)}, {own.ends_text}"
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

    @classmethod
    def load(cls, name: str) -> SearchSpace:
        """Read a space by its name or path.

        Raises:
            CatalogError: If `effnas.config.catalog.find` finds no such space.
            SpaceError: If the file breaks the rules of the language.
        """
        return cls.read(find("search_spaces", name))

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
        return cls(**read_space(text, source))

    def to_text(self) -> str:
        """Return YAML that `parse` reads back to an equal space."""
        target = {"image_size": self.target.image_size, "batch_size": self.target.batch_size}
        if self.target.num_classes is not None:
            target["num_classes"] = self.target.num_classes
        if self.model:
            lines = [f"format: {FORMAT}", f"network: {self.model}"]
        else:
            lines = [
                f"format: {FORMAT}",
                f"stem: {self.stem}",
                *(f"stem_stride: {n}" for n in [self.stem_stride] if n != DEFAULT_STEM_STRIDE),
                "stages:",
                *(f"  - {stage}" for stage in self.stages),
                f"head: {self.head}",
            ]
        lines.append("target: {" + ", ".join(f"{k}: {v}" for k, v in target.items()) + "}")
        if self.given_reference:
            lines += ["reference:", *(f"  - {block}" for block in self.given_reference.blocks)]
        if self.constraints:
            quoted = (c.text.replace("'", "''") for c in self.constraints)
            lines += ["constraints:", *(f"  - '{text}'" for text in quoted)]
        if self.recipe:
            lines += ["recipe:", *(f"  {each.name}: {each}" for each in self.recipe)]
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

    @cached_property
    def reference(self) -> Architecture:
        """The network that S and P are relative to: the given one, or the largest of the space."""
        if self.model:
            return Architecture((), self.stem, self.head, self.stem_stride, model=self.model)
        return self.given_reference or self._largest()

    @property
    def quantity_names(self) -> frozenset[str]:
        """Names that constraints may use."""
        return quantity_names(len(self.stages), (each.name for each in self.recipe))

    def constrained(self, texts: Iterable[str]) -> SearchSpace:
        """Return the space with further constraints.

        Raises:
            SpaceError: If one is no condition over the space's quantities.
        """
        known = self.quantity_names
        try:
            added = [Expression.parse_condition(text, known=known) for text in texts]
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
        quantities = stage_quantities(arch)
        if counted:
            quantities |= self.counted_metrics(arch)
            quantities["P"] = quantities["params_ratio"]
        return quantities

    def checks(self, arch: Architecture) -> Iterator[tuple[Expression, Quantities]]:
        """Return every constraint with the quantities of `arch` that it is about."""
        if self.constraints:
            quantities = self.quantities(arch, counted=self.needs_counts)
            for constraint in self.constraints:
                yield constraint, quantities

    @cached_property
    def needs_counts(self) -> bool:
        """Whether constraints depend on counts, and so on the number of classes."""
        return any(not COUNTED.isdisjoint(condition.names) for condition in self._conditions)

    @property
    def _conditions(self) -> tuple[Expression, ...]:
        return self.constraints

    def _largest(self) -> Architecture:
        """The network with the most parameters, stage by stage."""

        def most(name: str, options: tuple[Option, ...]) -> Option:
            return (min if name == "s" else max)(options, key=float)

        def params(stage: Stage) -> int:
            return count(self._assemble([*stages, stage]), 32).params

        stages: list[Stage] = []
        for space in self.stages:
            ops = [{"op": str(alternative)} for alternative in space.alternatives]
            stages.append(max((space.decide_by(most, op) for op in ops), key=params))
        return self._assemble(stages)


@dataclass(frozen=True, kw_only=True)
class RestrictedSpace(SearchSpace):
    """A space that leaves out what would break constraints over metrics known without a trial.

    All drawing, mutating and listing keeps to them. Its text and its id are those of the space that
    it was made from.

    Attributes:
        restrictions: The conditions, over the space's quantities and free metrics.
        free_metrics: Returns the metrics that an architecture has without a trial. Where one that
            a restriction needs is missing, the restriction is met.
    """

    restrictions: tuple[Expression, ...] = field(default=(), compare=False)
    free_metrics: Callable[[Architecture], Mapping[str, float]] = field(
        default=lambda arch: {}, compare=False, repr=False
    )

    @classmethod
    def of(
        cls,
        space: SearchSpace,
        restrictions: tuple[Expression, ...],
        free_metrics: Callable[[Architecture], Mapping[str, float]],
    ) -> RestrictedSpace:
        """Return a space with restrictions."""
        same = {f.name: getattr(space, f.name) for f in fields(space)}
        return cls(**{**same, "restrictions": restrictions, "free_metrics": free_metrics})

    def checks(self, arch: Architecture) -> Iterator[tuple[Expression, Quantities]]:
        """Return every constraint with its quantities; restrictions only where all are known."""
        yield from super().checks(arch)
        metrics = self._metrics_of(arch)
        given = self.quantities(arch) | dict(metrics) if metrics else {}
        for restriction in self.restrictions:
            if restriction.names <= given.keys():
                yield restriction, given

    @property
    def _conditions(self) -> tuple[Expression, ...]:
        return (*self.constraints, *self.restrictions)

    @cached_property
    def _metrics_of(self) -> Callable[[Architecture], Mapping[str, float]]:
        return lru_cache(_CACHED)(self.free_metrics)
