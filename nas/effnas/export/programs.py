"""The files that run without Python code: ONNX and torch.export; and checks of their outputs.

Both are made of one program that torch.export traces, for any number of images.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from effnas.errors import ConfigError, ExportFailedError

#: Batch sizes of the checks.
BATCH_SIZES = (1, 3)
#: Largest allowed difference of the logits, over the largest logit, or 1 if that is less. Other
#: libraries sum in another order.
TOLERANCES = {"model.py": 1e-5, "model.pt2": 1e-5, "model.onnx": 1e-4}
_ONNX_PACKAGES = ("onnx", "onnxruntime", "onnxscript")


@dataclass(frozen=True)
class Check:
    """How far the outputs of a file are from those of its network.

    Attributes:
        file: Its name.
        batch_sizes: Numbers of random images in -1..1 that both received.
        image_size: Pixels.
        largest_logit: Largest absolute logit of the network; random weights make it small.
        difference: Largest absolute difference of a logit.
        allowed: Largest allowed difference.
    """

    file: str
    batch_sizes: tuple[int, ...]
    image_size: int
    largest_logit: float
    difference: float
    allowed: float


def check_onnx_packages() -> None:
    """Check that the packages for ONNX are installed.

    Raises:
        ConfigError: If one is missing.
    """
    if missing := [name for name in _ONNX_PACKAGES if find_spec(name) is None]:
        raise ConfigError(
            f"ONNX needs {', '.join(missing)}: pip install 'effnas[export]', or leave it out with "
            "`formats` timm,torch-export"
        )


def trace(model: nn.Module, image_size: int) -> ExportedProgram:
    """Return the network as a program: images [N, 3, S, S] with any N to logits."""
    # A batch of 1 would be traced as a constant.
    images = torch.zeros(2, 3, image_size, image_size)
    with torch.no_grad():
        program = torch.export.export(model, (images,), dynamic_shapes=({0: Dim("batch", min=1)},))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # names files of this machine
    return program


def write_torch_export(program: ExportedProgram, file: Path) -> Callable[[Tensor], Tensor]:
    """Write a program as a file of torch.export; return a function that runs the file."""
    content = io.BytesIO()  # so that a full disk is an OSError, and no error of torch
    torch.export.save(program, content)
    file.write_bytes(content.getbuffer())
    loaded: Callable[[Tensor], Tensor] = torch.export.load(file).module()
    return loaded


def write_onnx(program: ExportedProgram, file: Path) -> Callable[[Tensor], Tensor]:
    """Write a program as one ONNX file and check it; return a function that runs the file."""
    import onnx
    import onnxruntime

    with _quiet():
        exported = torch.onnx.export(
            program,
            dynamo=True,
            input_names=["images"],
            output_names=["logits"],
            external_data=False,
            verbose=False,
        )
    assert exported is not None
    exported.save(file)
    onnx.checker.check_model(str(file), full_check=True)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Tensor:
        (logits,) = session.run(None, {"images": images.numpy()})
        return torch.from_numpy(logits)

    return run


def compare(file: str, run: Callable[[Tensor], Tensor], model: nn.Module, image_size: int) -> Check:
    """Compare the outputs of a file with those of its network.

    Args:
        file: Name of the file.
        run: Runs it: images [N, 3, S, S] in, logits [N, C] out.
        model: The network.
        image_size: Pixels.

    Raises:
        ExportFailedError: If they differ by more than the tolerance, or a logit is not finite.
    """
    generator = torch.Generator().manual_seed(0)
    difference = largest = 0.0
    for batch_size in BATCH_SIZES:
        shape = (batch_size, 3, image_size, image_size)
        images = 2 * torch.rand(shape, generator=generator) - 1
        with torch.inference_mode():
            expected, found = model(images), run(images)
        if found.shape != expected.shape:
            raise ExportFailedError(
                f"{file}: gives logits {list(found.shape)} for {list(expected.shape)}"
            )
        largest = max(largest, float(expected.abs().max()))
        worst = float((found - expected).abs().max())
        difference = max(worst, difference)  # in this order, NaN stays NaN
    allowed = TOLERANCES[file] * max(1.0, largest)
    if not difference <= allowed:
        raise ExportFailedError(
            f"{file}: its logits differ from the network's by {difference:.2g}, which is more than "
            f"{allowed:.2g}; nothing was written"
        )
    return Check(file, BATCH_SIZES, image_size, largest, difference, allowed)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the exporter's remarks on operators of other libraries."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
