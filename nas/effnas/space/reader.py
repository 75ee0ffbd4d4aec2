"""Search-space files: YAML text to plain fields and back, every error with its place."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from effnas.arch.architecture import (
    DEFAULT_HEAD,
    DEFAULT_STEM,
    DEFAULT_STEM_STRIDE,
    Architecture,
    parse_stage,
)
from effnas.config.catalog import Node, load_keys
from effnas.config.expressions import MAX_LENGTH, Expression
from effnas.config.recipe_choice import ATTRIBUTES, RecipeChoice, read_attribute
from effnas.config.text import counted
from effnas.errors import ExpressionError, SpaceError
from effnas.space.quantities import Target, quantity_names
from effnas.space.stage_space import StageSpace

_KEYS = ("stem", "stem_stride", "stages", "head", "target", "reference", "constraints",
         "recipe", "network")  # fmt: skip


def read_space(text: str, source: str) -> dict[str, Any]:
    """Return the fields of a `SearchSpace`; see `SearchSpace.parse`."""
    top = load_keys(text, source, known=_KEYS, error=SpaceError)
    if "network" in top:
        return _of_model(top, source)
    if "stages" not in top:
        top = load_keys(text, source, known=_KEYS, required=("stages",), error=SpaceError)
    stem = top["stem"].integer(minimum=1) if "stem" in top else DEFAULT_STEM
    head = top["head"].integer(minimum=1) if "head" in top else DEFAULT_HEAD
    stages = tuple(
        StageSpace.parse(node.text(), node.location) for node in _items(top["stages"], "stages")
    )
    around = {"stem": stem, "head": head, "stem_stride": _stem_stride(top)}
    fields: dict[str, Any] = {"stages": stages, **around, "name": source}
    if "target" in top:
        fields["target"] = _target(top["target"])
    if "reference" in top:
        fields["given_reference"] = _reference(top["reference"], around, len(stages))
    if "constraints" in top:
        known = quantity_names(len(stages), top["recipe"].mapping() if "recipe" in top else ())
        fields["constraints"] = _constraints(top["constraints"], known)
    if "recipe" in top:
        fields["recipe"] = _recipe(top["recipe"])
    return fields


def _of_model(top: Mapping[str, Node], source: str) -> dict[str, Any]:
    """Return the fields of a space of one model of timm's, whose recipe alone is open."""
    for name in top.keys() & {"stages", "stem", "stem_stride", "head", "reference"}:
        raise top[name].error(f"`network` is a whole model of timm's; leave out {name}")
    name = top["network"].text()
    if not re.fullmatch(r"[\w.]{1,200}", name):
        raise top["network"].error("network is the name of a model of timm's, such as resnet18")
    fields: dict[str, Any] = {"stages": (), "model": name, "name": source}
    if "target" in top:
        fields["target"] = _target(top["target"])
    if "recipe" in top:
        fields["recipe"] = _recipe(top["recipe"])
    if "constraints" in top:
        known = quantity_names(0, top["recipe"].mapping() if "recipe" in top else ())
        fields["constraints"] = _constraints(top["constraints"], known)
    return fields


def _recipe(node: Node) -> tuple[RecipeChoice, ...]:
    """Return the choices of the recipe, in the order of its attributes."""
    nodes = node.mapping(known=ATTRIBUTES)
    found = {name: read_attribute(name, each) for name, each in nodes.items()}
    for name, value in found.items():
        if not isinstance(value, RecipeChoice):
            raise nodes[name].error(
                f"{name} is no choice; what all candidates have in common belongs into the recipe"
            )
    return tuple(found[name] for name in ATTRIBUTES if name in found)


def _items(node: Node, key: str) -> list[Node]:
    items = node.sequence()
    if not items:
        raise node.error(f"{key} is empty: list at least one block")
    return items


def _target(node: Node) -> Target:
    target = node.mapping(known=("image_size", "batch_size", "num_classes"))
    return Target(**{name: value.integer(minimum=1) for name, value in target.items()})


def _stem_stride(top: Mapping[str, Node]) -> int:
    if "stem_stride" not in top:
        return DEFAULT_STEM_STRIDE
    stride = top["stem_stride"].integer(minimum=1)
    if stride > 2:
        raise top["stem_stride"].error(f"stem_stride is 1 or 2, not {stride}")
    return stride


def _reference(node: Node, around: Mapping[str, Any], stages: int) -> Architecture:
    items = _items(node, "reference")
    if len(items) != stages:
        raise node.error(f"reference has {counted(len(items), 'stage')}, the space {stages}")
    return Architecture(tuple(parse_stage(item.text(), item.location) for item in items), **around)


def _constraints(node: Node, known: frozenset[str]) -> tuple[Expression, ...]:
    constraints = []
    for item in node.sequence():
        text = " ".join(item.text().split())
        if not text or len(text) > MAX_LENGTH:
            raise item.error(f"a constraint has 1 to {MAX_LENGTH:,} characters, not {len(text):,}")
        try:
            found = Expression.parse_condition(text, known=known, locate=item.location)
        except ExpressionError as error:
            raise SpaceError(str(error)) from error
        constraints.append(found)
    return tuple(constraints)
