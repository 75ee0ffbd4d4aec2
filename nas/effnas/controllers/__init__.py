"""Controllers: which architecture to try next."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from effnas.controllers.base import Controller
from effnas.errors import ConfigError, closest

if TYPE_CHECKING:
    from effnas.goal import Goal
    from effnas.space import SearchSpace

#: Name -> module, class, and arguments. Imported when they are asked for: some need torch, others
#: Optuna.
CONTROLLERS: Mapping[str, tuple[str, str, Mapping[str, str]]] = {
    "random": ("random", "RandomController", {}),
    "evolution": ("evolution", "EvolutionController", {}),
    "surrogate": ("surrogate", "SurrogateController", {}),
    "reinforce": ("reinforce", "ReinforceController", {}),
    "tunas": ("tunas", "TunasController", {}),
    "optuna:tpe": ("optuna", "OptunaController", {"sampler": "tpe"}),
    "optuna:gp": ("optuna", "OptunaController", {"sampler": "gp"}),
    "optuna:cmaes": ("optuna", "OptunaController", {"sampler": "cmaes"}),
    "optuna:nsgaii": ("optuna", "OptunaController", {"sampler": "nsgaii"}),
    "optuna:qmc": ("optuna", "OptunaController", {"sampler": "qmc"}),
}


def make_controller(
    name: str, space: SearchSpace, seed: int = 0, *, goal: Goal | None = None
) -> Controller:
    """Return the controller of that name.

    Args:
        name: One of `CONTROLLERS`.
        space: The space.
        seed: Seed of all proposals.
        goal: What the search is after; without one, the rewards that trials carry.

    Raises:
        ConfigError: If there is none, with the closest names; or if the goal has objectives and
            it does not take them, with those that do.
    """
    if name not in CONTROLLERS:
        raise ConfigError(f"unknown controller {name!r}: {closest(name, CONTROLLERS)}")
    module, kind, arguments = CONTROLLERS[name]
    make: type[Controller] = getattr(import_module(f"effnas.controllers.{module}"), kind)
    return make(space, seed, goal=goal, **arguments)


__all__ = ["CONTROLLERS", "Controller", "make_controller"]
