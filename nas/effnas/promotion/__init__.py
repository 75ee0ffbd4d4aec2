"""Finals: the best networks of a search are trained longer, and one is picked."""

from effnas.promotion.finalists import Finalist, choose_finalists
from effnas.promotion.finals import FinalsSettings, launch_finals
from effnas.promotion.report import FinalistStanding, FinalsReport
from effnas.promotion.unseen import FinalTest

__all__ = [
    "FinalTest",
    "Finalist",
    "FinalistStanding",
    "FinalsReport",
    "FinalsSettings",
    "choose_finalists",
    "launch_finals",
]
