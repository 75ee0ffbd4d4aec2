"""Long trainings of a few candidates with several seeds: stored as they come, and compared."""

from effnas.trainings.folder import TRAININGS, WEIGHTS, Result, TrainingsFolder
from effnas.trainings.schedule import ETA, Schedule
from effnas.trainings.standings import Standing, accuracies_at, ranked

__all__ = [
    "ETA",
    "TRAININGS",
    "WEIGHTS",
    "Result",
    "Schedule",
    "Standing",
    "TrainingsFolder",
    "accuracies_at",
    "ranked",
]
