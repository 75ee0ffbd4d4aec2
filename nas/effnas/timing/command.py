"""Step times from a command of the user's: one network in, the seconds of a step out."""

from __future__ import annotations

import json
import math
import shlex
import string
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from effnas.arch.files import to_json
from effnas.errors import ConfigError, InfeasibleError
from effnas.timing.process import run
from effnas.timing.step_time import StepTime, positive_number

if TYPE_CHECKING:
    from effnas.arch.architecture import Architecture
    from effnas.space.search_space import SearchSpace

_OPTION = "`step_time_command`"
_FIELD = "arch_json"
#: Characters of a bad output that are shown.
_SHOWN = 80


class StepTimeCommand:
    """Runs a command for each network and reads the seconds of one training step.

    The command receives the network as a JSON file (see `effnas.arch.files`). The last line
    that it prints, blank ones aside, is the number of seconds, or a JSON object with the key
    `step_time_s`. S is relative to the reference network, which is timed first and once.

    Args:
        template: Such as `python time_on_board.py {arch_json}`; split as by a shell, but no shell
            runs. Other braces are doubled.
        space: Gives the reference network and the target.
        timeout_s: Seconds after which the command and its children are killed.

    Raises:
        ConfigError: The template cannot be read, or {arch_json} is not its only field.
    """

    def __init__(self, template: str, space: SearchSpace, timeout_s: float = 600.0) -> None:
        if not (math.isfinite(timeout_s) and timeout_s > 0):
            raise ConfigError(f"{_OPTION}: the time-out is {timeout_s} s, it must be above 0")
        self.hardware = f"command: {' '.join(template.split())}"
        self._words = _split(template)
        self._space = space
        self._timeout_s = timeout_s
        self._reference_s: float | None = None

    @property
    def description(self) -> str:
        """The command."""
        return self.hardware

    def __call__(self, arch: Architecture) -> StepTime:
        """Time one network.

        Raises:
            InfeasibleError: The command failed, took too long or printed no step time.
            ConfigError: The command cannot be started or stopped, or fails for the reference
                network.
        """
        reference_s = self._time_reference()
        seconds = reference_s if arch == self._space.reference else self._time(arch)
        return StepTime(
            metrics={"step_time": seconds / reference_s, "step_time_s": seconds},
            source="command",
            hardware=self.hardware,
        )

    def _time_reference(self) -> float:
        if self._reference_s is None:
            try:
                self._reference_s = self._time(self._space.reference)
            except InfeasibleError as error:
                raise ConfigError(
                    f"{_OPTION}: the reference network has no step time: {error} "
                    f"({self.hardware}); the command must work for it"
                ) from None
        return self._reference_s

    def _time(self, arch: Architecture) -> float:
        """Return the seconds that the command gives."""
        target = self._space.target
        text = to_json(
            arch,
            image_size=target.image_size,
            batch_size=target.batch_size,
            num_classes=target.num_classes or 1000,
        )
        with tempfile.TemporaryDirectory(prefix="effnas-", ignore_cleanup_errors=True) as folder:
            file = Path(folder) / f"{arch.id}.json"
            file.write_text(text, encoding="utf-8")
            words = [word.format(**{_FIELD: str(file)}) for word in self._words]
            return _seconds(_run(words, folder, self._timeout_s))


def _split(template: str) -> list[str]:
    """Return the words of a command, each a format string whose only field is {arch_json}."""
    try:
        if "\0" in template:
            raise ValueError("no command holds a null")
        words = shlex.split(template)
        parsed = [part[1:] for word in words for part in string.Formatter().parse(word)]
    except ValueError as error:
        raise ConfigError(f"{_OPTION}: {template!r} cannot be read ({error})") from None
    fields = [field for field in parsed if field[0] is not None]
    for name, spec, conversion in fields:
        if (name, spec, conversion) != (_FIELD, "", None):
            raise ConfigError(
                f"{_OPTION}: {template!r} has the unknown field {{{name}}}; the only one is "
                f"{{{_FIELD}}}, written exactly like that, and other braces are doubled: {{{{ }}}}"
            )
    if not fields:
        raise ConfigError(
            f"{_OPTION}: {template!r} lacks {{{_FIELD}}}, the path of the file with the network "
            f"to time, such as: python time_on_board.py {{{_FIELD}}}"
        )
    return words


def _seconds(output: str) -> float:
    """Return the number of seconds in the last line that is not blank."""
    line = _last_line(output)
    if not line:
        raise InfeasibleError("the step-time command printed nothing")
    value: object = line
    if line.startswith("{"):
        with suppress(ValueError, RecursionError):
            value = json.loads(line).get("step_time_s", line)
    try:
        return positive_number(value)
    except ValueError as error:
        raise InfeasibleError(
            f"the step-time command printed {line[:_SHOWN]!r} at the end, which {error}"
        ) from None


def _run(words: list[str], folder: str, timeout_s: float) -> str:
    """Run the command; return the end of what it printed."""
    try:
        finished = run(words, folder, timeout_s)
    except subprocess.TimeoutExpired:
        raise InfeasibleError(f"the step-time command took longer than {timeout_s:g} s") from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigError(
            f"{_OPTION}: {words[0]!r} cannot be started ({reason}); give a program that is on the "
            "PATH, or its path"
        ) from None
    if finished.code:
        code = finished.code
        how = f"ended with exit code {code}" if code > 0 else f"was killed by signal {-code}"
        said = "".join(c if c.isprintable() else " " for c in _last_line(finished.errors))
        raise InfeasibleError(f"the step-time command {how}{': ' * bool(said)}{said[:200]}")
    return finished.output


def _last_line(text: str) -> str:
    """Return the last line that is not blank, or nothing."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
