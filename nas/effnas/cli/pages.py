"""Reports of finals, trainings and families, with the commands that may come next."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from effnas.cli.finals import after_finals
from effnas.cli.following import Command, again, argument, data_options, longer, pasted
from effnas.errors import UserError
from effnas.report.about_family import report_family
from effnas.report.about_finals import report_finals
from effnas.report.about_training import report_training
from effnas.report.parts import Page
from effnas.report.training_facts import TrainingFacts
from effnas.scaling.family_file import StoredFamily, read_family
from effnas.trials.network_ref import NetworkRef, find_network
from effnas.trials.store import as_typed
from effnas.workflows.finals.stored import load_finals
from effnas.workflows.train.folder import BEST


def finals_page(path: Path) -> Page:
    """Return the report of finals."""
    return report_finals(load_finals(path), lambda finals: pasted(after_finals(finals)))


def training_page(path: Path) -> Page:
    """Return the report of a training."""
    return report_training(TrainingFacts.read(path), lambda facts: pasted(after_training(facts)))


def family_page(path: Path) -> Page:
    """Return the report of a family, by its folder or its file."""
    return report_family(read_family(path), lambda family: pasted(after_scaling(family)))


def after_training(facts: TrainingFacts) -> list[Command]:
    """Return what to do after a training."""
    asked, data = facts.manifest.asked, facts.manifest.data
    resumed = ["effnas", "resume", argument(facts.path)]
    if not facts.is_finished:
        return [("Finish the training first.", resumed)] if asked else []
    measured = facts.test or facts.held_out
    if asked and measured and measured.beats_guessing is False:
        changed = longer(facts.manifest.recipe, facts.path)
        return [("It does not beat guessing: train it longer.", again(asked, changed))]
    found: list[Command] = []
    if asked and facts.manifest.test is None and data.test_part:
        found.append((f"Read the test part of the data, {data.test_part!r}, once.",
                      [*resumed, "--test"]))  # fmt: skip
    if network := _trained_network(facts):
        found.append(("Export it, with the weights of its best epoch.",
                      ["effnas", "export", argument(network), "--weights",
                       str(facts.path / BEST)]))  # fmt: skip
    return found


def _trained_network(facts: TrainingFacts) -> str:
    """Return a name of a training's network that `effnas export` takes; nothing without one."""
    stored, asked = facts.manifest.network, facts.manifest.asked
    named = asked.options.get("network") if asked else None
    for text in (named, stored.get("architecture")):
        found = _find(str(text or ""), stored.get("architecture_id"))
        if found:
            if found.run and found.trial:
                return f"{as_typed(found.run.path)}:{found.trial.number}"
            return str(as_typed(Path(found.name)))
    return ""


def after_scaling(family: StoredFamily) -> list[Command]:
    """Return what to do with a family."""
    largest, base = family.members[-1], family.members[0]
    found = _find(base.base, base.architecture_id)
    file = argument(family.file.with_name(f"{largest.name}.json"))
    words = ["effnas", "train", file, *data_options(found.run if found else None)]
    return [("Train the largest member.", [*words, "--recipe", "family"])]


def _find(text: str, architecture_id: object) -> NetworkRef | None:
    """Return the network that a text means, if it is still that one."""
    with suppress(UserError, OSError):
        found = find_network(text, None)
        return found if found.arch and found.arch.id == architecture_id else None
    return None
