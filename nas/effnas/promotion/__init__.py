"""Finals: the best networks of a search are trained longer, and one is picked."""

from effnas.promotion.finalists import Finalist, choose_finalists
from effnas.promotion.finals import FinalsSettings, launch_finals
from effnas.promotion.report import FinalsReport, Standing

__all__ = [
    "Finalist",
    "FinalsReport",
    "FinalsSettings",
    "Standing",
    "choose_finalists",
    "launch_finals",
]
