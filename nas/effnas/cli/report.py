"""`effnas report`: a page about a run, written to a file."""

from __future__ import annotations

import json
import shlex
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from effnas.cli.leaderboard import after_search
from effnas.cli.tables import console
from effnas.errors import StoreError
from effnas.report.facts import Facts
from effnas.report.page import REPORT, report_search, to_html, write_tables
from effnas.report.parts import Page
from effnas.report.side_by_side import report_runs
from effnas.trials.run import Run, load_run
from effnas.trials.store import write_whole

if TYPE_CHECKING:
    from effnas.cli.session import LongCommand
    from effnas.search.launch import Settings
    from effnas.search.search import Search
    from effnas.trials.reward import Reward


def show_report(
    paths: Sequence[Path], *, out: Path | None, tables: Path | None, opens: bool, as_json: bool
) -> None:
    """Write the report of one run, or of several side by side, and say where it is.

    Raises:
        StoreError: If a run cannot be read, or the report cannot be written.
    """
    runs = [load_run(path) for path in dict.fromkeys(paths)]
    page = _page(runs[0]) if len(runs) == 1 else report_runs(runs)
    out = out or (paths[0] / REPORT if len(runs) == 1 else Path(REPORT))
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


def write_report(command: LongCommand[Settings, Search], search: Search) -> bool:
    """Write the report of a search that has just ended into its folder; return whether it is there.

    A report that fails is no failure of the search.
    """
    out = command.settings.out / REPORT
    try:
        write_whole(out, to_html(_page(load_run(command.settings.out), search.reward)))
    except Exception as error:  # noqa: BLE001  # whatever it is, the search has its results
        command.note(f"the report was not written ({type(error).__name__}: {error})")
        return False
    return True


def _page(run: Run, reward: Reward | None = None) -> Page:
    return report_search(run, reward, next_commands)


def next_commands(facts: Facts) -> list[tuple[str, str]]:
    """Return what to do after a search: why, and a command that can be pasted."""
    found = after_search(facts.run, facts.reward, equals=1 + len(facts.rivals))
    return [(why, shlex.join(words)) for why, words in found]
