"""How commands are called: the line that shows it, and what is wrong with a call, in one line."""

from __future__ import annotations

import re
from typing import Any

from typer.core import TyperCommand

#: What typer says of a value, and how everything else here says it.
_VALUES = (
    (r"Input should be greater than or equal to (.+)", r"it must be \1 or more"),
    (r"Input should be a valid integer.*", "a whole number is needed"),
    (r"Input should be a valid number.*", "a number is needed"),
    (r"Value error, (.*?)\.?", r"\1"),
)


class UsageCommand(TyperCommand):
    """A command whose usage names what must be given without braces."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the parts of the usage line."""
        return [re.sub(r"^{(.*)}", r"\1", piece) for piece in super().collect_usage_pieces(ctx)]


def usage_text(error: Exception) -> str:
    """Return what typer finds wrong with how a command is called; nothing for another error.

    It is one line, or the help of a group of commands that was called without one.
    """
    message = getattr(error, "format_message", None)
    if message is None:
        return ""
    text, context = str(message()), getattr(error, "ctx", None)
    if text.startswith("Usage:"):
        return text
    if wrong := re.fullmatch(r"Invalid value for (.+?): (.*)", text, re.DOTALL):
        name, value = wrong.groups()
        for pattern, words in _VALUES:
            value = re.sub(f"^{pattern}$", words, value)
        text = f"{name.strip(chr(39))}: {value}"
    text = " ".join(text.removesuffix(".").split()).replace(". Did you", "; did you")
    help_text = f"`{context.command_path} --help` shows how" if context else ""
    between = " " if text.endswith("?") else "; " if help_text else ""
    return f"effnas: error: {text[0].lower()}{text[1:]}{between}{help_text}"
