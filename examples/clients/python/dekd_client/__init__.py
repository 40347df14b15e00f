"""A client of dekd, a per-pod encryption agent; see README.md."""

from .client import Client, Item, connect
from .errors import DekdError

__all__ = ["Client", "DekdError", "Item", "connect"]
