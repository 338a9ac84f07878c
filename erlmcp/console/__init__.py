"""The operator's listener: ``/healthz``, ``/readyz`` and ``/metrics``."""

from erlmcp.console._listener import ConsoleListener
from erlmcp.console._site import console_site

__all__ = ["ConsoleListener", "console_site"]
