"""The section on whether the trial that is measured best truly is."""

from __future__ import annotations

from collections.abc import Sequence

from effnas.report import figures
from effnas.report.facts import Facts
from effnas.report.parts import Cell, Column, Section, Table, chance_text, counted, trials_text
from effnas.report.statements import Contender
from effnas.trials.guessing import WHAT_HELPS
from effnas.trials.learning_curve import predicted_text
from effnas.trials.uncertainty import Ranking

#: Rows of the table of the best trials.
_TOP = 20
#: Said where rewards above 1 are to be expected.
MAY_EXCEED_1 = (
    "A reward may be above 1 where a network is smaller or faster than what S and P are over."
)


def is_it_better(facts: Facts) -> Section:
    """Say how sure it is that the trial which is measured best truly is."""
    question = "Is it really better?"
    if facts.ranked is None:
        reason = "No trial is complete yet." if facts.reward else facts.lacking
        return Section(name="better", question=question, answer=reason)
    first = facts.ranked[0]
    chance = first.best_probability
    noise = facts.run.noise
    if chance is None:
        return Section(
            name="better", question=question,
            answer="How sure the ranking is, is not known: the run does not say how many images "
                   "accuracies are from.",
            tables=[_ranking(facts.ranked)],
        )  # fmt: skip
    others = [trial.number for trial in facts.rivals]
    answer = (
        "No trial is clearly more accurate than guessing, so the accuracies rank nothing; what "
        f"helps: {WHAT_HELPS}. Trial {first.trial.number} has the highest "
        "measured reward by its step time, its size, or luck."
        if facts.learned_nothing
        else _chances(facts.ranked, chance, others)
    )
    for each in facts.contenders:
        if each.reward_gap is not None:
            chances = chance_text(each.reward_gap.probability)
            answer += f" It {_beats(each)} {each.name}: it is better with {chances}."
        elif each.baseline.reason:
            answer += f" There is no reward of {each.name}: {each.baseline.reason}."
    if not facts.contenders:
        answer += " No baseline was trained beside it."
    spread = (
        f"a spread over seeds of {100 * noise.seed_spread:.2f} points"
        if noise.seed_spread is not None
        else "no spread over seeds, which is not known (no network was trained with several)"
    )
    sure = (
        f"Dots are expected true rewards with 90% intervals, the ticks what was measured; a lucky "
        f"trial is not believed in full. Blue ones belong to the fewest trials that hold the best "
        f"with 90%; the percentages say how likely each is it. The errors: "
        f"{noise.holdout_images:,} held-out images, {spread}, and the intervals of step times."
    )
    if predicted := predicted_text(facts.run.trials):
        sure += (
            f" Accuracies are {predicted}, and intervals are those of the predictions: only a "
            "training there can tell."
        )
    if any((each.high or 0.0) > 1 for each in facts.ranked):
        sure += f" {MAY_EXCEED_1}"
    is_telling = bool(others) and not facts.learned_nothing
    if is_telling and (images := facts.ranked.images_to_tell(2)):
        sure += (
            f" To tell the first two apart by one training each takes about {images:,} held-out "
            "images."
        )
    return Section(
        name="better", question=question, answer=answer, sure=sure,
        figures=[figures.ranking(facts.ranked, facts.rivals, facts.contenders)],
        tables=[*_against(facts.contenders), _ranking(facts.ranked)],
    )  # fmt: skip


def _chances(ranked: Ranking, chance: float, others: Sequence[int]) -> str:
    """Return how likely the trial that is measured best truly is, and which others may be."""
    first = ranked[0]
    text = (
        f"Trial {first.trial.number} is the best of {counted(len(ranked), 'complete trial')} with "
        f"a probability of {chance_text(chance)}. "
    )
    text += (
        f"{counted(len(others), 'other')} may be the best as well: {trials_text(others, 5)}."
        if others else "No other is likely to be the best."
    )  # fmt: skip
    likeliest = max(ranked, key=lambda each: each.best_probability or 0.0)
    if likeliest is not first:
        text += (
            f" Trial {likeliest.trial.number} is likelier to be it "
            f"({chance_text(likeliest.best_probability or 0.0)}), though it was measured lower."
        )
    return text


def _beats(contender: Contender) -> str:
    return "beats" if contender.is_beaten else "does not clearly beat"


def _against(contenders: Sequence[Contender]) -> list[Table]:
    """Return how much better the best trial is than each baseline: truly, and as measured."""
    columns = [
        Column("against"), Column("better_with", "", "better with"),
        Column("reward_gap", "+.4f", "more reward, luck taken off"),
        Column("reward_gap_low", "+.4f", "from"), Column("reward_gap_high", "+.4f", "to"),
        Column("measured_reward_gap", "+.4f", "as measured"),
        Column("accuracy_gap", "+.2%", "more accuracy, luck taken off"),
        Column("accuracy_gap_low", "+.2%", "from"), Column("accuracy_gap_high", "+.2%", "to"),
        Column("measured_accuracy_gap", "+.2%", "as measured"),
        Column("step_time_ratio", ".3g", "times its step time"),
        Column("params_ratio", ".3g", "times its parameters"),
    ]  # fmt: skip
    rows: list[list[Cell]] = []
    for each in contenders:
        if each.measured_gap is None:
            continue
        reward, accuracy = each.reward_gap, each.accuracy_gap
        rows.append([
            each.baseline.name, reward and chance_text(reward.probability),
            *(reward[:3] if reward else [None] * 3), each.measured_gap,
            *(accuracy[:3] if accuracy else [None] * 3), each.measured_accuracy_gap,
            each.ratio("step_time"), each.ratio("params"),
        ])  # fmt: skip
    if not rows:
        return []
    return [Table(name="against-baselines", columns=columns, rows=rows, is_open=True,
                  is_turned=True)]  # fmt: skip


def _ranking(ranked: Ranking) -> Table:
    is_predicted = any(each.trial.is_predicted for each in ranked)
    error = f"± standard {'deviation' if is_predicted else 'error'}"
    columns = [
        Column("trial", "d"), Column("reward", ".4f", "measured reward"),
        Column("expected_reward", ".4f", "expected true reward"),
        Column("reward_low", ".4f", "from"), Column("reward_high", ".4f", "to"),
        Column("accuracy", ".2%"), Column("accuracy_error", ".2%", error),
        *([Column("accuracy_predicted", "", "accuracy predicted")] if is_predicted else []),
        Column("best_probability", ".1%", "best with"), Column("rank", "d", "rank from"),
        Column("last_rank", "d", "to"),
    ]  # fmt: skip
    rows = [
        [e.trial.number, e.trial.reward, e.reward, e.low, e.high, e.trial.metrics.get("accuracy"),
         e.accuracy_error, *([e.trial.is_predicted] if is_predicted else []), e.best_probability,
         e.rank, e.last_rank]
        for e in ranked[:_TOP]
    ]  # fmt: skip
    return Table(name="ranking", columns=columns, rows=rows)
