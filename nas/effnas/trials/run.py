"""Reading a run: what is in its folder, whether it is finished or going on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from effnas.config.settings import Recipe
from effnas.errors import ConfigError, StoreError
from effnas.space.search_space import SearchSpace
from effnas.trials.objectives import Objectives
from effnas.trials.pareto_front import front
from effnas.trials.reward import Reward
from effnas.trials.store import Json, read_events, read_manifest
from effnas.trials.trial import Trial, Trials


@dataclass(frozen=True)
class Run:
    """A run as its folder tells it.

    Attributes:
        path: The folder.
        manifest: What the run was made with.
        space: The search space, read from the manifest.
        trials: All trials so far.
    """

    path: Path
    manifest: dict[str, Json]
    space: SearchSpace
    trials: Trials

    @property
    def best(self) -> Trial | None:
        """The trial with the highest reward, or None while there is none."""
        return self.trials.best

    @property
    def objectives(self) -> Objectives | None:
        """What the search pursues in place of the reward, if anything."""
        stored = self.manifest.get("objectives")
        return Objectives.parse(stored) if isinstance(stored, str) else None

    @property
    def front(self) -> list[Trial]:
        """The complete trials that none dominates, as `Search.front`."""
        return front(self.trials, self.objectives) if self.objectives else []

    @property
    def recipe(self) -> Recipe:
        """How the networks were trained.

        Raises:
            StoreError: If the manifest does not say.
        """
        try:
            return Recipe(**cast("dict[str, Any]", self.manifest["recipe"]))
        except (KeyError, TypeError, ConfigError) as error:
            raise self._lacks("recipe", error) from error

    @property
    def full_training_images(self) -> int:
        """Images of the training part: those trained on, left out, and held out.

        Raises:
            StoreError: If the manifest does not say.
        """
        data = cast("dict[str, float]", self.manifest.get("data"))
        try:
            share = self.recipe.data_share or 1.0
            return int(data["train_images"] / share + data["holdout_images"])
        except (KeyError, TypeError) as error:
            raise self._lacks("data", error) from error

    @property
    def holdout_fingerprint(self) -> str | None:
        """Differs when other images are held out; None where no images are known."""
        data = self.manifest.get("data")
        stored = data.get("fingerprint") if isinstance(data, dict) else None
        return stored.split("-")[-1] if isinstance(stored, str) and stored else None

    def load_reward(self, given: str | None = None) -> Reward:
        """Return the reward that was given, else the run's own.

        Raises:
            ConfigError: If that is a Python function, which no file may have executed.
            RewardError: If it cannot be read.
        """
        if given is not None:
            return Reward.load(given)
        stored = cast("dict[str, str]", self.manifest.get("reward", {}))
        if stored.get("kind") != "expression":
            raise ConfigError(
                f"{self.path}: its reward is the Python function {stored.get('name')}; name it "
                "again as `reward`, since no code is run because a file says so"
            )
        return Reward.load(stored["text"])

    def _lacks(self, part: str, error: Exception) -> StoreError:
        return StoreError(
            f"{self.path}: the manifest's {part} cannot be used ({error}); restore it from a copy"
        )


def load_run(path: str | Path) -> Run:
    """Read a finished or a running search. No code that the run names is executed.

    Raises:
        StoreError: If there is no run, or it cannot be read.
    """
    path = Path(path)
    manifest = read_manifest(path)
    if manifest.get("kind") is not None:
        raise StoreError(
            f"{path}: the folder holds no search ({str(manifest['kind'])[:40]}); give the folder "
            "that `effnas search` wrote"
        )
    stored = manifest.get("space")
    text = stored.get("text") if isinstance(stored, dict) else None
    if not isinstance(text, str):
        raise StoreError(f"{path}: the manifest holds no space; restore it from a copy")
    space = SearchSpace.parse(text, source=f"{path}/manifest.json: space")
    last = {t.number: t for t in read_events(path, stem=space.stem, head=space.head)}
    return Run(path, manifest, space, Trials(last.values()))
