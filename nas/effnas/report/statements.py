"""What a report says of a run: facts computed from the stored trials, each with its uncertainty.

Nothing here knows of HTML or of figures. Intervals of rewards hold with 90 %, as those of
`effnas.trials.uncertainty`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean, median

import numpy as np

from effnas.errors import RewardError
from effnas.space.search_space import SearchSpace
from effnas.trials.baselines import Baseline
from effnas.trials.reward import Reward
from effnas.trials.run import Run
from effnas.trials.store import read_events
from effnas.trials.trial import Trial, Trials, TrialState
from effnas.trials.uncertainty import Noise, RankedTrial

#: A 90 % interval of a normal distribution has this half-width in standard deviations.
Z90 = 1.645
#: Fewer pairs do not make a rank correlation.
MIN_PAIRS = 8
_DRAWS = 1_000
_NUMBER = re.compile(r"\d[\d.,]*")


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A baseline beside the trials.

    Attributes:
        baseline: The baseline.
        reward: As a trial with its metrics has; None if it lacks one that the reward needs.
        reward_low: The true reward is above this with 95 %; None: not known.
        reward_high: The true reward is below this with 95 %; None: not known.
        accuracy_error: Standard error of its accuracy; None: not known.
        beaten_probability: That the winner's true reward is higher, 0 to 1; None: not known.
    """

    baseline: Baseline
    reward: float | None
    reward_low: float | None = None
    reward_high: float | None = None
    accuracy_error: float | None = None
    beaten_probability: float | None = None


def contenders(
    baselines: Iterable[Baseline], reward: Reward, noise: Noise, winner: RankedTrial | None
) -> list[Contender]:
    """Return how the baselines stand against the winner."""
    return [_contender(each, reward, noise, winner) for each in baselines]


def _contender(
    baseline: Baseline, reward: Reward, noise: Noise, winner: RankedTrial | None
) -> Contender:
    from scipy.special import ndtr

    metrics = baseline.metrics
    try:
        value = reward.score(metrics)
    except RewardError:
        return Contender(baseline=baseline, reward=None)
    accuracy = metrics.get("accuracy")
    error = noise.standard_error(accuracy, len(baseline.accuracies)) if accuracy else None
    if error is None or accuracy is None:
        return Contender(baseline=baseline, reward=value)
    try:
        ends = [reward.score({**metrics, "accuracy": max(accuracy + z * error, 1e-9)})
                for z in (-Z90, Z90)]  # fmt: skip
    except RewardError:
        return Contender(baseline=baseline, reward=value, accuracy_error=error)
    low, high = sorted(ends)
    beaten = None
    if winner is not None and winner.low is not None and winner.high is not None:
        middle, spread = (winner.low + winner.high) / 2, (winner.high - winner.low) / (2 * Z90)
        both = max(float(np.hypot(spread, (high - low) / (2 * Z90))), 1e-12)
        beaten = float(ndtr((middle - value) / both))
    return Contender(
        baseline=baseline,
        reward=value,
        reward_low=low,
        reward_high=high,
        accuracy_error=error,
        beaten_probability=beaten,
    )


def indistinguishable(ranked: Sequence[RankedTrial]) -> list[RankedTrial]:
    """Return the trials that may rank as high as the winner may; the winner is the first."""
    return [each for each in ranked if each.rank <= ranked[0].rank]


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
        is_winners: Whether the winner took it.
    """

    decision: str
    option: str
    tried: int
    complete: int
    best_reward: float | None
    median_reward: float | None
    is_winners: bool


def coverage(space: SearchSpace, trials: Trials) -> list[Coverage]:
    """Return how often each option of each open decision was tried, in the order of the space."""
    taken = [(trial, space.decisions(trial.architecture) or {}) for trial in trials]
    best = trials.best
    winners = space.decisions(best.architecture) or {} if best else {}
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
                    is_winners=winners.get(choice.name) == option,
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
    for trial in read_events(run.path, stem=run.space.stem, head=run.space.head):
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
        winners: Trial numbers, [N][M].
        given: The exponents of the run's own reward: of S and of P.
    """

    step_time_exponents: tuple[float, ...]
    size_exponents: tuple[float, ...]
    winners: tuple[tuple[int, ...], ...]
    given: tuple[float, float]

    @property
    def share(self) -> float:
        """Share of the grid that the winner at the run's own exponents wins, 0 to 1."""
        s, v = self.given
        column = min(range(len(self.step_time_exponents)),
                     key=lambda n: abs(self.step_time_exponents[n] - s))  # fmt: skip
        row = min(range(len(self.size_exponents)), key=lambda n: abs(self.size_exponents[n] - v))
        mine = self.winners[row][column]
        return fmean(float(trial == mine) for line in self.winners for trial in line)


_PRODUCT = re.compile(
    r"(?:A|accuracy)(?: \* (?:S|step_time)\s?\^\s?(?P<s>-?[\d.]+))?"
    r"(?: \* (?:P|params_ratio)\s?\^\s?(?P<p>-?[\d.]+))?"
)


def sensitivity(trials: Trials, reward: Reward, steps: int = 41) -> Sensitivity | None:
    """Return who wins for exponents from 0 to three times those of the reward.

    Returns:
        None if the reward is no product of A and powers of S and P.
    """
    match = _PRODUCT.fullmatch(" ".join(reward.text.split()))
    names = ("accuracy", "step_time", "params_ratio")
    complete = [t for t in trials.ranked() if all(t.metrics.get(n, 0) > 0 for n in names)]
    if match is None or not complete:
        return None
    given = float(match["s"] or 0), float(match["p"] or 0)
    logs = np.log([[trial.metrics[name] for name in names] for trial in complete])
    axes = [np.linspace(min(3 * value, -0.15), 0.0, steps) for value in given]
    scores = logs[:, 0] + np.multiply.outer(axes[1][:, None] * np.ones(steps), logs[:, 2])
    scores += np.multiply.outer(np.ones(steps)[:, None] * axes[0], logs[:, 1])
    numbers = np.array([trial.number for trial in complete])
    winners = numbers[scores.argmax(axis=-1)]
    return Sensitivity(
        step_time_exponents=tuple(axes[0].tolist()),
        size_exponents=tuple(axes[1].tolist()),
        winners=tuple(tuple(row) for row in winners.tolist()),
        given=given,
    )
