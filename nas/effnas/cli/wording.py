"""How texts of the library look on a command line: settings become options."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

_SETTING = re.compile(r"`([a-z]+(?:_[a-z]+)*)`")


def with_options(text: str) -> str:
    """Return a text of the library with its `settings` written as the --options of commands."""
    options = _options()
    return _SETTING.sub(lambda match: options.get(match[1], match[0]), text)


@cache
def _options() -> dict[str, str]:
    """Return the option of every parameter that any command has, by the parameter's name."""
    import typer
    from typer.core import TyperOption

    from effnas.cli.app import app

    found: dict[str, str] = {}
    commands: list[Any] = [typer.main.get_command(app)]  # click's, or those of typer's own copy
    while commands:
        command = commands.pop()
        commands += getattr(command, "commands", {}).values()
        options = (each for each in command.params if isinstance(each, TyperOption))
        found |= {str(each.name): each.opts[0] for each in options}
    return found
