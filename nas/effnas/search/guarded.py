"""A controller whose mistakes are found, and are reported as its own."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from effnas.arch.architecture import Architecture
from effnas.config.plugins import describe
from effnas.controllers.base import Controller
from effnas.errors import EffnasError, SearchFailedError
from effnas.space.search_space import SearchSpace
from effnas.trials.trial import Trial


@dataclass(frozen=True)
class GuardedController:
    """A controller, perhaps the user's own.

    Attributes:
        controller: The controller.
        space: What it must propose from.

    Raises:
        SearchFailedError: From any method, if the controller fails; says where.
    """

    controller: Controller
    space: SearchSpace

    def ask(self, number: int) -> Architecture:
        """Return the architecture of a new trial.

        Raises:
            SpaceExhaustedError: If every architecture of the space was proposed already.
        """
        with self._guarded():
            arch = self.controller.ask(number)
        if not isinstance(arch, Architecture) or not self.space.contains(arch):
            raise SearchFailedError(
                f"the controller {self.controller.name} proposed {str(arch)!r:.200}, which is no "
                f"architecture of the space {self.space.name}; all trials are stored"
            )
        return arch

    def tell(self, trial: Trial) -> None:
        """Hand the controller a change of a trial."""
        with self._guarded():
            self.controller.tell(trial)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except EffnasError:
            raise
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            raise SearchFailedError(
                f"{place.filename}:{place.lineno}: the controller {self.controller.name} failed: "
                f"{describe(error)}; all trials are stored"
            ) from error
