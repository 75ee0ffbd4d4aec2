"""Images: finding, reading and decoding them, and holding some out."""

from importlib import import_module

_HOMES = {"load_train_images": "loading", "memory_limit_bytes": "images"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'effnas.data' has no attribute {name!r}")
    return getattr(import_module(f"effnas.data.{_HOMES[name]}"), name)
