"""Finding architectures that meet tight constraints: by descent, then by walks from those found.

Drawing finds one in a million only by a million draws. How far a constraint is missed
(`Expression.shortfall`) says where to go instead.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from effnas.errors import SpaceError

if TYPE_CHECKING:
    import numpy as np

    from effnas.arch.architecture import Architecture
    from effnas.space.search_space import SearchSpace

#: Random architectures from which descents begin, and how many that arrive are enough.
_DESCENTS, _ENOUGH = 32, 16
#: Changes of two decisions at once that are tried where none of a single one helps.
_PAIRS = 100
#: Steps of a walk, most of which lead out of what is allowed and are not taken.
_STEPS = 20
#: Spaces up to this size are gone through one by one where nothing else finds what is looked for.
MAX_ENUMERATED = 200_000


def find_feasible(space: SearchSpace) -> tuple[Architecture, ...]:
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


def wander(space: SearchSpace, start: Architecture, rng: np.random.Generator) -> Architecture:
    """Return where a random walk among architectures that meet the constraints ends.

    A step changes one decision, or two if the first change alone leaves them. One that leaves them
    all the same is not taken, so that in the long run all are about equally likely (Metropolis et
    al. 1953).
    """
    arch = start
    for _ in range(_STEPS):
        near = _step(space, arch, rng)
        if space.violated(near):
            near = _step(space, near, rng)
        if not space.violated(near):
            arch = near
    return arch


def _descend(
    space: SearchSpace, arch: Architecture, rng: np.random.Generator
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
            pairs = (_step(space, _step(space, arch, rng), rng) for _ in range(_PAIRS))
            closer = next((near for near in pairs if space.shortfall(near) < missed), None)
        if closer is None:
            break
        arch, missed = closer, space.shortfall(closer)
    return arch, missed


def _step(space: SearchSpace, arch: Architecture, rng: np.random.Generator) -> Architecture:
    """Change one decision, each equally likely, whatever the constraints say."""
    moves = space.moves(arch)
    if not moves:
        return arch
    names = list(dict.fromkeys(name for name, _ in moves))
    name = names[int(rng.integers(len(names)))]
    mine = [move for move in moves if move[0] == name]
    return space.moved(arch, mine[int(rng.integers(len(mine)))], rng)


def _why_none(space: SearchSpace, closest: Architecture) -> str:
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
