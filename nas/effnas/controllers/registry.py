"""Controllers: which architecture to try next."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import import_module

from effnas.config.plugins import Plugin, describe, is_plugin, load_plugin, place_of
from effnas.controllers.base import Controller
from effnas.errors import ConfigError, UserError, closest
from effnas.space.search_space import SearchSpace
from effnas.trials.problem import Problem

_SAMPLER = re.compile(r"optuna:\w*")
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

#: Controllers whose proposals do not depend on trials.
NOT_LEARNING = frozenset({"random", "optuna:qmc"})


def make_controller(
    name: str, space: SearchSpace, seed: int = 0, *, problem: Problem | None = None
) -> Controller:
    """Return the controller of that name.

    Args:
        name: One of `CONTROLLERS`, or a class of the user's as `FILE.py:CLASS` or
            `package.module:CLASS`.
        space: The space.
        seed: Seed of all proposals.
        problem: What the search is after; without one, the rewards that trials carry.

    Raises:
        ConfigError: If there is none (offers the closest names), it cannot be made, or the problem
            has objectives and it does not take them (names those that do).
    """
    if plugin := _plugin(name):
        return _made(plugin, space, seed, problem)
    if name not in CONTROLLERS:
        raise ConfigError(f"unknown controller {name!r}: {closest(name, CONTROLLERS)}")
    module, kind, arguments = CONTROLLERS[name]
    make: type[Controller] = getattr(import_module(f"effnas.controllers.{module}"), kind)
    return make(space, seed, problem=problem, **arguments)


def controller_text(name: str) -> str:
    """Return what a run records of a controller: its name, of the user's own a digest as well."""
    plugin = _plugin(name)
    return plugin.text if plugin else name


def is_own_controller(name: str) -> bool:
    """Return whether a name is that of the user's own Python, and no sampler of Optuna."""
    return is_plugin(name) and not _SAMPLER.fullmatch(name)


def _plugin(name: str) -> Plugin | None:
    if not is_own_controller(name):
        return None
    return load_plugin(name, "controller", kind="class", error=ConfigError)


def _made(plugin: Plugin, space: SearchSpace, seed: int, problem: Problem | None) -> Controller:
    if not isinstance(plugin.value, type) or not issubclass(plugin.value, Controller):
        raise ConfigError(
            f"{plugin.path}: {plugin.name} is no controller: make it a subclass of "
            "effnas.controllers.base.Controller"
        )
    try:
        return plugin.value(space, seed, problem=problem)
    except UserError:
        raise
    except Exception as error:
        place = place_of(error, plugin.path)
        raise ConfigError(
            f"{place}: the controller {plugin.name} cannot be made: {describe(error)}"
        ) from error
