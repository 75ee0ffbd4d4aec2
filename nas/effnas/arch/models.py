"""Networks as timm modules, built again for every use."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Protocol, cast

from effnas.errors import ConfigError, InfeasibleError, nearest

if TYPE_CHECKING:
    import torch
    from torch import nn


class TimmNetwork(Protocol):
    """A network that knows what timm builds it from, such as an `Architecture`."""

    def timm_arguments(self) -> dict[str, Any]:
        """Return what an `EfficientNet` of timm's is made from; see `Architecture`."""
        ...


@dataclass(frozen=True)
class TimmModel:
    """A model of timm's, where an architecture could stand, too.

    Attributes:
        name: As timm lists it.
    """

    name: str

    @property
    def id(self) -> str:
        """The name: it identifies the model, as the id of an architecture does."""
        return self.name

    def __str__(self) -> str:
        return self.name


def check_timm_name(name: str) -> None:
    """Raise a `ConfigError` if timm has no model of that name."""
    import timm

    if not timm.is_model(name):
        hint = nearest(name, timm.list_models()) or "timm.list_models() lists them"
        raise ConfigError(f"timm has no model {name!r}; {hint}")


def build_timm(
    name: str, *, num_classes: int, drop_rate: float = 0.0, drop_path_rate: float = 0.0
) -> nn.Module:
    """Build a model of timm's by its name, without pretrained weights.

    Args:
        name: As timm lists it.
        num_classes: Outputs of the classifier.
        drop_rate: Dropout before the classifier, a fraction.
        drop_path_rate: Stochastic depth of the last layer, a fraction.

    Raises:
        ConfigError: If timm has no model of that name, or it takes no such number of classes or no
            stochastic depth.
    """
    import timm

    check_timm_name(name)
    # Some models do not know these arguments, so they are left out where they can be.
    given = {"drop_rate": drop_rate, "drop_path_rate": drop_path_rate}
    rates = {argument: rate for argument, rate in given.items() if rate}
    try:
        model: nn.Module = timm.create_model(
            name, pretrained=False, num_classes=num_classes, **rates
        )
    except (RuntimeError, ValueError, AssertionError, TypeError) as error:
        if "drop_path_rate" in rates and "drop_path_rate" in str(error):
            raise ConfigError(
                f"{name}: it has no stochastic depth; set `drop_path: 0` in the recipe"
            ) from error
        raise ConfigError(f"timm cannot build {name!r}: {error}") from error
    return model


def build(
    arch: TimmNetwork | TimmModel,
    *,
    num_classes: int,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
    device: torch.device | str | None = None,
) -> nn.Module:
    """Build a network from timm's blocks, with symmetric padding and SiLU; or a model of timm's.

    Args:
        arch: The network, or the name of timm's model, which is as timm has it.
        num_classes: Outputs of the classifier.
        drop_rate: Dropout before the classifier, a fraction.
        drop_path_rate: Stochastic depth, a fraction: layer i of n is dropped at this rate times
            i/n, i from 0.
        device: Where the weights are made, e.g. "meta" for none at all; for models of timm's always
            the CPU.

    Returns:
        A `timm.models.EfficientNet`, or timm's model: float images [N, 3, H, W] in, logits
        [N, num_classes] out.

    Raises:
        InfeasibleError: If timm cannot build it.
    """
    if isinstance(arch, TimmModel):
        try:
            return build_timm(
                arch.name,
                num_classes=num_classes,
                drop_rate=drop_rate,
                drop_path_rate=drop_path_rate,
            )
        except ConfigError as error:
            raise InfeasibleError(f"cannot be built: {error}") from error
    if name := getattr(arch, "model", ""):
        return build(
            TimmModel(name),
            num_classes=num_classes,
            drop_rate=drop_rate,
            drop_path_rate=drop_path_rate,
        )
    from timm.models._efficientnet_builder import decode_arch_def
    from timm.models.efficientnet import EfficientNet
    from torch import nn

    arguments = arch.timm_arguments()
    # Decoded for every build, since timm's builder changes what it is given.
    definition = arguments.pop("arch_def")
    norm_eps = arguments.pop("norm_eps")
    stem_stride = arguments.pop("stem_stride")
    if not definition:
        raise InfeasibleError("cannot be built: no stage has a layer")
    try:
        model: nn.Module = EfficientNet(
            block_args=decode_arch_def(definition),
            num_classes=num_classes,
            round_chs_fn=int,  # timm would round channels to multiples of 8
            act_layer=nn.SiLU,
            norm_layer=partial(nn.BatchNorm2d, eps=norm_eps),
            **arguments,
            drop_rate=drop_rate,
            drop_path_rate=drop_path_rate,
            device=device,
        )
    except (RuntimeError, ValueError, AssertionError, ZeroDivisionError) as error:
        raise InfeasibleError(f"cannot be built: {error}") from error
    # timm's stem always halves the image; its padding, 1 on each side, is right for stride 1, too.
    stem = cast("nn.Conv2d", model.get_submodule("conv_stem"))
    stem.stride = (stem_stride, stem_stride)
    return model


def counted_model(model: nn.Module, name: str, image_size: int) -> dict[str, float]:
    """Return the counts of a network of timm's by the names of `effnas.trials.reward.METRICS`.

    The others than the parameters are left out where layers are not only convolutions, linear
    layers and batch norms.

    Args:
        model: The network; it is run once on one image, and stays as it is.
        name: Of the network, for the reason.
        image_size: Height and width of the image in pixels.

    Raises:
        InfeasibleError: If it cannot be run on images of that size.
    """
    import torch
    from torch import nn
    from torch.nn.modules.batchnorm import _BatchNorm

    macs = activations = 0

    def count(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal macs, activations
        del inputs
        weight = layer.weight
        assert isinstance(weight, torch.Tensor)
        macs += output.numel() * (weight.numel() // weight.shape[0])
        activations += output.numel()

    counted = (nn.Conv2d, nn.Linear)
    hooks = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, counted)]
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            model(torch.zeros(1, 3, image_size, image_size))
    except (RuntimeError, ValueError, AssertionError, TypeError, IndexError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InfeasibleError(
            f"{name} cannot be run on images of {image_size} px: {reason}"
        ) from error
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    found = {"params": float(sum(p.numel() for p in model.parameters() if p.requires_grad))}
    own = [m for m in model.modules() if next(m.parameters(recurse=False), None) is not None]
    if all(isinstance(m, (*counted, _BatchNorm)) for m in own):
        found |= {"macs": float(macs), "activations": float(activations)}
    return found


@lru_cache(maxsize=64)
def count_model(name: str, image_size: int, num_classes: int) -> tuple[int, int, int]:
    """Return parameters, MACs and activations of a model of timm's, for one image.

    Of layers that are neither convolutions, linear layers nor batch norms only parameters count.

    Raises:
        ConfigError: If timm cannot build it.
        InfeasibleError: If it cannot be run on images of that size.
    """
    import torch

    with torch.random.fork_rng([]):
        found = counted_model(build_timm(name, num_classes=num_classes), name, image_size)
    return (int(found["params"]), int(found.get("macs", 0)), int(found.get("activations", 0)))
