"""The folder of a proxy check or search: `manifest.json` and the append-only `trainings.jsonl`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from effnas.trials.manifest import ALL_MUST_MATCH, Manifest, SpacePart, must_match
from effnas.trials.store import RunFolder, read_records
from effnas.workflows.proxy.trainings import Training, from_record, to_record

if TYPE_CHECKING:
    from effnas.arch.architecture import Architecture
    from effnas.config.settings import Recipe
    from effnas.space.search_space import SearchSpace

TRAININGS = "trainings.jsonl"
#: The settings that make a fidelity; all others are the same for all trainings of a folder.
_VARIED = ("epochs", "image_size", "data_share")


@dataclass(frozen=True, kw_only=True)
class ProxyManifest(Manifest):
    """What the trainings of reference networks are made with.

    Attributes:
        space: The space of the networks.
        data: Changes when the images, labels or classes do.
        seed: Of the run.
        recipe: What all recipes have in common.
        networks: Block strings of the reference networks.
    """

    kind: ClassVar[str] = "proxy"
    what: ClassVar[str] = "trainings of a proxy"
    command: ClassVar[str] = "effnas proxy"

    space: SpacePart
    data: str = field(metadata=must_match("data"))
    seed: int = field(metadata=must_match("seed"))
    recipe: Mapping[str, Any] = field(metadata=ALL_MUST_MATCH)
    networks: tuple[str, ...]

    def differences(self, before: Manifest) -> list[str]:
        """As `Manifest.differences`; of the networks, the shorter list leads the longer one."""
        assert isinstance(before, ProxyManifest)
        differ = any(a != b for a, b in zip(before.networks, self.networks, strict=False))
        return [*super().differences(before), *(["networks"] if differ else [])]


class TrainingsFolder(RunFolder):
    """Trainings of reference networks on disk, locked against other drivers.

    Use as a context manager, or call `close`. A check and a search may share a folder, one after
    the other: what both need is trained once.
    """

    records_name = TRAININGS

    def begin(
        self,
        space: SearchSpace,
        networks: Sequence[Architecture],
        recipe: Recipe,
        *,
        data_fingerprint: str,
        seed: int,
    ) -> list[Training]:
        """Store what the trainings belong to, or check that it is the same as before.

        Args:
            space: The space of the networks.
            networks: The reference networks; there may be more or fewer than before.
            recipe: Any of the recipes; they differ in epochs, image size and share alone.
            data_fingerprint: Changes when the images, labels or classes do.
            seed: Of the run.

        Returns:
            The trainings that are stored.

        Raises:
            StoreError: If the folder holds something else; names what differs.
        """
        manifest = ProxyManifest(
            space=SpacePart.of(space),
            data=data_fingerprint,
            seed=seed,
            recipe={k: v for k, v in recipe.to_dict().items() if k not in _VARIED},
            networks=tuple(map(str, networks)),
        )
        stored = ProxyManifest.stored(self.path)
        if stored:
            manifest.check_continues(stored, self.path)
            manifest = replace(manifest, networks=max(stored.networks, manifest.networks, key=len))
        if stored != manifest:
            manifest.write(self.path)
        return list(
            read_records(
                self.path / TRAININGS,
                lambda record: from_record(record, stem=space.stem, head=space.head),
                "training",
            )
        )

    def add(self, training: Training) -> None:
        """Store one training; the disk has it when this returns.

        Raises:
            StoreError: If it cannot be written; what is stored already stays.
        """
        self.append_record(to_record(training), durable=True)
