"""`effnas resume`, and what any command takes from the folder that it continues."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effnas.cli.folder_state import FolderState
from effnas.cli.folders import read_folder
from effnas.cli.following import code_of
from effnas.cli.tables import console, counted
from effnas.config.catalog import Source
from effnas.config.plugins import is_plugin
from effnas.errors import ConfigError, StoreError
from effnas.trials.manifest import CommandPart, Plain, SearchManifest
from effnas.trials.reward import Reward

if TYPE_CHECKING:
    import typer


#: Options that say how a command is called, and not what it does.
_NOT_STORED = ("out", "as_json")
#: Options of a command that hold for one time: the test part is read when that is said now.
_FOR_ONCE = {"promote": ("test",)}
#: Options of which one excludes the others.
_STEP_TIMES = ("profile", "step_times", "step_time_command")


def given_options(context: typer.Context) -> frozenset[str]:
    """Return the names of the options and arguments that stand on the command line."""
    sources = {
        str(p.name): context.get_parameter_source(str(p.name)) for p in context.command.params
    }
    return frozenset(n for n, source in sources.items() if source and source.name == "COMMANDLINE")


def continue_folder(
    folder: Path, name: str, values: dict[str, Any], context: typer.Context
) -> tuple[CommandPart, list[str]]:
    """Have a command continue what its folder holds: what was not given is as it was begun.

    Args:
        folder: The folder.
        name: Of the command, such as `proxy check`.
        values: Of its options, by name; they are changed.
        context: Of its command line.

    Returns:
        The command line, to be stored in the folder; and what continues and what changes, to be
        said once that is not refused.

    Raises:
        ConfigError: If the folder names code, which only runs if it is named again.
    """
    parameters = {str(each.name): each for each in context.command.params}
    given = given_options(context)
    state, stored = context.find_object(FolderState), None  # `resume` has read it
    with suppress(StoreError):  # the command says so when it opens the folder
        state = state if state and state.path == folder else read_folder(folder)
        stored = stored_command(state)
    kept: dict[str, Any] = {}
    changes: list[str] = []
    if state and stored and stored.name == name:
        once = _FOR_ONCE.get(name, ())
        kept = {n: v for n, v in stored.options.items()
                if n in parameters and n not in once and v is not None}  # fmt: skip
        for option in _replaced(given):
            kept.pop(option, None)
        _refuse_code(folder, kept)
        _refuse_pipes(folder, kept)
        for option, value in kept.items():
            parameter = parameters[option]
            is_joined = isinstance(value, str) and getattr(parameter, "multiple", False)
            values[option] = value if is_joined else parameter.process_value(context, value)
        changes = list(_changes(state, values, given))
    for option in given.difference(_NOT_STORED, _FOR_ONCE.get(name, ())):
        kept[option] = _plain(values[option])
    return CommandPart(name=name, options=dict(sorted(kept.items()))), changes


def resume(program: Any, folder: Path, more: Sequence[str], *, as_json: bool) -> int:
    """Continue what a folder holds; return the exit code.

    Args:
        program: The group of all commands.
        folder: The folder.
        more: Further options of the command that began it.
        as_json: Whether the command prints JSON.

    Raises:
        StoreError: If there is nothing to continue, or the folder does not say how.
    """
    state = read_folder(folder)
    if state.kind in ("family", "profile"):
        raise StoreError(f"{folder}: it holds a {state.kind}, which is never half done")
    screen = console(stderr=as_json)
    if state.state == "running":
        raise StoreError(f"{folder}: another command is writing there; wait for it, or stop it")
    stored = stored_command(state)
    if nothing := _nothing_left(state, stored, more):
        screen.print(nothing)
        return 0
    if stored is None:
        raise StoreError(
            f"{folder}: an earlier version began it and did not store its options; give "
            f"{state.continued_by or 'the same command as before'}, with `out` {folder}"
        )
    command = program
    for word in stored.name.split():
        command = getattr(command, "commands", {}).get(word)
    if command is None:
        raise StoreError(f"{folder}: its manifest names an unknown command, {stored.name[:40]}")
    places = [p.name for p in command.params if p.param_type_name == "argument"]
    words = [str(stored.options.get(place, "")) for place in places]
    given = ["--out", str(folder), *(["--json"] if as_json else []), *more]
    args, called = [*given, "--", *words], f"effnas {stored.name}"
    code = command.main(args=args, prog_name=called, standalone_mode=False, obj=state)
    return int(code or 0)


def stored_command(state: FolderState) -> CommandPart | None:
    """Return the command line behind a folder; of a search, all that its manifest says.

    None if the folder is of an earlier version, whose manifest says too little.
    """
    if state.kind != "search" or (state.command and state.command.name != "search"):
        return state.command
    manifest = SearchManifest.read(state.path)
    if manifest.asked:
        found = dict(manifest.asked.options)
    else:
        found = {name: manifest.device.get(name) for name in ("device", "threads")}
    data = manifest.data
    found.setdefault("space", manifest.space.name)
    found |= {
        "budget": manifest.budget,
        "seed": manifest.seed,
        "controller": (manifest.controller or "").partition(" (sha256 ")[0],
        "reward": manifest.reward.text.partition(" (sha256 ")[0],
        "objectives": manifest.objectives,
        "constraint": manifest.constraints,
        "fidelity": manifest.rungs_text,
        "data": data.path or data.name,
        "data_root": data.root,
        "on_bad_image": data.on_bad_image,
    }
    return CommandPart(name="search", options=found)


def stored_search(
    folder: Path, given: Collection[str]
) -> tuple[SearchManifest | None, dict[str, Any]]:
    """Return what a search takes from its folder and not by name: the files may have changed.

    Returns:
        Its manifest, if there is one; space and reward as settings, as far as not given.

    Raises:
        StoreError: If the folder holds something else.
    """
    stored = SearchManifest.stored(folder)
    if stored is None:
        return None, {}
    found: dict[str, Any] = {}
    if "space" not in given:
        space = stored.space
        found["space"] = Source(space.name, Path(space.path), space.text, space.file_sha256, "path")
    if "reward" not in given and stored.reward.kind == "expression":
        found["reward"] = replace(Reward.read(stored.reward.text), name=stored.reward.name)
    return stored, found


def _replaced(given: Collection[str]) -> set[str]:
    """Return the options whose stored values those given take the place of."""
    of_steps = {"step_time", *_STEP_TIMES}
    return {*given, *(of_steps if of_steps.intersection(given) else ())}


def _refuse_code(folder: Path, options: Mapping[str, Any]) -> None:
    for name, text in code_of(options).items():
        raise ConfigError(
            f"{folder}: its {name.replace('_', ' ')} is code, {text!r}; name it again as `{name}`, "
            "since no code is run because a file says so"
        )


def _refuse_pipes(folder: Path, options: Mapping[str, Any]) -> None:
    """Refuse what has no end: to open a pipe is to wait for whoever opens its other end."""
    for name, value in options.items():
        try:
            mode = Path(str(value)).stat().st_mode
        except (OSError, ValueError):  # no path, or one where nothing is
            continue
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise ConfigError(
                f"{folder}: its {name.replace('_', ' ')} {value} is no file; name it as `{name}`"
            )


def _nothing_left(state: FolderState, stored: CommandPart | None, more: Sequence[str]) -> str:
    """Return why nothing is left to do; nothing if there is."""
    budget = int(more[1]) if len(more) == 2 and more[0] == "--budget" else None
    if more and budget is None:
        return ""
    if state.kind != "search":
        if state.state != "finished" or budget is not None:
            return ""
        if state.kind == "retargeted":
            return (
                f"{state.path} is finished, with step times of {state.done} of {state.total} "
                "trials; --timings, --budget or another --reward continue it"
            )
        return state.all_done_text
    # The best of a search with predicted step times are measured at its end.
    options = stored.options if stored else {}
    is_predicted = options.get("profile") and options.get("step_time") != "predicted"
    total = state.total or 0
    if is_predicted or not state.is_settled or state.done < (total if budget is None else budget):
        return ""
    if state.done < total:
        return (
            f"{counted(state.done, 'trial')} of {state.path} are done already, so a budget of "
            f"{budget:,} leaves nothing to do; without --budget, it goes on to {total:,}"
        )
    return (
        f"{state.all_done_text}; --budget {max(2 * state.done, 1)} "
        f"extends it, and `effnas status {state.path}` shows it"
    )


def _changes(
    state: FolderState, values: Mapping[str, Any], given: Collection[str]
) -> Iterator[str]:
    """Return what continues, and what is no longer as it was."""
    yield f"continues {state.path}: {state.what}, {state.count_text}"
    if state.kind != "search":
        return
    stored = SearchManifest.read(state.path)
    budget, reward = values["budget"], values["reward"]
    if "budget" in given and budget != stored.budget:
        yield f"budget changes from {stored.budget} to {budget}"
    if "reward" in given:
        text = reward if is_plugin(reward.strip()) else Reward.read(reward).text
        if text != stored.reward.text.partition(" (sha256 ")[0]:
            yield (
                f"reward changes from {stored.reward.name} to {reward}, and scores "
                f"{counted(state.done, 'trial')} again"
            )


def _plain(value: Any) -> Plain | tuple[Plain, ...]:
    """Return the value of an option as it is stored; paths are absolute."""
    if isinstance(value, (list, tuple)):
        return tuple(_plain(each) for each in value)  # type: ignore[misc]
    if isinstance(value, Path):
        return str(value.absolute())
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, str):
        # RUN:best, too; a bare name may be one that effnas knows.
        place, colon, rest = value.rpartition(":")
        place, rest = (place, rest) if colon else (value, "")
        is_path = (os.sep in place or colon) and os.path.exists(place)  # noqa: PTH110 - no errors
        return f"{Path(place).absolute()}{colon}{rest}" if is_path else value
    return value  # type: ignore[no-any-return]
