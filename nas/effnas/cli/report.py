"""`effnas report`: a page about a folder, written to a file, and commands that end with one."""

from __future__ import annotations

import json
import webbrowser
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from effnas.cli.folders import read_folder
from effnas.cli.following import after_search, pasted
from effnas.cli.session import LongCommand, Result, Settings
from effnas.cli.tables import console, counted
from effnas.errors import StoreError
from effnas.report.facts import Facts
from effnas.report.page import REPORT, report_facts, report_search, to_html, write_tables
from effnas.report.parts import Page
from effnas.report.side_by_side import report_runs
from effnas.trials.run import load_run
from effnas.trials.store import write_whole

if TYPE_CHECKING:
    from effnas.search.search import Search


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
        screen.print(page.title)
        screen.print(f"\nWritten: {out}")
        if written:
            screen.print(f"Written: {counted(len(written), 'table')} in {tables}")
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


class SearchReportingCommand(ReportingCommand[Settings, Result]):
    """A reporting command that leaves a search in its folder."""

    _facts: Facts | None = None

    @abstractmethod
    def search(self, result: Result, /) -> Search:
        """Return the search."""

    def facts(self, result: Result) -> Facts:
        """Return the facts of the search: the models behind them are fitted once."""
        if self._facts is None:
            out: Path = getattr(self.settings, "out")  # noqa: B009  # as in `write_report`
            self._facts = Facts(load_run(out), self.search(result).reward)
        return self._facts

    def page(self, result: Result) -> Page:
        return report_facts(self.facts(result), next_commands)


def page_of(path: Path) -> Page:
    """Return the report of what a folder holds.

    Raises:
        StoreError: If there is none of that kind, or it cannot be read.
    """
    state = read_folder(path)
    if state.kind in ("search", "retargeted"):
        return report_search(load_run(path), commands=next_commands)
    from effnas.cli import pages  # imports torch

    makers = {
        "finals": pages.finals_page,
        "training": pages.training_page,
        "family": pages.family_page,
    }
    if make := makers.get(state.kind):
        return make(path)
    raise StoreError(
        f"{path}: there is no report of a {state.kind}; `effnas status {path}` shows it"
    )


def next_commands(facts: Facts) -> list[tuple[str, str]]:
    """Return what to do after a search: why, and a command that can be pasted."""
    return pasted(after_search(facts.run, facts.ranked))
