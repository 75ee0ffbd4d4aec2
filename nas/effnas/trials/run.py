"""Reading a run: what is in its folder, whether it is finished or continues."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import NoReturn

from effnas.config.recipe import Recipe
from effnas.errors import ConfigError, StoreError
from effnas.space.search_space import SearchSpace
from effnas.trials.baselines import Baseline, read_baselines
from effnas.trials.manifest import SearchManifest
from effnas.trials.objectives import Objectives
from effnas.trials.pareto_front import pareto_front
from effnas.trials.reward import Reward
from effnas.trials.step_unit import StepUnit
from effnas.trials.store import MANIFEST, read_events
from effnas.trials.trial import Trial, Trials
from effnas.trials.uncertainty import LEVEL, Noise, Ranking, rank_trials
from effnas.trials.work_time import WorkTime


@dataclass(frozen=True)
class Run:
    """A run as its folder tells it.

    Attributes:
        path: The folder.
        manifest: What the run was made with.
        space: The search space, read from the manifest.
        trials: All trials so far.
        baselines: What they are compared with; empty in runs of earlier versions.
    """

    path: Path
    manifest: SearchManifest
    space: SearchSpace
    trials: Trials
    baselines: tuple[Baseline, ...] = ()

    @property
    def best(self) -> Trial | None:
        """The trial with the highest reward, or None while there is none."""
        return self.trials.best

    @property
    def objectives(self) -> Objectives | None:
        """What the search pursues in place of the reward, if anything."""
        stored = self.manifest.objectives
        return Objectives.parse(stored) if stored else None

    @property
    def pareto_front(self) -> list[Trial]:
        """The complete trials that none dominates, as `Search.pareto_front`."""
        return pareto_front(self.trials, self.objectives) if self.objectives else []

    @property
    def recipe(self) -> Recipe:
        """How the networks were trained.

        Raises:
            StoreError: If the manifest does not say.
        """
        return self.manifest.recipe or self._lacks("recipe")

    @property
    def train_images(self) -> int:
        """Images that its networks were trained on.

        Raises:
            StoreError: If the manifest does not say.
        """
        return self.manifest.data.train_images or self._lacks("images")

    @property
    def full_training_images(self) -> int:
        """Images of the training part: those trained on, left out, and held out.

        Raises:
            StoreError: If the manifest does not say.
        """
        data = self.manifest.data
        if data.train_images is None or data.holdout_images is None:
            self._lacks("images")
        return int(data.train_images / (self.recipe.data_share or 1.0) + data.holdout_images)

    @property
    def work(self) -> WorkTime:
        """What it has cost so far, and what is left."""
        # Of a retargeted run, the budget is that of new trainings, which it need not use.
        budget = 0 if self.manifest.parent else self.manifest.budget
        return WorkTime.of(self.trials, self.baselines, budget)

    @property
    def noise(self) -> Noise:
        """What makes its accuracies unsure."""
        return Noise.of(self.manifest.data.holdout_images, self.baselines)

    @property
    def known_reward(self) -> Reward | None:
        """Its reward; None where that is a Python function, which no file may have executed."""
        return self.load_reward() if self.manifest.reward.kind == "expression" else None

    def ranking(self, reward: Reward | None) -> Ranking:
        """Return its complete trials, the best first, and how sure that order is.

        Args:
            reward: What gave them their rewards; None where that is not known, and so not how the
                noise of accuracies moves them.
        """
        if reward not in self._rankings:
            noise = self.noise if reward else Noise(holdout_images=None)
            known = reward or Reward.load("accuracy")
            self._rankings[reward] = rank_trials(self.trials, known, noise)
        return self._rankings[reward]

    @cached_property
    def _rankings(self) -> dict[Reward | None, Ranking]:
        """The rankings that were asked for: they take a while."""
        return {}

    def learned_nothing(self, ranking: Ranking) -> bool:
        """Return whether no trial is clearly more accurate than always naming the largest class.

        Args:
            ranking: Of its trials.
        """
        guessing = self.manifest.data.guessing.best
        if guessing is None or not ranking.is_known:
            return False
        return not any((ranking.above(each.trial, guessing) or 0.0) >= LEVEL for each in ranking)

    @property
    def step_unit(self) -> StepUnit:
        """What its step times S are over."""
        return StepUnit.of(self.manifest.step_times)

    @property
    def reference_step_s(self) -> float | None:
        """Seconds of the step that S is over: the median of those measured beside the trials.

        Clocks drift, so the step of a trial is S times this, and not what it took at its moment.
        """
        metrics = [t.metrics for t in self.trials if "step_time" in t.metrics]
        steps = [m["step_time_s"] / m["step_time"] for m in metrics if "step_time_s" in m]
        return median(steps) if steps else None

    @property
    def holdout_fingerprint(self) -> str | None:
        """Differs when other images are held out; None where no images are known."""
        return (self.manifest.data.fingerprint or "").split("-")[-1] or None

    def load_reward(self, given: str | None = None) -> Reward:
        """Return the reward that was given, else the run's own.

        Raises:
            ConfigError: If that is a Python function, which no file may have executed.
            RewardError: If it cannot be read.
        """
        if given is not None:
            return Reward.load(given)
        stored = self.manifest.reward
        if stored.kind != "expression":
            raise ConfigError(
                f"{self.path}: its reward is the Python function {stored.name}; name it again as "
                "`reward`, since no code is run because a file says so"
            )
        return replace(Reward.read(stored.text), name=stored.name)

    def _lacks(self, part: str) -> NoReturn:
        raise StoreError(f"{self.path}: the manifest names no {part}; restore it from a copy")


def load_run(path: str | Path) -> Run:
    """Read a finished or a running search. No code that the run names is executed.

    Raises:
        StoreError: If there is no run, or it cannot be read.
    """
    path = Path(path)
    manifest = SearchManifest.read(path)
    space = SearchSpace.parse(manifest.space.text, source=f"{path}/{MANIFEST}: space")
    last = {t.number: t for t in read_events(path, space)}
    return Run(path, manifest, space, Trials(last.values()), read_baselines(path))
