"""A report as one HTML file that needs nothing else: no network, no server, no effnas."""

from __future__ import annotations

import base64
import gzip
import json
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from effnas.report.about_front import beats_random_search, what_it_dominates, which_are_on_it
from effnas.report.about_ranking import is_it_better
from effnas.report.about_search import (
    all_trials,
    are_predictions_good,
    can_it_stop,
    is_proxy_good,
    what_it_took,
    what_was_tried,
    where_from,
    which_images,
)
from effnas.report.about_winner import (
    beats_random,
    what_it_costs,
    what_won,
    where_it_changes,
    which_matter,
    why_it_wins,
)
from effnas.report.facts import Facts
from effnas.report.parts import Page, Section, date_text, next_section
from effnas.report.verdict import tiles, title
from effnas.trials.learning_curve import predicted_text
from effnas.trials.reward import Reward
from effnas.trials.run import Run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: What the file of a report is called in the folder that it is about.
REPORT = "report.html"


def report_search(
    run: Run,
    reward: Reward | None = None,
    commands: Callable[[Facts], Sequence[tuple[str, str]]] | None = None,
) -> Page:
    """Return the report of a search.

    Args:
        run: The run.
        reward: Its reward, where that is a Python function; by default what the run stores.
        commands: Returns what to do next: why, and the command.
    """
    return report_facts(Facts(run, reward) if reward else Facts.of(run), commands)


def report_facts(
    facts: Facts, commands: Callable[[Facts], Sequence[tuple[str, str]]] | None = None
) -> Page:
    """Return the report of a search whose facts may have been computed already."""
    run = facts.run
    parts = (
        is_proxy_good, are_predictions_good, what_was_tried, what_it_took, which_images, where_from,
    )  # fmt: skip
    sections = [*_results(facts), *(part(facts) for part in parts)]
    sections += next_section(commands and commands(facts))
    manifest = run.manifest
    return Page(
        kind="a search",
        title=title(facts),
        facts=[
            ("run", str(run.path)),
            ("space", manifest.space.name),
            ("data", manifest.data.name or "?"),
            (
                "objectives" if run.objectives else "reward",
                manifest.objectives or manifest.reward.text,
            ),
            ("controller", manifest.controller or "?"),
            ("device", manifest.hardware or "?"),
            *([("retargeted from", manifest.parent.path)] if manifest.parent else []),
            *([("accuracies", predicted)] if (predicted := predicted_text(run.trials)) else []),
            ("begun", date_text(manifest.created)),
        ],
        tiles=tiles(facts),
        sections=[*sections, all_trials(facts)],
    )


def _results(facts: Facts) -> list[Section]:
    """Return the sections on what was found: the best trial, or the front of several objectives."""
    if facts.front_standing is None:
        parts = (
            what_won, is_it_better, beats_random, can_it_stop, why_it_wins, which_matter,
            what_it_costs, where_it_changes,
        )  # fmt: skip
        return [part(facts) for part in parts]
    fronts = (which_are_on_it, what_it_dominates, beats_random_search)
    found = [part(facts, facts.front_standing) for part in fronts]
    drawn = {each.metric for each in facts.front_standing.objectives[:2]}
    return found if drawn == {"accuracy", "step_time"} else [*found, what_it_costs(facts)]


def to_html(page: Page) -> str:
    """Return a page as HTML in which every text is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folder = files("effnas.report") / "templates"
    environment = Environment(
        loader=FileSystemLoader(str(folder)),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    figures: dict[str, object] = {
        f.name: {"data": f.data, "layout": dict(f.layout) | {"height": f.height}}
        for f in page.figures
    }
    tables = {
        t.name: {
            "columns": [[c.name, c.form, c.title or c.name] for c in t.columns],
            "rows": t.rows,
        }
        for t in page.tables
    }
    return environment.get_template("report.html.j2").render(
        page=page,
        style=(folder / "report.css").read_text(),
        script=(folder / "report.js").read_text(),
        figures=_embedded(figures),
        tables=_embedded(tables),
        plotly=_plotly() if figures else "",
    )


def _embedded(value: object) -> str:
    """Return JSON that no parser of HTML takes for anything else."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


@lru_cache(maxsize=1)
def _plotly() -> str:
    """Return plotly's script, compressed, as base64."""
    script = (files("plotly") / "package_data" / "plotly.min.js").read_bytes()
    return base64.b64encode(gzip.compress(script, 4, mtime=0)).decode()


def write_tables(page: Page, folder: Path) -> list[Path]:
    """Write every table as CSV and as JSON; return the files.

    Raises:
        OSError: If they cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for table in page.tables:
        records = json.dumps(table.records(), indent=1, allow_nan=False)
        for ending, text in ((".csv", table.to_csv()), (".json", f"{records}\n")):
            written.append(folder / f"{table.name}{ending}")
            written[-1].write_text(text, newline="", errors="replace")
    return written
