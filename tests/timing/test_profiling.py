"""Making a device profile: it predicts every network of its space, and says how well."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_setup import SETUP

from effnas import Architecture, SearchSpace
from effnas.arch.models import build
from effnas.config.recipe import Recipe
from effnas.errors import ConfigError
from effnas.space.layers import layers_of_space
from effnas.timing import layer_timer, profiling
from effnas.timing.memory import estimate_peak_memory
from effnas.timing.profile import DeviceProfile
from effnas.timing.profiling import make_profile, model_error

TINY = SearchSpace.load("tiny").with_target(batch_size=2)
#: Twelve networks of few layers.
SMALL = SearchSpace.parse(
    "stem: 8\n"
    "head: 16\n"
    "target: {image_size: 16, batch_size: 2}\n"
    "stages:\n"
    "  - <fused|mbconv>_r<1..2>_k3_s2_e<1|2|4>_c8\n"
    "reference:\n"
    "  - fused_r1_k3_s2_e1_c8\n"
)
#: Networks of all kinds of layers that `tiny` has, and of fewer.
VARIED = SearchSpace.parse(
    "stem: 8\n"
    "head: 16\n"
    "target: {image_size: 16, batch_size: 2}\n"
    "stages:\n"
    "  - <fused|mbconv_se0.25>_r<1..3>_k<3|5>_s2_e<1|4>_c16\n"
    "  - <fused|mbconv_se0.25>_r<1..2>_k3_s2_e<1|4>_c24\n"
    "reference:\n"
    "  - fused_r1_k3_s2_e1_c16\n"
    "  - mbconv_r1_k3_s2_e4_c24_se0.25\n"
)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few networks and rounds; what is measured is right, though not well known."""
    for name, value in {
        "FITTED": 2,
        "CHECKED": 4,
        "MIN_CHECKED": 3,
        "PASSES": 2,
        "NETWORK_TIME_LIMIT_S": 0.0,
    }.items():
        monkeypatch.setattr(profiling, name, value)
    for name in ("_ROUNDS", "_WARM_UPS"):
        monkeypatch.setattr(layer_timer, name, 1)


def check(
    profile: DeviceProfile, space: SearchSpace, archs: Sequence[Architecture], folder: Path
) -> None:
    """What holds for every profile of some networks of its space."""
    model = profile.model
    assert list(model.layers) == layers_of_space(space, num_classes=10)
    for figures in model.layers.values():
        assert figures.forward > 0
        assert figures.backward > 0
        assert figures.optimizer >= 0
        assert figures.kept_bytes >= 0
        assert figures.weight_bytes > 0
    for arch in archs:
        metrics = profile(arch).metrics
        assert all(0 < value < math.inf for value in metrics.values())
    path = folder / "profile.json"
    path.write_text(profile.to_json())
    assert DeviceProfile.load(path) == profile

    assert (len(profile.fitted_on), len(profile.checked_on)) == (2, 4)
    networks = [n.architecture for n in (*profile.fitted_on, *profile.checked_on)]
    assert len(set(networks)) == 6
    for network in (*profile.fitted_on, *profile.checked_on):
        arch = Architecture.parse(network.architecture, stem=space.stem, head=space.head)
        assert space.contains(arch)
        assert network.predicted_step_time == model.step_time(arch)
        assert network.predicted_peak_memory_bytes == model.peak_memory_bytes(arch)
        assert network.step_time_low <= network.step_time <= network.step_time_high
        assert network.peak_memory_bytes == estimate_peak_memory(
            build(arch, num_classes=10, device="meta"), Recipe(), image_size=16, batch_size=2
        )
    # The factors are those that make the fitted networks right, in the middle.
    fitted = [n.predicted_step_time / n.step_time for n in profile.fitted_on]
    assert min(fitted) <= 1.000001
    assert max(fitted) >= 0.999999
    errors = [abs(n.predicted_step_time / n.step_time - 1) for n in profile.checked_on]
    assert profile.step_time_error.mean_absolute == pytest.approx(np.mean(errors))
    assert profile.step_time_error.networks == profile.memory_error.networks == 4
    assert profile.reference == str(space.reference)
    assert profile.hardware
    assert set(profile.cost_s) == {"parts", "fit", "check"}
    assert all(seconds > 0 for seconds in profile.cost_s.values())


# -- making one


@pytest.mark.slow
def test_a_profile_of_a_space_predicts_every_network_of_it(quick: None, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    torch.manual_seed(20)
    state = torch.get_rng_state()
    profile = make_profile(
        VARIED, SETUP, seed=1, progress=lambda *what: told.append(what), waiting=pytest.fail
    )
    assert torch.equal(torch.get_rng_state(), state)
    draws = np.random.default_rng(0)
    archs = [VARIED.sample(draws) for _ in range(100)]
    check(profile, VARIED, archs, tmp_path)
    assert {what for what, *_ in told} == {"timings of layers", "networks"}
    assert all(0 <= done < total for _, done, total in told)
    # Larger networks are predicted to take longer and more memory.
    blocks = "fused_r3_k3_s2_e1_c16 mbconv_r2_k3_s2_e4_c24_se0.25"
    few, many = VARIED.reference, Architecture.parse(blocks, stem=8, head=16)
    assert profile.model.step_time(few) < profile.model.step_time(many)
    assert profile.model.kept_bytes(few) < profile.model.kept_bytes(many)


def test_the_seed_alone_draws_the_networks() -> None:
    first, again, other = (
        profiling._draw(SMALL, np.random.default_rng(seed), 6) for seed in (0, 0, 1)
    )
    assert first == again != other
    assert len(set(first)) == 6


def test_a_space_of_few_networks_is_refused_before_anything_is_measured() -> None:
    with pytest.raises(ConfigError, match=r"has 12 networks, and 24 or more are needed") as caught:
        make_profile(SMALL, SETUP, progress=lambda *_: pytest.fail("it was measured"))
    assert "effnas bench" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_reference_that_takes_most_of_the_memory_is_refused_with_a_remedy(quick: None) -> None:
    peak = estimate_peak_memory(
        build(SMALL.reference, num_classes=10, device="meta"), Recipe(), image_size=16, batch_size=2
    )
    tight = replace(SETUP, available_bytes=2 * peak - 2)
    with pytest.raises(ConfigError, match=r"more than half of the memory.*`target_batch_size`"):
        make_profile(SMALL, tight)


# -- the error


def test_the_error_of_predictions_is_that_by_hand() -> None:
    measured = np.array([1.0, 2.0, 4.0, 8.0])
    found = model_error(measured * [1.1, 0.9, 1.0, 1.2], measured)
    assert found.networks == 4
    assert found.mean_absolute == pytest.approx((0.1 + 0.1 + 0.0 + 0.2) / 4)
    assert 0 <= found.mean_absolute_low <= found.mean_absolute <= found.mean_absolute_high <= 0.2
    assert found.spearman == pytest.approx(1.0)
    # Student's t with 4 degrees of freedom.
    spread = math.sqrt(np.mean(np.log([1.1, 0.9, 1.0, 1.2]) ** 2))
    assert found.half_width == pytest.approx(math.expm1(2.7764451 * spread))
    assert model_error(measured[::-1].copy(), measured).spearman == pytest.approx(-1.0)
