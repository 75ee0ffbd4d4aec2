"""The command line."""

from effnas.cli.app import main

__all__ = ["main"]
