"""Do statistics of a search hold as often as they claim? Simulated searches on Accel-NASBench.

    python benchmarks/calibration.py --data accel-nasbench.tar.gz --searches 200 --outlooks 40

Every search has another size of hold-out (200 to 10,000 images), another spread over seeds (0 to
0.5 points) and another number of trials (30 to 300). A measured accuracy is a binomial draw about
the true one, which varies over seeds; a measured step time is off by 1 %. The truth is known: for
random search the trained networks of the table, for controllers that learn a regression on the
table (`accel_nasbench.Simulation`) plus a part of each network's own, as large as what the
regression leaves over. The reward is that of `controllers.py`. A search knows the spread over seeds
from two drawn baselines with three seeds each.

An outlook is asked of searches by evolution and by the surrogate after 25 to 100 trials; then the
surrogate does 50 more, and what they gained is compared.

A line per search is added to the file, so that it can be stopped and resumed; then the table is
printed: what was claimed, how often it was so, and the standard error of that over searches.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from accel_nasbench import SPACE, TRAINING, AccelNasBench, Simulation
from effnas import Architecture, Reward, Search, Trial
from effnas.controllers.outlook import outlook
from effnas.trials.baselines import Baseline, BaselineResult
from effnas.trials.problem import Problem
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
#: Trials after which an outlook is asked, and how many more it is about.
OUTLOOK_AFTER, MORE = (25, 40, 60, 100), 50
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

    @classmethod
    def drawn_for_outlook(cls, seed: int) -> Setting:
        """Draw the settings of a search of which an outlook is asked."""
        controller = ("evolution", "surrogate")[seed % 2]
        trials = OUTLOOK_AFTER[seed // 2 % len(OUTLOOK_AFTER)]
        return replace(cls.drawn(1_000 + seed), controller=controller, trials=trials, seed=seed)


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


def searched(world: World, settings: Sequence[Setting]) -> list[SimulatedSearch]:
    """Run searches side by side: the regression takes as long for one network as for many."""
    searches = [SimulatedSearch(world, setting) for setting in settings]
    for each in searches:
        if each.setting.controller == "random":
            rng = np.random.default_rng((each.setting.seed, 2))
            for row in rng.choice(world.rows, each.setting.trials, replace=False):
                arch = world.table.architectures[row]
                each.tell(arch, world.trained(arch))
    extend(world, [s for s in searches if s.setting.controller != "random"])
    return searches


def extend(world: World, searches: Sequence[SimulatedSearch], more: int = 0) -> None:
    """Run searches side by side to their number of trials and some more."""
    while under_way := [s for s in searches if len(s.search.trials) < s.setting.trials + more]:
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
    # networks that have nothing to do with the search: the best of twenty drawn ones, and any
    drawn = done.drawn(20, rng)
    truths = {"good baseline": max(drawn, key=REWARD.score), "drawn baseline": drawn[0]}
    for name, truth in truths.items():
        found = ranking.compare(best, done.baseline(truth))
        yield from _difference(f"highest - {name}", found, true[0] - REWARD.score(truth))
    accuracy = done.truth[best.architecture]["accuracy"]
    share = accuracy + rng.normal(0, 0.02)
    yield Claim("above a share", ranking.above(best, share) or 0.0, accuracy > share)


def _difference(name: str, found: Difference | None, true: float) -> Iterator[Claim]:
    assert found is not None
    yield Claim(f"{name}: difference inside", LEVEL, bool(found.low <= true <= found.high))
    yield Claim(f"{name}: P(better)", found.probability, bool(true > 0))


# -- outlooks


def outlooks(world: World, seeds: Sequence[int]) -> Iterator[dict]:
    """Yield what was claimed of 50 more trials, and what they gained."""
    searches = [SimulatedSearch(world, Setting.drawn_for_outlook(seed)) for seed in seeds]
    extend(world, searches)
    before = []
    for each in searches:
        trials, setting = each.search.trials, each.setting
        started = time.perf_counter()
        found = outlook(trials, SPACE, Problem(REWARD), each.told(), more=MORE)
        before.append((found, time.perf_counter() - started, max(map(each.true_reward, trials))))
        each.search = Search(SPACE, REWARD, "surrogate", setting.seed)
        each.search.resume(trials)
    extend(world, searches, MORE)
    for each, (found, seconds, best) in zip(searches, before, strict=True):
        gained = max(map(each.true_reward, each.search.trials)) - best
        yield vars(each.setting) | {"outlook": vars(found), "gained": gained, "seconds": seconds}


def report_outlooks(rows: Sequence[dict]) -> str:
    """Return the table of outlooks, by the probability that was claimed."""
    lines = ["| P(gain worth mentioning) | claimed | so | gained | 95 % at most | within | n |"]
    lines.append("|---|---|---|---|---|---|---|")
    for low, high in ((0.0, 1.01), (0.0, 0.3), (0.3, 0.7), (0.7, 1.01)):
        chosen = [r for r in rows if low <= r["outlook"]["probability"] < high]
        if not chosen:
            continue
        found = [r["outlook"] for r in chosen]
        gained = np.array([r["gained"] for r in chosen])
        so = gained >= [f["worth"] for f in found]
        inside = [g <= f["high"] for f, g in zip(found, gained, strict=True)]
        claimed = np.mean([f["probability"] for f in found])
        lines.append(
            f"| {low:.1f}-{min(high, 1):.1f} | {100 * claimed:.0f} % "
            f"| {100 * so.mean():.0f} ± {100 * so.std() / len(so) ** 0.5:.0f} % "
            f"| {gained.mean():.4f} ± {gained.std() / len(so) ** 0.5:.4f} "
            f"| {np.mean([f['high'] for f in found]):.4f} "
            f"| {100 * np.mean(inside):.0f} % | {len(so)} |"
        )
    longest = max(row["seconds"] for row in rows)
    return "\n".join([*lines, f"\nAn outlook took {longest:.1f} s at most."])


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
    parser.add_argument("--outlooks", type=int, default=0, help="how many to ask and to follow")
    parser.add_argument("--out", type=Path, default=Path("calibration.jsonl"))
    arguments = parser.parse_args()
    rows = read(arguments.out)
    done = {("outlook" in row, row["seed"]) for row in rows}
    searches = [n for n in range(arguments.searches) if (False, n) not in done]
    asked = [n for n in range(arguments.outlooks) if (True, n) not in done]
    if searches or asked:
        world = World(AccelNasBench.load(arguments.data))
        with arguments.out.open("a") as file:
            for start in range(0, len(searches), 50):
                settings = [Setting.drawn(n) for n in searches[start : start + 50]]
                for each in searched(world, settings):
                    row = vars(each.setting) | {"claims": summary([*claims(each)])}
                    file.write(json.dumps(row) + "\n")
                file.flush()
            for start in range(0, len(asked), 8):
                for row in outlooks(world, asked[start : start + 8]):
                    file.write(json.dumps(row) + "\n")
                file.flush()
    rows = read(arguments.out)
    print(report([row for row in rows if "claims" in row]))
    followed = [row for row in rows if "outlook" in row]
    if followed:
        print("\n" + report_outlooks(followed))


if __name__ == "__main__":
    main()
