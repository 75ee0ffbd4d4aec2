"""Architectures: operators, the block notation, and the frozen value that names a network."""

from effnas.architecture.architecture import (
    DEFAULT_HEAD,
    DEFAULT_STEM,
    Architecture,
    parse_stage,
)
from effnas.architecture.blocks import (
    FIELDS,
    OPERATORS,
    Number,
    Operator,
    Stage,
    number_text,
    round_channels,
)
from effnas.architecture.files import load_architecture, load_sizes, to_json
from effnas.architecture.notation import Alternative, StageSyntax, read

__all__ = [
    "DEFAULT_HEAD",
    "DEFAULT_STEM",
    "FIELDS",
    "OPERATORS",
    "Alternative",
    "Architecture",
    "Number",
    "Operator",
    "Stage",
    "StageSyntax",
    "load_architecture",
    "load_sizes",
    "number_text",
    "parse_stage",
    "read",
    "round_channels",
    "to_json",
]
