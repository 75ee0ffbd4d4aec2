"""Which candidate to try next, and the models that controllers learn."""

from effnas.controllers.base import Controller

__all__ = ["Controller"]
