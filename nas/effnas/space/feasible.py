"""Architectures that meet constraints: drawn, or found by descent and walks from those found.

Drawing finds one in a million only by a million draws. How far a constraint is missed
(`Expression.shortfall`) says where to go instead.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING

from effnas.arch.architecture import Architecture
from effnas.config.expression_tree import Quantities
from effnas.config.expressions import Expression
from effnas.errors import SpaceError
from effnas.space.decisions import DecisionSpace, draw_move

if TYPE_CHECKING:
    import numpy as np

#: Draws of a sample that may be rejected before it is looked for in another way.
_MAX_REJECTIONS = 2_000
#: Draws that show whether drawing finds what meets the constraints at all.
_TRIED = 200
#: Random architectures from which descents begin, and how many that arrive are enough.
_DESCENTS, _ENOUGH = 32, 16
#: Changes of two decisions at once that are tried where none of a single one helps.
_PAIRS = 100
#: Steps of a walk, most of which lead out of what is allowed and are not taken.
_STEPS = 20
#: Spaces up to this size are gone through one by one where nothing else finds what is looked for.
MAX_ENUMERATED = 200_000


@dataclass(frozen=True)
class ConstrainedSpace(DecisionSpace, ABC):
    """The architectures of a space that meet its constraints."""

    @abstractmethod
    def checks(self, arch: Architecture) -> Iterator[tuple[Expression, Quantities]]:
        """Return every constraint with the quantities of `arch` that it is about."""

    def violated(self, arch: Architecture) -> list[Expression]:
        """Return the constraints that `arch` does not meet."""
        return [c for c, quantities in self.checks(arch) if not c.holds(quantities)]

    def shortfall(self, arch: Architecture) -> float:
        """Return by how much `arch` misses the constraints: 0 if it meets them all."""
        return sum(c.shortfall(quantities) for c, quantities in self.checks(arch))

    def contains(self, arch: Architecture) -> bool:
        """Say whether an architecture is in the space and meets its constraints."""
        return self.decisions(arch) is not None and not self.violated(arch)

    def architectures(self) -> Iterator[Architecture]:
        """All architectures that meet the constraints, in a fixed order, each once."""
        return (arch for arch in super().architectures() if not self.violated(arch))

    def neighbours(self, arch: Architecture) -> Iterator[Architecture]:
        """Return those that meet the constraints and are one decision away from `arch`."""
        return (near for near in super().neighbours(arch) if not self.violated(near))

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
            move = draw_move(moves, rng)
            moves.remove(move)
            mutant = self.moved(arch, move, rng)
            if mutant != arch and not self.violated(mutant):
                return mutant
        return arch


def find_feasible(space: ConstrainedSpace) -> tuple[Architecture, ...]:
    """Return some architectures that meet the constraints; always the same for a space.

    Raises:
        SpaceError: If there is none, or none is found; names the constraints that were not met by
            what came closest, and its quantities.
    """
    import numpy as np

    rng = np.random.default_rng(0)
    reached: dict[Architecture, float] = {}
    for _ in range(_DESCENTS):
        arch, missed = _descend(space, space.sample_unconstrained(rng), rng)
        reached[arch] = missed
        found = tuple(arch for arch, missed in reached.items() if not missed)
        if len(found) >= _ENOUGH:
            break
    if not found and space.size <= MAX_ENUMERATED:
        found = tuple(islice(space.architectures(), _ENOUGH))
    if not found:
        raise SpaceError(_why_none(space, min(reached, key=reached.__getitem__)))
    return found


def wander(space: ConstrainedSpace, start: Architecture, rng: np.random.Generator) -> Architecture:
    """Return where a random walk among architectures that meet the constraints ends.

    A step changes one decision, or two if the first change alone leaves them. One that leaves them
    all the same is not taken, so that in the long run all are about equally likely (Metropolis et
    al. 1953).
    """
    arch = start
    for _ in range(_STEPS):
        near = space.moved_at_random(arch, rng)
        if space.violated(near):
            near = space.moved_at_random(near, rng)
        if not space.violated(near):
            arch = near
    return arch


def _descend(
    space: ConstrainedSpace, arch: Architecture, rng: np.random.Generator
) -> tuple[Architecture, float]:
    """Take changes that miss the constraints by less until there is none; return by how much."""
    missed = space.shortfall(arch)
    while missed:
        moves = space.moves(arch)
        order = rng.permutation(len(moves)).tolist()
        singles = (space.moved(arch, moves[n], rng) for n in order)
        closer = next((near for near in singles if space.shortfall(near) < missed), None)
        if closer is None:
            # Constraints that tie two decisions together need both to change.
            pairs = (
                space.moved_at_random(space.moved_at_random(arch, rng), rng) for _ in range(_PAIRS)
            )
            closer = next((near for near in pairs if space.shortfall(near) < missed), None)
        if closer is None:
            break
        arch, missed = closer, space.shortfall(closer)
    return arch, missed


def _why_none(space: ConstrainedSpace, closest: Architecture) -> str:
    """Say what is not met, and by what came closest."""
    checks = list(space.checks(closest))
    broken = [(c, quantities) for c, quantities in checks if not c.holds(quantities)]
    wanted = " and ".join(repr(c.text) for c, _ in broken)
    beside = " with the other constraints" if len(broken) < len(checks) else ""
    values = {name: quantities[name] for c, quantities in broken for name in sorted(c.names)}
    shown = ", ".join(f"{name} = {quantity_text(value)}" for name, value in values.items())
    sure = space.size <= MAX_ENUMERATED
    return (
        f"{space.name}: {'no architecture meets' if sure else 'found no architecture that meets'} "
        f"{wanted}{beside}{f'; the closest that was found has {shown}' if shown else ''}; loosen "
        "or remove a constraint"
    )


def quantity_text(value: float | str) -> str:
    """Return a quantity as text: `215,432`, `1.31`, `fused`."""
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.6g}"
