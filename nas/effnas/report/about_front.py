"""The part of a search's report about several objectives: its Pareto front."""

from __future__ import annotations

from typing import TYPE_CHECKING

from effnas.report.parts import Cell, Column, Section, Table, counted, listed
from effnas.trials.front_standing import Against, FrontStanding
from effnas.trials.uncertainty import CLEARLY, LEVEL

if TYPE_CHECKING:  # facts import models, and the terminal takes texts from here
    from effnas.report.facts import Facts

#: Metrics that are whole numbers.
_COUNTS = frozenset({"params", "macs", "activations"})
_LEVEL, _CLEARLY = f"{LEVEL:.0%}", f"{CLEARLY:.0%}"


def above_guessing_text(standing: FrontStanding) -> str:
    """Return which trials of the front have learned something; nothing where that is not known."""
    above = standing.above_guessing
    if above is None:
        return ""
    if not above:
        return "No trial of the front is clearly more accurate than guessing"
    if len(above) == len(standing.front):
        return f"All trials of the front are clearly more accurate than guessing ({_LEVEL})"
    return f"Clearly more accurate than guessing ({_LEVEL}): {_trials(above)}"


def against_text(against: Against) -> str:
    """Return how the front stands against a baseline, as a sentence without its full stop."""
    if against.lacks:
        return f"{against.name} is not compared: it has no {listed(against.lacks)}"
    others = tuple(n for n in against.dominated_by if n not in against.clearly_by)
    if against.clearly_by:
        text = f"{against.name} is clearly dominated by {_trials(against.clearly_by)} ({_CLEARLY})"
        return text + (f", as measured also by {_trials(others)}" if others else "")
    if others:
        return f"{against.name} is dominated by {_trials(others)} as measured, by none clearly"
    text = f"{against.name} is dominated by none: it would be on the front"
    return text + (f", without {_trials(against.dominates)}" if against.dominates else "")


def which_are_best(facts: Facts) -> Section | None:
    """Show the Pareto front beside the baselines; None for a search by its reward alone."""
    objectives = facts.run.objectives
    if objectives is None:
        return None
    question = "Which networks are best?"
    standing = FrontStanding(facts.run, objectives)
    if not standing.front:
        return Section(name="front", question=question, answer="No trial is complete yet.")
    metrics = [each.metric for each in objectives]
    columns = [
        Column("network"),
        *(Column(name, ",d" if name in _COUNTS else ".4g") for name in metrics),
        Column("reward", ".4f"),
        Column("above_guessing", "", "clearly above guessing"),
    ]
    above = standing.above_guessing
    rows: list[list[Cell]] = [
        [f"trial {trial.number}", *(trial.metrics[name] for name in metrics), trial.reward,
         None if above is None else trial.number in above]
        for trial in standing.front
    ]  # fmt: skip
    rows += [
        [each.name, *(each.metrics.get(name) for name in metrics),
         each.reward(facts.reward) if facts.reward else None, None]
        for each in facts.run.baselines
    ]  # fmt: skip
    size = len(standing.front)
    answer = [
        f"{counted(size, 'trial')} {'is' if size == 1 else 'are'} on the Pareto front of "
        f"{listed([str(each) for each in objectives])}",
        above_guessing_text(standing),
        *map(against_text, standing.against),
    ]
    sure = (
        "One network dominates another if it is as good in all objectives, and better in one. The "
        "front is that of measured values; for what is called clear, the luck in accuracies is "
        "taken off, and intervals of step times do not overlap. All that follows is about the "
        "reward, which the search did not pursue."
    )
    return Section(
        name="front",
        question=question,
        answer=" ".join(f"{each}." for each in answer if each),
        sure=sure,
        tables=[Table(name="front", columns=columns, rows=rows, is_open=True)],
    )


def front_title(standing: FrontStanding) -> str:
    """Return the verdict on a search that pursued several objectives."""
    if standing.above_guessing == ():
        return "No trial of the Pareto front is clearly better than guessing"
    size = len(standing.front)
    text = f"{counted(size, 'network')} {'is' if size == 1 else 'are'} on the Pareto front"
    beaten = [each.name for each in standing.against if each.clearly_by]
    unbeaten = [each.name for each in standing.against if not each.dominated_by and not each.lacks]
    text += f", which clearly dominates {listed(beaten, 3)}" if beaten else ""
    return text + (f"; {listed(unbeaten, 3)} would be on it" if unbeaten else "")


def _trials(numbers: tuple[int, ...]) -> str:
    names = listed([str(number) for number in numbers])
    return f"{'trial' if len(numbers) == 1 else 'trials'} {names}"
