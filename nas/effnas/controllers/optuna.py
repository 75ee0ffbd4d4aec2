"""Optuna's samplers as controllers (Akiba et al. 2019)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, ClassVar

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    NSGAIISampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)
from optuna.trial import FrozenTrial, create_trial
from optuna.trial import TrialState as OptunaState

from effnas.arch.architecture import Architecture
from effnas.config.seeds import bounded_seed
from effnas.config.text import Option
from effnas.controllers.base import Controller, takes_no_objectives
from effnas.errors import ConfigError, SpaceExhaustedError, closest
from effnas.space.decisions import RECIPE
from effnas.space.search_space import SearchSpace
from effnas.trials.problem import Problem
from effnas.trials.trial import Trial, TrialState

#: Suggestions in a row that may repeat an earlier architecture or violate a constraint.
_MAX_TRIES = 20


class _CmaEs(CmaEsSampler):
    """CMA-ES over the choices that no other one closes.

    Optuna's own falls back to random search for good once a choice that all earlier trials had is
    missing in a new one: its dimensions no longer fit.
    """

    def __init__(self, seed: int, always_open: frozenset[str]) -> None:
        super().__init__(seed=seed)
        self._always_open = always_open

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        found = super().infer_relative_search_space(study, trial)
        kept = {name: each for name, each in found.items() if name in self._always_open}
        return kept if len(kept) > 1 else {}  # it needs more than a single dimension


#: Name -> makes the sampler of one proposal from its seed, for a controller.
SAMPLERS: Mapping[str, Callable[[int, OptunaController], BaseSampler]] = {
    # What Optuna advises for conditional choices and for parallel trials.
    "tpe": lambda seed, _: TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True),
    "gp": lambda seed, _: GPSampler(seed=seed),
    "cmaes": lambda seed, its: _CmaEs(seed, its.always_open),
    "nsgaii": lambda seed, _: NSGAIISampler(seed=seed),
    # One sequence for the whole run: its seed is the run's.
    "qmc": lambda seed, its: QMCSampler(
        seed=bounded_seed(its.seed), scramble=True, independent_sampler=RandomSampler(seed)
    ),
}
#: Samplers that keep notes in the study when they are asked, and need them later.
_NOTING = frozenset({"cmaes", "nsgaii", "qmc"})
#: Samplers that pursue several objectives.
_SEVERAL = frozenset({"nsgaii", "tpe"})


class OptunaController(Controller):
    """Has a sampler of Optuna make the proposals.

    A choice is a parameter of the same name, such as `stage2.k`: the position of its option where
    options are numbers, so that their order counts, or else the option itself. Choices that others
    close are not suggested. What is pursued is the reward, or the objectives of the problem, each
    turned so that larger is better. Trials without a value count as the worst one so far (in each
    objective), so that the sampler stays away from them.

    What `ask` proposes is withdrawn from Optuna's study at once, and added when `tell` receives it:
    so a controller that replays a stored search has the study of the one that made it.

    Args:
        problem: Its objectives, if it has any, are pursued; else the rewards that trials carry.
        sampler: One of `SAMPLERS`; `nsgaii` and `tpe` take objectives.
    """

    #: `propose` tries again by itself, with the same sampler.
    most_repeats = 1
    takes_objectives: ClassVar[bool] = True

    def __init__(
        self,
        space: SearchSpace,
        seed: int = 0,
        *,
        problem: Problem | None = None,
        sampler: str = "tpe",
    ) -> None:
        if sampler not in SAMPLERS:
            raise ConfigError(
                f"unknown sampler {sampler!r} of Optuna: {closest(sampler, SAMPLERS)}"
            )
        self.name = f"optuna:{sampler}"
        if problem and problem.objectives and sampler not in _SEVERAL:
            raise takes_no_objectives(self.name)
        super().__init__(space, seed, problem=problem)
        #: Choices that every architecture of the space has made.
        self.always_open: frozenset[str] = _always_open(space)
        self._objectives = problem.objectives if problem else None
        self._sampler = sampler
        self._options = {choice.name: _ordered(choice.options) for choice in space.choices}
        self._distributions = {
            n: IntDistribution(0, len(options) - 1)
            if _is_numeric(options)
            else CategoricalDistribution(options)
            for n, options in self._options.items()
        }
        with quiet():
            count = len(self._objectives) if self._objectives else 1
            self._study = optuna.create_study(
                sampler=RandomSampler(bounded_seed(seed)), directions=["maximize"] * count
            )
        #: The sampler's notes on its last suggestion.
        self._notes: dict[str, Any] = {}
        #: By trial: what was asked for and `tell` has not received yet, with the sampler's notes.
        self._asked: dict[int, tuple[Architecture, dict[str, Any]]] = {}
        #: By trial: the number of Optuna's trial that is running.
        self._running: dict[int, int] = {}
        #: Trials that have ended for good.
        self._ended: set[int] = set()
        self._worst: tuple[float, ...] | None = None

    def ask(self, number: int) -> Architecture:
        """Return a new architecture; asked again for the same trial, return the same."""
        if number not in self._asked or self._asked[number][0].id in self._proposed:
            arch = super().ask(number)
            self._asked[number] = arch, self._notes
        return self._asked[number][0]

    def propose(self, rng: np.random.Generator) -> Architecture:
        """Have the sampler decide every choice that is open, or draw if it is of no help."""
        tried: list[optuna.Trial] = []
        with quiet():
            self._study.sampler = SAMPLERS[self._sampler](int(rng.integers(2**31)), self)
            try:
                for _ in range(_MAX_TRIES):
                    # Those before are running meanwhile: the sampler looks elsewhere.
                    tried.append(self._study.ask())
                    arch = self._suggest(tried[-1])
                    if arch.id not in self._proposed and not self.space.violated(arch):
                        return arch
            finally:
                for theirs in tried:
                    self._study.tell(theirs, state=OptunaState.FAIL)
        return self.space.sample(rng)

    def tell(self, trial: Trial) -> None:
        """Learn that a trial has started or ended."""
        # A stored search tells of each state once: a trial that is retried has started before.
        known = trial.number in self._running or trial.number in self._ended
        if not trial.state.is_finished and not known and self.space.contains(trial.architecture):
            self._start(trial)
        super().tell(trial)

    def learn(self, trial: Trial) -> None:
        """Tell Optuna the values, or the worst ones so far for a trial that has none."""
        # A trial that has failed is tried again: to Optuna it is running until it ends otherwise.
        is_news = trial.state is not TrialState.FAILED and trial.number not in self._ended
        if not is_news or not self.space.contains(trial.architecture):
            return
        self._ended.add(trial.number)
        values = self._values(trial)
        if values is None:
            values = self._worst
        else:
            self._worst = tuple(map(min, values, self._worst or values))
        theirs = self._running.pop(trial.number, None)
        if theirs is None:
            theirs = self._add(trial.architecture, {})
        with quiet():
            if values is None:
                self._study.tell(theirs, state=OptunaState.FAIL)
            else:
                self._study.tell(theirs, values)

    def _values(self, trial: Trial) -> tuple[float, ...] | None:
        """Return what Optuna maximizes, or None for a trial that does not have it."""
        if self._objectives:
            return self._objectives.of(trial)
        return None if trial.reward is None else (trial.reward,)

    def _suggest(self, theirs: optuna.Trial) -> Architecture:
        """Have the sampler suggest an architecture, and keep its notes."""

        def choose(name: str, options: tuple[Option, ...]) -> Option:
            ordered = self._options[name]
            if _is_numeric(options):
                return ordered[theirs.suggest_int(name, 0, len(ordered) - 1)]
            texts = [option for option in ordered if isinstance(option, str)]
            return theirs.suggest_categorical(name, texts)

        arch = self.space.architecture_by(choose)
        if self._sampler in _NOTING:
            self._notes = self._study.get_trials(deepcopy=False)[theirs.number].system_attrs
        return arch

    def _start(self, trial: Trial) -> None:
        """Have a trial running in Optuna's study."""
        if self._sampler in _NOTING and trial.number not in self._asked:
            # A stored search is replayed: the sampler is asked again, and takes the same notes.
            with suppress(SpaceExhaustedError):
                self.ask(trial.number)
        asked, notes = self._asked.pop(trial.number, (None, {}))
        own = asked == trial.architecture
        self._running[trial.number] = self._add(trial.architecture, notes if own else {})

    def _add(self, arch: Architecture, notes: Mapping[str, Any]) -> int:
        """Add a running trial to Optuna's study, and return its number there."""
        decisions = self.space.decisions(arch) or {}
        params = {
            name: self._options[name].index(option) if not isinstance(option, str) else option
            for name, option in decisions.items()
        }
        self._study.add_trial(
            create_trial(
                state=OptunaState.RUNNING,
                params=params,
                distributions={name: self._distributions[name] for name in params},
                system_attrs=dict(notes),
            )
        )
        return len(self._study.get_trials(deepcopy=False)) - 1


def _is_numeric(options: tuple[Option, ...]) -> bool:
    return not any(isinstance(option, str) for option in options)


def _ordered(options: tuple[Option, ...]) -> tuple[Option, ...]:
    return tuple(sorted(options)) if _is_numeric(options) else options


def _always_open(space: SearchSpace) -> frozenset[str]:
    found = set()
    for n, stages in enumerate(space.stages, start=1):
        closed = {
            name
            for stage in stages.stages()
            for name in stages.choices.keys() - (stages.decisions(stage) or {}).keys()
        }
        found |= {f"stage{n}.{name}" for name in stages.choices.keys() - closed}
    return frozenset(found | {f"{RECIPE}{each.name}" for each in space.recipe})


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Optuna from reporting what is meant: experimental options, independent sampling."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)
