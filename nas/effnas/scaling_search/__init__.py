"""How a base is best scaled, found by short trainings."""

from effnas.scaling_search.candidates import ScaledNetwork
from effnas.scaling_search.launch import (
    RULES,
    CompoundGrid,
    LayerGrowth,
    ScalingObserver,
    ScalingReport,
    ScalingSettings,
    search_scaling,
)

__all__ = [
    "RULES",
    "CompoundGrid",
    "LayerGrowth",
    "ScaledNetwork",
    "ScalingObserver",
    "ScalingReport",
    "ScalingSettings",
    "search_scaling",
]
