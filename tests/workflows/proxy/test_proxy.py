"""Proxy checks and searches: the figures are right, nothing is trained twice, advice fits."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kendalltau, spearmanr

from effnas import Architecture, Measurement, SearchSpace
from effnas.cli.proxy import CheckCommand, ProxySearchCommand
from effnas.config.settings import Recipe
from effnas.errors import ConfigError, StoreError
from effnas.workflows.proxy.folder import TRAININGS, TrainingsFolder
from effnas.workflows.proxy.launch import Grid, ProxySettings
from effnas.workflows.proxy.networks import spread_networks
from effnas.workflows.proxy.report import ProxyReport, Verdict
from effnas.workflows.proxy.search import ProxySearch, candidates
from effnas.workflows.proxy.statistics import (
    correlate,
    kendall,
    network_deviation,
    noise_limit,
    seed_deviation,
    spearman,
)
from effnas.workflows.proxy.study import ProxyCheck, higher_fidelity
from effnas.workflows.proxy.trainings import (
    Fidelity,
    Training,
    TrainingOutcome,
    from_record,
    jobs,
    missing,
    to_record,
)

SPACE = SearchSpace.load("v2-cifar")
NETWORKS = spread_networks(SPACE, 16, seed=0)
PROXY = Recipe(epochs=2, image_size=16, data_share=0.5)
HIGH = higher_fidelity(PROXY, image_size=32)
HOLDOUT = 1_000
PLACE = {arch.id: n for n, arch in enumerate(NETWORKS)}

Trained = Callable[[Recipe, Architecture, int], TrainingOutcome]


def run(
    study: ProxyCheck | ProxySearch,
    folder: TrainingsFolder,
    trainings: Sequence[Training],
    train: Callable[[Recipe, Architecture, int], TrainingOutcome],
) -> list[Training]:
    """Train all that a study wants, one after the other."""
    ended = list(trainings)
    while wanted := study.wanted(ended):
        for job in wanted:
            ended.append(job.ended(train(job.recipe, job.architecture, job.repeat)))
            folder.add(ended[-1])
    return ended


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


def trained(check: ProxyCheck | ProxySearch, train: Trained) -> list[Training]:
    ended: list[Training] = []
    while wanted := check.wanted(ended):
        ended += [j.ended(train(j.recipe, j.architecture, j.repeat)) for j in wanted]
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


def test_networks_reach_further_than_random_ones() -> None:
    def reach(networks: Sequence[Architecture]) -> float:
        logs = [np.log(SPACE.count(arch).macs) for arch in networks]
        return float(max(logs) - min(logs))

    rngs = [np.random.default_rng(seed) for seed in range(10)]
    drawn = [reach([SPACE.sample(rng) for _ in range(8)]) for rng in rngs]
    assert reach(NETWORKS[:8]) > np.median(drawn)


def test_a_space_smaller_than_asked_gives_all_of_its_networks() -> None:
    small = SearchSpace.parse("stages: [fused_r<1..3>_k3_s1_e<1|4>_c8]")
    assert set(spread_networks(small, 20, seed=0)) == set(small.architectures())


def test_networks_that_look_alike_are_still_distinct() -> None:
    alike = SearchSpace.parse(
        "stages: [mbconv_r1_k<3|5>_s1_e1_c32, mbconv_r1_k<3|5>_s1_e1_c32, conv_r1_k3_s1_c32]"
    )
    chosen = spread_networks(alike, 4, seed=0)
    assert len(set(chosen)) == 4


def test_fewer_than_four_networks_are_refused() -> None:
    tiny = SearchSpace.parse("stages: [fused_r<1..3>_k3_s1_e1_c8]")
    with pytest.raises(ConfigError, match="holds 3 architectures"):
        spread_networks(tiny, 8, seed=0)
    with pytest.raises(ConfigError, match="3 networks cannot show"):
        spread_networks(SPACE, 3, seed=0)
    with pytest.raises(ConfigError, match="3 networks cannot show"):
        check_of(NETWORKS[:3])


# -- statistics


@pytest.mark.slow
def test_correlations_equal_scipys_with_and_without_ties() -> None:
    rng = np.random.default_rng(0)
    for levels in (3, 6, 1000):
        x, y = rng.integers(levels, size=(2, 40, 9)).astype(float)
        for row in range(40):
            assert kendall(x, y)[row] == pytest.approx(kendalltau(x[row], y[row]).statistic)
            assert spearman(x, y)[row] == pytest.approx(spearmanr(x[row], y[row]).statistic)


def test_the_order_of_seeds_makes_no_ranking() -> None:
    row = np.array([0.1, 0.2, 0.3])
    assert row.mean() != row[::-1].mean()  # by a rounding error
    high = np.arange(4.0)[:, None]
    one, other = (
        correlate(
            kendall,
            np.array([row, second, row + 0.1, row + 0.2]),
            high,
            np.random.default_rng(0),
            averaged=True,
        )
        for second in (row, row[::-1])
    )
    assert one == other


def test_noise_and_spread_are_recovered_and_the_interval_covers() -> None:
    covered, noises, spreads = [], [], []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        drawn = rng.normal(0, 0.01, size=(8, 1)) + rng.normal(0, 0.01, size=(8, 3))
        noise = seed_deviation(drawn)
        assert noise.value is not None
        assert noise.low is not None
        assert noise.high is not None
        covered.append(noise.low <= 0.01 <= noise.high)
        noises.append(noise.value**2)
        spreads.append(network_deviation(drawn, noise.value) ** 2)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.04)
    assert np.mean(noises) == pytest.approx(0.01**2, rel=0.1)
    assert np.mean(spreads) == pytest.approx(0.01**2, rel=0.15)


@pytest.mark.slow
def test_intervals_of_tau_cover() -> None:
    rng = np.random.default_rng(0)

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        quality = rng.multivariate_normal([0, 0], [[1, 0.9], [0.9, 1]], size=count)
        below = quality[:, :1] + rng.normal(0, 0.3, size=(count, 2))
        return below, quality[:, 1:] + rng.normal(0, 0.1, size=(count, 2))

    below, above = draw(2_000)
    truth = float(kendall(below[:, 0], above.mean(1)))
    covered = []
    for _ in range(80):
        found = correlate(kendall, *draw(10), rng, averaged=False, replicates=300)
        assert found.low is not None
        assert found.high is not None
        covered.append(found.low <= truth <= found.high)
    assert np.mean(covered) >= 0.9


def test_the_limit_that_noise_sets_is_what_noise_leaves() -> None:
    rng = np.random.default_rng(0)
    quality = rng.normal(size=1_500)
    x, y = quality + rng.normal(0, 0.5, 1_500), quality + rng.normal(0, 1.0, 1_500)
    expected = noise_limit(1 / (1 + 0.5**2), 1 / (1 + 1.0**2))
    assert float(kendall(x, y)) == pytest.approx(expected, abs=0.04)
    assert noise_limit(1.0, 1.0) == pytest.approx(1)


# -- reports


def test_a_perfect_proxy_has_tau_1_and_nothing_to_change() -> None:
    report = checked(trainer(rising))
    assert report.tau.value == report.tau.low == pytest.approx(1)
    assert report.averaged.spearman.value == pytest.approx(1)
    assert report.verdict is Verdict.KEPT
    assert report.is_certain
    assert report.advice == ()
    assert report.networks == 16


def test_costs_are_those_of_the_trainings() -> None:
    report = checked(trainer(rising))
    assert report.proxy_figures is not None
    assert report.high_figures is not None
    assert report.proxy_figures.train_time_s == pytest.approx(2 * 0.5 * 2.56)
    assert report.high_figures.train_time_s == pytest.approx(8 * 10.24)
    assert report.cost_ratio == pytest.approx(2.56 / (8 * 10.24))
    assert report.total_time_s == pytest.approx(16 * (3 * 2.56 + 2 * 8 * 10.24))


def test_figures_do_not_depend_on_the_order_of_the_trainings() -> None:
    check = check_of()
    ended = trained(check, trainer(rising, noise=0.05))
    mixed = [ended[n] for n in np.random.default_rng(0).permutation(len(ended))]
    assert check.report(mixed) == check.report(ended)


def test_one_seed_ranks_worse_than_the_mean_of_several() -> None:
    report = checked(trainer(rising, noise=0.06, high_noise=0.0), check_of(seeds=8))
    assert report.tau.value is not None
    assert report.averaged.kendall.value is not None
    assert report.tau.value < report.averaged.kendall.value


def test_the_limit_of_a_report_is_that_of_its_noise() -> None:
    report = checked(trainer(rising, noise=0.05, high_noise=0.2), check_of(seeds=8, high_seeds=8))
    spread = np.var([rising(HIGH, n) for n in range(16)], ddof=1)
    proxy, mean = spread / (spread + 0.05**2), spread / (spread + 0.2**2 / 8)
    assert report.proxy_noise_limit == pytest.approx(noise_limit(proxy), abs=0.04)
    assert report.noise_limit == pytest.approx(noise_limit(proxy, mean), abs=0.06)


def test_where_noise_is_the_cause_the_advice_is_about_noise() -> None:
    report = checked(trainer(rising, noise=0.2, high_noise=0.0), check_of(seeds=8))
    assert report.verdict is Verdict.LOW
    assert report.noise_limit is not None
    assert report.noise_limit < 0.65
    advice = " ".join(report.advice)
    assert "Noise over seeds is the cause" in advice
    assert "`epochs`" in advice
    assert "`image_size`" not in advice


@pytest.mark.slow
@pytest.mark.parametrize(("images", "expected"), [(20, True), (100_000, False)])
def test_few_held_out_images_are_named_where_they_make_the_noise(
    images: int, expected: bool
) -> None:
    check = replace(check_of(seeds=8), holdout_images=images)
    report = checked(trainer(lambda r, n: 0.45 + 0.005 * n, noise=0.08, high_noise=0.0), check)
    assert ("`holdout_share`" in " ".join(report.advice)) is expected


def test_where_the_fidelities_rank_differently_the_advice_is_to_come_nearer() -> None:
    report = checked(trainer(shuffled, noise=0.005))
    assert report.verdict is Verdict.LOW
    advice = " ".join(report.advice)
    assert "rank differently" in advice
    assert advice.index("`image_size` nearer to 32") < advice.index("more `epochs`")
    assert "`data_share`" in advice
    assert "is the cause:" not in advice


def test_where_the_higher_fidelity_is_noisy_more_of_its_seeds_are_asked_for() -> None:
    report = checked(trainer(rising, noise=0.0, high_noise=0.3))
    assert report.verdict is Verdict.LOW
    assert any("`high_seeds` 4" in advice for advice in report.advice)


def test_where_few_networks_leave_it_open_more_are_asked_for() -> None:
    report = checked(trainer(rising, noise=0.05), check_of(NETWORKS[:5]))
    assert not report.is_certain
    assert any("`networks` 10" in advice for advice in report.advice)


def test_where_tau_is_low_but_open_more_networks_come_first() -> None:
    report = checked(trainer(shuffled, noise=0.01), check_of(NETWORKS[:5]))
    assert report.verdict is Verdict.LOW
    assert not report.is_certain
    assert "`networks` 10" in report.advice[0]
    assert len(report.advice) > 1


def test_with_one_seed_noise_is_not_known() -> None:
    report = checked(trainer(shuffled), check_of(seeds=1, high_seeds=1))
    assert report.noise_limit is None
    assert report.proxy_figures is not None
    assert report.proxy_figures.reliability is None
    assert any("`seeds` 3" in advice for advice in report.advice)


@pytest.mark.parametrize(("level", "said"), [(0.1, "not learned enough"), (1.0, "too easy")])
@pytest.mark.parametrize("where", ["proxy", "higher fidelity"])
def test_constant_accuracies_have_no_tau(level: float, said: str, where: str) -> None:
    flat = HIGH if where == "higher fidelity" else PROXY
    report = checked(trainer(lambda r, n: level if r == flat else rising(r, n)))
    assert report.verdict is Verdict.UNDEFINED
    assert report.tau.value is None
    assert f"At the {where} " in report.advice[0]
    assert said in report.advice[0]
    json.dumps(report.to_dict(), allow_nan=False)


def test_ties_do_no_harm() -> None:
    report = checked(trainer(lambda r, n: 0.5 + 0.1 * (n // 8)))
    assert report.tau.value == pytest.approx(1)
    json.dumps(report.to_dict(), allow_nan=False)


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
    assert "3 networks have all" in few.advice[0]
    assert "training diverged" in few.advice[0]


def test_a_check_under_way_is_reported_with_what_there_is() -> None:
    check = check_of()
    ended = trained(check, trainer(rising))
    first = {arch.id for arch in NETWORKS[:5]}
    report = check.report([t for t in ended if t.architecture.id in first])
    assert (report.networks, report.unfinished) == (5, 11)
    assert check.report([]).verdict is Verdict.TOO_FEW


def test_recipes_that_do_not_compare_are_refused() -> None:
    with pytest.raises(ConfigError, match="epochs, image size and data share alone"):
        replace(check_of(), high=replace(HIGH, learning_rate=1.0))
    with pytest.raises(ConfigError, match="is what it is compared with"):
        replace(check_of(), high=PROXY)
    with pytest.raises(ConfigError, match="must be settled"):
        replace(check_of(), proxy=Recipe())
    with pytest.raises(ConfigError, match="`seeds` is 0"):
        check_of(seeds=0)


# -- records and the folder


@pytest.mark.parametrize(
    "outcome",
    [
        TrainingOutcome(accuracy=0.123456789, train_time_s=1.5, fidelity="é", hardware="CPU"),
        TrainingOutcome(reason="out of memory"),
    ],
)
def test_a_training_survives_being_written_and_read(outcome: TrainingOutcome) -> None:
    (job, *_) = jobs(PROXY, NETWORKS, 2)
    line = json.dumps(to_record(job.ended(outcome)))
    assert from_record(json.loads(line), stem=SPACE.stem, head=SPACE.head) == job.ended(outcome)


def test_an_outcome_is_an_accuracy_or_a_reason() -> None:
    for wrong in ({}, {"accuracy": 0.5, "reason": "no"}, {"accuracy": 50.0}, {"accuracy": np.nan}):
        with pytest.raises(ValueError):
            TrainingOutcome(**wrong)
    measured = Measurement(metrics={"accuracy": 0.5, "train_time_s": 2.0}, hardware="CPU")
    assert TrainingOutcome.measured(measured) == TrainingOutcome(
        accuracy=0.5, train_time_s=2.0, hardware="CPU"
    )


def begin(
    folder: TrainingsFolder,
    networks: Sequence[Architecture] = NETWORKS,
    recipe: Recipe = PROXY,
    space: SearchSpace = SPACE,
    data: str = "data",
    seed: int = 0,
) -> list[Training]:
    return folder.begin(space, networks, recipe, data_fingerprint=data, seed=seed)


class KilledError(Exception):
    pass


def test_a_killed_check_goes_on_and_trains_nothing_twice(tmp_path: Path) -> None:
    check, plain = check_of(NETWORKS[:6]), trainer(rising, noise=0.05)
    done: list[tuple[Fidelity, str, int]] = []

    def train(recipe: Recipe, arch: Architecture, repeat: int) -> TrainingOutcome:
        if len(done) % 7 == 6 and not calm:
            raise KilledError
        done.append((Fidelity.of(recipe), arch.id, repeat))
        return plain(recipe, arch, repeat)

    calm, ended = False, None
    for _ in range(50):
        try:
            with TrainingsFolder.open(tmp_path) as folder:
                ended = run(check, folder, begin(folder, NETWORKS[:6]), train)
                break
        except KilledError:
            calm = len(done) > 20
            done.append((Fidelity(0, 0, 0), f"kill {len(done)}", 0))
            with (tmp_path / TRAININGS).open("ab") as file:
                file.write(b'{"epochs": 2, "ima')
    assert ended is not None
    assert len(set(done)) == len(done)
    assert len([d for d in done if d[0].epochs]) == 6 * (3 + 2) == len(ended)
    assert check.report(ended) == checked(plain, check)


def test_more_networks_or_seeds_keep_what_is_trained(tmp_path: Path) -> None:
    plain = trainer(rising)
    with TrainingsFolder.open(tmp_path) as folder:
        run(check_of(NETWORKS[:5]), folder, begin(folder, NETWORKS[:5]), plain)
    with TrainingsFolder.open(tmp_path) as folder:
        more = check_of(NETWORKS[:9], seeds=4)
        left = more.wanted(begin(folder, NETWORKS[:9]))
        assert len(left) == 4 * (4 + 2) + 5
    with TrainingsFolder.open(tmp_path) as folder:  # and fewer are a part of more
        assert not check_of(NETWORKS[:5]).wanted(begin(folder, NETWORKS[:5]))
        with pytest.raises(StoreError, match="another networks"):
            begin(folder, [*NETWORKS[:5], NETWORKS[10]])


def test_a_folder_of_something_else_is_refused_and_what_differs_is_named(tmp_path: Path) -> None:
    with TrainingsFolder.open(tmp_path) as folder:
        begin(folder)
        before = (tmp_path / "manifest.json").read_bytes()
        for changes, named in (
            ({"data": "others"}, "another data"),
            ({"seed": 1}, "another seed"),
            ({"space": SPACE.with_target(image_size=48)}, "space"),
            ({"networks": NETWORKS[::-1]}, "another networks"),
            ({"recipe": replace(PROXY, learning_rate=1.0)}, r"learning-rate \(was 0.006, is 1.0\)"),
        ):
            with pytest.raises(StoreError, match=named):
                begin(folder, **changes)  # type: ignore[arg-type]
        begin(folder, recipe=HIGH)
    assert (tmp_path / "manifest.json").read_bytes() == before


def test_a_search_run_and_a_foreign_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(StoreError, match="not empty"):
        TrainingsFolder.open(tmp_path)
    (tmp_path / "manifest.json").write_text('{"format": 1, "seed": 0}')
    with TrainingsFolder.open(tmp_path) as folder, pytest.raises(StoreError, match="a search"):
        begin(folder)


def test_two_writers_are_refused(tmp_path: Path) -> None:
    with (
        TrainingsFolder.open(tmp_path),
        pytest.raises(StoreError, match="another command is writing"),
    ):
        TrainingsFolder.open(tmp_path)


@pytest.mark.parametrize(
    "change", [{"accuracy": "good"}, {"accuracy": 2}, {"repeat": 0.5}, {"architecture_id": "0"}]
)
def test_a_damaged_line_is_named(tmp_path: Path, change: dict[str, object]) -> None:
    with TrainingsFolder.open(tmp_path) as folder:
        run(check_of(NETWORKS[:4]), folder, begin(folder), trainer(rising))
    lines = (tmp_path / TRAININGS).read_text().splitlines()
    lines[1] = json.dumps(json.loads(lines[1]) | change)
    (tmp_path / TRAININGS).write_text("\n".join(lines) + "\n")
    with (
        TrainingsFolder.open(tmp_path) as folder,
        pytest.raises(StoreError, match=r"trainings\.jsonl:2: not a training"),
    ):
        begin(folder)


# -- the search


def proxies(least_epochs: int) -> Trained:
    """Rankings are right from so many epochs on, and shuffled below."""
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


def test_the_cheapest_setting_that_keeps_tau_is_chosen_and_no_dearer_one_is_trained() -> None:
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


@pytest.mark.slow
def test_where_nothing_keeps_tau_all_are_tried_and_the_best_is_named() -> None:
    search = search_of()
    report = search.report(trained(search, proxies(least_epochs=100)))
    assert report.chosen is None
    assert len(report.tried) == 6
    assert not report.untried
    assert report.best is not None
    assert report.best.tau.value == max(t.tau.value or -1 for t in report.tried)


def test_an_image_size_at_which_the_first_network_fails_comes_last() -> None:
    plain = proxies(least_epochs=1)

    def train(recipe: Recipe, arch: Architecture, repeat: int) -> TrainingOutcome:
        if recipe.image_size == 16 and PLACE[arch.id] == 0:
            return TrainingOutcome(reason="out of memory")
        return plain(recipe, arch, repeat)

    search = search_of()
    report = search.report(trained(search, train))
    assert report.chosen is not None
    assert report.chosen.proxy == Fidelity(1, 32, 0.5)


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
    assert "goes on" not in report.tried[0].advice[0]


def test_a_search_counts_what_a_check_has_trained(tmp_path: Path) -> None:
    plain = proxies(least_epochs=1)
    check = replace(check_of(), seeds=1)
    with TrainingsFolder.open(tmp_path) as folder:
        ended = run(check, folder, begin(folder), plain)
        search = replace(search_of(), settings=[PROXY])
        assert missing(search.wanted(ended), ended) == []
        assert search.report(ended).chosen == check.report(ended)


def test_settings_tried_by_default_go_less_far_than_what_they_stand_for() -> None:
    found = [Fidelity.of(recipe) for recipe in candidates(PROXY, HIGH)]
    assert Fidelity.of(PROXY) in found
    assert len(set(found)) == len(found) > 6
    assert Fidelity.of(HIGH) not in found
    assert all(f.epochs >= 1 and f.image_size >= 8 and 0 < f.data_share <= 1 for f in found)
    with pytest.raises(ConfigError, match="no setting goes less far"):
        candidates(PROXY, HIGH, epochs=[8], image_sizes=[32], data_shares=[1.0])
    with pytest.raises(ConfigError, match="data_share"):
        candidates(PROXY, HIGH, data_shares=[2.0])


# -- what is printed


SETTINGS = ProxySettings(space="v2", data="digits", out=Path("x"), recipe=PROXY, networks=20)


@pytest.mark.parametrize(
    ("train", "code", "said"),
    [
        (trainer(rising, noise=0.01), 0, "is at least 0.65"),
        (trainer(shuffled, noise=0.01), 0, "Warning: tau"),
        (trainer(lambda r, n: 0.5), 1, "nothing can be said"),
        (lambda r, a, n: TrainingOutcome(reason="out of memory"), 1, "out of memory"),
    ],
)
def test_a_check_is_shown(
    train: Trained, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    report = checked(train)
    assert CheckCommand(SETTINGS, as_json=False).report(report) == code
    shown = capsys.readouterr().out
    assert said in shown
    assert "16 of the 20 asked for" in shown
    CheckCommand(SETTINGS, as_json=True).report(report)
    assert json.loads(capsys.readouterr().out)["verdict"] == report.verdict


@pytest.mark.slow
@pytest.mark.parametrize(("least_epochs", "code"), [(2, 0), (100, 1)])
def test_a_search_is_shown(
    least_epochs: int, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    search = search_of()
    report = search.report(trained(search, proxies(least_epochs)))
    assert ProxySearchCommand(SETTINGS, Grid(), as_json=False).report(report) == code
    expected = "--epochs 2 --image-size 16 --data-share 0.5" if code == 0 else "no setting reaches"
    assert expected in capsys.readouterr().out
    ProxySearchCommand(SETTINGS, Grid(), as_json=True).report(report)
    printed = json.loads(capsys.readouterr().out)
    assert len(printed["tried"]) + len(printed["untried"]) == 6
