"""What finals have found, as `effnas promote` ends with it and `effnas status` shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effnas.cli.following import Command, again, argument, longer
from effnas.cli.tables import (
    SHOWN_NETWORKS,
    best_with,
    counted,
    duration,
    networks,
    note,
    number,
    reasons,
    standing_cells,
    standing_columns,
    table,
    with_error,
    with_spread,
)
from effnas.cli.wording import error_text, guessing_text, hardly_beats_guessing
from effnas.train.checkpoints import weights_file
from effnas.workflows.trainings.folder import WEIGHTS

if TYPE_CHECKING:
    from effnas.cli.tables import Screen, Table
    from effnas.config.recipe import Recipe
    from effnas.workflows.finals.evaluate_test import FinalTest
    from effnas.workflows.finals.report import FinalistStanding, FinalsReport
    from effnas.workflows.finals.stored import StoredFinals


def say_finals(screen: Screen, finals: StoredFinals) -> None:
    """Print how the finalists stand and, once all trainings have ended, which one is picked."""
    report, base = finals.report, finals.report.base
    if not finals.manifest.finished:
        screen.print(_standings(finals, report.standings, ranked=False))
        return
    if report.whole:
        _say_standings(screen, finals, report.whole)
    if report.stopped:
        screen.print("Stopped early, so not to be compared with those trained to the end:")
        _say_standings(screen, finals, report.stopped, ranked=False)
    failed = reasons((f"trial {s.finalist.trial.number}", s.reason) for s in report.standings)
    if failed:
        screen.print(failed)
    screen.print(_correlation_text(report, finals.manifest.recipe))
    if base is None:
        screen.print("None could be trained to the end, so no network is picked.")
        return
    screen.print(
        f"Picked: trial {base.finalist.trial.number}, reward "
        f"{with_spread(base.mean, base.spread)} over {counted(report.seeds, 'seed')}; "
        f"probability that it is the best of those trained to the end: "
        f"{best_with(report.whole)}.\n"
        f"Its weights{_which_seed(report.seeds)}: {_weights(finals, base)}\n"
        f"{_test_text(base, report.test)}",
    )
    _say_guessing(screen, finals)


def after_finals(finals: StoredFinals) -> list[Command]:
    """Return what to do after finals."""
    base, place = finals.report.base, argument(finals.path)
    asked, resumed = finals.manifest.asked, ["effnas", "resume", place]
    if not finals.manifest.finished:
        return [("Finish the finals first.", resumed)] if asked else []
    if base is None:
        return [("See what went wrong.", ["effnas", "status", place])]
    if asked and finals.beats_guessing is False:
        changed = longer(finals.manifest.recipe, finals.path)
        return [("The pick does not beat guessing: train them longer.", again(asked, changed))]
    picked = base.finalist.trial.number
    network = argument(f"{finals.run.path}:{picked}")
    family = argument(Path("families") / f"{finals.run.path.resolve().name}-{picked}")
    found = [
        ("Export it, with the weights of the training of middle accuracy.",
         ["effnas", "export", network, "--weights", str(_weights(finals, base))]),
        ("Grow it to a family of sizes.", ["effnas", "scale", network, "--out", family]),
    ]  # fmt: skip
    part = finals.run.manifest.data.test_part
    if finals.report.test is None and asked and part:
        found.insert(0, (f"Read the test part of the data, {part!r}, once.", [*resumed, "--test"]))
    return found


def finals_json(finals: StoredFinals) -> dict[str, Any]:
    """Return what finals have found as plain data."""
    report, base = finals.report, finals.report.base
    return {
        "epochs": report.epochs,
        "seeds": report.seeds,
        "proxy_correlation": asdict(report.correlation),
        "proxy_correlation_epochs": report.correlation_epochs,
        "base": base.finalist.trial.number if base else None,
        "weights": str(_weights(finals, base)) if base else None,
        "test": report.test.to_dict() if report.test else None,
        "standings": [standing.to_row() for standing in report.standings],
    }


def _which_seed(seeds: int) -> str:
    """Return which of its seeds `FinalistStanding.middle_seed` is."""
    if seeds == 1:
        return ""
    return f" (the seed of {'lower' if seeds == 2 else 'middle'} accuracy)"


def _weights(finals: StoredFinals, base: FinalistStanding) -> Path:
    arch = base.finalist.trial.architecture
    return weights_file(finals.path / WEIGHTS, arch, base.middle_seed)


def _say_guessing(screen: Screen, finals: StoredFinals) -> None:
    """Print what guessing gives, and warn if the network is hardly better."""
    texts = [guessing_text(finals.run.manifest.data.guessing)]
    if finals.report.test and finals.report.test.class_counts:
        texts.append(guessing_text(finals.test_guessing, "test"))
    for text in filter(None, texts):
        screen.print(text)
    if finals.beats_guessing is False:
        note(screen, hardly_beats_guessing("held-out"), "Warning")


def _say_standings(
    screen: Screen,
    finals: StoredFinals,
    standings: Sequence[FinalistStanding],
    *,
    ranked: bool = True,
) -> None:
    screen.print(_standings(finals, standings, ranked=ranked))
    if ranked and (text := error_text(finals.noise, "their")):
        screen.print(text, style="dim")
    if any(each.finalist.trial.is_predicted for each in standings):
        legend = "~ proxy: the search's accuracy is predicted from a learning curve, not measured"
        screen.print(legend, style="dim")
    if any(each.spread is not None for each in standings):
        screen.print("reward: ± the standard deviation over seeds", style="dim")
    screen.print()
    for each in standings[:SHOWN_NETWORKS]:
        trial = each.finalist.trial
        name = f"trial {trial.number} · {duration(each.train_time_s)} of training"
        screen.print(networks([(name, trial.architecture)]))
    screen.print()


def _standings(
    finals: StoredFinals, standings: Sequence[FinalistStanding], *, ranked: bool
) -> Table:
    unit = finals.manifest.recipe.length_unit
    found = table(
        "rank", "trial", "by", "proxy", "accuracy", *standing_columns("reward", unit), key=2,
        left=["by"], spare=["training"],
    )  # fmt: skip
    for rank, each in enumerate(standings, start=1):
        trial = each.finalist.trial
        found.add_row(
            str(rank) if ranked else "-",
            str(trial.number),
            each.finalist.reason,
            "~" * trial.is_predicted + number(trial.reward, "{:z.4f}"),
            _accuracy(finals, each),
            *standing_cells(each),
        )
    return found


def _accuracy(finals: StoredFinals, standing: FinalistStanding) -> str:
    if standing.accuracy is None:
        return "-"
    is_whole = standing.epochs == finals.report.epochs  # which the spread over seeds is known of
    return with_error(standing.accuracy, finals.accuracy_error(standing) if is_whole else None)


def _test_text(base: FinalistStanding, test: FinalTest | None) -> str:
    if test is None:
        return (
            "Its accuracy is that on held-out images, which it was picked by; the test part of the "
            "data was not read (--test reads it, once)."
        )
    if test.architecture_id != base.finalist.trial.architecture.id:
        return f"The test part of the data was read for trial {test.trial}, picked before."
    seeds = len(test.accuracies)
    skipped = f", {len(test.skipped)} more cannot be decoded" if test.skipped else ""
    return (
        f"On the part {test.part!r} of {test.data} ({counted(test.images, 'image')}{skipped}): "
        f"accuracy {with_error(test.mean, test.accuracy_error)} (± its standard error), the mean "
        f"over {counted(seeds, 'seed')}. It was read once, on {test.date[:10]}."
    )


def _correlation_text(report: FinalsReport, recipe: Recipe) -> str:
    found = report.correlation
    if found.value is None:
        return (
            "Whether the search's short trainings rank as these do is not known from "
            f"{counted(report.correlated, 'network')}."
        )
    interval = f" (95% interval {found.low:z.2f} to {found.high:z.2f})"
    return (
        f"The search's short trainings rank these networks as those of "
        f"{recipe.length_text(report.correlation_epochs)} do with a rank correlation of "
        f"{found.value:z.2f}{interval}. They are the best of the search, which differ little: "
        "expect less than what `effnas proxy check` says of all."
    )
