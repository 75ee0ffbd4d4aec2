"""Sections on the search: what was tried, what it cost, and what it was made with."""

from __future__ import annotations

import base64
from pathlib import Path
from statistics import fmean

from effnas.config.codec import open_file
from effnas.report import figures_search as figures
from effnas.report.facts import Facts
from effnas.report.parts import (
    Cell,
    Column,
    Section,
    Table,
    chance_text,
    counted,
    date_text,
    duration,
    finite,
    guessing_text,
    share_text,
    size_text,
)
from effnas.report.settings import settings_table
from effnas.report.statements import (
    MIN_PAIRS,
    Cost,
    costs,
    coverage,
    predicted_steps,
    reasons,
    rung_pairs,
    wall_clock,
)
from effnas.trials.learning_curve import best_after
from effnas.trials.run import Run
from effnas.trials.store import SAMPLES
from effnas.trials.trial import TrialState

#: Rank correlations below this one make a proxy doubtful, as Vertex AI's guide and `proxy` have it.
_GOOD_TAU = 0.65
#: A chance that makes more trials hardly worth while; the gain that is worth mentioning.
_HARDLY, _WORTH = 0.2, 0.005
#: Less work than this is none, in seconds.
_NO_WORK_S = 0.1
#: Pictures above this size are not embedded.
_MAX_PICTURE_BYTES = 600_000
_COLUMNS = {
    "trial": ",d", "reward": ".4f", "accuracy": ".2%", "step_time": ".3f", "params_ratio": ".3f",
    "params": ",d", "macs": ",d", "step_time_s": ".4f", "train_time_s": ".1f",
    "train_loss": ".3f", "duration_s": ".1f", "peak_memory_bytes": ",d",
}  # fmt: skip


def can_it_stop(facts: Facts) -> Section:
    """Say what more trials may gain, and what they cost."""
    question = "Can I stop?"
    found = facts.outlook
    if facts.run.objectives:
        return Section(
            name="stop", question=question,
            answer="Not known: several objectives are pursued, not one reward.",
        )  # fmt: skip
    if found is None:
        return Section(name="stop", question=question, answer=facts.lacking)
    if found.reason is not None:
        return Section(name="stop", question=question, answer=f"Not known: {found.reason}.")
    chance, worth = found.probability or 0.0, found.worth or 0.0
    seconds = [t.duration_s for t in facts.run.trials if t.has_result and t.duration_s is not None]
    cost = (
        f" They take about {duration(fmean(seconds) * found.trials)} of work."
        if seconds
        else " What they cost is not known."
    )
    verdict = (
        "Probably, more trials hardly help"
        if chance < _HARDLY
        else "Not yet, more trials are likely to help"
        if chance > 1 - _HARDLY
        else "As you like, more trials may help"
    )
    answer = (
        f"{verdict}: {found.trials} more are expected to raise the best true reward by "
        f"{found.expected:.4f}. They raise it by {worth:.4f} or more, {_WORTH:.1%} of it, with "
        f"{chance_text(chance)}, and with 95% by {found.high:.4f} at most.{cost}"
    )
    sure = (
        "It follows from how rewards end at the top; a trial of a controller that learns counts as "
        "three random ones. In 200 simulated searches the chance was 33% on average, and 33% "
        "gained as much; large gains were promised a little too often."
    )
    return Section(name="stop", question=question, answer=answer, sure=sure)


def _without_rungs(run: Run) -> str:
    """Return what a run says of longer trainings, none of which it has."""
    time_s = run.manifest.winner_time_s
    if time_s and (after := best_after(run, time_s)):
        return (
            f"Not more than their learning curves are: after the {duration(time_s)} that the best "
            f"is to be trained for, {after}. `effnas train RUN:best` takes the first."
        )
    return "This run does not tell: all of its trainings have the same length." + (
        "" if time_s else " A proxy check trains some networks longer and compares the rankings."
    )


def is_proxy_good(facts: Facts) -> Section:
    """Compare the rankings of accuracies at rungs."""
    question = "Can short trainings be trusted?"
    pairs = rung_pairs(facts.run.trials)
    if not facts.run.manifest.rungs:
        return Section(name="proxy", question=question, answer=_without_rungs(facts.run))
    known = [each for each in pairs if each.tau is not None]
    if not known:
        most = max((len(each.accuracies) for each in pairs), default=0)
        return Section(
            name="proxy", question=question,
            answer=f"Not known yet: it needs {MIN_PAIRS} trials with accuracies at two rungs, and "
                   f"there {'is' if most == 1 else 'are'} {most}.",
        )  # fmt: skip
    worst = min(known, key=lambda each: each.tau or 0.0)
    tau = worst.tau or 0.0
    answer = (
        f"{'Yes' if (worst.tau_low or 0) >= _GOOD_TAU else 'Perhaps' if tau >= _GOOD_TAU else 'No'}"
        f": accuracies after {counted(worst.low, 'epoch')} rank networks like those after "
        f"{worst.high} with Kendall's tau {tau:.2f} (95% interval {worst.tau_low:.2f} to "
        f"{worst.tau_high:.2f}); {_GOOD_TAU} or more is good."
    )
    sure = (
        "Only the better half or so continued at each rung: among networks that are alike, "
        "rankings agree less than over the whole space, so tau is rather too low."
    )
    columns = [Column("low", "d", "epochs"), Column("high", "d", "against"),
               Column("trials", "d"), Column("tau", ".2f"), Column("tau_low", ".2f", "from"),
               Column("tau_high", ".2f", "to")]  # fmt: skip
    rows: list[list[Cell]] = [
        [p.low, p.high, len(p.accuracies), p.tau, p.tau_low, p.tau_high] for p in pairs
    ]
    tables = [Table(name="rungs", columns=columns, rows=rows, is_open=True)]
    return Section(name="proxy", question=question, answer=answer, sure=sure,
                   figures=figures.rungs(known), tables=tables)  # fmt: skip


def are_predictions_good(facts: Facts) -> Section:
    """Compare predicted with measured step times."""
    question = "Are predicted step times right?"
    found = predicted_steps(facts.run)
    predicted = [t for t in facts.complete if t.measurement.step_time_source == "predicted"]
    if not found:
        answer = (
            "Not known: none of the predicted ones was measured."
            if predicted
            else f"None was predicted: step times are {_source(facts.run.manifest.step_times)}."
        )
        return Section(name="predictions", question=question, answer=answer)
    errors = sorted(abs(each.error) for each in found)
    answer = (
        f"Of {counted(len(found), 'trial')} that were predicted first and then measured, the "
        f"prediction is off by {errors[len(errors) // 2]:.1%} (median) and {errors[-1]:.1%} at "
        "most."
    )
    sure = (
        f"The best trials are measured, so this says little of the others; {len(predicted)} "
        "complete trials still have a predicted step time."
    )
    columns = [Column("trial", "d"), Column("predicted", ".3f", "predicted S"),
               Column("measured", ".3f", "measured S"), Column("error", "+.1%")]  # fmt: skip
    rows: list[list[Cell]] = [[p.trial, p.predicted, p.measured, p.error] for p in found]
    return Section(name="predictions", question=question, answer=answer, sure=sure,
                   figures=[figures.predictions(found)],
                   tables=[Table(name="predictions", columns=columns, rows=rows)])  # fmt: skip


def _source(step_times: str) -> str:
    return step_times if step_times == "measured" else f"from a {step_times or 'source unknown'}"


def what_was_tried(facts: Facts) -> Section:
    """Say how much of the space was tried, and what failed."""
    run = facts.run
    found, why = coverage(run.space, run.trials), reasons(run.trials)
    states = [(state.lower(), run.trials.count(state)) for state in TrialState]
    shown = ", ".join(f"{n:,} {state}" for state, n in states if n)
    never = [f"{c.decision} {c.option}" for c in found if not c.tried]
    answer = (
        f"{counted(len(run.trials), 'trial')} ({shown or 'none'}) of "
        f"{size_text(run.space.size)} architectures. "
    )
    answer += (
        f"{counted(len(never), 'option')} of {len(found)} "
        f"{'was' if len(never) == 1 else 'were'} never tried: {', '.join(never[:6])}"
        + ("…" if len(never) > 6 else ".")
        if never else f"Every one of the {len(found)} options was tried."
    )  # fmt: skip
    sure = "★ is the option of the trial with the highest reward. " + (
        f"{counted(sum(n for _, _, n in why), 'trial')} without a reward: see the table."
        if why else "Nothing failed, and nothing was infeasible."
    )  # fmt: skip
    columns = [Column("decision"), Column("option"), Column("tried", "d"), Column("complete", "d"),
               Column("median_reward", ".4f", "median reward"),
               Column("best_reward", ".4f", "best reward"),
               Column("is_best", "", "of the best trial")]  # fmt: skip
    rows: list[list[Cell]] = [
        [c.decision, c.option, c.tried, c.complete, c.median_reward, c.best_reward, c.is_best]
        for c in found
    ]  # fmt: skip
    tables = [Table(name="coverage", columns=columns, rows=rows)]
    if why:
        tables.insert(0, Table(name="reasons", is_open=True, rows=[list(each) for each in why],
                               columns=[Column("state"), Column("reason", "", "reason, an example"),
                                        Column("trials", "d")]))  # fmt: skip
    return Section(name="coverage", question="What was tried, and what failed?", answer=answer,
                   sure=sure, figures=[figures.tried(found)] if found else [],
                   tables=tables)  # fmt: skip


def what_it_took(facts: Facts) -> Section:
    """Say where the time went."""
    question = "What did it cost?"
    found, clock = costs(facts.run), wall_clock(facts.run)
    if not found:
        return Section(name="cost", question=question,
                       answer="Not known: no trial says how long it took.")  # fmt: skip
    total = sum(cost.seconds for cost in found)
    complete = len(facts.complete)
    if total < _NO_WORK_S:
        return Section(name="cost", question=question,
                       answer="Next to nothing: no network was trained or timed here.")  # fmt: skip
    answer = f"{duration(total)} of work"
    if complete:
        answer += f", {duration(total / complete)} for each of {complete:,} complete trials"
    answer += ": " + ", ".join(f"{c.what} {share_text(c.seconds / total)}" for c in found) + "."
    sure = (
        f"Seconds of workers, all together. The wall clock took {duration(clock.whole_s)}; "
        f"idle are {duration(clock.idle_s)} of that, in which no trial was under way."
        if clock
        else "Seconds of workers, all together. How long they waited is not known: this run does "
        "not tell when each trial began and ended."
    )
    columns = [Column("what"), Column("seconds", ",.1f"), Column("count", "d", "of them")]
    idle = None
    if clock and clock.idle_s > 0:
        idle = Cost(what="idle", seconds=clock.idle_s, count=clock.gaps)
    rows: list[list[Cell]] = [[c.what, c.seconds, c.count] for c in (*found, idle) if c is not None]
    return Section(name="cost", question=question, answer=answer, sure=sure,
                   figures=[figures.ledger(found, idle)],
                   tables=[Table(name="cost", columns=columns, rows=rows)])  # fmt: skip


def which_images(facts: Facts) -> Section:
    """Describe the data."""
    data = facts.run.manifest.data
    question = "Which images?"
    if data.train_images is None:
        return Section(name="data", question=question, answer="The run does not say.")
    answer = (
        f"{data.name or 'The data'}: {data.classes or 0:,} classes, "
        f"{data.train_images:,} images to train on and {data.holdout_images or 0:,} held out, "
        "which give the accuracy."
    )
    sure = {
        True: "Trainings mirror images at random.",
        False: "Trainings do not mirror images.",
        None: "",
    }[data.mirrored]
    guessing = data.guessing
    sure += f" {guessing_text(guessing)}"
    if facts.ranked and guessing.best is not None and not facts.run.objectives:
        above = facts.ranked.above(facts.ranked[0].trial, guessing.best)
        if above is not None:
            best = f"Trial {facts.ranked[0].trial.number}, {facts.how_best} best,"
            sure += f" {best} is truly above that with {chance_text(above)}."
    if data.image_sizes:
        sizes = [f"{width}×{height}" for height, width in data.image_sizes]
        sure += f" Images as stored: {' to '.join(dict.fromkeys((sizes[0], sizes[-1])))} px."
    if data.skipped_images:
        sure += f" {counted(len(data.skipped_images), 'image')} cannot be decoded; left out."
    tables = []
    if data.class_names:
        counts = [dict(enumerate(each)) for each in (data.class_counts, data.holdout_class_counts)]
        rows: list[list[Cell]] = [
            [n, name, *(each.get(n) for each in counts)] for n, name in enumerate(data.class_names)
        ]
        columns = [Column("output", "d"), Column("class"), Column("train_images", ",d", "to train"),
                   Column("holdout_images", ",d", "held out")]  # fmt: skip
        tables = [Table(name="classes", columns=columns, rows=rows)]
    picture = _picture(facts.run.path / SAMPLES)
    return Section(name="data", question=question, answer=answer, sure=sure, tables=tables,
                   extra="picture" if picture else "",
                   content=("Images of the training part", picture))  # fmt: skip


def _picture(path: Path) -> str:
    """Return a picture as a data URI; nothing if it is not there, or too large."""
    try:
        with open_file(path) as file:
            content = file.read(_MAX_PICTURE_BYTES + 1)
    except OSError:
        return ""
    is_png = content.startswith(b"\x89PNG\r\n") and len(content) <= _MAX_PICTURE_BYTES
    return f"data:image/png;base64,{base64.b64encode(content).decode()}" if is_png else ""


def where_from(facts: Facts) -> Section:
    """Say what the run was made with."""
    manifest = facts.run.manifest
    return Section(
        name="provenance",
        question="What was it made with?",
        answer=f"effnas {manifest.versions.get('effnas', '?')} on {manifest.hardware or '?'}, "
               f"seed {manifest.seed}, begun {date_text(manifest.created)}.",
        sure="Step times hold for this hardware and these versions; accuracies for these images "
             "and this recipe. Rewards follow from the stored metrics.",
        tables=[settings_table(manifest)],
        extra="text",
        content=("The search space", manifest.space.text),
    )  # fmt: skip


def all_trials(facts: Facts) -> Section:
    """List all trials."""
    trials = facts.run.trials
    records = [trial.to_row() for trial in trials]
    for record in records:
        record.pop("architecture_id")
    first = ["trial", "state", "reward", "accuracy", "step_time", "params_ratio"]
    present = {name for record in records for name, v in record.items() if v is not None}
    last: list[str] = [
        name
        for name in ("step_time_source", "duration_s", "reason", "architecture")
        if name in present
    ]
    middle = list(dict.fromkeys(name for record in records for name in record if name in present))
    names = [n for n in first if n in present]
    names += [n for n in middle if n not in first and n not in last] + last
    columns = [Column(name, _COLUMNS.get(name, ".4g" if _is_number(records, name) else ""))
               for name in names]  # fmt: skip
    rows = [[finite(record.get(name)) for name in names] for record in records]
    return Section(
        name="trials",
        question="Where are all trials?",
        answer=f"{counted(len(records), 'trial')}; a click on a column sorts by it.",
        tables=[Table(name="trials", columns=columns, rows=rows, is_long=True)],
    )


def _is_number(records: list[dict[str, object]], name: str) -> bool:
    return all(isinstance(r[name], (int, float)) for r in records if r.get(name) is not None)
