"""The folder of a proxy check or search: `manifest.json` and the append-only `trainings.jsonl`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from effnas.errors import StoreError
from effnas.trials.store import Json, RunFolder
from effnas.workflows.proxy.trainings import Training, from_record, to_record

if TYPE_CHECKING:
    from effnas.arch.architecture import Architecture
    from effnas.config.settings import Recipe
    from effnas.space.search_space import SearchSpace

TRAININGS = "trainings.jsonl"
#: Tells the manifest from that of a search.
_KIND = "proxy"
#: The settings that make a fidelity; all others are the same for all trainings of a folder.
_VARIED = ("epochs", "image_size", "data_share")


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
        """Note what the trainings belong to, or see that it is the same as before.

        More or fewer networks are no difference as long as those of the shorter list lead the
        longer one.

        Args:
            space: The space of the networks.
            networks: The reference networks.
            recipe: Any of the recipes; they differ in epochs, image size and share alone.
            data_fingerprint: Changes when the images, labels or classes do.
            seed: Of the run.

        Returns:
            The trainings that are stored.

        Raises:
            StoreError: If the folder holds something else; names what differs.
        """
        fixed = {k: v for k, v in recipe.to_dict().items() if k not in _VARIED}
        manifest: dict[str, Json] = {
            "kind": _KIND,
            "space": {"name": space.name, "id": space.id, "text": space.to_text()},
            "data": data_fingerprint,
            "seed": seed,
            "recipe": dict(fixed),
            "networks": [str(arch) for arch in networks],
        }
        stored = self.read_manifest()
        if stored is not None:
            self._check_same(stored, manifest)
            before = stored["networks"]
            if isinstance(before, list) and len(before) > len(networks):
                manifest["networks"] = before
        if stored is None or stored["networks"] != manifest["networks"]:
            self.write_manifest(manifest)
        return self.read_records(
            lambda record: from_record(record, stem=space.stem, head=space.head), "training"
        )

    def add(self, training: Training) -> None:
        """Store one training; the disk has it when this returns.

        Raises:
            StoreError: If it cannot be written; what is stored already stays.
        """
        self.append_record(to_record(training), durable=True)

    def _check_same(self, stored: Mapping[str, Json], manifest: Mapping[str, Json]) -> None:
        if stored.get("kind") != _KIND:
            raise StoreError(f"{self.path}: the folder holds a search; choose another `out`")
        differing = [name for name in ("data", "seed") if stored.get(name) != manifest[name]]
        space, recipe = stored.get("space"), stored.get("recipe")
        ours = manifest["space"]
        assert isinstance(ours, dict)
        if not isinstance(space, dict) or space.get("id") != ours["id"]:
            differing.insert(0, "space (or its target)")
        fixed = manifest["recipe"]
        assert isinstance(fixed, dict)
        old = recipe if isinstance(recipe, dict) else {}
        differing += [
            f"{name.replace('_', '-')} (was {old.get(name)}, is {value})"
            for name, value in fixed.items()
            if old.get(name) != value
        ]
        before, now = stored.get("networks"), manifest["networks"]
        assert isinstance(now, list)
        if not isinstance(before, list) or any(a != b for a, b in zip(before, now, strict=False)):
            differing.append("networks")
        if differing:
            raise StoreError(
                f"{self.path}: these trainings were begun with another {', '.join(differing)}. "
                "Give the same again to go on with them, or choose another `out`"
            )
