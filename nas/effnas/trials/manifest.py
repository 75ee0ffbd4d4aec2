"""Manifests: what a folder was made with, and whether another command may continue it."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar, Self

from effnas.config.catalog import Source
from effnas.config.codec import (
    FORMAT,
    Amount,
    Count,
    Size,
    WrongKindError,
    dump_json,
    from_plain,
    pick,
    read_object,
    to_plain,
)
from effnas.config.recipe import Recipe, upgraded
from effnas.config.settings import EvaluationConfig, Execution
from effnas.errors import StoreError, UserError, closest
from effnas.space.search_space import SearchSpace
from effnas.trials.differences import ALL_MUST_MATCH, differences, must_match
from effnas.trials.manifest_parts import (
    DataPart,
    ParentPart,
    ReferencePart,
    RewardPart,
    SourcedSpacePart,
)
from effnas.trials.reward import Reward
from effnas.trials.store import MANIFEST, TRIALS, write_whole
from effnas.trials.worker_info import WorkerInfo

#: Version of the trainer of trials. The first one had recipes of its own: no average of weights,
#: no growing images, other random numbers.
TRAINER = 2
#: Parts that say how networks are trained: what a newer version added to them cannot be ignored.
_STRICT = ("recipe", "execution")


class OtherFolderError(StoreError):
    """A folder of something else than was asked for."""


#: A value of an option of the command line.
Plain = bool | int | float | str | None


@dataclass(frozen=True, kw_only=True)
class CommandPart:
    """The command line behind a folder, from which less of it continues.

    Attributes:
        name: Of the command, such as `search`.
        options: Those that its users gave, by name; paths are absolute.
    """

    name: str
    options: Mapping[str, Plain | tuple[Plain, ...]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a folder that can be continued was made with, in its `manifest.json`.

    The metadata of fields (`must_match`, `ALL_MUST_MATCH`), also of dataclasses in it, say what
    must be the same for that.

    Attributes:
        asked: The command line; None where there was none, and in folders of earlier versions.
    """

    #: What the JSON has as `kind`.
    kind: ClassVar[str | None] = None
    #: What the folder is of, in the singular, and the command that writes it.
    what: ClassVar[str] = "run"
    command: ClassVar[str] = "effnas search"
    #: Fields that are left out as long as they are None.
    later: ClassVar[tuple[str, ...]] = ()
    #: JSON keys of fields that have another name there.
    keys: ClassVar[Mapping[str, str]] = {}

    asked: CommandPart | None = None

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Return the manifest of a folder.

        Raises:
            StoreError: If there is none, it cannot be read, or it is of something else.
        """
        found = cls.stored(folder, f"give a folder that `{cls.command}` wrote")
        if found is None:
            raise StoreError(
                f"{folder}: no {cls.what} there (it has no {MANIFEST}); give the folder that "
                f"`{cls.command}` wrote"
            )
        return found

    @classmethod
    def stored(cls, folder: Path, otherwise: str = "choose another `out`") -> Self | None:
        """Return the manifest of a folder, or None if it has none; errors are those of `read`.

        Args:
            folder: The folder.
            otherwise: What the user should do if it is of something else.
        """
        file = folder / MANIFEST
        if not file.exists():
            return None
        try:
            content = read_object(file, cls.kind)
            content |= {name: content.get(key) for name, key in cls.keys.items()}
            if isinstance(recipe := content.get("recipe"), dict):
                content["recipe"] = upgraded(recipe)
            found = from_plain(content, cls)
            for name in _STRICT:
                part = getattr(found, name, None)
                known = [one.name for one in fields(part)] if is_dataclass(part) else []
                for key in content[name] if known else ():
                    if key not in known:
                        raise UserError(f"{name}: unknown key {key[:40]!r}; {closest(key, known)}")
            return found
        except WrongKindError as error:
            is_search = not error.kind and (folder / TRIALS).exists()
            found_kind = "a search" if is_search else error.kind or "something else"
            text = f"{folder}: it holds no {cls.what}, but {found_kind}; {otherwise}"
            raise OtherFolderError(text) from None
        except UserError as error:
            raise StoreError(f"{file}: {error}; restore it from a copy") from None

    def write(self, folder: Path) -> None:
        """Write the manifest, or replace it, in one step.

        Raises:
            StoreError: If it cannot be written.
        """
        content = {"format": FORMAT} | ({"kind": self.kind} if self.kind else {})
        content |= {
            self.keys.get(name, name): value
            for name, value in to_plain(self).items()
            if value is not None or name not in ("asked", *self.later)
        }
        write_whole(folder / MANIFEST, dump_json(content))

    def differences(self, before: Manifest) -> list[str]:
        """Return in words what differs from `before`, of all that must be the same."""
        return list(differences(self, before))

    def check_continues(self, before: Manifest, folder: Path) -> None:
        """Refuse to mix what does not compare: see that all that must be the same is.

        Args:
            before: What the folder was begun with; what only that one has is not compared.
            folder: The folder.

        Raises:
            StoreError: Names all that differs, or says that another trainer was at work.
        """
        if getattr(self, "trainer", TRAINER) != getattr(before, "trainer", TRAINER):
            raise StoreError(
                f"{folder}: another version of effnas began the {self.what}, whose accuracies do "
                "not compare with those of this one: begin a new one with another `out`"
            )
        if differing := self.differences(before):
            raise StoreError(
                f"{folder}: the {self.what} began with other settings: {'; '.join(differing)}. "
                "Give those again to continue, or choose another `out`"
            )


@dataclass(frozen=True, kw_only=True)
class Choices(Manifest):
    """The part of a search's manifest that is known before anything slow is started."""

    seed: Count = field(default=0, metadata=must_match("seed"))
    controller: str | None = field(default=None, metadata=must_match("controller"))
    objectives: str | None = field(default=None, metadata=must_match("objectives"))
    constraints: tuple[str, ...] = field(
        default=(), metadata=must_match("constraints", key=lambda texts: sorted(texts or ()))
    )
    rungs: tuple[int, ...] | None = field(default=None, metadata=must_match("fidelity"))


@dataclass(frozen=True, kw_only=True)
class SearchManifest(Choices):
    """What a search was made with, or a run that was retargeted from one.

    Attributes:
        created: When it began, UTC in ISO format.
        budget: Trials in all; of a retargeted run, new trainings at most.
        space: The space.
        reward: The reward.
        reference: The reference network.
        data: The images.
        recipe: How networks are trained, with all sizes settled.
        trainer: Version of the trainer; accuracies of two of them do not compare.
        full_epochs: Of the recipe before the search made it short; None where that is not known.
        full_train_time_s: Seconds that the winner is to be trained for, where trials are by time;
            None where they are not, or where that is not known.
        most_macs: Networks of more MACs are left out, since too few steps would fit into a training
            time; None leaves none out.
        execution: How they are run; None where nothing was run.
        timing_batch_size: Images in a timed step; None where nothing was timed.
        hardware: Identity of the device that step times belong to.
        step_times: Where step times come from, in words.
        device: Facts about the device by name.
        versions: Of Python and packages, by name.
        parent: The finished run, if it was retargeted from one.
        baselines: Trainings of each baseline, by name; None without baselines.
        finished: When retargeting ended, UTC; None before, and in a search.
    """

    later = ("parent", "baselines", "finished")

    created: str | None = None
    budget: Count = 0
    space: SourcedSpacePart
    reward: RewardPart = field(default_factory=RewardPart)
    reference: ReferencePart = field(default_factory=ReferencePart)
    data: DataPart = field(default_factory=DataPart)
    recipe: Recipe | None = field(default=None, metadata=ALL_MUST_MATCH)
    trainer: int = 1
    full_epochs: float | None = None
    full_train_time_s: Amount | None = None
    most_macs: float | None = None
    execution: Execution | None = None
    timing_batch_size: Size | None = None
    hardware: str = field(default="", metadata=must_match("hardware"))
    step_times: str = field(default="measured", metadata=must_match("step times"))
    device: Mapping[str, str | int] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    parent: ParentPart | None = None
    baselines: Mapping[str, Count] | None = None
    finished: str | None = None

    @property
    def limits(self) -> tuple[str, ...]:
        """What its networks had to meet: the constraints, and what a training time left out."""
        return (*self.constraints, *macs_limits(self.most_macs))

    @property
    def winner_time_s(self) -> float | None:
        """Seconds that the winner is trained for; None where trials are not by time."""
        trial_s = self.recipe.train_time_s if self.recipe else None
        return trial_s and (self.full_train_time_s or trial_s)

    @property
    def is_made_short(self) -> bool:
        """Whether trials get a part only of the time that the winner is trained for."""
        return self.recipe is not None and self.winner_time_s != self.recipe.train_time_s

    @property
    def rungs_text(self) -> str | None:
        """The rungs as the command line has them: `1,2,4` or `15s,60s`; None without rungs."""
        in_seconds = self.recipe is not None and self.recipe.train_time_s is not None
        return ",".join(f"{at}{'s' * in_seconds}" for at in self.rungs) if self.rungs else None


def macs_limits(most_macs: float | None) -> tuple[str, ...]:
    """Return the condition that leaves out networks of more MACs, as text; none for None."""
    return () if most_macs is None else (f"macs <= {most_macs / 1e6:.15g}e6",)


def describe(
    *,
    source: Source,
    space: SearchSpace,
    reward: Reward,
    chosen: Choices,
    budget: int,
    data: str,
    config: EvaluationConfig,
    prepared: WorkerInfo,
    created: str,
    full_epochs: float | None = None,
    full_train_time_s: float | None = None,
    most_macs: float | None = None,
) -> SearchManifest:
    """Return the manifest of a search that is about to start."""
    counts = space.count(space.reference)
    return pick(
        SearchManifest,
        prepared,
        **vars(chosen),
        created=created,
        budget=budget,
        trainer=TRAINER,
        full_epochs=full_epochs,
        full_train_time_s=full_train_time_s,
        most_macs=most_macs,
        space=SourcedSpacePart.of(space, path=str(source.path), file_sha256=source.digest),
        reward=RewardPart.of(reward),
        reference=ReferencePart(architecture=str(space.reference), **counts._asdict()),
        data=pick(
            DataPart,
            prepared,
            name=data,
            path=config.data,
            root=config.data_root,
            on_bad_image=config.on_bad_image,
            classes=prepared.num_classes,
            fingerprint=prepared.data_fingerprint,
            test_part=prepared.found.test_part if prepared.found else None,
        ),
        versions=versions(),
        parent=None,
        baselines=None,
        finished=None,
    )


def utc_now() -> str:
    """Return the time as in 2026-01-31T12:00:00Z."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that figures may depend on."""
    names = ("effnas", "torch", "timm", "ray", "optuna", "numpy", "scipy")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}
