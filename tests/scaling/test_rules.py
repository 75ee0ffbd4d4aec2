"""Scaling rules as files, and the image sizes that they give."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from effnas import SearchSpace
from effnas.config.regularization import Ramp, Regularization
from effnas.errors import CatalogError, ConfigError
from effnas.scaling.family import scale
from effnas.scaling.growth import Growth, LastStage
from effnas.scaling.rules import ScalingRules

BASE = SearchSpace.load("v2").reference
CIFAR = SearchSpace.load("v2-cifar").reference


def parse(members: str, top: str = "") -> ScalingRules:
    return ScalingRules.parse(f"format: 1\n{top}members:\n  a: {{image_size: 64}}\n{members}", "f")


def test_a_rule_is_read_as_it_is_written() -> None:
    rules = parse(
        "  b-2: {width: [1, 80/64], depth: 1.5, last_stage: {width: 2, depth: 1/3},\n"
        "        image_size: 80, train_image_size: 64, first_image_size: 32,\n"
        "        dropout: [0.1, 0.4], randaugment: 5}\n",
        "round_limit: 0\nmax_image_size: 72\n",
    )
    assert (rules.round_limit, rules.max_image_size) == (0, 72)
    rule = rules.member("b-2")
    assert rule.growth == Growth(
        width=(1, 1.25), depth=(1.5,), stem=1, head=1, last_stage=LastStage(2, 1 / 3)
    )
    assert (rule.image_size, rule.train_image_size, rule.first_image_size) == (80, 64, 32)
    assert rule.regularization == Regularization(
        dropout=Ramp(0.1, 0.4), randaugment=Ramp(5, 5), mixup=Ramp(0, 0), drop_path=Ramp(0.2, 0.2)
    )
    assert rules.member("a").growth == Growth()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("  b: {width: 0.5, image_size: 64}\n", "width 0.5 shrinks"),
        ("  b: {wide: 2, image_size: 64}\n", "did you mean 'width'"),
        ("  b: {width: 2}\n", "'image_size' is missing"),
        ("  b: {image_size: 64, train_image_size: 80}\n", "grow in this order"),
        ("  b: {image_size: 64, dropout: [0.4, 0.1]}\n", "do not decrease"),
        ("format: 2\nmembers: {a: {image_size: 1}}", "format 2"),
        ("members: {}", "empty"),
        ("members: {a: {image_size: 64, width: 2}}", "the base itself"),
        ("round_limit: 2\nmembers: {a: {image_size: 1}}", "0 to 1"),
    ],
)
def test_a_mistake_is_named_with_its_place(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)) as error:
        parse(text) if text.startswith(" ") else ScalingRules.parse(text, "f")
    assert str(error.value).startswith("f:")


def test_a_file_of_ones_own_goes_by_its_path(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("members: {one: {image_size: 64}, two: {depth: 2, image_size: 64}}")
    rules = ScalingRules.load(str(file))
    assert [rule.name for rule in rules.members] == ["one", "two"]
    assert rules.source is not None
    assert rules.source.path == file
    with pytest.raises(CatalogError, match="no family is called 'v3'; did you mean 'v"):
        ScalingRules.load("v3")
    with pytest.raises(ConfigError, match="no member 'three'; known: one, two"):
        rules.member("three")


class TestImageSizes:
    rules = ScalingRules.load("v2")

    def sizes(self, **options: int) -> dict[str, tuple[int, int, int]]:
        members = scale(BASE, self.rules, **options)
        return {m.name: (m.image_size, m.train_image_size, m.first_image_size) for m in members}

    def test_they_are_the_published_ones_within_480_pixels(self) -> None:
        assert self.sizes() == {
            "s": (384, 300, 128),
            "m": (480, 380, 128),
            "l": (480, 380, 128),
            "xl": (480, 380, 128),
        }
        assert self.sizes(max_image_size=512)["xl"] == (512, 380, 128)

    def test_below_a_limit_training_sees_a_fifth_less(self) -> None:
        assert self.sizes(max_image_size=400) == {
            "s": (384, 300, 128),
            "m": (400, 320, 128),
            "l": (400, 320, 128),
            "xl": (400, 320, 128),
        }

    def test_they_follow_the_size_that_the_base_is_trained_at(self) -> None:
        assert self.sizes(train_image_size=32) == {
            "s": (40, 32, 12),
            "m": (52, 40, 12),
            "l": (52, 40, 12),
            "xl": (56, 40, 12),
        }
        assert self.sizes(train_image_size=30)["s"] == (40, 30, 12)

    def test_a_limit_below_the_base_is_refused(self) -> None:
        with pytest.raises(ConfigError, match=r"more than 383 px.*384 or more"):
            self.sizes(max_image_size=383)

    def test_a_base_with_other_stages_grows_too(self) -> None:
        members = scale(CIFAR, self.rules, train_image_size=32)
        assert [len(m.architecture.stages) for m in members] == [5, 6, 6, 6]
        assert members[0].architecture == CIFAR


@pytest.mark.parametrize("family", ["v1", "v2", "v2-b"])
def test_rules_come_back_from_their_text(family: str) -> None:
    rules = ScalingRules.load(family)
    again = ScalingRules.parse(rules.to_text(), "again")
    assert replace(again, name=rules.name) == rules
