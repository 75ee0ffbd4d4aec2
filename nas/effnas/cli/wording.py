"""How texts look on a command line: settings become options, and what guessing gives."""

from __future__ import annotations

import re

from effnas.trials.guessing import WHAT_HELPS, Guessing

#: The option of every setting that a command has, by the setting's name, as commands are declared.
OPTIONS: dict[str, str] = {}

_SETTING = re.compile(r"`([a-z][a-z0-9_]*)`")


def guessing_text(guessing: Guessing, part: str = "held-out") -> str:
    """Return what guessing reaches on the images of a part; nothing where that is not known."""
    if guessing.chance is None or guessing.classes is None:
        return ""
    classes = f"{guessing.classes:,} class{'es' * (guessing.classes != 1)}"
    text = f"Chance is {guessing.chance:.4f} ({classes}); the largest class is "
    if guessing.largest is None:
        return f"{text}not known."
    return f"{text}{guessing.largest:.4f} of the {part} images."


def hardly_beats_guessing(part: str) -> str:
    """Return that the accuracy of one network on the images of a part says nothing."""
    return (
        f"on the {part} images the network is not clearly more accurate than guessing; what "
        f"helps: {WHAT_HELPS}."
    )


def with_options(text: str) -> str:
    """Return a text of the library with its `settings` written as the --options of commands.

    What is in backticks and no option of any command, such as a command or code, stays as it is.
    """
    return _SETTING.sub(lambda match: OPTIONS.get(match[1], match[0]), text)
