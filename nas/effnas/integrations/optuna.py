"""A run as a study of Optuna, for its plots and for optuna-dashboard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.exceptions import DuplicatedStudyError
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, create_trial
from optuna.trial import TrialState as OptunaState

from effnas.config.text import Option, plain
from effnas.controllers.optuna import quiet
from effnas.errors import ConfigError
from effnas.trials.run import Run, load_run
from effnas.trials.trial import Trial, TrialState

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

_STATES: Mapping[TrialState, OptunaState] = {
    TrialState.COMPLETE: OptunaState.COMPLETE,
    TrialState.PRUNED: OptunaState.PRUNED,
    TrialState.INFEASIBLE: OptunaState.FAIL,
    TrialState.FAILED: OptunaState.FAIL,
}
#: User attributes: of a study the run's folder, of a trial its number in the run.
_RUN, _NUMBER = "effnas run", "trial"


def to_study(
    run: Run | str | Path,
    *,
    storage: str | BaseStorage | None = None,
    name: str | None = None,
) -> optuna.Study:
    """Return a study of Optuna with the trials of a run that have ended.

    Parameters are the decisions, such as `stage2.k`; what a trial pursues is its reward, or the
    run's objectives. Metrics, the architecture and the reason of a trial without a reward are user
    attributes, accuracies at rungs (by epochs or seconds), or else those of a learning curve (by
    steps), are intermediate values. Infeasible trials and those that failed are FAIL. Called again
    with the same storage, it adds the trials that have ended since; those that are there stay as
    they are. The run itself is only read.

        to_study("runs/x", storage="sqlite:///runs.db")     # then: optuna-dashboard sqlite:///runs.db

    Args:
        run: A run, or its folder.
        storage: Optuna's, such as `sqlite:///runs.db`; None keeps the study in memory.
        name: The study's; None takes that of the folder.

    Raises:
        StoreError: If the run cannot be read.
        ConfigError: If the storage has a study of this name that is not of this run, or cannot be
            opened.
    """
    run = run if isinstance(run, Run) else load_run(run)
    objectives = run.objectives
    directions = [
        StudyDirection.MAXIMIZE if each.maximize else StudyDirection.MINIMIZE
        for each in objectives or ()
    ] or [StudyDirection.MAXIMIZE]
    folder = plain(str(run.path.resolve()))
    name = Path(folder).name if name is None else name
    storage = InMemoryStorage() if storage is None else storage
    names = [each.metric for each in objectives or ()] or ["reward"]
    with quiet():
        study = _study(storage, name, directions, names, folder)
    known = {trial.user_attrs.get(_NUMBER) for trial in study.get_trials(deepcopy=False)}
    distributions = {
        choice.name: CategoricalDistribution(_ordered(choice.options))
        for choice in run.space.choices
    }
    for trial in run.trials:
        if trial.state.is_finished and trial.number not in known:
            study.add_trial(_of(trial, run, distributions))
    return study


def _study(
    storage: str | BaseStorage,
    name: str,
    directions: Sequence[StudyDirection],
    metric_names: list[str],
    folder: str,
) -> optuna.Study:
    """Return the study of a run: a new one, or the one that is there."""
    sampler = optuna.samplers.RandomSampler()  # which costs nothing: nobody is to ask this study
    try:
        study = optuna.create_study(
            storage=storage, study_name=name, directions=directions, sampler=sampler
        )
        study.set_metric_names(metric_names)
        study.set_user_attr(_RUN, folder)
    except DuplicatedStudyError:
        study = optuna.load_study(storage=storage, study_name=name, sampler=sampler)
        if study.user_attrs.get(_RUN) != folder:
            raise ConfigError(
                f"the storage has a study {name!r} that is not of {folder}; choose another `name`"
            ) from None
    except Exception as error:
        raise ConfigError(f"`storage`: {' '.join(str(error).split())[:200]}") from error
    return study


def _of(
    trial: Trial, run: Run, distributions: Mapping[str, CategoricalDistribution]
) -> FrozenTrial:
    """Return a trial that has ended as Optuna has it."""
    state = _STATES[trial.state]
    values = (
        [trial.metrics[each.metric] for each in run.objectives if each.metric in trial.metrics]
        if run.objectives
        else [reward for reward in [trial.reward] if reward is not None]
    )
    if state is OptunaState.COMPLETE and len(values) < len(run.objectives or ["reward"]):
        state = OptunaState.FAIL
    params = run.space.decisions(trial.architecture) or {}
    measured = trial.measurement
    curve = measured.rungs or dict(measured.curve)
    attributes: dict[str, Any] = {
        **trial.metrics,
        _NUMBER: trial.number,
        "architecture": str(trial.architecture),
        "architecture_id": trial.architecture.id,
        "reward": trial.reward,
        "reason": trial.reason,
        "hardware": measured.hardware,
        "fidelity": measured.fidelity,
    }
    made = create_trial(
        state=state,
        values=values if state is OptunaState.COMPLETE else None,
        params=params,
        distributions={each: distributions[each] for each in params},
        user_attrs={
            plain(key): plain(each) if isinstance(each, str) else each
            for key, each in attributes.items()
            if each not in (None, "")
        },
        intermediate_values={step: each for step, each in curve.items() if isfinite(each)},
    )
    if ended := _local_time(trial.ended):
        made.datetime_complete = ended
        made.datetime_start = ended - timedelta(seconds=trial.duration_s or 0.0)
    return made


def _local_time(text: str | None) -> datetime | None:
    """Return a time of a run as Optuna stores it, or None if the run does not say."""
    try:
        return datetime.fromisoformat(text).astimezone().replace(tzinfo=None) if text else None
    except ValueError:
        return None


def _ordered(options: Sequence[Option]) -> list[Option]:
    """Return options in rising order, where they are numbers."""
    return list(options) if any(isinstance(each, str) for each in options) else sorted(options)
