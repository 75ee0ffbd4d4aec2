"""The frame of a long command: progress, Ctrl-C and SIGTERM, `--json`, and the exit code."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from time import monotonic
from types import FrameType, MappingProxyType
from typing import TYPE_CHECKING, Generic, TypeVar

from rich import progress
from rich.text import Text

from effnas.cli.data_facts import worker_data_rows
from effnas.cli.signals import STOPPED, interrupt, on_signals
from effnas.cli.tables import console, counted, duration, facts, next_commands, note
from effnas.cli.wording import with_options
from effnas.evaluation.observer import Observer
from effnas.trials.store import MANIFEST

if TYPE_CHECKING:
    from effnas.cli.tables import Screen
    from effnas.trials.worker_info import WorkerInfo
    from effnas.workflows.trainings.folder import Result as TrainingResult

Settings = TypeVar("Settings")
Result = TypeVar("Result")


class LongCommand(ABC, Observer, Generic[Settings, Result]):
    """A command that takes a while: it shows the progress of its work, and then the result.

    A command derives from it and says what is its own: `work`, which returns the result, the
    `payload` of `--json`, and how the result is shown to people. It observes its own work: it has
    the methods of the library's observer, which print lines while the work proceeds.

    With `as_json` it prints JSON to stdout, and all that is for people to stderr.

    Attributes:
        begins: First words of the progress line.
        stored: What the settings' `out` holds after a stop, to be continued; empty for nothing.
        changes: What it continues and what changes there, said once that is not refused.
        chosen: Why an option that was not given has its value, by the name of a row of the plan.
        left_s: Seconds that are left of what is being done, as fast as it was so far; None where
            that is not known.
        settings: What the user asked for.
        screen: Where people read: stdout, or stderr with `--json`.
        ends_step: Whether a first signal only sets `is_stopping`, so that a step can end.
        is_stopping: Whether a signal has come while `ends_step` was set.
    """

    begins = "starting"
    stored = ""
    changes: Sequence[str] = ()
    chosen: Mapping[str, str] = MappingProxyType({})
    left_s: float | None = None

    def __init__(self, settings: Settings, *, as_json: bool) -> None:
        self.settings = settings
        self.screen = console(stderr=as_json)
        self.ends_step = self.is_stopping = False
        self._as_json = as_json
        self._begun = ("", 0, 0.0)  # what, how much of it was done, and when
        self._progress = _progress_on(self.screen)
        self._task = self._progress.add_task(self.begins, total=None, left="")

    @abstractmethod
    def work(self) -> Result:
        """Do the work."""

    @abstractmethod
    def payload(self, result: Result, /) -> object:
        """Return the result as plain data."""

    @abstractmethod
    def show(self, result: Result, /) -> None:
        """Print the result for people."""

    def succeeded(self, result: Result, /) -> bool:
        """Return whether the exit code is 0, and not 1."""
        del result
        return True

    def run(self) -> int:
        """Do the work and show the result; return the exit code.

        Raises:
            EffnasError: If something given is wrong, or the work fails.
        """
        try:
            with on_signals(self._stop), self._progress:
                result = self.work()
        except KeyboardInterrupt:
            self._say_stopped()
            return STOPPED
        return self.report(result)

    def report(self, result: Result, /) -> int:
        """Print the result, as JSON if that was asked for; return the exit code."""
        self._say_changes()
        if self._as_json:
            print(json.dumps(self.payload(result), indent=2))
        else:
            self.show(result)
        return 0 if self.succeeded(result) else 1

    def say(self, text: str) -> None:
        """Print a text; nothing if it is empty."""
        if text:
            self.screen.print(text)

    def note(self, text: str, word: str = "Note") -> None:
        """Print something that the user should know, with its settings as options."""
        note(self.screen, with_options(text), word)

    def plan(self, *rows: tuple[str, str]) -> None:
        """Print what is about to be done, as names and values; what continues, first."""
        self._say_changes()
        self.screen.print(facts([(name, self._with_choice(name, text)) for name, text in rows]))
        self.screen.print()

    def prepared(self, ready: WorkerInfo) -> None:
        """Say which images are used."""
        self.plan(*worker_data_rows(ready))

    def preparing(self, what: str) -> None:
        """Say what is being done, of which the end is not known."""
        self._progress.update(self._task, description=what, total=None, left="")

    def progress(self, what: str, done: int, total: int, left: str = "") -> None:
        """Say what is being done, how much of it is done, and what is left: else how long."""
        now_s = monotonic()
        if what != self._begun[0]:
            self._begun = (what, done, now_s)
        _, first, first_s = self._begun
        self.left_s = (now_s - first_s) / (done - first) * (total - done) if done > first else None
        if not left and self.left_s is not None:
            left = f"about {duration(self.left_s)} left"
        self._progress.update(self._task, description=what, completed=done, total=total, left=left)

    def advance(self) -> None:
        """Count one more of what is being done."""
        self._progress.advance(self._task)

    def training_ended(
        self, name: str, result: TrainingResult, scores: str = "", length: str = ""
    ) -> None:
        """Print how a training of several ended, and count it.

        Args:
            name: Of what was trained.
            result: Its result.
            scores: What is printed after its accuracy.
            length: How long it was trained, in words; by default its epochs.
        """
        self.advance()
        who = f"{name}  seed {result.repeat}  {length or counted(result.epochs, 'epoch')}"
        if result.accuracy is None:
            why = f": {result.reason or ''}"
            self.screen.print(Text.assemble(f"{who}  ", ("infeasible", "red"), why))
        else:
            self.screen.print(f"{who}  accuracy {result.accuracy:.4f}{scores}")

    def next(self, *commands: Sequence[object]) -> None:
        """Print commands that may come next, each as its words."""
        next_commands(self.screen, *commands)

    def waiting(self, holder: str) -> None:
        """Say that the device is in use, and by whom."""
        self.preparing(f"waiting for the device, which {holder} uses")

    def _say_changes(self) -> None:
        for text in self.changes:
            self.say(text)
        self.changes = ()

    def _with_choice(self, name: str, text: str) -> str:
        return f"{text}; {self.chosen[name]}" if name in self.chosen else text

    def _say_stopped(self) -> None:
        out: Path | None = getattr(self.settings, "out", None)
        # A command that is stopped while it prepares its work may not have begun its folder.
        if self.stored and out and (out / MANIFEST).exists():
            again = f"`effnas resume {quote(str(out))}` or the same command continues"
            self.say(f"\nStopped. {self.stored} is stored in {out}; {again}.")
        else:
            self.say("\nStopped; nothing was stored.")

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self.is_stopping or not self.ends_step:
            interrupt(number, frame)
        self.is_stopping = True


class _Count(progress.MofNCompleteColumn):
    """How much is done, where it is known how much there is."""

    def render(self, task: progress.Task) -> Text:
        return Text() if task.total is None else super().render(task)


def _progress_on(screen: Screen) -> progress.Progress:
    """Return a line that says what is going on, and vanishes at the end."""
    return progress.Progress(
        progress.SpinnerColumn(),
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        _Count(),
        progress.TextColumn("{task.fields[left]}", markup=False),
        progress.TimeElapsedColumn(),
        console=screen,
        transient=True,
        disable=not screen.is_terminal,
        refresh_per_second=2,  # every redraw takes time from the CPU that is being timed
    )
