"""From one network to a family: compound scaling, and the rules of published families."""

from effnas.scaling.budget import Fit, Limit, largest_within
from effnas.scaling.compound import GROWTH, CompoundScaling, coefficients_grid
from effnas.scaling.family import FamilyMember, between, scale
from effnas.scaling.growth import Growth, LastStage, grow
from effnas.scaling.rules import STRENGTHS, MemberRule, Ramp, Regularization, ScalingRules

__all__ = [
    "GROWTH",
    "STRENGTHS",
    "CompoundScaling",
    "FamilyMember",
    "Fit",
    "Growth",
    "LastStage",
    "Limit",
    "MemberRule",
    "Ramp",
    "Regularization",
    "ScalingRules",
    "between",
    "coefficients_grid",
    "grow",
    "largest_within",
    "scale",
]
