"""The files that timm needs: `arch_def.json`, `model.py` and `config.json`."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from string import Template
from types import ModuleType
from typing import cast

from torch import nn

from effnas.export.network import Network
from effnas.export.weights import SEED

_TEMPLATE = Path(__file__).with_name("model.tmpl")
#: Images are in -1..1, as in `effnas.train.augment.normalize`.
_MEAN = _STD = (0.5, 0.5, 0.5)
FORMAT = 1


def weights_text(is_random: bool) -> str:
    """Return what the files say of the weights."""
    if is_random:
        return f"random (seed {SEED}): the network is not trained"
    return "those of the state dict that was given"


def arch_def_json(network: Network) -> str:
    """Return the arguments of timm's `EfficientNet`, as JSON text."""
    content = {
        "format": FORMAT,
        "name": network.name,
        **network.arch.timm_arguments(),
        "norm_layer": "BatchNorm2d",
        "act_layer": "silu",
        "pad_type": "",
        "round_channels": False,
        "num_classes": network.num_classes,
        "blocks": list(network.arch.blocks),
    }
    return json.dumps(content, indent=2) + "\n"


def model_py(network: Network) -> str:
    """Return the Python file that builds the network with timm and registers it there."""
    arguments = network.arch.timm_arguments()
    blocks = "\n".join(f"    {json.dumps(stage)}," for stage in arguments.pop("arch_def"))
    return Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        name=network.name, num_classes=network.num_classes, arch_def=blocks, **arguments
    )


def config_json(network: Network, *, is_random: bool) -> str:
    """Return what timm reads from a `local-dir:` beside the weights, as JSON text."""
    sizes = {"input_size": [3, network.train_image_size, network.train_image_size]}
    if network.image_size != network.train_image_size:
        sizes["test_input_size"] = [3, network.image_size, network.image_size]
    labels = {"label_names": list(network.class_names)} if network.class_names else {}
    content = {
        "architecture": network.name,
        "num_classes": network.num_classes,
        "num_features": network.arch.head,
        "global_pool": "avg",
        **labels,
        "weights": weights_text(is_random),
        "random_weights": is_random,
        "pretrained_cfg": {
            "custom_load": False,
            **sizes,
            "fixed_input_size": False,
            "interpolation": "bicubic",
            "crop_pct": 1.0,
            "crop_mode": "center",
            "mean": list(_MEAN),
            "std": list(_STD),
            "num_classes": network.num_classes,
            "first_conv": "conv_stem",
            "classifier": "classifier",
            "license": "apache-2.0",
        },
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def load_exported(folder: Path, name: str) -> nn.Module:
    """Return the network that the `model.py` of a folder loads from there.

    Args:
        folder: With all files that timm needs.
        name: An unused name of a module.
    """
    file = folder / "model.py"
    module = ModuleType(name)
    module.__file__ = str(file)  # it looks for the files beside it
    sys.modules[name] = module  # timm looks there for the module of an entry point
    try:
        with warnings.catch_warnings():
            # This process may have exported the network before.
            warnings.filterwarnings("ignore", message="Overwriting .* in registry")
            # Not through a loader, which would leave bytecode in the folder.
            exec(compile(file.read_bytes(), file, "exec", dont_inherit=True), vars(module))
        load = cast("Callable[[Path], nn.Module]", vars(module)["load"])
        return load(folder)
    finally:
        del sys.modules[name]
