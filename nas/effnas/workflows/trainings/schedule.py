"""After how many epochs trainings are compared."""

from __future__ import annotations

from dataclasses import dataclass

#: Each level has this many times the epochs of the one before.
_ETA = 2


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Levels and seeds.

    Attributes:
        levels: Epochs, growing; the last is the whole training. At each one before it, the weaker
            half of the candidates stops.
        seeds: Trainings of a candidate.
    """

    levels: tuple[int, ...]
    seeds: int

    @classmethod
    def of(cls, epochs: int, seeds: int) -> Schedule:
        """Return the schedule of trainings of some epochs: levels at about 1/4 and 1/2."""
        first = max(1, epochs // 4)
        levels = {level for n in range(3) if (level := first * _ETA**n) < epochs}
        return cls(levels=(*sorted(levels), epochs), seeds=seeds)

    @property
    def steps(self) -> int:
        """Results of a candidate that is trained to the end."""
        return len(self.levels) * self.seeds
