"""What the terminal and the report say of a Pareto front: how it stands against others."""

from __future__ import annotations

from effnas.report.parts import counted, listed, trials_text
from effnas.trials.baselines import REFERENCE
from effnas.trials.front_standing import Against, FrontStanding
from effnas.trials.objectives import Objective
from effnas.trials.uncertainty import CLEARLY, LEVEL

_NAMES = {"params": "parameters", "params_ratio": "size", "macs": "MACs"}
_LEVEL, _CLEARLY = f"{LEVEL:.0%}", f"{CLEARLY:.0%}"


def objective_name(objective: Objective) -> str:
    """Return its metric in words."""
    return _NAMES.get(objective.metric, objective.metric.replace("_", " "))


def front_text(standing: FrontStanding) -> str:
    """Return how many trials are on the front, without a full stop."""
    size, names = len(standing.front), listed([objective_name(o) for o in standing.objectives])
    of = f"{counted(size, 'trial')} of {standing.complete:,} {'is' if size == 1 else 'are'}"
    return f"{of} on the Pareto front of {names}"


def above_guessing_text(standing: FrontStanding) -> str:
    """Return which trials of the front have learned something; nothing where that is not known."""
    above = standing.above_guessing
    if above is None:
        return ""
    if not above:
        return "No trial of the front is clearly more accurate than guessing"
    if len(above) == len(standing.front):
        return f"All trials of the front are clearly more accurate than guessing ({_LEVEL})"
    return f"Clearly more accurate than guessing ({_LEVEL}): {trials_text(above)}"


def against_text(against: Against) -> str:
    """Return how the front stands against a baseline, as a sentence without its full stop."""
    name = "The reference" if against.name == REFERENCE else against.name
    if against.lacks:
        return f"{name} is not compared: it has no {listed(against.lacks)}"
    others = tuple(n for n in against.dominated_by if n not in against.clearly_by)
    if against.clearly_by:
        text = f"{name} is clearly dominated by {trials_text(against.clearly_by)} ({_CLEARLY})"
        return text + (f", as measured also by {trials_text(others)}" if others else "")
    if others:
        return f"{name} is dominated by {trials_text(others)} as measured, by none clearly"
    text = f"{name} is dominated by none: it would be on the front"
    return text + (f", without {trials_text(against.dominates)}" if against.dominates else "")


def front_title(standing: FrontStanding) -> str:
    """Return the verdict on a search that pursued several objectives."""
    if not standing.front:
        return "No trial is complete yet"
    if standing.learned_nothing:
        return "No trial of the Pareto front is clearly better than guessing"
    text = front_text(standing)
    names = {each.name: each.name for each in standing.against} | {REFERENCE: "the reference"}
    beaten = [names[each.name] for each in standing.against if each.clearly_by]
    unbeaten = [names[each.name] for each in standing.against
                if not each.dominated_by and not each.lacks]  # fmt: skip
    text += f", which clearly dominates {listed(beaten, 3)}" if beaten else ""
    return text + (f"; {listed(unbeaten, 3)} would be on it" if unbeaten else "")
