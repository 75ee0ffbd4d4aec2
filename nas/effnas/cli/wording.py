"""How texts of the library look on a command line: settings become options."""

from __future__ import annotations

import re

#: The option of every setting that a command has, by the setting's name, as commands are declared.
OPTIONS: dict[str, str] = {}

_SETTING = re.compile(r"`([a-z][a-z0-9_]*)`")


def with_options(text: str) -> str:
    """Return a text of the library with its `settings` written as the --options of commands.

    What is in backticks and no option of any command, such as a command or code, stays as it is.
    """
    return _SETTING.sub(lambda match: OPTIONS.get(match[1], match[0]), text)
