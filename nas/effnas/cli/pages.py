"""Reports of finals, trainings and families, with the commands that may come next."""

from __future__ import annotations

from pathlib import Path

from effnas.cli.finals import after_finals
from effnas.cli.leaderboard import argument, pasted
from effnas.report.about_family import report_family
from effnas.report.about_finals import report_finals
from effnas.report.about_training import report_training
from effnas.report.parts import Page
from effnas.report.training_facts import TrainingFacts
from effnas.scaling.family_file import StoredFamily, read_family
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


def after_training(facts: TrainingFacts) -> list[tuple[str, list[str]]]:
    """Return what to do after a training: why, and the words of a command."""
    asked = facts.manifest.asked
    again = ["effnas", "resume", argument(facts.path)]
    if not facts.is_finished:
        return [("Finish the training first.", again)] if asked else []
    found = []
    if facts.manifest.test is None and asked:
        found.append(("Read the test part of the data, once.", [*again, "--test"]))
    if blocks := facts.manifest.network.get("architecture"):
        network = str((asked.options.get("network") if asked else None) or blocks)
        weights = str(facts.path / BEST)
        found.append(("Export it, with the weights of its best epoch.",
                      ["effnas", "export", argument(network), "--weights", weights]))  # fmt: skip
    return found


def after_scaling(family: StoredFamily) -> list[tuple[str, list[str]]]:
    """Return what to do with a family: why, and the words of a command."""
    file = argument(family.file.with_name(f"{family.members[-1].name}.json"))
    return [
        ("Train the largest member; DATA stands for your images.",
         ["effnas", "train", file, "--data", "DATA", "--recipe", "family"]),
    ]  # fmt: skip
