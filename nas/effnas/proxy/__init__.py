"""Does a short training rank networks as a longer one does? Checks of a proxy, and the search."""

from effnas.proxy.analysis import analyse
from effnas.proxy.folder import TRAININGS, TrainingsFolder
from effnas.proxy.launch import Grid, ProxySettings, launch_check, launch_search
from effnas.proxy.networks import FEWEST_NETWORKS, spread_networks
from effnas.proxy.report import (
    LEAST_TAU,
    Agreement,
    FidelityFigures,
    ProxyReport,
    Verdict,
)
from effnas.proxy.search import ProxySearch, SearchReport, candidates
from effnas.proxy.statistics import Estimate
from effnas.proxy.study import ProxyCheck, Study, higher_fidelity
from effnas.proxy.trainings import (
    Fidelity,
    Training,
    TrainingJob,
    TrainingOutcome,
    missing,
)

__all__ = [
    "FEWEST_NETWORKS",
    "LEAST_TAU",
    "TRAININGS",
    "Agreement",
    "Estimate",
    "Fidelity",
    "FidelityFigures",
    "Grid",
    "ProxyCheck",
    "ProxyReport",
    "ProxySearch",
    "ProxySettings",
    "SearchReport",
    "Study",
    "Training",
    "TrainingJob",
    "TrainingOutcome",
    "TrainingsFolder",
    "Verdict",
    "analyse",
    "candidates",
    "higher_fidelity",
    "launch_check",
    "launch_search",
    "missing",
    "spread_networks",
]
