"""How far trainings go before they are compared."""

from __future__ import annotations

from dataclasses import dataclass

#: Of the candidates at a level, one in so many goes on.
ETA = 2


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Levels and seeds.

    Attributes:
        levels: Epochs, growing; the last is the whole training.
        seeds: Trainings of a candidate.
    """

    levels: tuple[int, ...]
    seeds: int

    @classmethod
    def of(cls, epochs: int, seeds: int) -> Schedule:
        """Return the schedule of trainings of so many epochs: levels at about 1/4 and 1/2."""
        first = max(1, epochs // 4)
        levels = {level for n in range(3) if (level := first * ETA**n) < epochs}
        return cls(levels=(*sorted(levels), epochs), seeds=seeds)

    def step(self, number: int) -> tuple[int, int]:
        """Return the epochs and the seed of a candidate's step, from 0."""
        return self.levels[number // self.seeds], number % self.seeds

    @property
    def steps(self) -> int:
        """Steps of a candidate that is trained to the end."""
        return len(self.levels) * self.seeds
