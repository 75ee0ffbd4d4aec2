"""Do statistics of a search hold as often as they claim? Simulated searches on Accel-NASBench.

    python benchmarks/calibration.py --data accel-nasbench.tar.gz --searches 200

Every search has another size of hold-out (200 to 10,000 images), another spread over seeds (0 to
0.5 points) and another number of trials (30 to 300). A measured accuracy is a binomial draw about
the true one, which varies over seeds; a measured step time is off by 1 %. The truth is known: for
random search the trained networks of the table, for controllers that learn a regression on the
table (`accel_nasbench.Simulation`) plus a part of each network's own, as large as what the
regression leaves over. The reward is that of `controllers.py`. A search knows the spread over seeds
from two drawn baselines with three seeds each.

Then every search does 50 more trials with its own controller, and what they gained is compared with
what was expected.

A line per search is added to the file, so that it can be stopped and resumed; then the table is
printed: what was claimed, how often it was so, and the standard error of that over searches.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from accel_nasbench import SPACE, TRAINING, AccelNasBench, Simulation
from effnas import Architecture, Reward, Search, Trial
from effnas.controllers.registry import NOT_LEARNING
from effnas.trials.baselines import Baseline, BaselineResult
from effnas.trials.outlook import outlook
from effnas.trials.uncertainty import LEVEL, Difference, Noise, Ranking, rank_trials

REWARD = Reward.load("accuracy * step_time^-0.07 * (params / 4e6)^-0.05")
#: Standard deviation of what gradient boosting leaves over of accuracies of held-out networks.
OWN_PART = 0.0045
STEP_TIME_ERROR = 0.01
HOLDOUTS = (200, 500, 1_000, 3_000, 10_000)
SEED_SPREADS = (0.0, 0.002, 0.005)
TRIALS = (30, 60, 100, 300)
#: Most trials of a search, of controllers whose proposals take long.
MOST_TRIALS = {"surrogate": 60}
#: Of ten searches.
SHARES = {"random": 5, "evolution": 4, "surrogate": 1}
BASELINE_SEEDS = 3
#: Trials that an outlook is about.
MORE = 50
#: Ends of the classes of probabilities that are printed apart.
CLASSES = (0.0, 0.05, 0.2, 0.4, 0.6, 0.8, 0.95, 1.0 + 1e-9)


class World:
    """True accuracies and step times."""

    def __init__(self, table: AccelNasBench) -> None:
        self.table = table
        self.simulation = Simulation(table)
        step_times = table.step_time(TRAINING)
        self.rows = [n for n in range(len(step_times)) if np.isfinite(step_times[n])]
        self._trained = {
            arch: {"accuracy": float(a), "step_time": float(s)}
            for arch, a, s in zip(table.architectures, table.accuracy, step_times, strict=True)
        }

    def trained(self, arch: Architecture) -> dict[str, float]:
        """Return what the table has of one of its networks."""
        return self._trained[arch]

    def simulated(self, archs: Sequence[Architecture]) -> list[dict[str, float]]:
        """Return true values of any networks of the space."""
        accuracies = self.simulation.accuracy(archs)
        step_times = self.simulation.step_time(TRAINING, archs)
        own = [np.random.default_rng(int(arch.id, 16)).normal(0, OWN_PART) for arch in archs]
        return [
            {"accuracy": float(a + o), "step_time": float(s)}
            for a, o, s in zip(accuracies, own, step_times, strict=True)
        ]


@dataclass(frozen=True)
class Setting:
    """One simulated search."""

    seed: int
    controller: str
    trials: int
    holdout_images: int
    seed_spread: float

    @classmethod
    def drawn(cls, seed: int) -> Setting:
        """Draw the settings of a search."""
        rng = np.random.default_rng(seed)
        controllers = [name for name, share in SHARES.items() for _ in range(share)]
        controller = controllers[seed % len(controllers)]
        trials = int(rng.choice(TRIALS))
        return cls(
            seed=seed,
            controller=controller,
            trials=min(trials, MOST_TRIALS.get(controller, trials)),
            holdout_images=int(rng.choice(HOLDOUTS)),
            seed_spread=float(rng.choice(SEED_SPREADS)),
        )


class SimulatedSearch:
    """A search whose true rewards are known."""

    def __init__(self, world: World, setting: Setting) -> None:
        self.world, self.setting = world, setting
        self.rng = np.random.default_rng((setting.seed, 1))
        self.search = Search(SPACE, REWARD, setting.controller, setting.seed)
        self.truth: dict[Architecture, dict[str, float]] = {}

    def tell(self, arch: Architecture, true: Mapping[str, float]) -> None:
        """Tell the search what is measured of a network."""
        self.truth[arch] = {**true, **SPACE.counted_metrics(arch)}
        self.search.tell(arch, **self.measured(true)[0])

    def measured(self, true: Mapping[str, float], trainings: int = 1) -> list[dict[str, float]]:
        """Draw what is measured of a network in some trainings, on the same held-out images."""
        images, rng = self.setting.holdout_images, self.rng
        found = rng.binomial(images, np.clip(true["accuracy"], 0, 1)) / images
        step_time = true["step_time"] * (1 + STEP_TIME_ERROR * rng.normal())
        return [
            {
                "accuracy": float(np.clip(found + self.setting.seed_spread * rng.normal(), 0, 1)),
                "step_time": step_time,
                "step_time_low": step_time * (1 - 1.96 * STEP_TIME_ERROR),
                "step_time_high": step_time * (1 + 1.96 * STEP_TIME_ERROR),
            }
            for _ in range(trainings)
        ]

    def drawn(self, count: int, rng: np.random.Generator) -> list[dict[str, float]]:
        """Draw networks that have nothing to do with the search, and return their true metrics."""
        archs = [SPACE.sample(rng) for _ in range(count)]
        return [
            true | SPACE.counted_metrics(arch)
            for arch, true in zip(archs, self.world.simulated(archs), strict=True)
        ]

    def baseline(self, truth: Mapping[str, float]) -> Baseline:
        """Return a network that was trained with several seeds."""
        return Baseline(
            name="baseline",
            results=[
                BaselineResult(
                    baseline="baseline", network="", repeat=n, metrics={**truth, **found}
                )
                for n, found in enumerate(self.measured(truth, BASELINE_SEEDS))
            ],
        )

    def told(self) -> Noise:
        """Return the noise as a search knows it: the spread over seeds from two baselines."""
        drawn = self.drawn(2, np.random.default_rng((self.setting.seed, 4)))
        return Noise.of(self.setting.holdout_images, map(self.baseline, drawn))

    def true_reward(self, trial: Trial) -> float:
        """Return what a trial is truly worth."""
        return REWARD.score(self.truth[trial.architecture])


def extend(world: World, searches: Sequence[SimulatedSearch], more: int = 0) -> None:
    """Run searches side by side: the regression takes as long for one network as for many.

    Each to its number of trials and some more.
    """
    for each in (s for s in searches if s.setting.controller == "random"):
        rng = np.random.default_rng((each.setting.seed, 2))
        rows = rng.choice(world.rows, each.setting.trials + MORE, replace=False)
        for row in rows[len(each.search.trials) : each.setting.trials + more]:
            arch = world.table.architectures[row]
            each.tell(arch, world.trained(arch))
    others = [s for s in searches if s.setting.controller != "random"]
    while under_way := [s for s in others if len(s.search.trials) < s.setting.trials + more]:
        archs = [each.search.ask() for each in under_way]
        for each, arch, true in zip(under_way, archs, world.simulated(archs), strict=True):
            each.tell(arch, true)


# -- what is claimed of a search, and whether it is so


@dataclass(frozen=True)
class Claim:
    """A claim of a kind, with the probability that it has, and whether it is so."""

    kind: str
    probability: float
    is_so: bool


def claims(done: SimulatedSearch) -> Iterator[Claim]:
    """Yield what the ranking of a search claims."""
    ranking = rank_trials(done.search.trials, REWARD, done.told())
    true = np.array([done.true_reward(each.trial) for each in ranking])
    places = (-true).argsort().argsort() + 1
    accuracies = [done.truth[each.trial.architecture]["accuracy"] for each in ranking]
    for n, each in enumerate(ranking):
        inside = {
            "true rank": each.rank <= places[n] <= each.last_rank,
            "true reward": _between(each.low, true[n], each.high),
            "true accuracy": _between(each.accuracy_low, accuracies[n], each.accuracy_high),
        }
        for kind, is_inside in inside.items():
            yield Claim(f"{kind} inside, all trials", LEVEL, bool(is_inside))
            if n < 10:
                yield Claim(f"{kind} inside, ten highest", LEVEL, bool(is_inside))
            if n == 0:
                yield Claim(f"{kind} inside, highest", LEVEL, bool(is_inside))
        is_best = bool(places[n] == 1)
        yield Claim("P(best), any trial", each.best_probability or 0.0, is_best)
        if n == 0:
            yield Claim("P(best), highest measured", each.best_probability or 0.0, is_best)
    best_set = ranking.best_set
    yield Claim("P(best), likeliest trial", best_set[0].best_probability or 0.0,
                bool(true.argmax() == ranking.index(best_set[0])))  # fmt: skip
    yield Claim(
        "best is in the set that holds it",
        sum(each.best_probability or 0.0 for each in best_set),
        any(ranking[int(true.argmax())] is each for each in best_set),
    )
    yield from _comparisons(done, ranking, true)


def _between(low: float | None, value: float, high: float | None) -> bool:
    return low is not None and high is not None and low <= value <= high


def _comparisons(
    done: SimulatedSearch, ranking: Ranking, true: NDArray[np.float64]
) -> Iterator[Claim]:
    best, rng = ranking[0].trial, np.random.default_rng((done.setting.seed, 3))
    places = {"second": 1, "tenth": 9, "median": len(ranking) // 2}
    for name, n in places.items():
        found = ranking.compare(best, ranking[n].trial)
        yield from _difference(f"highest - {name}", found, true[0] - true[n])
    for _ in range(10):
        a, b = rng.choice(len(ranking), 2, replace=False)
        found = ranking.compare(ranking[a].trial, ranking[b].trial)
        yield from _difference("any two", found, true[a] - true[b])
    # Networks that have nothing to do with the search: any one, one that somebody chose well, and
    # one that is the same in all searches.
    drawn = done.drawn(20, rng)
    reference = done.world.simulated([SPACE.reference])[0] | SPACE.counted_metrics(SPACE.reference)
    truths = {
        "drawn baseline": drawn[0],
        "good baseline": max(drawn, key=REWARD.score),
        "reference": reference,
    }
    for name, truth in truths.items():
        found = ranking.compare(best, done.baseline(truth))
        for kind in (name, "any of these"):
            yield from _difference(f"highest - {kind}", found, true[0] - REWARD.score(truth))
    accuracy = done.truth[best.architecture]["accuracy"]
    share = accuracy + rng.normal(0, 0.02)
    yield Claim("above a share", ranking.above(best, share) or 0.0, accuracy > share)


def _difference(name: str, found: Difference | None, true: float) -> Iterator[Claim]:
    assert found is not None
    yield Claim(f"{name}: difference inside", LEVEL, bool(found.low <= true <= found.high))
    yield Claim(f"{name}: P(better)", found.probability, bool(true > 0))


# -- outlooks


def outlooks(world: World, searches: Sequence[SimulatedSearch]) -> list[dict[str, float]]:
    """Return what was expected of 50 more trials of each search, and what they gained."""
    expected = []
    for each in searches:
        ranking = rank_trials(each.search.trials, REWARD, each.told())
        learns = each.setting.controller not in NOT_LEARNING
        expected.append(vars(outlook(ranking, learns=learns, more=MORE)))
    before = [max(map(each.true_reward, each.search.trials)) for each in searches]
    extend(world, searches, MORE)
    after = [max(map(each.true_reward, each.search.trials)) for each in searches]
    return [
        found | {"gained": new - old}
        for found, new, old in zip(expected, after, before, strict=True)
    ]


def report_outlooks(rows: Sequence[dict]) -> str:
    """Return the table of outlooks, by controller and by the chance that was claimed."""
    chances = ((0.0, 0.1), (0.1, 0.2), (0.2, 0.4), (0.4, 0.6), (0.6, 1.01))
    chosen = {"all": rows} | {name: [r for r in rows if r["controller"] == name] for name in SHARES}
    for low, high in chances:
        chosen[f"chance {low:.1f} to {min(high, 1):.1f}"] = [
            r for r in rows if low <= r["outlook"]["probability"] < high
        ]
    lines = [
        "| searches | n | expected gain | gained | chance of 0.5 % | so | below `high` |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, of_kind in chosen.items():
        found = [r["outlook"] for r in of_kind]
        if not found:
            continue
        columns = np.array(
            [[f[key] for f in found] for key in ("expected", "gained", "probability")]
        )
        expected, gained, chance = columns
        so = gained >= [f["worth"] for f in found]
        error = 1 / len(found) ** 0.5
        lines.append(
            f"| {name} | {len(found)} | {expected.mean():.4f} "
            f"| {gained.mean():.4f} ± {gained.std() * error:.4f} | {100 * chance.mean():.1f} % "
            f"| {100 * so.mean():.1f} ± {100 * so.std() * error:.1f} % "
            f"| {100 * np.mean(gained <= [f['high'] for f in found]):.1f} % |"
        )
    return "\n".join(lines)


# -- results


def summary(found: Sequence[Claim]) -> dict[str, dict[str, list[float]]]:
    """Return, by kind and class of probability, the number of claims, their sum, and the hits."""
    sums: dict[str, dict[str, list[float]]] = defaultdict(dict)
    for claim in found:
        index = int(np.searchsorted(CLASSES, claim.probability, side="right")) - 1
        name = f"{CLASSES[index]:.2f}-{min(CLASSES[index + 1], 1):.2f}"
        cell = sums[claim.kind].setdefault(name, [0, 0.0, 0])
        cell[0] += 1
        cell[1] += claim.probability
        cell[2] += claim.is_so
    return dict(sums)


def read(path: Path) -> list[dict]:
    """Return the results so far."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def report(rows: Sequence[dict]) -> str:
    """Return the table: claim, claimed, frequency ± standard error over searches."""
    lines = ["| claim | class | claimed | so | off by | claims |", "|---|---|---|---|---|---|"]
    kinds = list(dict.fromkeys(kind for row in rows for kind in row["claims"]))
    for kind in kinds:
        of_kind = [row["claims"][kind] for row in rows if kind in row["claims"]]
        classes = sorted({name for each in of_kind for name in each})
        merged = [[np.sum([*each.values()], axis=0) for each in of_kind]]
        parts = [[each[name] for each in of_kind if name in each] for name in classes]
        names = ["all", *classes] if len(classes) > 1 else [""]
        for name, cells in zip(names, merged + parts, strict=False):
            count, claimed, hits = np.sum(cells, axis=0)
            # by search: claims of one search are right or wrong together
            errors = np.array([hit - sure for _, sure, hit in cells])
            error = np.sqrt((errors**2).sum()) / count
            lines.append(
                f"| {kind} | {name} | {100 * claimed / count:.1f} % | {100 * hits / count:.1f} "
                f"± {100 * error:.1f} % | {100 * (hits - claimed) / count:+.1f} | {count:.0f} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="accel-nasbench.tar.gz")
    parser.add_argument("--searches", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path("calibration.jsonl"))
    arguments = parser.parse_args()
    rows = read(arguments.out)
    done = {row["seed"] for row in rows}
    settings = [Setting.drawn(n) for n in range(arguments.searches) if n not in done]
    if settings:
        world = World(AccelNasBench.load(arguments.data))
        with arguments.out.open("a") as file:
            for start in range(0, len(settings), 50):
                searches = [SimulatedSearch(world, s) for s in settings[start : start + 50]]
                extend(world, searches)
                claimed = [summary([*claims(each)]) for each in searches]
                gains = outlooks(world, searches)
                for each, found, gain in zip(searches, claimed, gains, strict=True):
                    row = vars(each.setting) | {"claims": found, "outlook": gain}
                    file.write(json.dumps(row) + "\n")
                file.flush()
    rows = read(arguments.out)
    print(report(rows))
    print("\n" + report_outlooks(rows))


if __name__ == "__main__":
    main()
