"""Declaring commands: a command is a class, whose attributes are its options."""

from __future__ import annotations

import inspect
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

import typer
from typer.models import OptionInfo, ParameterInfo

from effnas.cli.signals import run_until_stopped
from effnas.cli.usage import UsageCommand
from effnas.cli.wording import OPTIONS

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from effnas.cli.session import LongCommand
    from effnas.config.catalog import Kind
    from effnas.trials.manifest import CommandPart

    Settings = TypeVar("Settings", bound=DataclassInstance)

_KEYWORD = inspect.Parameter.KEYWORD_ONLY

Command = TypeVar("Command", bound="type[Options]")


def arg(
    text: str, metavar: str | None = None, *, default: Any = ..., of: Kind | None = None
) -> Any:
    """Return an argument, which must be given unless there is a default; see `opt`."""
    return typer.Argument(
        default, help=text, metavar=metavar, autocompletion=of and _completion(of)
    )


def opt(
    text: str, default: Any = None, name: str = "", *, of: Kind | None = None, **more: Any
) -> Any:
    """Return an option.

    Args:
        text: Its help.
        default: Its value when it is not given; `...` if it must be given.
        name: Its name, where that is not the attribute's with dashes.
        of: The files that it names one of, for completion.
        more: Further arguments of `typer.Option`.
    """
    names = (name,) if name else ()
    return typer.Option(default, *names, help=text, autocompletion=of and _completion(of), **more)


class ListOption(OptionInfo):
    """An option of several values, with commas or each in an option of its own."""


def opt_list(text: str, default: str | None = None) -> Any:
    """Return an option whose value is a text with commas; given again, it adds to that.

    Without this kind, the last of several would hold, and the others be lost in silence.
    """
    return ListOption(
        default=None if default is None else [default], help=text, metavar="<str,...>"
    )


def _completion(kind: Kind) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        from effnas.config.catalog import names

        return [name for name in names(kind) if name.startswith(incomplete)]

    return complete


class Options(ABC):
    """Options of a command; groups of them derive from it, and a command derives from groups."""

    as_json: bool = opt("Print JSON instead of a table.", False, "--json")

    def __init__(self, **values: Any) -> None:
        #: Names of the options that the command line gave; others may be those of the folder.
        self.given: frozenset[str] = frozenset()
        #: The command line, to be stored in the folder.
        self.asked: CommandPart | None = None
        #: What it continues, and what changes there.
        self.changes: Sequence[str] = ()
        vars(self).update(values)

    def folder(self) -> Path | None:
        """Return the folder that the command writes, or continues; None without one."""
        return None

    def check(self) -> None:  # noqa: B027  # most have nothing to refuse
        """Refuse what can be refused at once: `run` may import what takes seconds.

        Raises:
            UserError: If something given is wrong.
        """

    @abstractmethod
    def run(self) -> int | None:
        """Do what the command does; return its exit code, None for 0."""

    def start(self, command: LongCommand[Any, Any]) -> int:
        """Run a command that says what it continues; return its exit code."""
        command.changes = self.changes
        return command.run()

    def fill(self, kind: type[Settings], **given: Any) -> Settings:
        """Return settings of the library: those given, and the options of the same names.

        Where a group has a method `load_NAME`, that makes the setting of the option.
        """
        for name in {each.name for each in fields(kind) if each.init} - given.keys():
            if name in vars(self):
                load = getattr(self, f"load_{name}", None)
                given[name] = load() if load else getattr(self, name)
        return kind(**given)


def command(
    app: typer.Typer,
    name: str,
    *examples: str,
    continues: bool = False,
    runs_networks: bool = False,
    passes_on: bool = False,
) -> Callable[[Command], Command]:
    """Make a class a command of an app; its docstring is the help.

    Args:
        app: The command is added to it.
        name: Of the command.
        examples: Arguments of the command that the help shows.
        continues: Whether the help says that the command can be stopped and continued.
        runs_networks: Whether it runs networks in this process, which is set up for that.
        passes_on: Whether it takes options that it does not know as arguments.
    """
    called = f"{app.info.name or 'effnas'} {name}"
    shown = "".join(f"\n  {called} {example}" for example in examples)
    more = "\n\nCtrl-C stops it; `effnas resume FOLDER` or the same command continues." * continues
    # \b: typer leaves the lines of the paragraph that follows as they are.
    more += f"\n\n\b\nExample{'s' * (len(examples) > 1)}:{shown}"

    def register(kind: Command) -> Command:
        def run(context: typer.Context, **values: Any) -> None:
            if runs_networks:
                from effnas.timing.runtime import configure_process

                configure_process()
            joined = {name: ",".join(values[name]) for name in lists if values[name]}
            options = kind(**values | dict.fromkeys(lists) | joined)
            if folder := options.folder():
                from effnas.cli.resume import continue_folder, given_options

                options.given, of = given_options(context), called.removeprefix("effnas ")
                found = continue_folder(folder, of, vars(options), context)
                options.asked, options.changes = found
            options.check()
            raise typer.Exit(run_until_stopped(options.run))

        parameters = _parameters(kind)
        lists = [each.name for each in parameters if isinstance(each.default, ListOption)]
        run.__doc__ = f"{inspect.getdoc(kind)}{more}"
        context = inspect.Parameter("context", _KEYWORD, annotation=typer.Context)
        run.__signature__ = inspect.Signature([context, *parameters])  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in (context, *parameters)}
        settings = {"ignore_unknown_options": passes_on}
        app.command(name, cls=UsageCommand, context_settings=settings)(run)
        return kind

    return register


def _parameters(command: type) -> list[inspect.Parameter]:
    """Return the options of a command as parameters: its own, then those of its groups."""
    found: dict[str, inspect.Parameter] = {}
    types = get_type_hints(command)
    for name in (name for each in command.__mro__ for name in vars(each)):
        option = getattr(command, name)
        if isinstance(option, ParameterInfo) and name not in found:
            kind = list[str] | None if isinstance(option, ListOption) else types[name]
            if one := re.fullmatch(r"list\[(\w+)\]( \| None)?", str(kind)):
                option.metavar = option.metavar or f"<{one[1]}>"
            found[name] = inspect.Parameter(name, _KEYWORD, default=option, annotation=kind)
            if isinstance(option, OptionInfo):
                first = (*(option.param_decls or ()), f"--{name.replace('_', '-')}")[0]
                OPTIONS[name] = first.partition("/")[0]
    return list(found.values())
