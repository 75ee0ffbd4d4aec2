"""Is the surrogate really better than random search? Both with real trainings.

    effnas profile --space v2-cifar --device cpu --classes 10 --out v2-cifar-cpu.json
    python benchmarks/real_search.py --data cifar10.tar.gz --profile v2-cifar-cpu.json

Both controllers search `v2-cifar` with the same budget, seed and first draws; step times are those
of the profile. The best network of each is then trained again with three other seeds: the best of
many noisy trainings owes some of its rank to luck, and what remains is what was found. A run that
was stopped resumes in the same --out.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev

from effnas import Trial
from effnas.config.recipe_file import default_recipe
from effnas.config.settings import EvaluationConfig, StepTimeConfig
from effnas.evaluation.evaluator import Job, Task
from effnas.evaluation.workers import Workers, start_workers
from effnas.search.cost_estimate import CostEstimate
from effnas.search.launch import SearchObserver, Settings, launch
from effnas.search.search import Search

CONTROLLERS = ("random", "surrogate")
REPEATS = (1, 2, 3)


class Lines(SearchObserver):
    """Prints a line a trial."""

    def preparing(self, what: str) -> None:
        """Print what takes a while."""
        print(what, flush=True)

    def planned(self, plan: CostEstimate) -> None:
        """Print how long it will take."""
        print(f"about {plan.total_s / 60:.0f} min", flush=True)

    def trial_ended(self, trial: Trial, search: Search) -> None:
        """Print the best so far."""
        best = search.best.reward if search.best else None
        print(f"{search.controller.name} {trial.number}: {trial.reward}, best {best}", flush=True)


def retrained(search: Search, settings: Settings) -> list[float]:
    """Return the rewards of the best network, trained again with other seeds."""
    best = search.best
    assert best is not None
    config = EvaluationConfig(
        space_text=search.space.to_text(),
        data=settings.data,
        recipe=settings.recipe,
        seed=settings.seed,
        step_times=settings.step_times,
    )
    backend, _ = start_workers(config, settings.workers, lambda what: None)
    rewards = []
    try:
        for repeat in REPEATS:
            backend.submit(Job(repeat, best.architecture, Task.TRAIN, repeat))
            found = backend.next_done().measurement
            assert found is not None
            rewards.append(search.reward.score({**best.metrics, **found.metrics}))
    finally:
        backend.close()
    return rewards


def row(search: Search, again: Sequence[float], marks: Sequence[int]) -> str:
    """Return a row of the table."""
    best = search.best
    assert best is not None
    so_far = [max(t.reward for t in search.trials[:n] if t.reward is not None) for n in marks]
    cells = [
        search.controller.name,
        *(f"{reward:.4f}" for reward in so_far),
        f"{mean(again):.4f} ± {stdev(again):.4f}",
        f"{best.metrics['accuracy']:.4f}",
        f"{best.metrics['step_time']:.3f}",
        f"{best.metrics['params_ratio']:.3f}",
        f"{sum(t.duration_s or 0 for t in search.trials) / 60:.0f} min",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="cifar10.tar.gz")
    parser.add_argument("--profile", type=Path, required=True, help="what `effnas profile` wrote")
    parser.add_argument("--budget", type=int, default=60)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("real-search"))
    arguments = parser.parse_args()
    settings = Settings(
        space="v2-cifar",
        data=str(arguments.data),
        budget=arguments.budget,
        seed=arguments.seed,
        out=arguments.out,
        recipe=default_recipe().lasting(arguments.epochs),
        workers=Workers(device="cpu", backend="inline"),
        step_times=StepTimeConfig(mode="predicted", profile=str(arguments.profile)),
    )
    marks = [arguments.budget * part // 3 for part in (1, 2, 3)]
    rows = []
    for controller in CONTROLLERS:
        out = arguments.out / f"{controller}-{arguments.seed}"
        mine = replace(settings, controller=controller, out=out)
        search = launch(mine, Lines())
        rows.append(row(search, retrained(search, mine), marks))
    heads = ["controller", *(f"best of {n}" for n in marks), "its winner, three other seeds"]
    print(f"| {' | '.join([*heads, 'A', 'S', 'P', 'trials took'])} |")
    print("|---" * (len(heads) + 4) + "|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
