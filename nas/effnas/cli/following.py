"""What may come next: commands that can be pasted, and those after a search."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from effnas.cli.folder_state import is_running
from effnas.cli.wording import OPTIONS
from effnas.config.plugins import is_plugin
from effnas.config.recipe import Recipe
from effnas.config.text import seconds_text
from effnas.controllers.registry import is_own_controller
from effnas.report.parts import UNKNOWN_DATA, duration
from effnas.trials.front_standing import FrontStanding
from effnas.trials.learning_curve import best_after
from effnas.trials.manifest import CommandPart, Plain
from effnas.trials.run import Run
from effnas.trials.store import as_typed
from effnas.trials.uncertainty import Ranking

#: Why, and the words of a command.
Command = tuple[str, list[str]]

#: Networks that finals train at least and at most.
_FINALISTS = (3, 8)
#: Where trainings taught nothing, the next ones are so much longer.
LONGER = 4
#: Times the images that are held out next, where differences do not show.
_MORE_HELD_OUT = 2
#: Most of a data set that is worth holding out.
_MOST_HELD_OUT = 0.5
#: What is an argument of its command, and no option.
_ARGUMENTS = ("network", "search", "base")


def after_search(run: Run, ranking: Ranking | None = None) -> list[Command]:
    """Return what to do after a search.

    Args:
        run: The search.
        ranking: Of its trials, where that is known already.
    """
    folder = argument(run.path)
    if run.best is None:
        return [("See how far it is, and what went wrong.", ["effnas", "status", folder])]
    ranking = ranking or run.ranking(run.known_reward)
    left = run.manifest.budget - sum(t.state.is_finished for t in run.trials)
    found: list[Command] = []
    if left > 0 and (asked := run.manifest.asked):
        found = [("Finish the search first.", ["effnas", "resume", folder, *code_options(asked)])]
    front = FrontStanding(run, run.objectives) if run.objectives else None
    if front.learned_nothing if front else run.learned_nothing(ranking):
        return [*found, *_after_guessing(run)][:3]
    equals = len(ranking.best_set)
    top = min(max(equals, _FINALISTS[0]), _FINALISTS[1], len(run.trials.ranked()))
    best, which = "best", "the best trial to the end"
    time_s = run.manifest.winner_time_s
    after = best_after(run, time_s) if time_s else None
    if time_s and after and after.is_other:
        which = (f"trial {after.chosen.trial.number}, which learning curves predict to be the best "
                 f"after {duration(time_s)}")  # fmt: skip
    if front and front.front:
        first = front.objectives[0].metric.replace("_", " ")
        best = str(front.front[0].number)
        which = f"trial {best}, the best of the Pareto front in {first}, to the end"
    network = argument(f"{run.path}:{best}")
    family = argument(Path("families") / run.path.resolve().name)
    found += [
        (
            "Find out which of the best is best: train them longer, with several seeds.",
            ["effnas", "promote", folder, "--top", str(top), *_reward_option(run)],
        ),
        (f"Train {which}.", ["effnas", "train", network, *data_options(run)]),
        (
            "Grow it to a family of sizes.",
            ["effnas", "scale", network, "--family", "v2", "--out", family],
        ),
    ]
    return found[:3]


def _after_guessing(run: Run) -> list[Command]:
    """Return what to do after a search whose networks are not clearly better than guessing."""
    asked, recipe = run.manifest.asked, run.manifest.recipe
    found: list[Command] = []
    if asked and asked.name == "search" and recipe:
        data = run.manifest.data.path or run.manifest.data.name
        changed: dict[str, Plain] = {"data": data, **longer(recipe, run.path)}
        by_time = recipe.train_time_s is not None
        if run.manifest.rungs:
            unit = "s" if by_time else ""
            changed["fidelity"] = ",".join(f"{LONGER * at}{unit}" for at in run.manifest.rungs)
        elif by_time:
            changed["fidelity"] = "none"  # else trials would be made short
        found.append(("No network beats guessing yet: search again with longer trainings.",
                      again(asked, changed)))  # fmt: skip
        share = min(_MORE_HELD_OUT * recipe.holdout_share, _MOST_HELD_OUT)
        changed = {"data": data, "holdout_share": share, "out": f"{run.path}-holdout-{share:g}"}
        found.append(("Or hold more images out, so that smaller differences show.",
                      again(asked, changed)))  # fmt: skip
    space = (asked.options.get("space") if asked else None) or run.manifest.space.name
    words = ["effnas", "proxy", "search", "--space", str(space), *data_options(run)]
    return [*found, ("Or find out which trainings tell networks apart.", words)]


def longer(recipe: Recipe, folder: Path) -> dict[str, Plain]:
    """Return the options of trainings that last longer than those of a folder, in another one."""
    if recipe.train_time_s is not None:
        time = seconds_text(LONGER * recipe.train_time_s)
        return {"train_time": time, "out": f"{folder}-{time}"}
    epochs = LONGER * recipe.epochs
    return {"epochs": epochs, "out": f"{folder}-{epochs:g}-epochs"}


def data_options(run: Run | None) -> list[str]:
    """Return the options that mean a run's images; where none are known, `DATA` stands for them."""
    data = run.manifest.data if run else None
    where = (data.path or data.name) if data else None
    root = ["--data-root", argument(data.root)] if data and data.root else []
    return ["--data", argument(where or UNKNOWN_DATA), *root]


def code_options(asked: CommandPart) -> list[str]:
    """Return the options of a command line that name code, which a folder alone never runs."""
    return [word for name, text in code_of(asked.options).items() for word in (_option(name), text)]


def code_of(options: Mapping[str, Any]) -> dict[str, str]:
    """Return the options that name code, and what they name."""
    command, reward, controller = (
        str(options.get(name) or "") for name in ("step_time_command", "reward", "controller")
    )
    found = {
        "step_time_command": command,
        "reward": reward if is_plugin(reward.strip()) else "",
        "controller": controller if is_own_controller(controller) else "",
    }
    return {name: text for name, text in found.items() if text}


def _reward_option(run: Run) -> list[str]:
    """Return the option for a reward that is a Python function: no folder alone runs it."""
    reward = run.manifest.reward
    return (
        [] if reward.kind == "expression" else ["--reward", reward.text.partition(" (sha256 ")[0]]
    )


def again(asked: CommandPart, changed: Mapping[str, Plain]) -> list[str]:
    """Return the words of a command line, with other values of some of its options."""
    options = {**asked.options, **changed}
    words = ["effnas", *asked.name.split()]
    words += [argument(as_typed(Path(str(options[name])))) for name in _ARGUMENTS
              if options.get(name)]  # fmt: skip
    for name, value in options.items():
        if name in _ARGUMENTS or value is None:
            continue
        if isinstance(value, bool):
            words.append(_option(name) if value else f"--no-{name.replace('_', '-')}")
            continue
        for each in value if isinstance(value, (tuple, list)) else (value,):
            words += [_option(name), argument(each)]
    return words


def _option(name: str) -> str:
    return OPTIONS.get(name, f"--{name.replace('_', '-')}")


def pasted(commands: Sequence[tuple[str, Sequence[str]]]) -> list[tuple[str, str]]:
    """Return what to do, and commands as lines for a shell in place of their words."""
    return [(why, shlex.join(words)) for why, words in commands if can_run(words)]


def can_run(words: Sequence[str]) -> bool:
    """Return whether a command can run now: none continues a folder where another one writes."""
    return list(words[:2]) != ["effnas", "resume"] or not is_running(Path(words[2]))


def argument(value: object) -> str:
    """Return an argument of a command that is never taken for an option."""
    text = str(value)
    return f"./{text}" if text.startswith("-") else text
