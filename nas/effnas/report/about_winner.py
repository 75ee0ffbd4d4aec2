"""Sections on the trial that is measured best: what it is, what sets it apart, what it costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from effnas.controllers.baseline import RandomSearch
from effnas.report import explanation, figures, figures_search
from effnas.report.diagram import draw
from effnas.report.facts import Facts
from effnas.report.parts import (
    Cell,
    Column,
    Section,
    Table,
    count_text,
    counted,
    listed,
    share_text,
)
from effnas.report.statements import best_so_far, sensitivity
from effnas.trials.baselines import REFERENCE
from effnas.trials.step_unit import StepUnit
from effnas.trials.trial import Trial

_FIGURES = (
    Column("reward", ".4f"),
    Column("accuracy", ".2%"),
    Column("accuracy_error", ".2%", "± standard error"),
    Column("step_time", ".3f", "step time S"),
    Column("step_time_low", ".3f", "S from"),
    Column("step_time_high", ".3f", "S to"),
    Column("params_ratio", ".3f", "size P"),
    Column("params", ",d", "parameters"),
    Column("macs", ",d", "MACs"),
    Column("step_s", ".4f", "step, s"),
    Column("train_time_s", ".1f", "training, s"),
)


def what_won(facts: Facts) -> Section:
    """Draw the trial that is measured best, beside the reference and the baselines' figures."""
    winner, run = facts.winner, facts.run
    question = f"Which network is {facts.how_best} best?"
    predicted = "predicted " * (facts.how_best == "predicted")
    if winner is None:
        return Section(name="best", question=question, answer="No trial is complete yet.")
    size = run.space.target.image_size
    reference = run.space.reference
    found = run.space.decisions(winner.architecture) or {}
    other = run.space.decisions(run.space.with_default_recipe(reference)) or {}
    changed = [name for name, option in found.items() if other.get(name) != option]
    m = winner.metrics
    figures_text = listed([
        *([f"{m['accuracy']:.2%} {predicted}accuracy{_error_text(facts)}"]
          if "accuracy" in m else []),
        *([f"{m['step_time']:.2f} times {run.step_unit.value} step time"]
          if "step_time" in m else []),
        *([f"{m['params_ratio']:.2f} times the reference's parameters ({count_text(m['params'])})"]
          if "params_ratio" in m and "params" in m else []),
    ])  # fmt: skip
    arch = winner.architecture
    drawn = [] if arch.model else [
        draw(f"trial {winner.number}, {facts.how_best} best", arch, size, reference),
        draw("the reference", reference, size),
    ]  # fmt: skip
    sure = f"{len(changed)} of {counted(len(found), 'decision')} differ from the reference's"
    sure += " and its default recipe." if arch.recipe else "."
    if drawn:
        sure = (f"Drawn at {size} px: one bar a layer, as wide as the square root of its "
                f"channels; what differs from the reference is marked. {sure}")  # fmt: skip
    if not any(each.baseline.name == REFERENCE for each in facts.contenders):
        sure += " The reference was not trained beside the trials, so its accuracy is not known."
    if run.step_unit is not StepUnit.REFERENCE:
        sure += f" S is over {run.step_unit.value}: the table of step times lacks the reference."
    answer = f"Trial {winner.number}: {figures_text}."
    if arch.recipe:
        answer += f" Its recipe: {arch.recipe_text}."
    if facts.learned_nothing:
        answer += " It does not win: no trial is clearly more accurate than guessing."
    return Section(
        name="best",
        question=question,
        answer=answer,
        sure=sure,
        extra="networks",
        content=drawn,
        tables=[_beside(facts, winner)],
    )


def _error_text(facts: Facts) -> str:
    error, is_predicted = facts.accuracy_error, facts.how_best == "predicted"
    kind = "standard deviation" if is_predicted else "standard error"
    return f" (± {100 * error:.1f} points {kind})" if error is not None else ""


def _beside(facts: Facts, winner: Trial) -> Table:
    step_s = facts.run.reference_step_s
    name = f"trial {winner.number}"
    rows = [_figures(name, winner.reward, winner.metrics, facts.accuracy_error, step_s)]
    rows += [
        _figures(
            each.baseline.name, each.reward, each.baseline.metrics, each.accuracy_error, step_s
        )
        for each in facts.contenders
    ]
    if not any(each.baseline.name == REFERENCE for each in facts.contenders):
        known = facts.run.space.counted_metrics(facts.run.space.reference)
        if facts.run.step_unit is StepUnit.REFERENCE:
            known = {**known, "step_time": 1.0}
        rows.append(_figures("reference, not trained", None, known, None, step_s))
    return Table(name="best", columns=[Column("network"), *_FIGURES], rows=rows, is_open=True,
                 is_turned=True)  # fmt: skip


def _figures(
    name: str,
    reward: float | None,
    metrics: Mapping[str, float],
    error: float | None,
    reference_step_s: float | None,
) -> list[Cell]:
    more = {"reward": reward, "accuracy_error": error}
    if reference_step_s and "step_time" in metrics:
        more["step_s"] = metrics["step_time"] * reference_step_s
    return [name, *(more.get(c.name, metrics.get(c.name)) for c in _FIGURES)]


def beats_random(facts: Facts) -> Section:
    """Compare with random search."""
    question = "Is it better than random search?"
    run, random, reached = facts.run, facts.random, facts.reached
    bests = best_so_far(run.trials)
    estimates = [] if run.objectives else facts.random_searches
    shown = [figures.progress(run.trials, bests, estimates)] if bests else []
    if random is None or reached is None:
        return Section(name="random", question=question, answer=facts.lacking, figures=shown)
    what = "a hypervolume of " if run.objectives else ""
    ended = sum(trial.state.is_finished for trial in run.trials)
    name = run.manifest.controller or "the controller"
    verdict = (
        "No: random search would have done as well or better."
        if reached <= random.best
        else "Perhaps: it is ahead, with more trials than are estimated for random search."
        if random.trials < ended
        else "Yes, beyond what random search reaches in 19 of 20 runs."
        if reached > random.high
        else "Perhaps: it is ahead, within what random search reaches by luck."
    )
    if name == "random":
        verdict = "This is random search."
    answer = (
        f"{verdict} {name} reached {what}{reached:.4f} with {counted(ended, 'trial')}; "
        f"random search would have reached {random.best:.4f} "
        f"{f'with {random.trials:,} ' if random.trials < ended else ''}"
        f"(nine times in ten {random.low:.4f} to {random.high:.4f})"
    )
    passed = next((number for number, value in bests if value > random.best), None)
    if name != "random" and not run.objectives and passed is not None:
        after = sum(t.state.is_finished and t.number <= passed for t in run.trials)
        answer += f", which {name} passed after {counted(after, 'trial')}"
    sure = (
        "Random search was not run: a model of all these trials says what random networks would "
        "have measured, its own error and the noise of measurements included."
    )
    if estimates:
        sure += (
            " The dotted line is what it expects of random search after as many trials as the "
            "search had, the band where nine in ten random searches are."
        )
    columns = [Column("trial", "d"), Column("reward", ".4f", "best reward so far")]
    tables = [Table(name="progress", columns=columns, rows=bests)]
    if estimates:
        tables.append(_random_searches(estimates))
    return Section(name="random", question=question, answer=f"{answer}.", sure=sure,
                   figures=shown, tables=tables)  # fmt: skip


def _random_searches(estimates: Sequence[RandomSearch]) -> Table:
    columns = [
        Column("trials", "d"), Column("reward", ".4f", "random search, expected best"),
        Column("reward_low", ".4f", "nine in ten from"), Column("reward_high", ".4f", "to"),
    ]  # fmt: skip
    rows: list[list[Cell]] = [[e.trials, e.best, e.low, e.high] for e in estimates]
    return Table(name="random-search", columns=columns, rows=rows)


def why_it_wins(facts: Facts) -> Section:
    """Split the gain over the reference into decisions and metrics."""
    question = "What sets it apart from the reference?"
    predictor, winner = facts.predictor, facts.winner
    if predictor is None or winner is None:
        return Section(name="why", question=question, answer=facts.lacking)
    path = explanation.path(predictor, winner.architecture)
    if path is None:
        return Section(
            name="why", question=question,
            answer="Not known: the reference or the best trial lies outside the space, or expected "
                   "rewards are not above 0, so there is no path between them.",
        )  # fmt: skip
    if not path:
        return Section(name="why", question=question, answer="It is the reference.")
    first, total = path[0], sum(step.gain for step in path)
    names = sorted({name for step in path for name in step.parts},
                   key=lambda name: -sum(step.parts[name] for step in path))  # fmt: skip
    parts = [f"{figures.METRIC_NAMES.get(name, name)} {100 * sum(s.parts[name] for s in path):+.1f}"
             for name in names]  # fmt: skip
    answer = (
        f"From the reference to trial {winner.number} are {counted(len(path), 'decision')}. "
        f"{figures.step_name(first)} gains most, {100 * first.gain:+.1f}%; all together change "
        f"the expected reward by {100 * total:+.1f}%"
        + (f" ({', '.join(parts)})." if parts else ".")
    )
    sure = (
        "Expected by a model of the trials, not measured one by one; the decision that gains most "
        "at its place comes first. Percents are differences of the reward's logarithm, which add "
        f"up. The model expects a reward of {path[-1].reward:.4f} of that trial, whose measured "
        f"one is {winner.reward or 0:.4f}. Intervals hold with 90%."
    )
    metrics = [Column(f"gain_by_{name}", "+.2%", figures.METRIC_NAMES.get(name, name))
               for name in names]  # fmt: skip
    columns = [Column("decision"), Column("before"), Column("after"), Column("gain", "+.2%"),
               Column("gain_low", "+.2%", "from"), Column("gain_high", "+.2%", "to"), *metrics,
               Column("reward", ".4f", "expected after it")]  # fmt: skip
    rows: list[list[Cell]] = [
        [s.decision, *(None if v is None else str(v) for v in (s.before, s.after)), s.gain, s.low,
         s.high, *(s.parts.get(name) for name in names), s.reward]
        for s in path
    ]  # fmt: skip
    return Section(name="why", question=question, answer=answer, sure=sure,
                   figures=[figures.steps_of(path)],
                   tables=[Table(name="path", columns=columns, rows=rows)])  # fmt: skip


def which_matter(facts: Facts) -> Section:
    """Rank the decisions by their share of the variance."""
    question = "Which decisions matter?"
    if facts.predictor is None:
        return Section(name="decisions", question=question, answer=facts.lacking)
    found, total = explanation.importances(facts.predictor, facts.run.manifest.seed)
    if not found:
        return Section(name="decisions", question=question, answer="The space has none.")
    first = found[0]
    share, low, high = map(share_text, (first.share, first.low, first.high))
    answer = (
        f"{first.decision} most: alone it makes {share} of the differences between networks of "
        f"this space ({low} to {high}), and {first.best_option} is its best option on average. All "
        f"{len(found)} decisions, each alone, make {share_text(total)}; the rest follows from how "
        "they combine."
    )
    sure = (
        "Shares of the variance of rewards over random networks (functional ANOVA, main effects), "
        "by a model of the trials. Intervals hold with 90% and say what the trials leave open."
    )
    columns = [Column("decision"), Column("share", ".1%"), Column("share_low", ".1%", "from"),
               Column("share_high", ".1%", "to"),
               Column("best_option", "", "best on average")]  # fmt: skip
    rows: list[list[Cell]] = [
        [i.decision, i.share, i.low, i.high, str(i.best_option)] for i in found
    ]
    return Section(name="decisions", question=question, answer=answer, sure=sure,
                   figures=[figures.importance(found)],
                   tables=[Table(name="decisions", columns=columns, rows=rows)])  # fmt: skip


def what_it_costs(facts: Facts) -> Section:
    """Show accuracy against step time."""
    question = "What does accuracy cost in step time?"
    both = ("accuracy", "step_time")
    complete = [t for t in facts.complete if all(name in t.metrics for name in both)]
    if not complete:
        answer = "No complete trial has both an accuracy and a step time."
        return Section(name="trade-off", question=question, answer=answer)
    winner, front = complete[0], facts.front
    fastest = min(front, key=lambda t: t.metrics["step_time"])
    best = max(front, key=lambda t: t.metrics["accuracy"])
    baselines = [(b.name, b.metrics) for b in facts.run.baselines]
    is_on_it = f"{'is' if winner in front else 'is not'} on it"
    answer = (
        f"{counted(len(front), 'trial')} of {len(complete)} {'lies' if len(front) == 1 else 'lie'} "
        f"on the Pareto front: none is both more accurate and faster. "
    )
    if len(front) == 1:
        answer += f"It is trial {best.number}, with {_at(best)}."
    else:
        answer += (
            f"It runs from {_at(fastest)} (trial {fastest.number}) to {_at(best)} (trial "
            f"{best.number}); trial {winner.number}, the best by reward, {is_on_it}."
        )
    limits = [*facts.run.manifest.limits, *(c.text for c in facts.run.space.constraints)]
    sure = "Measured once each, without intervals here; a dot shows its blocks when pointed at."
    sure += f" Constraints: {'; '.join(limits)}." if limits else " There are no constraints."
    columns = [Column("trial", "d"), Column("accuracy", ".2%"), Column("step_time", ".3f", "S"),
               Column("params_ratio", ".3f", "P"), Column("reward", ".4f"),
               Column("architecture")]  # fmt: skip
    rows: list[list[Cell]] = [
        [t.number, *(t.metrics.get(name) for name in (*both, "params_ratio")), t.reward,
         str(t.architecture)]
        for t in front
    ]  # fmt: skip
    return Section(
        name="trade-off", question=question, answer=answer, sure=sure,
        figures=[figures.trade_off(complete, front, winner, baselines, limits,
                                   facts.run.step_unit.value)],
        tables=[Table(name="pareto-front", columns=columns, rows=rows)],
    )  # fmt: skip


def _at(trial: Trial) -> str:
    return f"{trial.metrics['accuracy']:.1%} at S {trial.metrics['step_time']:.2f}"


def where_it_changes(facts: Facts) -> Section:
    """Show which trials win with other exponents."""
    question = "Would another reward choose another network?"
    found, best = None, facts.winner
    if facts.reward:
        found = sensitivity(facts.run.trials, facts.reward)
    if found is None or best is None:
        reason = (
            "No complete trial has A, S and P."
            if facts.reward is not None and not facts.complete
            else "Not shown: the reward is not a product of A and powers of S and P."
        )
        return Section(name="exponents", question=question, answer=reason)
    wins = Counter(n for row in found.winners for n in row if n is not None)
    numbers = list(wins)
    s, p = found.given
    answer = (
        f"Trial {best.number}, the best with S^{s:g} and P^{p:g} as in this run, is so for "
        f"{share_text(found.share)} of the exponents from {found.step_time_exponents[0]:g} to 0 "
        f"and {found.size_exponents[0]:g} to 0; {counted(len(numbers), 'trial')} "
        f"{'is' if len(numbers) == 1 else 'are'} the best somewhere."
    )
    sure = "By measured metrics, without their errors: near the edge between two, both are as good."
    columns = [Column("trial", "d"), Column("share", ".1%", "share of the exponents")]
    rows: list[list[Cell]] = [[n, count / wins.total()] for n, count in wins.most_common()]
    return Section(name="exponents", question=question, answer=answer, sure=sure,
                   figures=[figures_search.exponents(found)] if len(numbers) > 1 else [],
                   tables=[Table(name="exponents", columns=columns, rows=rows)])  # fmt: skip
