"""Networks for programs outside effnas: timm, ONNX, torch.export, and a model card."""

from effnas.export.launch import Exported, export_network
from effnas.export.programs import Check
from effnas.export.subject import FORMATS, ExportSettings

__all__ = ["FORMATS", "Check", "ExportSettings", "Exported", "export_network"]
