"""`effnas export`: a network for programs outside effnas."""

from __future__ import annotations

from typing import Any

from effnas.cli.session import LongCommand
from effnas.cli.tables import table
from effnas.export.launch import Exported, export_network
from effnas.export.network import ExportSettings


class ExportCommand(LongCommand[ExportSettings, Exported]):
    """Exports a network and shows what was written."""

    def work(self) -> Exported:
        return export_network(self.settings, notify=self.preparing)

    def payload(self, exported: Exported) -> dict[str, Any]:
        return exported.to_dict()

    def show(self, exported: Exported) -> None:
        network = exported.network
        size, train_size = network.image_size, network.train_image_size
        trained_at = f", trained at {train_size} px" if train_size != size else ""
        rows = [
            ("network", f"{network.name}  {network.arch}"),
            ("images", f"{size} px{trained_at}, {network.num_classes} classes"),
        ]
        rows += [(one.name, f"{one.text}  {one.how}: {one.at}") for one in exported.figures]
        self.plan(*rows)
        found = table("file", "bytes", "difference", "largest logit", "allowed", left=["file"])
        checks = {check.file: check for check in exported.checks}
        for name, count in exported.files.items():
            check = checks.get(name)
            figures = (check.difference, check.largest_logit, check.allowed) if check else ()
            found.add_row(name, f"{count:,}", *(f"{figure:.1e}" for figure in figures))
        self.screen.print(found)
        batches = " and ".join(map(str, exported.checks[0].batch_sizes))
        self.say(
            "\nDifferences are the largest of a logit from the network's, for "
            f"{batches} random images.\nWritten to {exported.folder}; "
            f"`python {exported.folder / 'model.py'}` runs it."
        )
        if exported.is_random:
            self.note(
                "The weights are random: the network is not trained. --weights takes those of "
                "`effnas train` and `effnas promote`.", "Warning",
            )  # fmt: skip
