"""What is set of a network while it is trained takes effect at once, in ours and in timm's."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from timm.layers import DropPath
from torch import nn

from effnas import Architecture
from effnas.config.recipe import Recipe
from effnas.config.regularization import Ramp
from effnas.errors import ConfigError
from effnas.train.network import (
    RegularizationSetter,
    WeightAverage,
    classifier_tensors,
    make_network,
)
from effnas.train.stages import Strengths

ARCH = Architecture.parse("fused_r2_k3_s1_e2_c8 mbconv_r3_k3_s2_e2_c12_se0.25", stem=8, head=16)
OURS = "an architecture"
#: Networks with the pixels of their images: as small as they take.
SIZES = {OURS: 16, "resnet18": 32, "convnext_atto": 32, "mobilenetv3_small_050": 32}
CLASSES = 7
OFF = Strengths(dropout=0, randaugment=0, mixup=0, cutmix=0, drop_path=0)
RECIPE = Recipe(dropout=Ramp(0.1, 0.3), drop_path=Ramp(0, 0.2))


def make(name: str, recipe: Recipe = RECIPE) -> nn.Module:
    arch = ARCH if name == OURS else None
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return make_network(arch, name, recipe, num_classes=CLASSES)


@dataclass
class Regulated:
    """A network, and the setter of its strengths."""

    name: str
    model: nn.Module
    setter: RegularizationSetter

    def outputs(self, seed: int) -> torch.Tensor:
        size = SIZES[self.name]
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(2, 3, size, size, generator=generator)
        with torch.random.fork_rng([]), torch.no_grad():
            torch.manual_seed(seed)
            found: torch.Tensor = self.model(images)
        return found

    def differ(self, **strengths: float) -> bool:
        """Whether two draws differ at these strengths, and others 0."""
        self.setter.set(replace(OFF, **strengths))
        return not torch.equal(self.outputs(1), self.outputs(2))

    def rates(self) -> list[float]:
        paths = [module for module in self.model.modules() if isinstance(module, DropPath)]
        return [float(module.drop_prob or 0) for module in paths]


@pytest.fixture(scope="module", params=SIZES)
def regulated(request: pytest.FixtureRequest) -> Regulated:
    model = make(request.param).train()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:  # else residuals begin with next to nothing, dropped or not
                parameter.uniform_(0.5, 1)
    return Regulated(request.param, model, RegularizationSetter(model, 0.2))


# -- strengths


@pytest.mark.slow
def test_at_0_and_in_evaluation_nothing_is_random(regulated: Regulated) -> None:
    assert regulated.differ(dropout=0.3)
    assert regulated.differ(drop_path=0.5)
    assert not regulated.differ()
    regulated.model.eval()
    try:
        assert not regulated.differ(dropout=0.9, drop_path=0.9)
    finally:
        regulated.model.train()


@pytest.mark.slow
def test_dropout_is_before_the_classifier_and_as_strong_as_it_is_set(regulated: Regulated) -> None:
    regulated.setter.set(replace(OFF, dropout=1))
    (bias,) = (
        tensor
        for name, tensor in regulated.model.state_dict().items()
        if name in classifier_tensors(regulated.model) and tensor.ndim == 1
    )
    assert torch.allclose(regulated.outputs(0), bias.expand(2, -1))


@pytest.mark.slow
def test_stochastic_depth_is_that_of_a_network_built_with_it(regulated: Regulated) -> None:
    recipe = replace(RECIPE, drop_path=Ramp(0, 0.1))
    built = make(regulated.name, recipe)
    expected = Regulated(regulated.name, built, RegularizationSetter(built, 0.1)).rates()
    for _ in range(2):
        regulated.setter.set(replace(OFF, drop_path=0.1))
        assert regulated.rates() == pytest.approx(expected)
        assert 0.05 < max(regulated.rates()) < 0.1001
        regulated.setter.set(OFF)
        assert not any(regulated.rates())


# -- what is built


@pytest.mark.parametrize(
    ("name", "recipe", "words"),
    [
        ("dla46x_c", RECIPE, "dla46x_c: it has no stochastic depth; set `drop_path: 0` in the"),
        ("resnet181", RECIPE, "timm has no model 'resnet181'; did you mean 'resnet18'"),
    ],
)
def test_what_a_model_does_not_have_is_said_in_one_line(
    name: str, recipe: Recipe, words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as raised:
        make_network(None, name, recipe, num_classes=CLASSES)
    assert "\n" not in str(raised.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [OURS, "resnet18", "convnext_atto", "levit_128s", "deit_tiny_distilled_patch16_224", "vgg11"],
)
def test_the_classifier_is_what_depends_on_the_classes(name: str) -> None:
    arch, recipe = (ARCH if name == OURS else None), Recipe()
    with torch.device("meta"):  # no weights at all
        model, other = (make_network(arch, name, recipe, num_classes=n) for n in (7, 9))
    shapes = {key: tensor.shape for key, tensor in other.state_dict().items()}
    found = classifier_tensors(model)
    assert found == [key for key, t in model.state_dict().items() if t.shape != shapes[key]]
    assert found


# -- averages


def test_weights_and_running_statistics_are_averaged() -> None:
    model = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1))
    average = WeightAverage(model, decay=0.3)
    assert not average.module.training
    expected = {name: t.clone() for name, t in model.state_dict().items()}
    for step in range(6):
        with torch.no_grad():
            for tensor in model.state_dict().values():
                tensor += step + 1
        average.update(model, step)
        decay = min(0.3, (1 + step) / (10 + step))
        for name, tensor in model.state_dict().items():
            mean = decay * expected[name] + (1 - decay) * tensor
            expected[name] = mean if tensor.is_floating_point() else tensor.clone()
    found = average.module.state_dict()
    assert list(found) == list(expected)
    for name, tensor in found.items():
        assert torch.allclose(tensor, expected[name]), name
