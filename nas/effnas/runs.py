"""Reading a run: what is in its folder, whether it is finished or going on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from effnas.errors import StoreError
from effnas.front import front
from effnas.objectives import Objectives
from effnas.space import SearchSpace
from effnas.store import Json, read_events, read_manifest
from effnas.trial import Trial, Trials


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


def load_run(path: str | Path) -> Run:
    """Read a finished or a running search. No code that the run names is executed.

    Raises:
        StoreError: If there is no run, or it cannot be read.
    """
    path = Path(path)
    manifest = read_manifest(path)
    if manifest.get("kind") is not None:
        raise StoreError(
            f"{path}: the folder holds the trainings of `effnas proxy`, and no search; give the "
            "folder that `effnas search --out` wrote"
        )
    stored = manifest.get("space")
    text = stored.get("text") if isinstance(stored, dict) else None
    if not isinstance(text, str):
        raise StoreError(f"{path}: the manifest holds no space; restore it from a copy")
    space = SearchSpace.parse(text, source=f"{path}/manifest.json: space")
    last = {t.number: t for t in read_events(path, stem=space.stem, head=space.head)}
    return Run(path, manifest, space, Trials(last.values()))
