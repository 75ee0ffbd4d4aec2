"""A space without the architectures that break constraints over free metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property, lru_cache

from effnas.arch.architecture import Architecture
from effnas.config.expression_tree import Quantities
from effnas.config.expressions import Expression
from effnas.space.search_space import SearchSpace

#: Architectures whose metrics are cached.
_CACHED = 1 << 16


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
