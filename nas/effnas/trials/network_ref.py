"""A network as a user names it: by a file, block strings, a trial of a run, or timm's name."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from effnas.arch.architecture import Architecture
from effnas.arch.blocks import OPERATORS
from effnas.arch.files import load_architecture
from effnas.arch.models import build, build_timm
from effnas.errors import ConfigError
from effnas.space.search_space import SearchSpace
from effnas.trials.run import Run, load_run
from effnas.trials.store import MANIFEST
from effnas.trials.trial import Trial

if TYPE_CHECKING:
    from torch import nn

#: How block strings begin, and no name of timm's.
_BLOCK = re.compile(rf"({'|'.join(OPERATORS)})_")


@dataclass(frozen=True)
class NetworkRef:
    """A network: an architecture, or a model of timm's that only has its name."""

    name: str
    arch: Architecture | None = None
    run: Run | None = None
    trial: Trial | None = None
    file: Path | None = None

    @property
    def space(self) -> SearchSpace | None:
        """The space that it belongs to, if that is known."""
        return self.run.space if self.run else None

    def maker(self, num_classes: int) -> Callable[[], nn.Module]:
        """Return a function that builds the network."""
        arch = self.arch
        if arch is None:
            return lambda: build_timm(self.name, num_classes=num_classes)
        return lambda: build(arch, num_classes=num_classes)


def find_network(text: str, home: SearchSpace | None) -> NetworkRef:
    """Return the network that a text means.

    Args:
        text: An architecture file, block strings, RUN:NUMBER, RUN:best, or a name of timm's.
        home: Gives the stem and head of block strings; None takes those of `v2`.

    Raises:
        UserError: If it is none of these.
    """
    if text.endswith(".json"):
        return NetworkRef(text, load_architecture(text), file=Path(text))
    folder, colon, number = text.rpartition(":")
    if colon and Path(folder).is_dir():
        run = load_run(folder)
        numbered = (trial for trial in run.trials if str(trial.number) == number)
        trial = run.best if number == "best" else next(numbered, None)
        if trial is None:
            raise ConfigError(
                f"{folder}: no trial {number!r} among {len(run.trials)}; give a number, or best: "
                "the complete one with the highest reward"
            )
        arch = trial.architecture.network
        if arch.model:
            return NetworkRef(arch.model, None, run, trial)
        return NetworkRef(text, arch, run, trial)
    if colon and (number == "best" or number.isdigit()):
        raise ConfigError(f"{folder}: no run there; RUN:best and RUN:NUMBER name a folder's trial")
    if _BLOCK.match(text.strip()):
        return NetworkRef(text, (home or SearchSpace.load("v2")).parse_blocks(text))
    if (Path(text) / MANIFEST).is_file():
        raise ConfigError(f"{text}: a folder; name a trial of a search, as in {text}:best")
    if os.sep in text:
        raise ConfigError(
            f"{text}: no network; give an architecture file (.json), block strings, RUN:NUMBER, "
            "RUN:best, or the name of a model of timm's"
        )
    return NetworkRef(text)


def find_architecture(text: str, home: SearchSpace | None) -> tuple[NetworkRef, Architecture]:
    """Return the network that a text means, with its architecture.

    Raises:
        UserError: As `find_network`, or if it is a name of timm's.
    """
    found = find_network(text, home)
    if found.arch is None:
        raise ConfigError(
            f"{text}: no architecture of effnas; give an architecture file (.json), block strings, "
            "RUN:NUMBER or RUN:best (timm's own models are exported by timm)"
        )
    return found, found.arch
