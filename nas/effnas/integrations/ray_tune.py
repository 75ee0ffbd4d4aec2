"""effnas's controllers for Ray Tune: `tune.TuneConfig(search_alg=EffnasSearcher("small"))`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher
from ray.tune.search.sample import Domain

from effnas.config.codec import FORMAT, dump_json, from_plain, parse_json, read_text, replace_file
from effnas.errors import ConfigError, SpaceExhaustedError, StoreError, UserError
from effnas.search.search import Search
from effnas.space.search_space import SearchSpace
from effnas.trials.reward import METRICS, Reward
from effnas.trials.store import from_record, to_record
from effnas.trials.trial import Measurement, Trial, TrialState

_KIND = "effnas searcher of ray tune"
_ITERATION = "training_iteration"


class EffnasSearcher(Searcher):
    """Proposes architectures with a controller of effnas; Ray Tune runs the trials.

    The `config` of a trial has a key for each decision, such as `stage2.k`, and `architecture`, the
    block strings; `SearchSpace.load(...).architecture(config)` returns the network. What the
    trainable reports under the names of `effnas.trials.reward.METRICS` is used: params, MACs and
    activations are counted here. A trial that ends with an error, or whose metric is no finite
    number, teaches the controller nothing.

    What it knows is stored as JSON in Tune's folder, and replayed by `Tuner.restore`.

    Args:
        space: The search space, or its name or path.
        controller: A controller's name.
        metric: What the trainable reports and is optimized.
        mode: `max` or `min`.
        reward: An expression over metrics that is maximized in place of the metric; its `accuracy`
            is the metric. None: the metric alone.
        rungs: Iterations at which a scheduler stops trials, the last one the whole training: of
            `ASHAScheduler(grace_period=1, reduction_factor=3, max_t=9)` 1, 3 and 9. The controller
            learns from trials that were stopped there what they tell of whole ones. Without them
            every trial that ends counts as a whole one.
        constraints: As of a search.
        seed: Of all proposals.

    Raises:
        UserError: If a name or file cannot be found or read, or rungs do not rise.
    """

    def __init__(
        self,
        space: SearchSpace | str = "v2",
        controller: str = "surrogate",
        *,
        metric: str = "accuracy",
        mode: str = "max",
        reward: Reward | str | None = None,
        rungs: Sequence[int] = (),
        constraints: Sequence[str] = (),
        seed: int = 0,
    ) -> None:
        if mode not in ("max", "min"):
            raise ConfigError(f"`mode` is {mode!r}; it is max or min")
        if reward is not None and mode == "min":
            raise ConfigError("`mode` is min, and a reward is maximized: give one of them")
        if not all(low < high for low, high in pairwise((0, *rungs))):
            raise ConfigError(f"`rungs` {tuple(rungs)} must rise, from 1 or more")
        super().__init__(metric=metric, mode=mode)
        self._new_search = partial(
            Search,
            SearchSpace.load(space) if isinstance(space, str) else space,
            "accuracy" if reward is None else reward,
            controller,
            seed,
            constraints=tuple(constraints),
        )
        self._rungs = tuple(rungs)
        self._begin()

    def _begin(self) -> None:
        """Know no trials."""
        self._search = self._new_search()
        #: All changes of trials, in the order in which they happened; by Tune's id, the number.
        self._events: list[Trial] = []
        self._numbers: dict[str, int] = {}
        #: By number: the metric at each rung that a running trial has reached.
        self._reached: dict[int, dict[int, float]] = {}

    @property
    def space(self) -> SearchSpace:
        """What it proposes from."""
        return self._search.space

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: Mapping[str, Any], **spec: Any
    ) -> bool:
        """Take over what `TuneConfig` and `param_space` say; constants of the latter are passed on.

        Raises:
            ConfigError: If they say something else, or leave a value for Tune to choose.
        """
        del spec
        for name, given, own in (("metric", metric, self.metric), ("mode", mode, self.mode)):
            if given not in (None, own):
                raise ConfigError(
                    f"`{name}` of TuneConfig is {given!r} and that of EffnasSearcher {own!r}; give "
                    "both the same"
                )
        for name, value in config.items():
            if isinstance(value, Domain) or (isinstance(value, Mapping) and "grid_search" in value):
                raise ConfigError(
                    f"`param_space` leaves {name!r} to Tune; with EffnasSearcher all that is open "
                    "is a choice of the space"
                )
        return True

    def suggest(self, trial_id: str) -> Any:
        """Return the decisions of a new architecture, or FINISHED if there is none left."""
        try:
            arch = self._search.ask()
        except SpaceExhaustedError:
            return str(self.FINISHED)
        trial = self._search.trials[-1]
        self._numbers[trial_id] = trial.number
        self._events.append(trial)
        return {**(self.space.decisions(arch) or {}), "architecture": str(arch)}

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """Keep the metric at a rung."""
        number, iteration = self._numbers.get(trial_id), result.get(_ITERATION)
        if number is not None and iteration in self._rungs and self._is_known(result):
            value = self._accuracy(result)
            self._reached.setdefault(number, {})[int(iteration)] = value

    def on_trial_complete(
        self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell the controller how a trial has ended.

        Raises:
            RewardError: If the reward needs a metric that was not reported.
        """
        number = self._numbers.get(trial_id)
        trial = next((t for t in self._search.trials if t.number == number), None)
        if trial is None or trial.state.is_finished:
            return
        if error or result is None or not self._is_known(result):
            reason = "an error" if error or result is None else f"{self.metric} is not finite"
            ended = replace(trial, state=TrialState.FAILED, reason=reason)
        else:
            self.on_trial_result(trial_id, result)
            rungs = self._reached.get(trial.number, {})
            metrics = {name: float(result[name]) for name in METRICS if _is_number(result, name)}
            whole = not self._rungs or result.get(_ITERATION, 0) >= self._rungs[-1]
            if not whole and not rungs:
                ended = replace(trial, state=TrialState.FAILED, reason="stopped before a rung")
            else:
                ended = replace(
                    trial,
                    state=TrialState.COMPLETE if whole else TrialState.PRUNED,
                    measurement=Measurement(
                        metrics=metrics | {"accuracy": self._accuracy(result)}, rungs=rungs
                    ),
                )
        self._reached.pop(trial.number, None)
        self._events.append(self._search.take(ended))

    def save(self, checkpoint_path: str) -> None:
        """Write what it knows as JSON; Tune calls it."""
        content = {
            "format": FORMAT,
            "kind": _KIND,
            "space": self.space.id,
            "numbers": self._numbers,
            "reached": self._reached,
            "events": [to_record(event) for event in self._events],
        }
        replace_file(Path(checkpoint_path), dump_json(content, indent=None).encode())

    def restore(self, checkpoint_path: str) -> None:
        """Read what `save` wrote, with the settings of this searcher; Tune calls it.

        Raises:
            StoreError: If the file cannot be read, or is of another space.
        """
        try:
            content = parse_json(read_text(checkpoint_path))
            if not isinstance(content, dict) or content.get("kind") != _KIND:
                raise UserError("it is of no searcher of effnas")
            if content.get("space") != self.space.id:
                raise UserError("it is of another space, or of other constraints")
            numbers = from_plain(content.get("numbers"), dict[str, int])
            reached = from_plain(content.get("reached"), dict[int, dict[int, float]])
            records = from_plain(content.get("events"), list[dict[str, Any]])
            events = [from_record(record, self.space) for record in records]
        except (UserError, ValueError) as error:
            raise StoreError(f"{checkpoint_path}: {error}") from None
        self._begin()
        self._search.resume(events)
        self._events, self._numbers, self._reached = events, numbers, reached

    def __getstate__(self) -> dict[str, Any]:
        """Return what pickles, as which Tune stores searchers: all but the controller."""
        return {name: value for name, value in vars(self).items() if name != "_search"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make the controller of the stored trials again."""
        vars(self).update(state)
        self._search = self._new_search()
        self._search.resume(self._events)

    def _is_known(self, result: Mapping[str, Any]) -> bool:
        return _is_number(result, self.metric)

    def _accuracy(self, result: Mapping[str, Any]) -> float:
        """Return the metric of a result, so that larger is better."""
        return float(result[self.metric]) * (1 if self.mode == "max" else -1)


def _is_number(result: Mapping[str, Any], name: str) -> bool:
    try:
        return math.isfinite(float(result[name]))
    except (KeyError, TypeError, ValueError):
        return False
