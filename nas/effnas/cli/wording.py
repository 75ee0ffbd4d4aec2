"""How texts look on a command line: settings become options, and what guessing gives."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from effnas.config.text import counted
from effnas.trials.guessing import WHAT_HELPS, Guessing

if TYPE_CHECKING:
    from effnas.trials.uncertainty import Noise

#: The option of every setting that a command has, by the setting's name, as commands are declared.
OPTIONS: dict[str, str] = {}

_SETTING = re.compile(r"`([a-z][a-z0-9_]*)`")


def error_text(noise: Noise, whose: str) -> str:
    """Return what the standard errors of accuracies mean; nothing where none are known.

    Args:
        noise: What they follow from.
        whose: The networks that tell the spread over seeds, such as `the baselines'`.
    """
    if not noise.holdout_images:
        return ""
    text = f"accuracy: ± its standard error, from {noise.holdout_images:,} held-out images"
    if noise.seed_spread is None:
        return f"{text}; the spread over seeds is not known"
    return f"{text} and {whose} spread over seeds, {noise.seed_spread:.3f}"


def guessing_text(guessing: Guessing, part: str = "held-out") -> str:
    """Return what guessing reaches on the images of a part; nothing where that is not known."""
    if guessing.chance is None or guessing.classes is None:
        return ""
    classes = counted(guessing.classes, "class", "classes")
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
