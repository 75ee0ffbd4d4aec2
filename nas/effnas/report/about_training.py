"""The report of a training: how good the network is, how it got there, and what that took."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from effnas.report import figures_training as figures
from effnas.report.parts import (
    Cell,
    Column,
    Page,
    Section,
    Table,
    against_forecast,
    count_text,
    counted,
    date_text,
    duration,
    guessing_text,
    next_section,
    shortened,
)
from effnas.report.settings import settings_table
from effnas.report.training_facts import Measured, TrainingFacts
from effnas.trials.guessing import WHAT_HELPS

_LOG = {
    "epoch": "d", "step": ",d", "stage": "d", "image_size": "d", "learning_rate": ".3g",
    "train_loss": ".4f", "accuracy": ".2%", "train_time_s": ",.1f",
}  # fmt: skip


def report_training(
    facts: TrainingFacts,
    commands: Callable[[TrainingFacts], Sequence[tuple[str, str]]] | None = None,
) -> Page:
    """Return the report of a training.

    Args:
        facts: It, finished or under way.
        commands: Returns what to do next: why, and the command.
    """
    manifest = facts.manifest
    parts = (_how_good, _how_it_went, _as_forecast, _which_images, _where_from)
    return Page(
        kind="a training",
        title=_title(facts),
        facts=[
            ("folder", str(facts.path)),
            ("network", facts.network),
            ("data", manifest.data.name),
            ("device", manifest.hardware),
            ("begun", date_text(manifest.created)),
        ],
        tiles=_tiles(facts),
        sections=[
            *(part(facts) for part in parts),
            *next_section(commands and commands(facts)),
        ],
    )


def _error(found: Measured) -> str:
    return f"± {100 * found.error:.1f}" if found.error is not None else ""


def _title(facts: TrainingFacts) -> str:
    found = facts.test or facts.held_out
    if found is None:
        return "No accuracy is known: no image was held out" if facts.rows else "No epoch has ended"
    so_far = "" if facts.is_finished else " so far"
    text = f"{found.accuracy:.1%} of the {found.part} images are classified correctly{so_far}"
    if found.beats_guessing is False:
        text = f"Not clearly better than guessing: {text}"
    return text


def _tiles(facts: TrainingFacts) -> list[tuple[str, str, str]]:
    manifest, found, test = facts.manifest, facts.held_out, facts.test
    shown = []
    if test:
        than = f"{_error(test)}; {counted(test.images, 'image')}{_guess(test)}"
        shown.append(("test accuracy", f"{test.accuracy:.1%}", than))
    if found and facts.best:
        than = f"{_error(found)}; epoch {facts.best.epoch}, held out{_guess(found)}"
        shown.append(("accuracy", f"{found.accuracy:.1%}", than))
    shown.append(("epochs", f"{len(facts.rows):,}", f"of {facts.epochs:,}"))
    if facts.rows:
        shown.append(("training", duration(facts.train_time_s),
                      f"forecast {duration(facts.expected_s)}"))  # fmt: skip
    shown.append(("parameters", count_text(manifest.params), "trainable"))
    return shown


def _guess(found: Measured) -> str:
    best = found.guessing.best
    return f"; guessing {best:.1%}" if best is not None else ""


def _how_good(facts: TrainingFacts) -> Section:
    question, found, test = "How good is it?", facts.held_out, facts.test
    texts = []
    if test and facts.manifest.test:
        texts.append(
            f"It classifies {test.accuracy:.2%} ({_error(test)} points standard error) of the part "
            f"{facts.manifest.test.part!r} correctly, {counted(test.images, 'image')} that nothing "
            "was chosen by."
        )
    if found and facts.best:
        texts.append(
            (f"On the {found.images:,} held-out images it is {found.accuracy:.2%}" if test else
             f"It classifies {found.accuracy:.2%} of the {found.images:,} held-out images "
             "correctly")
            + f" ({_error(found)} points), after epoch {facts.best.epoch}, the best of "
            f"{len(facts.rows):,}."
        )  # fmt: skip
    texts += [
        f"On the {each.part} images it is not clearly more accurate than guessing; what helps: "
        f"{WHAT_HELPS}."
        for each in (test, found)
        if each and each.beats_guessing is False
    ]
    if not texts:
        texts.append("Not known: no accuracy was measured yet.")
    sure = " ".join(guessing_text(each.guessing, each.part) for each in (test, found) if each)
    sure += (
        " Other networks were not trained here. One training by one seed: another seed gives "
        "another accuracy, by how much is not known."
    )
    if found and not test:
        sure += (
            " The epoch was chosen by these images, so the accuracy is rather too high; the "
            "test part of the data was not read."
        )
    return Section(name="accuracy", question=question, answer=" ".join(texts), sure=sure.strip())


def _how_it_went(facts: TrainingFacts) -> Section:
    question, rows, best = "How did it go?", facts.rows, facts.best
    if not rows:
        return Section(name="curves", question=question, answer="No epoch has ended yet.")
    stages = facts.manifest.stages
    sizes = sorted({stage.image_size for stage in stages})
    answer = (
        f"{counted(len(rows), 'epoch')} of {facts.epochs:,} in {counted(len(stages), 'stage')}, "
        + (f"with images of {sizes[0]} to {sizes[-1]} px." if len(sizes) > 1
           else f"with images of {sizes[0]} px.")
    )  # fmt: skip
    last = rows[-1]
    if len(rows) > 1 and best and best.accuracy is not None and last.accuracy is not None:
        if best.epoch == last.epoch:
            answer += " The last epoch is the best: accuracy was still rising, or as high again."
        else:
            answer += (
                f" Epoch {best.epoch} is the best; the last one has {last.accuracy:.2%}, "
                f"{100 * (best.accuracy - last.accuracy):.2f} points less."
            )
    if facts.manifest.progress and facts.manifest.progress.stopped_early:
        answer += " It ended early, as accuracy no longer rose."
    sure = (
        "Shades are stages. The loss is on augmented images, which later stages augment more: it "
        "may rise from one stage to the next."
    )
    records = [vars(row) for row in rows]
    names = [name for name in records[0] if any(record[name] for record in records)]
    columns = [Column(name, _LOG.get(name, ".3g"), name.replace("_", " ")) for name in names]
    table = Table(name="log", columns=columns, is_long=len(rows) > 50,
                  rows=[[record[name] for name in names] for record in records])  # fmt: skip
    shown = [figures.curve(facts, "train_loss")]
    if any(row.accuracy is not None for row in rows):
        shown.insert(0, figures.curve(facts, "accuracy"))
    return Section(name="curves", question=question, answer=answer, sure=sure, figures=shown,
                   tables=[table])  # fmt: skip


def _as_forecast(facts: TrainingFacts) -> Section:
    question, expected = "Did it take as long as forecast?", facts.expected_s
    if not facts.rows or not expected:
        return Section(name="time", question=question, answer="Not known yet.")
    measured, whole = facts.train_time_s, facts.manifest.forecast
    off = measured / expected - 1
    verdict = "Yes" if abs(off) <= 0.1 else f"No, it was {'faster' if off < 0 else 'slower'}"
    answer = (
        f"{verdict}: {counted(facts.rows[-1].step, 'step')} took {duration(measured)}, "
        f"{against_forecast(measured, expected)}."
    )
    if not facts.is_finished:
        answer += f" The whole training was to take {duration(whole.train_time_s)}."
    sure = (
        "The forecast is from a few steps at the image sizes of the stages, before the first "
        f"epoch. Measuring accuracy comes on top, about {duration(whole.epoch_evaluation_s)} "
        "after each epoch by the forecast."
    )
    columns = [Column("stage", "d"), Column("image_size", "d", "px"), Column("steps", ",d"),
               Column("strengths"), Column("forecast_s", ",.1f", "forecast, s"),
               Column("measured_s", ",.1f", "measured, s"),
               Column("ratio", ".2f", "measured / forecast")]  # fmt: skip
    rows: list[list[Cell]] = []
    for n, stage in enumerate(facts.manifest.stages):
        forecast, seconds = whole.stage_times_s[n], facts.stage_times_s[n]
        ratio = seconds / forecast if seconds and forecast and facts.is_whole(stage) else None
        rows.append([n + 1, stage.image_size, stage.steps, str(stage.strengths), forecast, seconds,
                     ratio])  # fmt: skip
    shown = [figures.stage_times(facts)] if facts.manifest.progress else []
    if any(row.accuracy is not None for row in facts.rows):
        shown.append(figures.curve(facts, "accuracy", by_time=True))
    return Section(name="time", question=question, answer=answer, sure=sure, figures=shown,
                   tables=[Table(name="stages", columns=columns, rows=rows,
                                 is_open=len(rows) <= 8)])  # fmt: skip


def _which_images(facts: TrainingFacts) -> Section:
    data = facts.manifest.data
    answer = (
        f"{data.name}: {len(data.class_names):,} classes, "
        f"{data.images:,} images to train on and {data.minival:,} held out."
    )
    mirrored = {True: "Trainings mirror images at random.", False: "Images are not mirrored.",
                None: ""}[data.mirrored]  # fmt: skip
    skipped = f" {counted(len(data.skipped), 'image')} cannot be decoded." if data.skipped else ""
    counts = dict(enumerate(data.minival_class_counts))
    rows: list[list[Cell]] = [[n, name, counts.get(n)] for n, name in enumerate(data.class_names)]
    columns = [Column("output", "d"), Column("class"), Column("holdout_images", ",d", "held out")]
    return Section(
        name="data", question="Which images?", answer=answer, sure=f"{mirrored}{skipped}".strip(),
        tables=[Table(name="classes", columns=columns, rows=rows)],
    )  # fmt: skip


def _where_from(facts: TrainingFacts) -> Section:
    manifest = facts.manifest
    return Section(
        name="provenance",
        question="What was it made with?",
        answer=f"effnas {manifest.effnas or '?'} on {manifest.hardware}, seed {manifest.seed}, "
               f"{'weights of its own' if manifest.weights else 'random weights'} at the start.",
        sure=f"Network: {shortened(facts.network, 400)}",
        tables=[settings_table(manifest)],
    )  # fmt: skip
