"""The top of a report: the verdict and the key figures."""

from __future__ import annotations

from effnas.report.about_front import front_tiles
from effnas.report.facts import Facts
from effnas.report.front_texts import front_title
from effnas.report.parts import chance_text, count_text, duration, listed, shortened, trials_text
from effnas.report.statements import Contender
from effnas.trials.baselines import REFERENCE
from effnas.trials.step_unit import StepUnit
from effnas.trials.trial import TrialState


def title(facts: Facts) -> str:
    """Return the verdict as the title of the page."""
    if facts.front_standing:
        return front_title(facts.front_standing)
    winner = facts.winner
    if winner is None:
        return "No trial is complete yet"
    if facts.learned_nothing:
        return "No trial is clearly better than guessing, so none wins"
    if facts.ahead:
        best = facts.ahead[0]
        return (
            f"A baseline wins: {shortened(best.name, 40)} has a reward of "
            f"{best.reward:.4f}, the best trial {winner.reward:.4f}"
        )
    random, reached = facts.random, facts.reached
    is_random = facts.run.manifest.controller == "random"
    if random and reached is not None and reached <= random.best and not is_random:
        return f"Random search would have done as well: {random.best:.4f} against {reached:.4f}"
    others = [trial.number for trial in facts.rivals]
    beaten = [_named(each) for each in facts.contenders if each.is_beaten]
    unbeaten = [_named(each, chance=True) for each in facts.contenders if each.is_beaten is False]
    is_sure = not others and not unbeaten
    how = facts.how_best
    text = f"Trial {winner.number} {'wins' if is_sure and how == 'measured' else f'is {how} best'}"
    text += f" and beats {listed(beaten, 3)}" if beaten else ""
    if unbeaten:
        text += f", but does not clearly beat {listed(unbeaten, 3)}"
    if others:
        text += f"; {trials_text(others, 3)} may be the best, too"
    return text


def _named(contender: Contender, *, chance: bool = False) -> str:
    gap = contender.reward_gap
    more = f" ({chance_text(gap.probability)})" if chance and gap else ""
    return f"{shortened(contender.name, 30)}{more}"


def tiles(facts: Facts) -> list[tuple[str, str, str]]:
    """Return the key figures: what, value, and what it is compared with."""
    if facts.front_standing:
        return [*front_tiles(facts, facts.front_standing), *_trials(facts)]
    winner = facts.winner
    if winner is None:
        return []
    m = winner.metrics
    reference = next((b for b in facts.run.baselines if b.name == REFERENCE), None)
    found = []
    if "accuracy" in m:
        error = facts.accuracy_error
        than = reference.metrics.get("accuracy") if reference else None
        more = (f"± {100 * error:.1f}; " if error else "") + (
            f"reference {than:.1%}" if than is not None else "reference not trained"
        )
        guessing = facts.run.manifest.data.guessing.best
        more += f"; guessing {guessing:.1%}" if facts.learned_nothing and guessing else ""
        name = "predicted accuracy" if winner.is_predicted else "accuracy"
        found.append((name, f"{m['accuracy']:.1%}", more))
    if "step_time" in m:
        low, high = m.get("step_time_low"), m.get("step_time_high")
        is_over_reference = facts.run.step_unit is StepUnit.REFERENCE
        whose = "reference" if is_over_reference else facts.run.step_unit.value
        more = f"{low:.2f} to {high:.2f}; " if low and high else ""
        found.append(("step time", f"{m['step_time']:.2f}×", f"{more}{whose} 1"))
    if "params_ratio" in m:
        found.append(("parameters", f"{m['params_ratio']:.2f}×",
                      f"{count_text(m.get('params', 0))}; reference 1, exact"))  # fmt: skip
    return [*found, *_trials(facts)]


def _trials(facts: Facts) -> list[tuple[str, str, str]]:
    seconds = facts.run.work.trials_s
    parent = facts.run.manifest.parent
    than = f"of {facts.run.manifest.budget:,}"
    if parent:  # whose budget is that of new trainings
        than = f"{facts.run.trials.count(TrialState.COMPLETE):,} complete, from {parent.path}"
    than += f"; these took {duration(seconds)}" if seconds else ""
    ended = sum(trial.state.is_finished for trial in facts.run.trials)
    return [("trials", f"{ended:,}", than)]
