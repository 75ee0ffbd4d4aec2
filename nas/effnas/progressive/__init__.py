"""Long trainings: progressive learning with adaptive regularisation, and what it is held against.

`launch_training` trains a network by a recipe, in stages whose images grow and whose
regularisation grows with them (Tan & Le 2021, section 4 and Algorithm 1).
"""

from effnas.progressive.launch import launch_training
from effnas.progressive.progress import EpochRow, Progress
from effnas.progressive.recipe import Regime, TrainingRecipe
from effnas.progressive.settings import TrainingPlan, TrainSettings
from effnas.progressive.stages import Stage, Strengths, stages_of
from effnas.progressive.worker import TestResult, TrainObserver, TrainReport

__all__ = [
    "EpochRow",
    "Progress",
    "Regime",
    "Stage",
    "Strengths",
    "TestResult",
    "TrainObserver",
    "TrainReport",
    "TrainSettings",
    "TrainingPlan",
    "TrainingRecipe",
    "launch_training",
    "stages_of",
]
