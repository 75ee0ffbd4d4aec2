"""Networks for programs outside effnas: timm, ONNX, torch.export, and a model card."""
