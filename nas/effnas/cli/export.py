"""`effnas export`: a network for programs outside effnas."""

from __future__ import annotations

import json
import re
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from effnas.cli.search import INTERRUPTED
from effnas.cli.tables import console, facts
from effnas.errors import ConfigError
from effnas.export.launch import Exported, export_network
from effnas.export.network import ExportSettings


def formats_of(text: str) -> tuple[str, ...]:
    """Return the formats that an option names; `ExportSettings` says which are known."""
    return tuple(part.strip() for part in text.split(","))


def default_folder(network: str) -> Path:
    """Return where a network is exported to by default: exports/NAME.

    Raises:
        ConfigError: If it has no name.
    """
    path, colon, number = network.rpartition(":")
    if network.endswith(".json"):
        file = Path(network).absolute()
        is_member = file.with_name("family.json").is_file()
        return Path("exports", f"{file.parent.name}-{file.stem}" if is_member else file.stem)
    if colon:
        return Path("exports", f"{Path(path).resolve().name}-{number}")
    if re.fullmatch(r"[\w.-]+", network):
        return Path("exports", network)
    raise ConfigError("block strings have no name to call a folder by; give an --out")


def run_export(settings: ExportSettings, *, as_json: bool) -> int:
    """Export a network and show what was written; return the exit code.

    Raises:
        EffnasError: If something given is wrong, or a check fails.
    """
    screen = console(stderr=True)
    try:
        with screen.status("starting") as status:
            exported = export_network(settings, notify=status.update)
    except KeyboardInterrupt:
        screen.print("Stopped; nothing was written.")
        return INTERRUPTED
    if as_json:
        print(json.dumps(exported.to_dict(), indent=2))
    else:
        _show(exported)
    return 0


def _show(exported: Exported) -> None:
    screen = console()
    network = exported.network
    size, train_size = network.image_size, network.train_image_size
    trained_at = f", trained at {train_size} px" if train_size != size else ""
    rows = [
        ("network", f"{network.name}  {network.arch}"),
        ("images", f"{size} px{trained_at}, {network.num_classes} classes"),
    ]
    rows += [(one.name, escape(f"{one.text}  {one.how}: {one.at}")) for one in exported.figures]
    screen.print(facts(rows))
    screen.print()
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("file")
    for name in ("bytes", "difference", "largest logit", "allowed"):
        table.add_column(name, justify="right", no_wrap=True)
    checks = {check.file: check for check in exported.checks}
    for name, count in exported.files.items():
        check = checks.get(name)
        figures = (check.difference, check.largest_logit, check.allowed) if check else ()
        table.add_row(name, f"{count:,}", *(f"{figure:.1e}" for figure in figures))
    screen.print(table)
    batches = " and ".join(map(str, exported.checks[0].batch_sizes))
    screen.print(
        f"\nDifferences are the largest of a logit from the network's, for {batches} random images."
        f"\nWritten to {exported.folder}; `python {exported.folder / 'model.py'}` runs it."
    )
    if exported.is_random:
        screen.print(
            "[yellow]The weights are random: the network is not trained.[/] --weights takes those "
            "of `effnas train` and `effnas promote`."
        )
