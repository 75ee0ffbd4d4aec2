"""`effnas report`: a page about a folder, written to a file, and commands that end with one."""

from __future__ import annotations

import json
import shlex
import webbrowser
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path

from effnas.cli.folders import read_folder
from effnas.cli.leaderboard import after_search, argument
from effnas.cli.session import LongCommand, Result, Settings
from effnas.cli.tables import console
from effnas.errors import StoreError
from effnas.report.about_family import report_family
from effnas.report.about_finals import report_finals
from effnas.report.about_training import report_training
from effnas.report.facts import Facts
from effnas.report.page import REPORT, report_search, to_html, write_tables
from effnas.report.parts import Page
from effnas.report.side_by_side import report_runs
from effnas.report.training_facts import TrainingFacts
from effnas.scaling.family_file import StoredFamily, read_family
from effnas.train.checkpoints import weights_file
from effnas.trials.reward import Reward
from effnas.trials.run import load_run
from effnas.trials.store import write_whole
from effnas.workflows.finals.stored import StoredFinals, load_finals
from effnas.workflows.train.folder import BEST
from effnas.workflows.trainings.folder import WEIGHTS


def show_report(
    paths: Sequence[Path], *, out: Path | None, tables: Path | None, opens: bool, as_json: bool
) -> None:
    """Write the report of one folder, or of several searches side by side, and say where it is.

    Raises:
        StoreError: If a folder cannot be read, or the report cannot be written.
    """
    paths = list(dict.fromkeys(paths))
    if len(paths) == 1:
        page = page_of(paths[0])
        folder = paths[0] if paths[0].is_dir() else paths[0].parent
        out = out or folder / REPORT
    else:
        page = report_runs([load_run(path) for path in paths])
        out = out or Path(REPORT)
    write_whole(out, to_html(page))
    written = []
    if tables:
        try:
            written = write_tables(page, tables)
        except OSError as error:
            raise StoreError(
                f"{tables}: cannot be written ({error.strerror}); give another `tables`"
            ) from None
    if as_json:
        found = {
            "report": str(out),
            "title": page.title,
            "sections": [
                {"name": s.name, "question": s.question, "answer": s.answer, "sure": s.sure}
                for s in page.sections
            ],
            "tables": {table.name: table.records() for table in page.tables},
        }
        print(json.dumps(found, indent=2))
    else:
        screen = console()
        screen.print(page.title, markup=False)
        screen.print(f"\nWritten: {out}", markup=False)
        if written:
            screen.print(f"Written: {len(written)} tables in {tables}", markup=False)
    if opens:
        webbrowser.open(out.resolve().as_uri())


class ReportingCommand(LongCommand[Settings, Result]):
    """A long command whose `work` ends with a report in its folder.

    Attributes:
        writes_report: Whether it does.
        has_report: Whether it has been written.
    """

    writes_report = True
    has_report = False

    @abstractmethod
    def page(self, result: Result, /) -> Page:
        """Return the report."""

    def write_report(self, result: Result) -> None:
        """Write the report if it is wanted; one that fails is no failure of the command."""
        if not self.writes_report:
            return
        self.preparing("writing the report")
        out: Path = getattr(self.settings, "out")  # noqa: B009  # settings of any such command
        try:
            write_whole(out / REPORT, to_html(self.page(result)))
        except Exception as error:  # noqa: BLE001  # whatever it is, the results are stored
            self.note(f"the report was not written ({type(error).__name__}: {error})")
        else:
            self.has_report = True

    def say_report(self) -> None:
        """Say where the report is, if it is."""
        if self.has_report:
            self.say(f"Report: {getattr(self.settings, 'out') / REPORT}")  # noqa: B009


def page_of(path: Path) -> Page:
    """Return the report of what a folder holds.

    Raises:
        StoreError: If there is none of that kind, or it cannot be read.
    """
    state = read_folder(path)
    if state.kind in ("search", "retargeted"):
        return report_search(load_run(path), commands=next_commands)
    if state.kind == "finals":
        return finals_page(path)
    if state.kind == "training":
        return training_page(path)
    if state.kind == "family":
        return report_family(read_family(path), lambda family: _pasted(after_scaling(family)))
    raise StoreError(
        f"{path}: there is no report of a {state.kind}; `effnas status {path}` shows it"
    )


def finals_page(path: Path, reward: Reward | None = None) -> Page:
    """Return the report of finals; `reward` is theirs where that is a Python function."""
    return report_finals(load_finals(path, reward), lambda finals: _pasted(after_finals(finals)))


def training_page(path: Path) -> Page:
    """Return the report of a training."""
    return report_training(TrainingFacts.read(path), lambda facts: _pasted(after_training(facts)))


def next_commands(facts: Facts) -> list[tuple[str, str]]:
    """Return what to do after a search: why, and a command that can be pasted."""
    return _pasted(after_search(facts.run, facts.reward, equals=1 + len(facts.rivals)))


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


def _pasted(commands: Sequence[tuple[str, Sequence[str]]]) -> list[tuple[str, str]]:
    return [(why, shlex.join(words)) for why, words in commands]
