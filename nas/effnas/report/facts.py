"""All that the sections of a search's report are written from, computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from effnas.controllers.baseline import MIN_TRIALS, RandomSearch, fitted, random_searches
from effnas.controllers.predictor import Predictor
from effnas.controllers.registry import NOT_LEARNING
from effnas.errors import ConfigError
from effnas.report.statements import Contender, best_so_far, contenders
from effnas.trials.front_standing import FrontStanding
from effnas.trials.manifest import macs_limits
from effnas.trials.objectives import Objectives
from effnas.trials.outlook import Outlook, outlook
from effnas.trials.pareto_front import hypervolumes, pareto_front
from effnas.trials.problem import Problem
from effnas.trials.reward import Reward
from effnas.trials.run import Run
from effnas.trials.trial import Trial, TrialState
from effnas.trials.uncertainty import Ranking


@dataclass(frozen=True)
class Growth:
    """How what a search pursues has grown.

    Attributes:
        what: In words.
        steps: Numbers of trials, and what was reached by then.
    """

    what: str
    steps: Sequence[tuple[int, float]]


@dataclass(frozen=True)
class Facts:
    """A run, and what follows from it.

    Attributes:
        run: The run.
        reward: Its reward; None where that is a Python function that nobody named.
    """

    run: Run
    reward: Reward | None

    @classmethod
    def of(cls, run: Run) -> Facts:
        """Return the facts of a run with the reward that it stores."""
        try:
            return cls(run, run.load_reward())
        except ConfigError:  # no code is run because a file says so
            return cls(run, None)

    @cached_property
    def complete(self) -> list[Trial]:
        """The complete trials with a reward, the best first."""
        return self.run.trials.ranked()

    @cached_property
    def ranked(self) -> Ranking | None:
        """How sure the ranking of the complete trials is; None if none has a known reward."""
        if self.reward is None or not self.complete:
            return None
        return self.run.ranking(self.reward)

    @property
    def winner(self) -> Trial | None:
        """The trial with the highest measured reward."""
        return self.complete[0] if self.complete else None

    @property
    def how_best(self) -> str:
        """How the winner is known: `measured`, or `predicted` if its accuracy is."""
        return "predicted" if self.winner and self.winner.is_predicted else "measured"

    @cached_property
    def front_standing(self) -> FrontStanding | None:
        """The Pareto front of several objectives; None for a search by its reward alone."""
        return FrontStanding(self.run, self.run.objectives) if self.run.objectives else None

    @cached_property
    def learned_nothing(self) -> bool:
        """Whether no trial is clearly more accurate than guessing, so that none wins."""
        if self.front_standing:
            return self.front_standing.learned_nothing
        return self.ranked is not None and self.run.learned_nothing(self.ranked)

    @cached_property
    def contenders(self) -> list[Contender]:
        """The baselines, and how they stand against the trial that is measured best."""
        if self.reward is None:
            return [Contender(baseline=each, reward=None) for each in self.run.baselines]
        if self.ranked is None:
            return [
                Contender(baseline=each, reward=each.reward(self.reward))
                for each in self.run.baselines
            ]
        return contenders(self.run, self.reward, self.ranked)

    @cached_property
    def rivals(self) -> list[Trial]:
        """The trials that may be the best in place of that one, the likeliest first."""
        found = self.ranked.best_set if self.ranked else []
        return [each.trial for each in found if each.trial is not self.winner]

    @property
    def accuracy_error(self) -> float | None:
        """Standard error of its accuracy."""
        return self.ranked[0].accuracy_error if self.ranked else None

    @property
    def ahead(self) -> list[Contender]:
        """Baselines with a higher reward, the highest first."""
        if self.winner is None or self.winner.reward is None:
            return []
        reached = self.winner.reward
        better = [c for c in self.contenders if c.reward is not None and c.reward > reached]
        return sorted(better, key=lambda each: -(each.reward or 0.0))

    @cached_property
    def problem(self) -> Problem | None:
        """What the search optimized."""
        return Problem(self.reward, objectives=self.run.objectives) if self.reward else None

    @cached_property
    def predictor(self) -> Predictor | None:
        """A model that has learned from the trials; None if too few are complete."""
        if self.problem is None or len(self.complete) < MIN_TRIALS:
            return None
        ended = [trial for trial in self.run.trials if trial.state.is_finished]
        return fitted(ended, self.run.space, self.problem)

    @cached_property
    def random_searches(self) -> list[RandomSearch]:
        """What random search would have reached with fewer trials, and with as many."""
        if self.predictor is None or self.problem is None:
            return []
        run = self.run
        # It would not have tried either what a training time left out.
        space = run.space.constrained(macs_limits(run.manifest.most_macs))
        return random_searches(run.trials, space, self.problem, run.manifest.seed, self.predictor)

    @property
    def random(self) -> RandomSearch | None:
        """What random search would have reached with as many trials."""
        return self.random_searches[-1] if self.random_searches else None

    @cached_property
    def outlook(self) -> Outlook | None:
        """What more trials may gain."""
        if self.ranked is None or not self.complete:
            return None
        ended = sum(trial.state.is_finished for trial in self.run.trials)
        return outlook(
            self.ranked,
            learns=self.run.manifest.controller not in NOT_LEARNING,
            complete=len(self.complete) / ended,
            untried=self.run.space.size - len({t.architecture for t in self.run.trials}),
            seed=self.run.manifest.seed,
        )

    @cached_property
    def reached(self) -> float | None:
        """What the search reached, on the scale of `random`."""
        objectives = self.run.objectives
        if objectives and self.complete:
            volumes = hypervolumes(self.run.trials, objectives)
            return volumes[-1][1] if volumes else None
        return self.winner.reward if self.winner else None

    @cached_property
    def growth(self) -> Growth:
        """How the best measured reward has grown, or the hypervolume of several objectives."""
        run = self.run
        if run.objectives:
            return Growth("hypervolume, 0 to 1", hypervolumes(run.trials, run.objectives))
        return Growth("best measured reward", best_so_far(run.trials))

    @cached_property
    def front(self) -> list[Trial]:
        """The trials that none dominates in accuracy and step time."""
        return pareto_front(self.run.trials, Objectives.parse("accuracy:max,step_time:min"))

    @property
    def lacking(self) -> str:
        """Why the model of the trials is not there, as a sentence."""
        if self.reward is None:
            return "The reward is a Python function, which a report does not run."
        return (
            f"Not known yet: it needs {MIN_TRIALS} complete trials, and there are "
            f"{self.run.trials.count(TrialState.COMPLETE)}."
        )
