"""The report of finals: which network they pick, how sure that is, and what it confuses."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from effnas.report import figures_finals as figures
from effnas.report.confusion import what_is_confused
from effnas.report.diagram import draw
from effnas.report.figures_search import ledger
from effnas.report.parts import (
    Cell,
    Column,
    Page,
    Section,
    Table,
    chance_text,
    count_text,
    counted,
    date_text,
    duration,
    guessing_text,
    next_section,
)
from effnas.report.settings import settings_table
from effnas.report.statements import Cost
from effnas.trials.guessing import WHAT_HELPS
from effnas.workflows.finals.report import FinalistStanding
from effnas.workflows.finals.stored import StoredFinals
from effnas.workflows.proxy.statistics import MIN_RANKED

#: Rank correlations below this one make a proxy doubtful.
_GOOD_RHO = 0.65
_METRICS = (
    Column("step_time", ".3f", "step time S"),
    Column("params_ratio", ".3f", "size P"),
    Column("params", ",d", "parameters"),
    Column("macs", ",d", "MACs"),
)


def report_finals(
    finals: StoredFinals,
    commands: Callable[[StoredFinals], Sequence[tuple[str, str]]] | None = None,
) -> Page:
    """Return the report of finals.

    Args:
        finals: Finished or under way.
        commands: Returns what to do next: why, and the command.
    """
    manifest, run = finals.manifest, finals.run
    parts = (_which_is_picked, _is_it_better, _is_it_good_on_test, _what_is_confused,
             _did_short_ones_rank, _what_it_took, _where_from)  # fmt: skip
    sections = [part(finals) for part in parts]
    return Page(
        kind="finals",
        title=_title(finals),
        facts=[
            ("finals", str(finals.path)),
            ("search", str(run.path)),
            ("data", run.manifest.data.name or "?"),
            ("reward", finals.reward.text),
            ("training", f"{manifest.recipe.length_text()}, "
                         f"{counted(manifest.seeds, 'seed')}"),
        ],
        tiles=_tiles(finals),
        sections=[*sections, *next_section(commands and commands(finals))],
    )  # fmt: skip


def _name(standing: FinalistStanding) -> str:
    return f"trial {standing.finalist.trial.number}"


def _title(finals: StoredFinals) -> str:
    base = finals.report.base
    so_far = "" if finals.manifest.finished else "So far, "
    if base is None:
        return f"{so_far}no network was trained to the end".capitalize()
    text = f"{so_far}trial {base.finalist.trial.number} is picked of "
    text += counted(len(finals.report.standings), "finalist")
    if finals.beats_guessing is False:
        text += ", and is not clearly better than guessing"
    elif base.chance is None:
        text += "; whether it is the best is not known"
    else:
        trained = f"{len(finals.report.whole)} trained to the end"
        text += f"; it is the best of the {trained} with {chance_text(base.chance)}"
    return text[0].upper() + text[1:]


def _tiles(finals: StoredFinals) -> list[tuple[str, str, str]]:
    report, base = finals.report, finals.report.base
    if base is None:
        return []
    error, m = finals.accuracy_error(base), base.finalist.trial.metrics
    held_out = f"± {100 * error:.1f}; " if error is not None else ""
    before = m.get("accuracy")
    than = f"{before:.1%} in the search" if before is not None else ""
    found = [("accuracy", f"{base.accuracy or 0:.1%}", held_out + than)]
    if report.test and report.test.architecture_id == base.finalist.trial.architecture.id:
        found.append(("test accuracy", f"{report.test.mean:.1%}",
                      f"{counted(report.test.images, 'image')}, read once"))  # fmt: skip
    if "step_time" in m:
        found.append(
            (
                "step time",
                f"{m['step_time']:.2f}×",
                f"{finals.run.step_unit.value} 1; of the search",
            )
        )
    if "params_ratio" in m:
        more = f"{count_text(m.get('params', 0))}; reference 1, exact"
        found.append(("parameters", f"{m['params_ratio']:.2f}×", more))
    seconds = sum(each.train_time_s for each in report.standings)
    trained = f"{counted(len(report.whole), 'network')} to the end"
    found.append(("training", duration(seconds), trained))
    return found


def _which_is_picked(finals: StoredFinals) -> Section:
    question, report, run = "Which network is picked?", finals.report, finals.run
    base = report.base
    if base is None:
        return Section(
            name="picked", question=question,
            answer=f"None: of {counted(len(report.standings), 'finalist')} none was trained for "
                   f"{finals.manifest.recipe.length_text(report.epochs)} with "
                   f"{counted(report.seeds, 'seed')} each yet.",
            tables=[_standings("stopped", finals, report.stopped)],
        )  # fmt: skip
    trial, size = base.finalist.trial, run.space.target.image_size
    error = finals.accuracy_error(base)
    by = {
        "reward": "one of the best of the search by reward",
        "curve": "the best by the search's learning curves, not one of its best by reward",
        "front": "taken from the search's Pareto front, not one of its best by reward",
    }[base.finalist.reason]
    answer = (
        f"{_name(base).capitalize()}, {by}: {base.accuracy or 0:.2%} accuracy"
        + (f" (± {100 * error:.1f} points standard error)" if error is not None else "")
        + f", the mean of {counted(report.seeds, 'training')} of "
        f"{finals.manifest.recipe.length_text(report.epochs)}, which gives the highest mean "
        f"reward, {base.mean:.4f}."
    )
    sure = (
        "Rewards take step time and size from the search. What the reference or another baseline "
        "reaches with as long a training was not measured, so finals compare the finalists alone."
    )
    reference = run.space.reference
    return Section(
        name="picked", question=question, answer=answer, sure=sure, extra="networks",
        content=[draw(f"{_name(base)}, picked", trial.architecture, size, reference),
                 draw("the reference", reference, size)],
        tables=[_standings("standings", finals, report.whole)],
    )  # fmt: skip


def _standings(name: str, finals: StoredFinals, standings: Sequence[FinalistStanding]) -> Table:
    is_predicted = any(each.finalist.trial.is_predicted for each in standings)
    columns = [
        Column("trial"), Column("chosen_by", "", "chosen by"), Column("epochs", "d"),
        Column("reward", ".4f", "mean reward"), Column("accuracy", ".2%", "mean accuracy"),
        Column("accuracy_error", ".2%", "± standard error"),
        Column("seeds", "d"), Column("best_probability", ".1%", "best with"),
        Column("search_reward", ".4f", "reward in the search"),
        Column("search_accuracy", ".2%", "accuracy in the search"),
        *([Column("search_predicted", "", "which is predicted")] if is_predicted else []),
        *_METRICS,
        Column("train_time_s", ",.1f", "training, s"), Column("reason"),
        Column("architecture"),
    ]  # fmt: skip
    rows: list[list[Cell]] = []
    for each in standings:
        trial, is_whole = each.finalist.trial, each.epochs == finals.report.epochs
        rows.append([
            _name(each), each.finalist.reason, each.epochs, each.mean if each.scores else None,
            each.accuracy, finals.accuracy_error(each) if is_whole else None, len(each.accuracies),
            each.chance, trial.reward, trial.metrics.get("accuracy"),
            *([trial.is_predicted] if is_predicted else []),
            *(trial.metrics.get(c.name) for c in _METRICS), each.train_time_s, each.reason,
            str(trial.architecture),
        ])  # fmt: skip
    return Table(name=name, columns=columns, rows=rows, is_open=True, is_turned=True)


def _is_it_better(finals: StoredFinals) -> Section:
    question, report = "Is it really better?", finals.report
    base, whole = report.base, report.whole
    if base is None:
        return Section(name="better", question=question,
                       answer="Not known: none was trained to the end.")  # fmt: skip
    if base.chance is not None:
        answer = (
            f"{_name(base).capitalize()} is the best of {counted(len(whole), 'network')} trained "
            f"to the end with a probability of {chance_text(base.chance)}."
        )
    elif len(whole) == 1:
        answer = (
            "The probability is unknown: it alone was trained to the end, so what the others would "
            "have reached was not measured."
        )
    else:
        answer = "The probability is unknown: one seed of each does not tell how much is luck."
    if len(whole) > 1:
        second = whole[1]
        answer += (
            f" Its mean reward is {base.mean - second.mean:.4f} above that of {_name(second)}, the "
            "second."
        )
    if finals.beats_guessing is False:
        answer += (
            " But it is not clearly more accurate than guessing, so the pick says nothing; what "
            f"helps: {WHAT_HELPS}."
        )
    answer += _stopped_text(report.stopped)
    noise = finals.noise
    spread = (
        f"a spread over seeds of {100 * noise.seed_spread:.2f} points, pooled over the networks"
        if noise.seed_spread is not None
        else "no spread over seeds, which takes two of one network"
    )
    images = noise.holdout_images
    held_out = f"{images:,} held-out images, the same for all" if images else "no number of images"
    sure = (
        f"Dots are trainings, diamonds their means with one standard error on either side: from "
        f"{spread}, and {held_out}. All were chosen for good accuracies on these images, so that "
        f"they are rather too high. {guessing_text(finals.run.manifest.data.guessing)}"
    )
    tables = [_trainings(finals)]
    if report.stopped:
        tables.insert(0, _standings("stopped", finals, report.stopped))
    shown = [(_name(each), each, finals.accuracy_error(each)) for each in whole]
    stopped = [(_name(each), each, None) for each in report.stopped if each.accuracies]
    return Section(name="better", question=question, answer=answer, sure=sure,
                   figures=[figures.trainings(shown, stopped)], tables=tables)  # fmt: skip


def _stopped_text(stopped: Sequence[FinalistStanding]) -> str:
    """Return why some were not trained to the end; nothing if all were."""
    failed = sum(each.reason is not None for each in stopped)
    text = ""
    if weaker := len(stopped) - failed:
        text = f" {counted(weaker, 'network')} {'was' if weaker == 1 else 'were'} stopped early, "
        text += f"as the weaker half is; {'its' if weaker == 1 else 'their'} accuracy after fewer "
        text += "epochs does not compare with the others'."
    return text + (f" {counted(failed, 'network')} could not be trained." if failed else "")


def _trainings(finals: StoredFinals) -> Table:
    numbers = {s.name: s.finalist.trial.number for s in finals.report.standings}
    columns = [Column("trial", "d"), Column("seed", "d"), Column("epochs", "d"),
               Column("accuracy", ".2%"), Column("train_time_s", ",.1f", "training, s"),
               Column("reason")]  # fmt: skip
    rows: list[list[Cell]] = [
        [numbers.get(r.candidate), r.repeat, r.epochs, r.accuracy, r.train_time_s, r.reason]
        for r in finals.results
    ]
    return Table(name="trainings", columns=columns, rows=rows)


def _is_it_good_on_test(finals: StoredFinals) -> Section:
    question, report = "How good is it on new images?", finals.report
    test, base = report.test, report.base
    if test is None:
        return Section(
            name="test", question=question,
            answer="Not known: the test part of the data was not read. The accuracy above is on "
                   "images that the network was picked by, so it is rather too high.",
        )  # fmt: skip
    is_of_base = base is not None and test.architecture_id == base.finalist.trial.architecture.id
    error = test.accuracy_error or 0.0
    answer = (
        f"{'It' if is_of_base else f'Trial {test.trial}, picked before,'} classifies "
        f"{test.mean:.2%} (± {100 * error:.1f} points standard error) of the part {test.part!r} "
        f"correctly, the mean of {counted(len(test.accuracies), 'training')}."
    )
    if is_of_base and base and base.accuracy is not None:
        answer += f" On the held-out images that it was picked by, it is {base.accuracy:.2%}."
    sure = (
        f"{counted(test.images, 'image')} of {test.data}, read once, on {date_text(test.date)}: "
        "nothing was chosen by them."
    )
    if test.skipped:
        sure += f" {counted(len(test.skipped), 'more image')} cannot be decoded."
    sure += f" {guessing_text(finals.test_guessing, 'test')}"
    rows: list[list[Cell]] = [list(each) for each in enumerate(test.accuracies)]
    columns = [Column("seed", "d"), Column("accuracy", ".2%")]
    return Section(name="test", question=question, answer=answer, sure=sure,
                   tables=[Table(name="test", columns=columns, rows=rows)])  # fmt: skip


def _what_is_confused(finals: StoredFinals) -> Section:
    base = finals.report.base
    found = finals.confusions(base.name) if base else {}
    names = finals.run.manifest.data.class_names
    return what_is_confused(found, base.middle_seed if base else 0, names)


def _did_short_ones_rank(finals: StoredFinals) -> Section:
    question, report = "Did the search's short trainings rank them the same?", finals.report
    found, epochs = report.correlation, report.correlation_epochs
    if found.value is None or found.low is None or found.high is None:
        answer = (
            f"Not known from {counted(report.correlated, 'network')}: it takes {MIN_RANKED}, and "
            "more if they are alike."
        )
    else:
        verdict = (
            "Yes" if found.low >= _GOOD_RHO else "Perhaps" if found.high >= _GOOD_RHO else "No"
        )
        answer = (
            f"{verdict}: rewards of the search and of "
            f"{finals.manifest.recipe.length_text(epochs)} rank {report.correlated} networks with "
            f"Spearman's rho {found.value:.2f} (95% interval {found.low:.2f} to "
            f"{found.high:.2f}); {_GOOD_RHO} or more is good."
        )
    sure = (
        "Finalists are the best of the search and differ little, so rankings agree less than over "
        "all networks. A line joins what one network had in the search and has now."
    )
    shown = [each for each in report.standings if each.accuracies]
    pairs = [(_name(e), e.finalist.trial.metrics.get("accuracy"), e.accuracy, e.epochs)
             for e in shown]  # fmt: skip
    pairs = [each for each in pairs if each[1] is not None]
    return Section(name="proxy", question=question, answer=answer, sure=sure if pairs else "",
                   figures=[figures.before_and_after(pairs)] if pairs else [])  # fmt: skip


def _what_it_took(finals: StoredFinals) -> Section:
    question, report = "What did it cost?", finals.report
    found = [
        Cost(what=what, seconds=sum(e.train_time_s for e in some),
             count=sum(len({r.repeat for r in finals.results if r.candidate == e.name})
                       for e in some))
        for what, some in (("trainings to the end", report.whole),
                           ("other trainings", report.stopped))
    ]  # fmt: skip
    found = [cost for cost in found if cost.seconds > 0]
    if not found:
        return Section(name="cost", question=question, answer="Nothing was trained yet.")
    total = sum(cost.seconds for cost in found)
    answer = f"{duration(total)} of training: " + ", ".join(
        f"{duration(c.seconds)} in {c.count} {c.what}" for c in found
    )
    columns = [Column("what"), Column("seconds", ",.1f"), Column("count", "d", "trainings")]
    rows: list[list[Cell]] = [[c.what, c.seconds, c.count] for c in found]
    sure = "Seconds of workers in training steps, all together; loading and measuring come on top."
    return Section(name="cost", question=question, answer=f"{answer}.", sure=sure,
                   figures=[ledger(found)],
                   tables=[Table(name="cost", columns=columns, rows=rows)])  # fmt: skip


def _where_from(finals: StoredFinals) -> Section:
    run, recipe = finals.run, finals.manifest.recipe
    return Section(
        name="provenance",
        question="What was it made with?",
        answer=f"The search {finals.manifest.run}, begun {date_text(finals.manifest.run_created)}; "
               f"{recipe.data_share:.0%} of its training images at {recipe.sizes_text}.",
        sure=f"Step times are those of the search, on {run.manifest.hardware or '?'}.",
        tables=[settings_table(finals.manifest)],
    )  # fmt: skip
