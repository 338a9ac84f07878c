"""The ``erlmcp`` command."""

from erlmcp.cli._main import main

__all__ = ["main"]
