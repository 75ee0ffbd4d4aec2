"""Training what a search is compared with: before its first trial, as its trials are trained."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from effnas.arch.architecture import Architecture
from effnas.arch.models import TimmModel, check_timm_name
from effnas.errors import ConfigError
from effnas.evaluation.evaluator import Job, Network, Task
from effnas.evaluation.work import MAX_ATTEMPTS, drain
from effnas.trials.baselines import Baseline, BaselineResult
from effnas.trials.manifest import utc_now
from effnas.trials.network_ref import find_network
from effnas.trials.trial import Measurement

if TYPE_CHECKING:
    from effnas.evaluation.backend import Backend, Outcome
    from effnas.space.search_space import SearchSpace
    from effnas.trials.worker_info import WorkerInfo

#: Trainings of a baseline, with other seeds each.
SEEDS = 3
#: What a baseline costs, in trials of the reference network, unless one training costs more.
_MAX_TRIALS = 3.0
#: Metrics of a step time over the reference's.
_RATIO = {"step_time", "step_time_low", "step_time_high", "step_time_settled"}
#: Name that stands for no baselines at all.
_NONE = "none"


def find_baselines(names: Sequence[str] | None, space: SearchSpace) -> dict[str, Network] | None:
    """Return the networks that a user names as baselines; an empty one for no baselines at all.

    Args:
        names: Models of timm's, block strings, architecture files, RUN:best or RUN:NUMBER; or
            `none` alone. None takes the default, which is None here, too.
        space: Gives stem and head of block strings.

    Raises:
        UserError: If one is none of these.
    """
    if names is None:
        return None
    if _NONE in names:
        if len(names) > 1:
            raise ConfigError(f"`baseline` {_NONE} means no baselines; leave it or the others out")
        return {}
    found: dict[str, Network] = {}
    for name in names:
        network = find_network(name, space)
        if network.arch is None:
            check_timm_name(name)
        found[name] = network.arch or TimmModel(name)
    return found


@dataclass(frozen=True, kw_only=True)
class PlannedBaseline:
    """A baseline before it is trained.

    Attributes:
        name: Of the baseline.
        network: What is trained.
        seeds: Number of its trainings.
        left: Which of them are still to be done, from 0.
        training_s: About the seconds of one; 0 if it cannot be trained.
        timing_s: About the seconds of its timing, which comes with the first.
    """

    name: str
    network: Network
    seeds: int
    left: tuple[int, ...]
    training_s: float
    timing_s: float

    @property
    def left_s(self) -> float:
        """About the seconds of what is still to be done."""
        return len(self.left) * self.training_s + (0 in self.left) * self.timing_s


def plan_baselines(
    networks: Mapping[str, Network],
    prepared: WorkerInfo,
    stored: Iterable[Baseline],
    stored_seeds: Mapping[str, int],
) -> list[PlannedBaseline]:
    """Return how often each baseline is trained: less than `SEEDS` times if that takes too long.

    Args:
        networks: The baselines by name.
        prepared: Gives what trainings cost.
        stored: Baselines with the trainings that are done already.
        stored_seeds: Trainings of each, as they were planned before.
    """
    done = {(b.name, b.network): b for b in stored}
    limit_s = _MAX_TRIALS * (prepared.timing_s + prepared.training_s)
    planned = []
    for name, network in networks.items():
        each_s = prepared.baseline_training_s.get(name, prepared.training_s)
        # It is timed beside the reference network, which takes half of the time of a timing.
        slowness = each_s / prepared.training_s if prepared.training_s else 1.0
        timing_s = prepared.timing_s * (1 + slowness) / 2
        affordable = int((limit_s - timing_s) / each_s + 0.1) if each_s else SEEDS
        seeds = stored_seeds.get(name) or min(max(affordable, 1), SEEDS)
        baseline = done.get((name, str(network)))
        planned.append(
            PlannedBaseline(
                name=name,
                network=network,
                seeds=seeds,
                left=_missing(baseline, seeds),
                training_s=each_s,
                timing_s=timing_s,
            )
        )
    return planned


def _missing(baseline: Baseline | None, seeds: int) -> tuple[int, ...]:
    """Return which trainings of a baseline are to be done; none if the first was not possible."""
    done = {r.repeat: r for r in baseline.results if not r.failed} if baseline else {}
    if 0 in done and "accuracy" not in done[0].metrics:
        return ()
    return tuple(n for n in range(seeds) if n not in done)


def train_baselines(
    planned: Sequence[PlannedBaseline],
    space: SearchSpace,
    backend: Backend,
    ended: Callable[[BaselineResult], None],
) -> None:
    """Time and train what is left of the baselines.

    One that cannot be timed, trained, or whose worker is lost again and again is a result with a
    reason. Where the first training is not possible, no others are tried.

    Args:
        planned: The baselines.
        space: Gives counts, and the reference network that parameters are relative to.
        backend: Runs the trainings, by the recipe of its workers.
        ended: Receives every result, and stores it.

    Raises:
        UserError: As soon as a worker meets a mistake of the user's.
    """
    by_name = {each.name: each for each in planned}
    waiting: deque[tuple[str, int, Task]] = deque()
    for each in planned:
        if 0 in each.left:
            waiting.append((each.name, 0, Task.TIME))
        waiting.extend((each.name, repeat, Task.TRAIN) for repeat in each.left)
    under_way: dict[int, tuple[str, int, Task]] = {}
    #: Of first trainings, the timing or the training, whichever has ended.
    halves: dict[str, dict[Task, _Half]] = {}

    def next_job() -> Job | None:
        if not waiting:
            return None
        name, repeat, task = waiting.popleft()
        number = max(under_way, default=-1) + 1
        under_way[number] = name, repeat, task
        network = by_name[name].network
        if isinstance(network, TimmModel):
            return Job(number, space.reference, task, repeat, model=network)
        return Job(number, network, task, repeat)

    def take(outcome: Outcome) -> None:
        name, repeat, task = under_way.pop(outcome.trial)
        half = _Half.of(outcome)
        if repeat == 0:
            both = halves.setdefault(name, {})
            both[task] = half
            if len(both) == 1:
                return
            half = both[Task.TIME].followed_by(both[Task.TRAIN])
        result = half.result(by_name[name], repeat, space)
        if repeat == 0 and "accuracy" not in result.metrics:
            kept = [each for each in waiting if each[0] != name]
            waiting.clear()
            waiting.extend(kept)
        ended(result)

    def failed(outcome: Outcome, is_last: bool) -> None:
        if is_last:
            take(outcome)

    drain(backend, next_job, take, failed)


@dataclass(frozen=True, kw_only=True)
class _Half:
    """What a timing or a training of a baseline gave."""

    measurement: Measurement
    reason: str | None
    failed: bool
    duration_s: float

    @classmethod
    def of(cls, outcome: Outcome) -> _Half:
        reason = outcome.infeasible
        if outcome.failure is not None:
            reason = f"it failed {MAX_ATTEMPTS} times, the last with: {outcome.failure}"
        return cls(
            measurement=outcome.measurement or Measurement(metrics={}),
            reason=reason,
            failed=outcome.failure is not None,
            duration_s=outcome.duration_s,
        )

    def followed_by(self, training: _Half) -> _Half:
        return replace(
            self,
            measurement=self.measurement.continued(training.measurement),
            reason=training.reason or self.reason,
            failed=training.failed or self.failed,
            duration_s=self.duration_s + training.duration_s,
        )

    def result(self, planned: PlannedBaseline, repeat: int, space: SearchSpace) -> BaselineResult:
        found, network = self.measurement, planned.network
        metrics = {**counts(network, found.metrics, space), **found.metrics}
        if network == space.reference:  # S is relative to it, so its own is no measurement
            metrics |= dict.fromkeys(_RATIO & metrics.keys(), 1.0)
        return BaselineResult(
            baseline=planned.name,
            network=str(network),
            repeat=repeat,
            metrics=metrics,
            reason=self.reason,
            failed=self.failed,
            fidelity=found.fidelity,
            seed=found.seed,
            hardware=found.hardware,
            step_time_source=found.step_time_source,
            duration_s=self.duration_s,
            ended=utc_now(),
        )


def counts(
    network: Network, metrics: Mapping[str, float], space: SearchSpace
) -> Mapping[str, float]:
    """Return what is counted of a network; of a model of timm's, P from the counted parameters."""
    if isinstance(network, Architecture):
        return space.counted_metrics(network)
    if "params" not in metrics:
        return {}
    return {"params_ratio": metrics["params"] / space.count(space.reference).params}
