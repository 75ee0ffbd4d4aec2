"""What a report says of a run: facts computed from the stored trials, each with its uncertainty.

Nothing here knows of HTML or of figures. Intervals of rewards hold with 90 %, as those of
`effnas.trials.uncertainty`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import combinations
from statistics import median

import numpy as np

from effnas.errors import RewardError
from effnas.space.search_space import SearchSpace
from effnas.trials.baselines import REFERENCE, Baseline
from effnas.trials.objectives import Objectives
from effnas.trials.pareto_front import pareto_front
from effnas.trials.rescore import OPEN_REWARD, sweep
from effnas.trials.reward import Reward
from effnas.trials.run import Run
from effnas.trials.store import read_events
from effnas.trials.trial import Trial, Trials, TrialState
from effnas.trials.uncertainty import CLEARLY, Difference, Noise, Ranking

#: A 90 % interval of a normal distribution has this half-width in standard deviations.
Z90 = 1.645
#: Fewer pairs do not make a rank correlation.
MIN_PAIRS = 8
_NUMBER = re.compile(r"\d[\d.,]*")


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A baseline beside the trial that is measured best.

    Attributes:
        baseline: The baseline.
        best: The trial; None while none is complete.
        reward: As a trial with its metrics has; None if it lacks one that the reward needs.
        reward_low: The true reward is above this with 95 %; None: not known.
        reward_high: The true reward is below this with 95 %; None: not known.
        accuracy_error: Standard error of its accuracy; None: not known.
        reward_gap: How much more reward the trial truly has, the luck of being chosen taken off;
            None: not known.
        accuracy_gap: The same of accuracy.
    """

    baseline: Baseline
    best: Trial | None = None
    reward: float | None
    reward_low: float | None = None
    reward_high: float | None = None
    accuracy_error: float | None = None
    reward_gap: Difference | None = None
    accuracy_gap: Difference | None = None

    @property
    def name(self) -> str:
        """What texts call it."""
        is_reference = self.baseline.name == REFERENCE
        return "the reference" if is_reference else self.baseline.name

    @property
    def measured_gap(self) -> float | None:
        """The trial's measured reward less its own; None where one of them is not known."""
        mine = self.best.reward if self.best else None
        return None if mine is None or self.reward is None else mine - self.reward

    @property
    def measured_accuracy_gap(self) -> float | None:
        """The same of accuracy."""
        mine = self.best.metrics.get("accuracy") if self.best else None
        its = self.baseline.metrics.get("accuracy")
        return None if mine is None or its is None else mine - its

    @property
    def is_beaten(self) -> bool | None:
        """Whether the trial has more reward, as far as can be told; None without rewards."""
        if self.reward_gap is not None:
            return self.reward_gap.probability >= CLEARLY
        return None if self.measured_gap is None else self.measured_gap > 0

    def ratio(self, metric: str) -> float | None:
        """Return the trial's value of a metric over its own; None where one is not known."""
        mine, its = (self.best.metrics if self.best else {}), self.baseline.metrics
        return mine[metric] / its[metric] if metric in mine and metric in its else None


def contenders(run: Run, reward: Reward, ranking: Ranking) -> list[Contender]:
    """Return how the baselines of a run stand against its best trial."""
    return [_contender(each, reward, run.noise, ranking) for each in run.baselines]


def _contender(baseline: Baseline, reward: Reward, noise: Noise, ranking: Ranking) -> Contender:
    metrics, value = baseline.metrics, baseline.reward(reward)
    accuracy, best = metrics.get("accuracy"), ranking[0].trial if ranking else None
    error = None if accuracy is None else noise.standard_error(accuracy, len(baseline.accuracies))
    found = Contender(baseline=baseline, best=best, reward=value, accuracy_error=error)
    if value is None or accuracy is None or error is None:
        return found
    ends = [{**metrics, "accuracy": min(max(accuracy + z * error, 0.0), 1.0)} for z in (-Z90, Z90)]
    try:
        low, high = sorted(reward.score(each) for each in ends)
    except RewardError:
        return found
    return replace(
        found,
        reward_low=low,
        reward_high=high,
        reward_gap=ranking.compare(best, baseline) if best else None,
        accuracy_gap=ranking.compare(best, baseline, "accuracy") if best else None,
    )


def best_so_far(trials: Trials) -> list[tuple[int, float]]:
    """Return trials that were better than all before them: number and reward."""
    found: list[tuple[int, float]] = []
    for trial in trials:
        if trial.state is not TrialState.COMPLETE or trial.reward is None:
            continue
        if not found or trial.reward > found[-1][1]:
            found.append((trial.number, trial.reward))
    return found


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How often an option of a decision was tried.

    Attributes:
        decision: Such as `stage2.k`.
        option: As the space writes it.
        tried: Trials that took it.
        complete: Complete ones of these.
        best_reward: The highest among them.
        median_reward: Their median.
        is_best: Whether the trial that is measured best took it.
    """

    decision: str
    option: str
    tried: int
    complete: int
    best_reward: float | None
    median_reward: float | None
    is_best: bool


def coverage(space: SearchSpace, trials: Trials) -> list[Coverage]:
    """Return how often each option of each open decision was tried, in the order of the space."""
    taken = [(trial, space.decisions(trial.architecture) or {}) for trial in trials]
    best = trials.best
    taken_by_best = space.decisions(best.architecture) or {} if best else {}
    found = []
    for choice in space.choices:
        for option in choice.options:
            mine = [trial for trial, decisions in taken if decisions.get(choice.name) == option]
            complete = [t for t in mine if t.state is TrialState.COMPLETE]
            rewards = [t.reward for t in complete if t.reward is not None]
            found.append(
                Coverage(
                    decision=choice.name,
                    option=str(option),
                    tried=len(mine),
                    complete=len(complete),
                    best_reward=max(rewards, default=None),
                    median_reward=median(rewards) if rewards else None,
                    is_best=taken_by_best.get(choice.name) == option,
                )
            )
    return found


def reasons(trials: Iterable[Trial]) -> list[tuple[str, str, int]]:
    """Return state, an example of a reason, and how often it occurred; figures may differ."""
    found: Counter[tuple[str, str]] = Counter()
    examples: dict[tuple[str, str], str] = {}
    for trial in trials:
        if trial.reason:
            kind = str(trial.state), _NUMBER.sub("#", trial.reason)
            found[kind] += 1
            examples.setdefault(kind, trial.reason)
    return [(state, examples[state, text], n) for (state, text), n in found.most_common()]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Seconds of workers that went into one thing.

    Attributes:
        what: In words.
        seconds: Wall-clock seconds, all workers together.
        count: Trials or trainings of it.
    """

    what: str
    seconds: float
    count: int


def costs(run: Run) -> list[Cost]:
    """Return where the time of the workers went, without parts that took none."""
    groups: dict[str, list[float]] = {}
    for trial in run.trials:
        if not trial.has_result or trial.duration_s is None:
            continue
        if trial.state in (TrialState.INFEASIBLE, TrialState.FAILED):
            groups.setdefault(f"{trial.state.lower()} trials", []).append(trial.duration_s)
            continue
        train_s = min(trial.metrics.get("train_time_s", 0.0), trial.duration_s)
        groups.setdefault("training", []).append(train_s)
        groups.setdefault("timing and building", []).append(trial.duration_s - train_s)
    for baseline in run.baselines:
        groups.setdefault("baselines", []).extend(r.duration_s for r in baseline.results)
    order = ("training", "timing and building", "baselines", "infeasible trials", "failed trials")
    return [
        Cost(what=what, seconds=sum(groups[what]), count=len(groups[what]))
        for what in order
        if sum(groups.get(what, ())) > 0
    ]


@dataclass(frozen=True, kw_only=True)
class WallClock:
    """Seconds from the start of the command to the end of the last trial or baseline.

    Attributes:
        whole_s: All of them.
        idle_s: Those in which none of them was under way.
        gaps: How often that was so.
    """

    whole_s: float
    idle_s: float
    gaps: int


def wall_clock(run: Run) -> WallClock | None:
    """Return how long the run took; None where it is not known when all trials ended.

    With rungs it is not: a trial is under way several times.
    """
    ends = [(t.ended, t.duration_s) for t in run.trials if t.has_result]
    ends += [(r.ended, r.duration_s) for each in run.baselines for r in each.results]
    if not ends or run.manifest.rungs:
        return None
    spans = []
    for ended, duration_s in ends:
        if ended is None or duration_s is None:
            return None
        try:
            end_s = datetime.fromisoformat(ended).timestamp()
        except ValueError:
            return None
        spans.append((end_s - duration_s, end_s))
    with suppress(ValueError):  # waiting for workers, images and the device came first
        begun_s = datetime.fromisoformat(run.manifest.created or "").timestamp()
        spans.append((begun_s, begun_s))
    spans.sort()
    busy_until_s, idle_s, gaps = spans[0][1], 0.0, 0
    for start_s, end_s in spans:
        idle_s += max(start_s - busy_until_s, 0.0)
        gaps += start_s > busy_until_s
        busy_until_s = max(busy_until_s, end_s)
    return WallClock(whole_s=busy_until_s - spans[0][0], idle_s=idle_s, gaps=gaps)


@dataclass(frozen=True, kw_only=True)
class RungPair:
    """How well accuracies at one rung rank those at a later one.

    Attributes:
        low: Epochs of the lower rung.
        high: Epochs of the higher one.
        accuracies: Pairs at both.
        tau: Kendall's tau, -1 to 1; None with fewer than `MIN_PAIRS` pairs.
        tau_low: Lower end of its 95 % bootstrap interval.
        tau_high: Upper end.
    """

    low: int
    high: int
    accuracies: tuple[tuple[float, float], ...]
    tau: float | None = None
    tau_low: float | None = None
    tau_high: float | None = None


def rung_pairs(trials: Iterable[Trial]) -> list[RungPair]:
    """Return every pair of rungs that some trials have reached both of."""
    reached = [trial.measurement.rungs for trial in trials]
    epochs = sorted({n for rungs in reached for n in rungs})
    found = []
    for low, high in combinations(epochs, 2):
        pairs = tuple((r[low], r[high]) for r in reached if low in r and high in r)
        if len(pairs) < MIN_PAIRS:
            found.append(RungPair(low=low, high=high, accuracies=pairs))
            continue
        values = np.array(pairs)
        rng = np.random.default_rng(0)
        drawn = [_tau(values[rng.integers(len(values), size=len(values))]) for _ in range(300)]
        ends = np.nanquantile(drawn, [0.025, 0.975])
        found.append(RungPair(low=low, high=high, accuracies=pairs, tau=_tau(values),
                              tau_low=float(ends[0]), tau_high=float(ends[1])))  # fmt: skip
    return found


def _tau(values: np.ndarray) -> float:
    from scipy.stats import kendalltau

    return float(kendalltau(values[:, 0], values[:, 1]).statistic)


@dataclass(frozen=True, kw_only=True)
class PredictedStep:
    """A step time that was predicted first and measured later, both over the reference's."""

    trial: int
    predicted: float
    measured: float

    @property
    def error(self) -> float:
        """How far the prediction was off, as a share of what was measured."""
        return self.predicted / self.measured - 1


def predicted_steps(run: Run) -> list[PredictedStep]:
    """Return the trials whose step time was predicted and then measured."""
    if run.manifest.step_times == "measured":
        return []  # all events are read only where that may tell
    predicted: dict[int, float] = {}
    found: dict[int, PredictedStep] = {}
    for trial in read_events(run.path, run.space):
        value, source = trial.metrics.get("step_time"), trial.measurement.step_time_source
        if value is None:
            continue
        if source == "predicted":
            predicted[trial.number] = value
        elif source == "measured" and trial.number in predicted:
            found[trial.number] = PredictedStep(
                trial=trial.number, predicted=predicted[trial.number], measured=value
            )
    return list(found.values())


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """Which trial wins for other exponents of step time and size.

    Attributes:
        step_time_exponents: [M], of S.
        size_exponents: [N], of P.
        winners: Trial numbers, [N][M]; None where no trial has a reward.
        given: The exponents of the run's own reward: of S and of P.
        share: Of the grid, that the winner at those exponents wins, 0 to 1.
    """

    step_time_exponents: tuple[float, ...]
    size_exponents: tuple[float, ...]
    winners: tuple[tuple[int | None, ...], ...]
    given: tuple[float, float]
    share: float


_PRODUCT = re.compile(
    r"(?:A|accuracy)(?: \* (?:S|step_time) ?\^ ?(?P<s>-?[\d.]+))?"
    r"(?: \* (?:P|params_ratio) ?\^ ?(?P<p>-?[\d.]+))?"
)


def sensitivity(trials: Trials, reward: Reward, steps: int = 31) -> Sensitivity | None:
    """Return who wins for exponents from 0 to three times those of the reward.

    Returns:
        None if the reward is no product of A and powers of S and P, or no trial is complete.
    """
    match, best = _PRODUCT.fullmatch(" ".join(reward.text.split())), trials.best
    if match is None or best is None:
        return None
    given = float(match["s"] or 0), float(match["p"] or 0)
    s, p = (tuple(np.linspace(min(3 * v, -0.15), 0.0, steps).tolist()) for v in given)
    # Who wins is among those that no other trial beats in all three, which are few.
    front = pareto_front(trials, Objectives.parse("accuracy:max,step_time:min,params_ratio:min"))
    found = sweep(Trials(front), OPEN_REWARD, {"v": p, "w": s})
    return Sensitivity(
        step_time_exponents=s,
        size_exponents=p,
        winners=tuple(found.winners[n : n + steps] for n in range(0, len(found.winners), steps)),
        given=given,
        share=next((r.share for r in found.regions if r.trial == best.number), 0.0),
    )
