"""A search with an evaluation of your own: any function from an architecture to metrics.

    python examples/own_evaluator.py

Put your training in place of the made-up accuracy. Params, MACs and activations need not be
returned: effnas counts them. An `InfeasibleError` is a result, stored with its reason.
"""

from math import exp

import effnas


def evaluate(arch: effnas.Architecture) -> dict[str, float]:
    """Return accuracy (0 to 1) and step time (1 is the reference network's)."""
    counts = effnas.count(arch, image_size=16, num_classes=10)
    if counts.macs > 2e6:
        raise effnas.InfeasibleError(f"{counts.macs / 1e6:.1f} M MACs, the board takes 2 M")
    return {"accuracy": 1 - exp(-counts.params / 40e3), "step_time": counts.macs / 1e6}


def main() -> None:
    """Search, and print the best trials."""
    search = effnas.Search(space="tiny", reward="v2", controller="evolution", seed=0)
    search.run(evaluate, budget=200)
    for trial in search.trials.ranked()[:3]:
        print(f"{trial.reward:.4f}  {trial.metrics['params']:.0f} params  {trial.architecture}")
    infeasible = search.trials.count(effnas.TrialState.INFEASIBLE)
    print(f"{infeasible} of {len(search.trials)} networks were infeasible")


if __name__ == "__main__":
    main()
