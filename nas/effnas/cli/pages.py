"""Reports of finals, trainings and families, with the commands that may come next."""

from __future__ import annotations

from pathlib import Path

from effnas.cli.leaderboard import argument, pasted
from effnas.report.about_family import report_family
from effnas.report.about_finals import report_finals
from effnas.report.about_training import report_training
from effnas.report.parts import Page
from effnas.report.training_facts import TrainingFacts
from effnas.scaling.family_file import StoredFamily, read_family
from effnas.train.checkpoints import weights_file
from effnas.trials.reward import Reward
from effnas.workflows.finals.stored import StoredFinals, load_finals
from effnas.workflows.train.folder import BEST
from effnas.workflows.trainings.folder import WEIGHTS


def finals_page(path: Path, reward: Reward | None = None) -> Page:
    """Return the report of finals; `reward` is theirs where that is a Python function."""
    return report_finals(load_finals(path, reward), lambda finals: pasted(after_finals(finals)))


def training_page(path: Path) -> Page:
    """Return the report of a training."""
    return report_training(TrainingFacts.read(path), lambda facts: pasted(after_training(facts)))


def family_page(path: Path) -> Page:
    """Return the report of a family, by its folder or its file."""
    return report_family(read_family(path), lambda family: pasted(after_scaling(family)))


def after_finals(finals: StoredFinals) -> list[tuple[str, list[str]]]:
    """Return what to do after finals: why, and the words of a command."""
    base, place = finals.report.base, argument(finals.path)
    again = ["effnas", "resume", place]
    if not finals.manifest.finished:
        return [("Finish the finals first.", again)]
    if base is None:
        return [("See what went wrong.", ["effnas", "status", place])]
    trial = base.finalist.trial
    network = argument(f"{finals.run.path}:{trial.number}")
    weights = weights_file(finals.path / WEIGHTS, trial.architecture, base.middle_seed)
    family = argument(Path("families") / finals.run.path.resolve().name)
    found = [
        ("Export it, with the weights of the training of middle accuracy.",
         ["effnas", "export", network, "--weights", str(weights)]),
        ("Grow it to a family of sizes.", ["effnas", "scale", network, "--out", family]),
    ]  # fmt: skip
    if finals.report.test is None and finals.manifest.asked:
        found.insert(0, ("Read the test part of the data, once.", [*again, "--test"]))
    return found


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
