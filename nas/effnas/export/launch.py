"""From a network's name to a folder that other programs read: what `effnas export` does."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from effnas.errors import ConfigError
from effnas.export.card import card
from effnas.export.figures import Figure, figures_of
from effnas.export.model_file import (
    arch_def_json,
    config_json,
    load_exported,
    model_py,
    weights_text,
)
from effnas.export.network import ExportSettings, Network, resolve_network
from effnas.export.programs import (
    Check,
    check_onnx_packages,
    compare,
    trace,
    write_onnx,
    write_torch_export,
)
from effnas.export.weights import make_model, save_model


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A finished export.

    Attributes:
        folder: With the files.
        network: That was exported.
        is_random: Whether the weights are random.
        files: Size of each file in bytes, by name.
        checks: How far the files' outputs are from the network's.
        figures: Of the network.
    """

    folder: Path
    network: Network
    is_random: bool
    files: dict[str, int]
    checks: tuple[Check, ...]
    figures: tuple[Figure, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        network = self.network
        return {
            "folder": str(self.folder),
            "name": network.name,
            "architecture": str(network.arch),
            "architecture_id": network.arch.id,
            "image_size": network.image_size,
            "train_image_size": network.train_image_size,
            "num_classes": network.num_classes,
            "random_weights": self.is_random,
            "weights": weights_text(self.is_random),
            "files": self.files,
            "checks": [asdict(check) for check in self.checks],
            "figures": [asdict(figure) for figure in self.figures],
        }


def export_network(
    settings: ExportSettings, *, notify: Callable[[str], None] = lambda text: None
) -> Exported:
    """Write a network's folder, all files or none.

    Args:
        settings: What to export, and where.
        notify: Receives what takes a while.

    Raises:
        UserError: If the network or its weights cannot be found, read or built, the folder exists
            already, or a package is missing.
        ExportFailedError: If a file computes something else than the network.
    """
    if "onnx" in settings.formats:
        check_onnx_packages()
    network = resolve_network(settings)
    with _new_folder(settings.out) as folder:
        checks = _write(network, settings, folder, notify)
    files = {path.name: path.stat().st_size for path in sorted(settings.out.iterdir())}
    return Exported(
        folder=settings.out,
        network=network,
        is_random=settings.weights is None,
        files=files,
        checks=checks,
        figures=figures_of(network),
    )


def _write(
    network: Network, settings: ExportSettings, folder: Path, notify: Callable[[str], None]
) -> tuple[Check, ...]:
    is_random = settings.weights is None
    size = network.image_size
    notify("building the network")
    model = make_model(network.arch, network.num_classes, settings.weights)
    for name, text in (
        ("arch_def.json", arch_def_json(network)),
        ("model.py", model_py(network)),
        ("config.json", config_json(network, is_random=is_random)),
    ):
        (folder / name).write_text(text, encoding="utf-8", errors="replace")
    save_model(model, folder / "model.safetensors")
    notify("checking model.py")
    standalone = load_exported(folder, f"{network.name}_model")
    checks = [compare("model.py", standalone, model, size)]
    if set(settings.formats) & {"onnx", "torch-export"}:
        notify("tracing the network")
        program = trace(model, size)
        for form, file, write in (
            ("torch-export", "model.pt2", write_torch_export),
            ("onnx", "model.onnx", write_onnx),
        ):
            if form in settings.formats:
                notify(f"writing and checking {file}")
                checks.append(compare(file, write(program, folder / file), model, size))
    text = card(network, figures_of(network), checks, is_random=is_random)
    (folder / "README.md").write_text(text, encoding="utf-8", errors="replace")
    return tuple(checks)


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """Yield a folder beside `out` that is renamed to it at the end, unless there is an error.

    Raises:
        ConfigError: If `out` exists and is not empty, or cannot be written.
    """
    out = out.absolute()
    temporary = out.with_name(f".{out.name}.effnas-export")
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ConfigError(f"{out}: it exists already; choose another `out`, or remove it")
        shutil.rmtree(temporary, ignore_errors=True)  # of an export that was killed
        temporary.mkdir(parents=True)
        yield temporary
        temporary.rename(out)
    except OSError as error:
        raise ConfigError(
            f"{out}: cannot be written ({error.strerror or error}); choose another `out`"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
