"""Controllers: which architecture to try next."""

from __future__ import annotations

from effnas.controllers.base import Controller
from effnas.controllers.evolution import EvolutionController
from effnas.controllers.random import RandomController
from effnas.errors import ConfigError, closest
from effnas.space import SearchSpace

CONTROLLERS: dict[str, type[Controller]] = {
    controller.name: controller for controller in (RandomController, EvolutionController)
}


def make_controller(name: str, space: SearchSpace, seed: int) -> Controller:
    """Return the controller of that name.

    Raises:
        ConfigError: If there is none; offers the closest names.
    """
    if name not in CONTROLLERS:
        raise ConfigError(f"unknown controller {name!r}: {closest(name, CONTROLLERS)}")
    return CONTROLLERS[name](space, seed)


__all__ = [
    "CONTROLLERS",
    "Controller",
    "EvolutionController",
    "RandomController",
    "make_controller",
]
