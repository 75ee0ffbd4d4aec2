"""From one network to a family: compound scaling, and the rules of published families."""

from effnas.scaling.compound import CompoundScaling
from effnas.scaling.family import FamilyMember, ModelFamily, scale
from effnas.scaling.growth import Growth, LastStage, grow
from effnas.scaling.rules import MemberRule, Ramp, ScalingRules

__all__ = [
    "CompoundScaling",
    "FamilyMember",
    "Growth",
    "LastStage",
    "MemberRule",
    "ModelFamily",
    "Ramp",
    "ScalingRules",
    "grow",
    "scale",
]
