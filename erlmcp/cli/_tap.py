"""The way to `erlmcp.tap`, which is on the same floor: by name, as twistd's plugin has it, and only when needed."""

from importlib import import_module
from typing import Any


def tap() -> Any:
    """The package that puts the parts together."""
    return import_module("erlmcp.tap")
