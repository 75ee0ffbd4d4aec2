"""Device profiles: they read what they wrote, refuse all else, and add up layers."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from effnas import Architecture, SearchSpace
from effnas.arch.layers import Layer
from effnas.errors import ConfigError, InfeasibleError
from effnas.timing.profile import DeviceProfile
from synthetic_profiles import profile_of

SPACE = SearchSpace.load("tiny")
PROFILE = profile_of(SPACE)
TEXT = PROFILE.to_json()
RNG = np.random.default_rng(3)
ARCHS = [SPACE.reference, *(SPACE.sample(RNG) for _ in range(4))]
OUTSIDE = Architecture.parse(["mbconv_r2_k3_s2_e1_c8"], stem=SPACE.stem, head=SPACE.head)
FULL = replace(SPACE, stem_stride=1, given_reference=None)

#: The keys that lead to something in JSON data.
Place = tuple[str | int, ...]


@pytest.fixture
def load(tmp_path: Path) -> Callable[[str | bytes], DeviceProfile]:
    def write_and_load(content: str | bytes) -> DeviceProfile:
        path = tmp_path / "board.json"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return DeviceProfile.load(path)

    return write_and_load


@pytest.fixture
def refusal(tmp_path: Path, load: Callable[[str | bytes], DeviceProfile]) -> Callable[..., str]:
    """Returns what is said of a file that is refused, after its path."""

    def refuse(content: str | bytes) -> str:
        with pytest.raises(ConfigError) as caught:
            load(content)
        path, text = f"{tmp_path / 'board.json'}: ", str(caught.value)
        assert text.startswith(path)
        assert "\n" not in text
        return text.removeprefix(path)

    return refuse


def changed(place: Place, value: object) -> str:
    """The profile's text with another value at a place; without the key for `...`."""
    content = json.loads(TEXT)
    *way, last = place
    inner: Any = content
    for key in way:
        inner = inner[key]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return json.dumps(content)


# -- round trip


def test_a_profile_is_read_as_it_was_written(load: Callable[[str | bytes], DeviceProfile]) -> None:
    found = load(TEXT)
    assert found == PROFILE
    assert found.to_json() == TEXT
    assert list(found.model.layers) == list(PROFILE.model.layers)
    for arch in ARCHS:
        assert found(arch) == PROFILE(arch)


# -- what is refused


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("kind",), ..., "effnas profile"),
        (("reference",), ..., "it lacks `reference`"),
        (("model", "parts", 0, "forward"), ..., "it lacks `forward`"),
        (("fitted_on", 0, "step_time"), ..., "it lacks `step_time`"),
        (("stem",), "8", "stem: Expected `int`, got `str`"),
        (("model", "batch_size"), 0.5, "batch_size: Expected `int`, got `float`"),
        (("model", "image_size"), 0, "image_size: Expected `int` >= 1"),
        (("model", "factor"), 0, "factor"),
        (("model", "parts", 0, "kept_bytes"), -2, "kept_bytes"),
        (("step_time_error", "spearman"), 2, "spearman"),
        (("reference_step_time_s",), math.nan, "is not finite"),
        (("checked_on",), "x", "checked_on"),
        (("model",), [1], "model"),
    ],
)  # fmt: skip
def test_what_is_missing_or_wrong_in_a_file_is_named(
    place: Place, value: object, said: str, refusal: Callable[..., str]
) -> None:
    found = refusal(changed(place, value))
    assert said in found
    assert "effnas profile" in found
    assert len(found) < 300


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("  \n", "the file is empty"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (TEXT[:-20], "not a device profile"),
        ("null", "it holds something else"),
        ('{"format": 1, "architecture": []}', "it holds something else"),
        (changed(("format",), "x" * 9999), "this version, which reads 1"),
        ("[" * 100_000, "not a device profile"),
        ("1" * 10_000, "not a device profile"),
    ],
    ids=range(8),
)
def test_a_file_that_is_something_else_is_refused_in_one_line(
    content: str | bytes, said: str, refusal: Callable[..., str]
) -> None:
    found = refusal(content)
    assert said in found
    assert len(found) < 300


# -- predictions


@pytest.mark.parametrize("arch", ARCHS, ids=str)
def test_a_prediction_is_the_sum_of_the_layers_times_the_factor(arch: Architecture) -> None:
    model = PROFILE.model
    size, channels = -(-model.image_size // 2), arch.stem
    layers = [Layer(f"stem_c{arch.stem}", 3, model.image_size)]
    for stage in arch.stages:
        for layer in range(stage.r):
            one = replace(stage, r=1, s=1 if layer else stage.s)
            layers.append(Layer(str(one), channels, size))
            channels, size = stage.c, -(-size // one.s)
    layers.append(Layer(f"head_c{arch.head}_n{model.num_classes}", channels, size))
    figures = [model.layers[layer] for layer in layers]
    share = sum(f.forward + f.backward + f.optimizer for f in figures)
    assert model.step_time(arch) == pytest.approx(model.factor * share, rel=1e-12)
    images = 4 * model.batch_size * 3 * model.image_size**2
    weights = sum(f.weight_bytes for f in figures)
    kept = model.memory_factor * sum(f.kept_bytes for f in figures)
    assert model.peak_memory_bytes(arch) == pytest.approx(images + weights + kept, rel=1e-12)


def test_a_profile_of_stems_of_stride_1_is_read_back_and_predicts(tmp_path: Path) -> None:
    file = tmp_path / "profile.json"
    file.write_text(profile_of(FULL).to_json())
    found = DeviceProfile.load(file)
    found.check_space(FULL, file)
    assert found.stem_stride == 1
    arch = FULL.sample(np.random.default_rng(0))
    assert not found.model.unmeasured_layers(arch)
    assert found.model.unmeasured_layers(replace(arch, stem_stride=2))
    old = json.loads(PROFILE.to_json())
    del old["stem_stride"]
    file.write_text(json.dumps(old))
    assert DeviceProfile.load(file) == PROFILE


def test_what_is_predicted_has_an_interval_and_seconds() -> None:
    arch = ARCHS[1]
    found = PROFILE(arch)
    metrics = found.metrics
    ratio, spread = PROFILE.model.step_time(arch), 1.0625
    assert metrics["step_time"] == ratio
    assert metrics["step_time_low"] == pytest.approx(ratio / spread)
    assert metrics["step_time_high"] == pytest.approx(ratio * spread)
    for end in ("", "_low", "_high"):
        assert metrics[f"step_time{end}_s"] == pytest.approx(0.25 * metrics[f"step_time{end}"])
    assert metrics["peak_memory_bytes"] == PROFILE.model.peak_memory_bytes(arch)
    assert len(metrics) == 7
    assert (found.source, found.hardware) == ("predicted", "a board, 2 threads")


def test_a_network_outside_is_infeasible_and_says_which_layers_were_not_measured() -> None:
    unknown = PROFILE.model.unmeasured_layers(OUTSIDE)
    assert [layer.block for layer in unknown] == [
        "mbconv_r1_k3_s2_e1_c8",
        "mbconv_r1_k3_s1_e1_c8",
        "head_c128_n10",
    ]
    with pytest.raises(InfeasibleError) as caught:
        PROFILE(OUTSIDE)
    assert str(caught.value) == (
        "outside the device profile: not measured: mbconv_r1_k3_s2_e1_c8 on 8x8x8 and 2 more"
    )


@pytest.mark.parametrize(("error", "trusted"), [(0.0, True), (0.05, True), (0.0501, False)])
def test_a_profile_is_trusted_up_to_an_error_of_five_percent(error: float, trusted: bool) -> None:
    assert profile_of(SPACE, error=error).is_trusted == trusted


OTHERS = {
    "image size 16 (here 24)": SPACE.with_target(image_size=24),
    "batch size 64 (here 8)": SPACE.with_target(batch_size=8),
    "classes 10 (here 7)": SPACE.with_target(num_classes=7),
    "stem ": SearchSpace.load("v2"),
    "stem stride 2 (here 1)": FULL,
}


@pytest.mark.parametrize("said", OTHERS)
def test_a_profile_of_something_else_is_refused_and_says_what_differs(said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        PROFILE.check_space(OTHERS[said], "tiny.json")
    text = str(caught.value)
    assert text.startswith("tiny.json: ")
    assert said in text
    assert "effnas profile" in text
    assert "\n" not in text
