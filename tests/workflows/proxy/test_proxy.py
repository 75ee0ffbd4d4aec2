"""Proxy checks and searches: the figures are right, nothing is trained twice, advice fits."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import kendalltau, spearmanr

from effnas import Architecture, SearchSpace
from effnas.cli.proxy import CheckCommand, ProxySearchCommand
from effnas.cli.wording import OPTIONS
from effnas.config.recipe import Recipe
from effnas.errors import ConfigError, StoreError
from effnas.workflows.proxy.launch import Grid, ProxySettings
from effnas.workflows.proxy.networks import spread_networks
from effnas.workflows.proxy.report import ProxyReport, Verdict
from effnas.workflows.proxy.statistics import (
    kendall,
    network_deviation,
    noise_limit,
    seed_deviation,
    spearman,
)
from effnas.workflows.proxy.study import ProxyCheck, ProxySearch, candidates, higher_fidelity
from effnas.workflows.proxy.trainings import (
    TRAININGS,
    Fidelity,
    Training,
    TrainingOutcome,
    TrainingsFolder,
    from_record,
    jobs,
    to_record,
)

SPACE = SearchSpace.load("v2-cifar")
NETWORKS = spread_networks(SPACE, 16, seed=0)
PROXY = Recipe(epochs=2, data_share=0.5, crop_area_min=0.7).sized(16, 16)
HIGH = higher_fidelity(PROXY, image_size=32)
HOLDOUT = 1_000
PLACE = {arch.id: n for n, arch in enumerate(NETWORKS)}

Trained = Callable[[Recipe, Architecture, int], TrainingOutcome]


def trainer(
    quality: Callable[[Recipe, int], float], noise: float = 0.0, high_noise: float | None = None
) -> Trained:
    """A training whose accuracy is the quality of network n plus noise of the given deviation."""

    def train(recipe: Recipe, arch: Architecture, repeat: int) -> TrainingOutcome:
        fidelity, n = Fidelity.of(recipe), PLACE[arch.id]
        key = (recipe.epochs, fidelity.image_size, round(1e6 * fidelity.data_share), n, repeat)
        deviation = high_noise if recipe == HIGH and high_noise is not None else noise
        drawn = np.random.default_rng(key).normal(quality(recipe, n), deviation)
        return TrainingOutcome(
            accuracy=float(np.clip(drawn, 0, 1)),
            train_time_s=recipe.epochs * fidelity.data_share * fidelity.image_size**2 / 100,
            hardware="CPU",
        )

    return train


def rising(recipe: Recipe, n: int) -> float:
    return 0.4 + 0.02 * n


def shuffled(recipe: Recipe, n: int) -> float:
    return rising(recipe, n) if recipe == HIGH else 0.4 + 0.02 * (7 * n % len(NETWORKS))


def check_of(networks: Sequence[Architecture] = NETWORKS, **changes: int) -> ProxyCheck:
    return ProxyCheck(networks=networks, proxy=PROXY, high=HIGH, holdout_images=HOLDOUT, **changes)


def trained(
    study: ProxyCheck | ProxySearch,
    train: Trained,
    before: Sequence[Training] = (),
    folder: TrainingsFolder | None = None,
) -> list[Training]:
    """Train all that a study wants, one after the other."""
    ended = list(before)
    while wanted := study.wanted(ended):
        assert {job.key for job in wanted} <= {job.key for job in study.possible(ended)}
        for job in wanted:
            ended.append(job.ended(train(job.recipe, job.architecture, job.repeat)))
            if folder:
                folder.add(ended[-1])
    return ended


def checked(train: Trained, check: ProxyCheck | None = None) -> ProxyReport:
    check = check or check_of()
    return check.report(trained(check, train))


# -- reference networks


@pytest.mark.slow
def test_networks_are_distinct_of_the_space_and_nested() -> None:
    assert len({arch.id for arch in NETWORKS}) == len(NETWORKS) == 16
    assert all(SPACE.contains(arch) for arch in NETWORKS)
    assert spread_networks(SPACE, 6, seed=0) == NETWORKS[:6]
    assert spread_networks(SPACE, 6, seed=1) != NETWORKS[:6]
    small = SearchSpace.parse("stages: [fused_r<1..3>_k3_s1_e<1|4>_c8]")
    assert set(spread_networks(small, 20, seed=0)) == set(small.architectures())


def test_fewer_than_four_networks_are_refused() -> None:
    tiny = SearchSpace.parse("stages: [fused_r<1..3>_k3_s1_e1_c8]")
    with pytest.raises(ConfigError, match="holds 3 architectures"):
        spread_networks(tiny, 8, seed=0)
    with pytest.raises(ConfigError, match="`networks` is 3, it must be 4 or more"):
        check_of(spread_networks(SPACE, 4, seed=0)[:3])


# -- statistics


def test_correlations_equal_scipys_with_and_without_ties() -> None:
    rng = np.random.default_rng(0)
    for levels in (3, 1000):
        x, y = rng.integers(levels, size=(2, 20, 9)).astype(float)
        for row in range(20):
            assert kendall(x, y)[row] == pytest.approx(kendalltau(x[row], y[row]).statistic)
            assert spearman(x, y)[row] == pytest.approx(spearmanr(x[row], y[row]).statistic)


def test_noise_and_spread_are_recovered_and_the_interval_covers() -> None:
    rng = np.random.default_rng(0)
    drawn = rng.normal(0, 0.01, size=(100, 8, 1)) + rng.normal(0, 0.01, size=(100, 8, 3))
    found = [(seed_deviation(one), one) for one in drawn]
    covered = [(noise.low or 1) <= 0.01 <= (noise.high or 0) for noise, _ in found]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.06)
    assert np.mean([(n.value or 0) ** 2 for n, _ in found]) == pytest.approx(0.01**2, rel=0.15)
    spreads = [network_deviation(one, n.value or 0) ** 2 for n, one in found]
    assert np.mean(spreads) == pytest.approx(0.01**2, rel=0.25)


def test_the_limit_that_noise_sets_is_what_noise_leaves() -> None:
    rng = np.random.default_rng(0)
    quality = rng.normal(size=1_000)
    x, y = quality + rng.normal(0, 0.5, 1_000), quality + rng.normal(0, 1.0, 1_000)
    expected = noise_limit(1 / (1 + 0.5**2), 1 / (1 + 1.0**2))
    assert float(kendall(x, y)) == pytest.approx(expected, abs=0.05)
    assert noise_limit(1.0, 1.0) == pytest.approx(1)


# -- reports


def test_a_perfect_proxy_has_tau_1_and_nothing_to_change() -> None:
    report = checked(trainer(rising))
    assert report.total_time_s == pytest.approx(16 * (3 * 2.56 + 2 * 8 * 10.24))
    assert report.cost_ratio == pytest.approx(2.56 / (8 * 10.24))
    assert report.tau.value == report.tau.low == pytest.approx(1)
    assert report.averaged.spearman.value == pytest.approx(1)
    assert report.verdict is Verdict.KEPT
    assert report.is_certain
    assert report.advice == ()
    assert report.networks == 16


ADVICE = {
    "noise": (
        trainer(rising, noise=0.2, high_noise=0.0), {"seeds": 8},
        ["Noise over seeds is the cause", "`epochs`"], "`image_size`",
    ),
    "far apart": (
        trainer(shuffled, noise=0.005), {},
        ["rank differently", "`image_size` nearer to 32", "more `epochs`", "`data_share`"],
        "is the cause:",
    ),
    "noise above": (
        trainer(rising, noise=0.0, high_noise=0.3), {}, ["`high_seeds` 4"], "`image_size`",
    ),
    "few networks": (
        trainer(shuffled, noise=0.01), {"networks": 5}, ["from 5 networks", "`networks` 10"],
        "rank differently",
    ),
    "one seed": (
        trainer(shuffled), {"seeds": 1, "high_seeds": 1}, ["`seeds` 3"], "is the cause:",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ADVICE)
def test_the_advice_fits_the_cause_of_a_low_tau(case: str) -> None:
    train, changes, said, unsaid = ADVICE[case]
    counts = {name: count for name, count in changes.items() if name != "networks"}
    report = checked(train, check_of(NETWORKS[: changes.get("networks", 16)], **counts))
    unknown = case in ("noise above", "few networks")
    assert report.verdict is (Verdict.NOT_KNOWN if unknown else Verdict.LOW)
    advice = " ".join(report.advice)
    places = [advice.index(words) for words in said]
    assert places == sorted(places)
    assert unsaid not in advice


@pytest.mark.parametrize(("level", "said"), [(0.1, "not learned enough"), (1.0, "too easy")])
def test_constant_accuracies_have_no_tau(level: float, said: str) -> None:
    where = "proxy" if level == 1 else "higher fidelity"
    flat = HIGH if where == "higher fidelity" else PROXY
    report = checked(trainer(lambda r, n: level if r == flat else rising(r, n)))
    assert report.verdict is Verdict.UNDEFINED
    assert report.tau.value is None
    assert f"At the {where} " in report.advice[0]
    assert said in report.advice[0]
    json.dumps(report.to_dict(), allow_nan=False)


@pytest.mark.parametrize(("guess", "known"), [(0.4, True), (0.54, False)])
def test_networks_that_learned_nothing_say_nothing_of_a_proxy(guess: float, known: bool) -> None:
    report = checked(trainer(rising), replace(check_of(), guessing_accuracy=guess))
    assert report.tau.value == pytest.approx(1)
    assert (report.verdict is Verdict.KEPT) == known
    if not known:
        assert report.verdict is Verdict.NOT_KNOWN
        assert "ranked by luck" in report.advice[0]


def test_a_correlation_is_not_known_from_few_networks_or_a_wide_interval() -> None:
    few = checked(trainer(rising), check_of(NETWORKS[:4]))
    assert (few.verdict, few.tau.value) == (Verdict.NOT_KNOWN, None)
    assert "not known from 4 networks" in few.advice[0]
    for noise in (0.0, 0.1, 0.3):
        tau = checked(trainer(rising, noise=noise), check_of(NETWORKS[:6])).tau
        assert tau.value is None or (tau.low is not None and tau.high - tau.low <= 1.5)  # type: ignore[operator]


def test_infeasible_networks_are_left_out_and_counted() -> None:
    plain = trainer(rising)

    def train(recipe: Recipe, arch: Architecture, repeat: int) -> TrainingOutcome:
        if PLACE[arch.id] < 3 and recipe == HIGH and repeat == 1:
            return TrainingOutcome(reason="training diverged")
        return plain(recipe, arch, repeat)

    report = checked(train)
    assert report.networks == 13
    assert [reason for _, reason in report.infeasible] == ["training diverged"] * 3
    assert report.tau.value == pytest.approx(1)
    few = checked(train, check_of(NETWORKS[:6]))
    assert few.verdict is Verdict.TOO_FEW
    assert few.tau.value is None
    assert "ended of 3 networks" in few.advice[0]
    assert "training diverged" in few.advice[0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"high": replace(HIGH, weight_decay=1.0)}, "epochs, image size and data share alone"),
        ({"high": PROXY}, "is what it is compared with"),
        ({"proxy": Recipe()}, "must be settled"),
        ({"seeds": 0}, "`seeds` is 0"),
        ({"threshold": 1.0}, "it must be above 0 and below 1"),
    ],
)
def test_recipes_that_do_not_compare_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        replace(check_of(), **changes)


def test_a_higher_fidelity_may_come_to_the_limit_of_a_regularization() -> None:
    weak = replace(PROXY, crop_area_min=0.1)
    high = higher_fidelity(weak, image_size=32)
    assert high.crop_area_min == 0.05
    assert ProxyCheck(networks=NETWORKS, proxy=weak, high=high, holdout_images=HOLDOUT)


# -- records and the folder


def test_a_training_survives_being_written_and_read() -> None:
    (job, *_) = jobs(PROXY, NETWORKS, 2)
    for outcome in (
        TrainingOutcome(accuracy=0.123456789, train_time_s=1.5, fidelity="é", hardware="CPU"),
        TrainingOutcome(reason="out of memory"),
    ):
        plain = json.loads(json.dumps(to_record(job.ended(outcome))))
        assert from_record(plain, space=SPACE) == job.ended(outcome)


def begin(folder: TrainingsFolder, networks: Any = NETWORKS, **changes: Any) -> list[Training]:
    given = {"space": SPACE, "recipe": PROXY, "data_fingerprint": "data", "seed": 0} | changes
    return folder.begin(networks=networks, **given)


class KilledError(Exception):
    pass


def test_a_killed_check_is_resumed_and_trains_nothing_twice(tmp_path: Path) -> None:
    check, plain = check_of(NETWORKS[:6]), trainer(rising, noise=0.05)
    done: list[tuple[Fidelity, str, int]] = []

    def train(recipe: Recipe, arch: Architecture, repeat: int) -> TrainingOutcome:
        if len(done) == kill_at:
            raise KilledError
        done.append((Fidelity.of(recipe), arch.id, repeat))
        return plain(recipe, arch, repeat)

    for calls in (0, 7, 14, 29):
        kill_at = calls
        with pytest.raises(KilledError), TrainingsFolder.open(tmp_path) as folder:
            trained(check, train, begin(folder, NETWORKS[:6]), folder)
        with (tmp_path / TRAININGS).open("ab") as file:
            file.write(b'{"epochs": 2, "ima')
    kill_at = -1
    with TrainingsFolder.open(tmp_path) as folder:
        ended = trained(check, train, begin(folder, NETWORKS[:6]), folder)
    assert len(set(done)) == len(done) == 6 * (3 + 2) == len(ended)
    assert check.report(ended) == checked(plain, check)


def test_more_networks_or_seeds_keep_what_is_trained(tmp_path: Path) -> None:
    plain = trainer(rising)
    with TrainingsFolder.open(tmp_path) as folder:
        trained(check_of(NETWORKS[:5]), plain, begin(folder, NETWORKS[:5]), folder)
    with TrainingsFolder.open(tmp_path) as folder:
        more = check_of(NETWORKS[:9], seeds=4)
        left = more.wanted(begin(folder, NETWORKS[:9]))
        assert len(left) == 4 * (4 + 2) + 5
    with TrainingsFolder.open(tmp_path) as folder:  # and fewer are a part of more
        assert not check_of(NETWORKS[:5]).wanted(begin(folder, NETWORKS[:5]))
        with pytest.raises(StoreError, match="networks"):
            begin(folder, [*NETWORKS[:5], NETWORKS[10]])


def test_a_folder_of_something_else_is_refused_and_what_differs_is_named(tmp_path: Path) -> None:
    with TrainingsFolder.open(tmp_path) as folder:
        begin(folder)
        before = (tmp_path / "manifest.json").read_bytes()
        changes: dict[str, Any]
        for changes, named in (
            ({"data_fingerprint": "others"}, "data"),
            ({"space": SPACE.with_target(image_size=48)}, "target image size"),
            ({"networks": NETWORKS[::-1]}, "networks"),
            ({"recipe": replace(PROXY, weight_decay=1.0)}, r"weight-decay \(was 1e-05, is 1.0\)"),
        ):
            with pytest.raises(StoreError, match=named):
                begin(folder, **changes)
        begin(folder, recipe=HIGH)
    assert (tmp_path / "manifest.json").read_bytes() == before


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    with TrainingsFolder.open(tmp_path) as folder:
        trained(check_of(NETWORKS[:4]), trainer(rising), begin(folder), folder)
    lines = (tmp_path / TRAININGS).read_text().splitlines()
    lines[1] = json.dumps(json.loads(lines[1]) | {"accuracy": 2})
    (tmp_path / TRAININGS).write_text("\n".join(lines) + "\n")
    with (
        TrainingsFolder.open(tmp_path) as folder,
        pytest.raises(StoreError, match=r"trainings\.jsonl:2: not a training"),
    ):
        begin(folder)


# -- the search


def proxies(least_epochs: int) -> Trained:
    """Rankings are right from a number of epochs on, and shuffled below."""
    return trainer(
        lambda recipe, n: (
            rising(recipe, n) if recipe.epochs >= least_epochs else shuffled(recipe, n)
        )
    )


def search_of() -> ProxySearch:
    return ProxySearch(
        networks=NETWORKS,
        settings=candidates(PROXY, HIGH, epochs=[1, 2, 4], image_sizes=[16, 32], data_shares=[0.5]),
        high=HIGH,
        holdout_images=HOLDOUT,
    )


def test_the_cheapest_setting_that_keeps_tau_is_chosen_and_none_after_it_is_trained() -> None:
    search = search_of()
    ended = trained(search, proxies(least_epochs=2))
    report = search.report(ended)
    assert report.chosen is not None
    assert report.chosen.proxy == Fidelity(2, 16, 0.5)
    # By time: 1 epoch at 16 px, 2 at 16 px, and 1 epoch at 32 px as dear as 4 at 16 px.
    assert [t.proxy for t in report.tried] == [Fidelity(1, 16, 0.5), Fidelity(2, 16, 0.5)]
    assert len(report.untried) == 4
    probes = [t for t in ended if t.fidelity.image_size == 32 and t.fidelity != Fidelity.of(HIGH)]
    assert len(probes) == 1
    seconds = [t.proxy_figures.train_time_s for t in report.tried if t.proxy_figures]
    assert seconds == sorted(seconds)


def test_a_setting_that_can_no_longer_succeed_is_given_up() -> None:
    plain = proxies(least_epochs=1)

    def train(recipe: Recipe, arch: Architecture, repeat: int) -> TrainingOutcome:
        if recipe == HIGH and PLACE[arch.id] >= feasible:
            return TrainingOutcome(reason="out of memory")
        return plain(recipe, arch, repeat)

    feasible = 6
    search = search_of()
    ended = trained(search, train)
    report = search.report(ended)
    assert report.chosen is not None
    assert report.chosen.networks == 6
    assert len(ended) == 2 * 16 + 2 + 6 - 1  # those that fail are not trained at the setting
    feasible = 3
    ended = trained(search, train)
    assert len(ended) == 2 * 16 + 2  # the higher fidelity, and one training at each image size
    report = search.report(ended)
    assert (report.chosen, report.best) == (None, None)
    assert len(report.tried) == 6
    assert "out of memory" in report.tried[0].advice[0]
    assert "continues" not in report.tried[0].advice[0]


def test_settings_tried_by_default_are_below_the_higher_fidelity() -> None:
    found = [Fidelity.of(recipe) for recipe in candidates(PROXY, HIGH)]
    assert Fidelity.of(PROXY) in found
    assert len(set(found)) == len(found) > 6
    assert Fidelity.of(HIGH) not in found
    assert all(f.epochs >= 1 and f.image_size >= 8 and 0 < f.data_share <= 1 for f in found)
    with pytest.raises(ConfigError, match="no setting is below"):
        candidates(PROXY, HIGH, epochs=[8], image_sizes=[32], data_shares=[1.0])
    with pytest.raises(ConfigError, match="data_share"):
        candidates(PROXY, HIGH, data_shares=[2.0])


# -- what is printed


SETTINGS = ProxySettings(space="v2", data="digits", out=Path("`out`"), recipe=PROXY, networks=20)


@pytest.mark.slow
def test_checks_and_searches_are_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(OPTIONS, "out", "--out")
    for train, code, said in (
        (trainer(rising, noise=0.01), 0, "is at least 0.65"),
        (trainer(shuffled, noise=0.01), 0, "its ranks tell nothing"),
        (trainer(lambda r, n: 0.5), 1, "nothing can be said"),
    ):
        report = checked(train)
        assert CheckCommand(SETTINGS, as_json=False).report(report) == code
        shown = capsys.readouterr().out
        assert said in shown
        assert "16 of the 20 asked for" in shown
    CheckCommand(SETTINGS, as_json=True).report(report)
    printed = json.loads(capsys.readouterr().out)
    assert (printed["verdict"], printed["folder"]) == (report.verdict, "`out`")
    search = search_of()
    found = search.report(trained(search, proxies(least_epochs=100)))
    assert found.best is not None
    assert found.best.tau.value == max(t.tau.value or -1 for t in found.tried)
    assert ProxySearchCommand(SETTINGS, Grid(), as_json=False).report(found) == 1
    assert "no setting reaches" in capsys.readouterr().out
    ProxySearchCommand(SETTINGS, Grid(), as_json=True).report(found)
    assert len(json.loads(capsys.readouterr().out)["tried"]) == 6
