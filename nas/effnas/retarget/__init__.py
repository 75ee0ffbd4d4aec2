"""Retargeting: what is best on another device, with the accuracies of a finished search."""

from effnas.retarget.retargeting import LEAST_GAIN, Candidate, Retargeting
from effnas.retarget.run import Retargeted, RetargetObserver, RetargetSettings, retarget

__all__ = [
    "LEAST_GAIN",
    "Candidate",
    "RetargetObserver",
    "RetargetSettings",
    "Retargeted",
    "Retargeting",
    "retarget",
]
