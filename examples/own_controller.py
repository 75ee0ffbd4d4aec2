"""A controller of your own: it proposes architectures and learns from finished trials.

    python examples/own_controller.py
    effnas search --controller examples/own_controller.py:HillClimber --space tiny --data digits

`effnas.testing.ControllerContract` holds the tests that it must pass (see tests/test_examples.py).
"""

import effnas
from effnas.controllers import Controller


class HillClimber(Controller):
    """Mutates the best architecture so far, and draws at random until there is one."""

    name = "hill-climber"
    most_repeats = 20  # then `ask` draws at random: all neighbours of the best were tried
    best: effnas.Trial | None = None

    def propose(self, rng):
        """Return an architecture; all randomness comes from `rng`, so that a run can resume."""
        if self.best is None:
            return self.space.sample(rng)
        return self.space.mutate(self.best.architecture, rng)

    def learn(self, trial):
        """Receive a finished trial; infeasible and failed ones have no reward."""
        if trial.reward is None or not self.space.contains(trial.architecture):
            return
        if self.best is None or trial.reward > self.best.reward:
            self.best = trial


if __name__ == "__main__":
    space = effnas.SearchSpace.load("tiny")
    search = effnas.Search(space, "A / P", HillClimber(space, seed=0))
    search.run(lambda arch: {"accuracy": arch.layers / 8}, budget=50)
    print(f"{search.best.reward:.3f}  {search.best.architecture}")
