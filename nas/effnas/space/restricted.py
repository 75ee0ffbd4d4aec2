"""A space without the architectures that break constraints over what is known beforehand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property, lru_cache

from effnas.arch.architecture import Architecture
from effnas.config.expressions import Expression, Quantities
from effnas.space.search_space import SearchSpace

#: Architectures whose metrics are kept in mind.
_REMEMBERED = 1 << 16


@dataclass(frozen=True, kw_only=True)
class RestrictedSpace(SearchSpace):
    """A space that leaves out what would break constraints over known metrics.

    All drawing, mutating and listing keeps to them. Its text and its id are those of the space that
    it was made from: what is known is no part of a space.

    Attributes:
        restrictions: The conditions, over the space's quantities and known metrics.
        known: Returns the metrics that are known of an architecture before it is tried. One of
            which too little is known breaks nothing.
    """

    restrictions: tuple[Expression, ...] = field(default=(), compare=False)
    known: Callable[[Architecture], Mapping[str, float]] = field(
        default=lambda arch: {}, compare=False, repr=False
    )

    @classmethod
    def of(
        cls,
        space: SearchSpace,
        restrictions: tuple[Expression, ...],
        known: Callable[[Architecture], Mapping[str, float]],
    ) -> RestrictedSpace:
        """Return a space with restrictions."""
        same = {f.name: getattr(space, f.name) for f in fields(space)}
        return cls(**{**same, "restrictions": restrictions, "known": known})

    def checks(self, arch: Architecture) -> Iterator[tuple[Expression, Quantities]]:
        """Return every constraint with its quantities; restrictions only where all are known."""
        yield from super().checks(arch)
        known = self._known_of(arch)
        given = self.quantities(arch) | dict(known) if known else {}
        for restriction in self.restrictions:
            if restriction.names <= given.keys():
                yield restriction, given

    @property
    def _conditions(self) -> tuple[Expression, ...]:
        return (*self.constraints, *self.restrictions)

    @cached_property
    def _known_of(self) -> Callable[[Architecture], Mapping[str, float]]:
        return lru_cache(_REMEMBERED)(self.known)
