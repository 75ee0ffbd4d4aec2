"""`effnas rescore`: the trials of a search under another reward, without training anything."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.text import Text

from effnas.cli.leaderboard import LEARNED_NOTHING, SHARED_RANKS, ranks_text
from effnas.cli.tables import (
    PREDICTED,
    SHOWN_NETWORKS,
    accuracy_text,
    console,
    counted,
    networks,
    note,
    number,
    table,
)
from effnas.config.text import share_text
from effnas.errors import ConfigError, StoreError
from effnas.trials.rescore import OPEN_REWARD, parse_sweep, rescored, store_rescored, sweep
from effnas.trials.reward import Reward
from effnas.trials.run import Run, load_run
from effnas.trials.trial import Trial, Trials
from effnas.trials.uncertainty import RankedTrial, rank_trials


def show_rescored(
    path: Path, reward: str | None, ranges: Sequence[str], *, store: bool, top: int, as_json: bool
) -> None:
    """Print how the trials of a run rank under another reward, or who wins as constants change.

    Raises:
        UserError: If the run or the reward cannot be read, or options contradict each other.
    """
    run = load_run(path)
    if ranges:
        if store:
            raise ConfigError("`store` goes with one reward; leave out `sweep`")
        _show_sweep(run, reward or OPEN_REWARD, ranges, as_json=as_json)
        return
    if reward is None:
        raise ConfigError("give a `reward`, or a `sweep` of constants")
    found = Reward.load(reward)
    if run.best is None:
        raise StoreError(f"{path}: no trial is complete, so there is nothing to rank")
    again = rescored(run.trials, found)
    if store:
        store_rescored(run, found)
    before, were = run.ranking(run.known_reward), _places(run.trials)
    ranking, measured = rank_trials(again, found, run.noise, before), _places(again)
    known = {each.trial.number: each for each in before}
    if as_json:
        stored = {"name": run.manifest.reward.name, "text": run.manifest.reward.text}
        plain = {"run": str(path), "reward": found.text, "reward_before": stored, "stored": store}
        rows = [_row(each, known.get(each.trial.number)) for each in ranking[:top]]
        print(json.dumps({**plain, "trials": rows}, indent=2))
        return
    screen = console()
    screen.print(
        f"{path}: {run.manifest.reward.name} becomes {found.name}"
        + (f" = {found.text}" if found.text != found.name else ""),
    )  # fmt: skip
    shown = table(
        "rank", "old rank", "", "trial", "reward", "old reward", "accuracy", "S", "P", key=4
    )
    for each in ranking[:top]:
        trial, was = each.trial, known.get(each.trial.number)
        shown.add_row(
            ranks_text(each),
            ranks_text(was) if was else "-",
            _moved_text(were[trial.number] - measured[trial.number] if was else 0),
            str(trial.number),
            number(trial.reward, "{:.4f}"),
            number(was.trial.reward if was else None, "{:.4f}"),
            *_figures(trial),
        )
    screen.print(shown)
    if any(each.rank < each.last_rank for each in ranking[:top]):
        screen.print(f"{SHARED_RANKS}; up, down: by the reward alone", style="dim")
    if any(each.trial.is_predicted for each in ranking[:top]):
        screen.print(PREDICTED, style="dim")
    screen.print()
    first = (each.trial for each in ranking[: min(top, SHOWN_NETWORKS)])
    screen.print(networks((f"trial {t.number}", t.architecture) for t in first))
    unranked = len(before) - len(ranking)
    if unranked:
        screen.print(f"The reward has no value for {counted(unranked, 'complete trial')}.")
    if run.learned_nothing(before):
        note(screen, LEARNED_NOTHING, "Warning")
    done = "Stored" if store else "Nothing is changed; --store keeps these rewards"
    screen.print(f"\n{done}.")


def _places(trials: Trials) -> dict[int, int]:
    """Return the places of the complete trials by reward, from 1; equals share the first."""
    ranked = trials.ranked()
    rewards = [trial.reward for trial in ranked]
    return {trial.number: 1 + rewards.index(trial.reward) for trial in ranked}


def _row(now: RankedTrial, was: RankedTrial | None) -> dict[str, object]:
    """Return a trial as plain data."""
    return {
        "rank": now.rank,
        "last_rank": now.last_rank,
        "rank_before": was.rank if was else None,
        "last_rank_before": was.last_rank if was else None,
        "reward_before": was.trial.reward if was else None,
        **now.trial.to_row(),
    }


def _show_sweep(run: Run, reward: str, ranges: Sequence[str], *, as_json: bool) -> None:
    found = sweep(run.trials, reward, parse_sweep(ranges))
    regions = found.regions
    if as_json:
        grid = [
            {**dict(zip(found.names, point, strict=True)), "winner": winner, "reward": value}
            for point, winner, value in zip(found.points, found.winners, found.rewards, strict=True)
        ]
        plain = {"run": str(run.path), "reward": reward, "names": found.names}
        print(json.dumps({**plain, "regions": [vars(r) for r in regions], "grid": grid}, indent=2))
        return
    trials = {trial.number: trial for trial in run.trials}
    screen = console()
    screen.print(
        f"{run.path}: who wins by {found.reward}, at {len(found.points)} combinations",
    )
    shown = table("trial", "wins", *found.names, "accuracy", "S", "P")
    for region in regions:
        trial = trials.get(region.trial) if region.trial is not None else None
        spans = (
            f"{low:g}" if low == high else f"{low:g} to {high:g}"
            for low, high in region.ranges.values()
        )
        figures = _figures(trial) if trial else ("-",) * 3
        name = "-" if region.trial is None else str(region.trial)
        shown.add_row(name, share_text(region.share), *spans, *figures)
    screen.print(shown)
    if any(trial.is_predicted for trial in run.trials):
        screen.print(PREDICTED, style="dim")
    screen.print()
    winners = [trials[r.trial] for r in regions[:SHOWN_NETWORKS] if r.trial in trials]
    screen.print(networks((f"trial {t.number}", t.architecture) for t in winners))


def _moved_text(moved: int) -> Text:
    if not moved:
        return Text()
    return Text(f"up {moved}", "green") if moved > 0 else Text(f"down {-moved}", "red")


def _figures(trial: Trial) -> tuple[str, ...]:
    others = (trial.metrics.get(name) for name in ("step_time", "params_ratio"))
    return accuracy_text(trial), *(number(value, "{:.3f}") for value in others)
