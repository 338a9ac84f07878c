"""From checked options to the service that twistd starts."""

import os
from collections.abc import Sequence
from typing import Any

from erlmcp import __version__, config
from erlmcp.config import ConfigurationError, Settings
from erlmcp.tap._assembly import OPEN, Frontend, Parts, assemble
from erlmcp.tap._daemon import Daemon
from erlmcp.tap._exit import StartFailed
from erlmcp.tap._options import Options


def makeService(options: Options) -> Daemon:
    """Make the daemon that the options describe; twistd's entry point.

    Raises:
        StartFailed: an endpoint that cannot be, an open listener, keys that cannot be had: with every problem.
    """
    from twisted.internet import reactor

    return make_daemon(options.settings, options.backends, reactor)


def make_daemon(settings: Settings, backends: Sequence[Any], reactor: Any) -> Daemon:
    """Make a daemon.

    Args:
        settings: the checked configuration.
        backends: what it serves.
        reactor: what it runs on.

    Raises:
        StartFailed: as `makeService`.
    """
    try:
        parts = assemble(settings, backends, reactor, transports=config.transports(), environ=os.environ)
        console = console_for(settings, reactor, parts)
    except ConfigurationError as error:
        raise StartFailed(f"erlmcp cannot start:\n{error}") from None
    consoles = () if console is None else (console,)
    daemon = Daemon(parts, reactor, drain=settings.server.drain, consoles=consoles)
    if console is not None:
        console.listener.unready = lambda: daemon.unready
    return daemon


def console_for(settings: Settings, reactor: Any, parts: Parts) -> Frontend | None:
    """The listener for health and metrics, if one is configured.

    Raises:
        ConfigurationError: it cannot be, or is open to others.
    """
    telemetry = settings.telemetry
    if telemetry.endpoint is None:
        return None
    # twisted.web and prometheus_client take their time to import: only who asked for them pays.
    from erlmcp.console import ConsoleListener
    from erlmcp.telemetry.exposition import Exposition

    if telemetry.auth is None and config.endpoint_reachable(telemetry.endpoint):
        wrong = f"the endpoint {telemetry.endpoint} is open: {OPEN}"
        raise ConfigurationError([config.Problem(key="telemetry.endpoint", wrong=wrong)])
    listener = ConsoleListener(
        reactor,
        telemetry.endpoint,
        metrics=Exposition(parts.counters, __version__).text,
        hosts=telemetry.hosts,
    )
    return Frontend(listener=listener, endpoint=telemetry.endpoint, open=telemetry.auth == "none")
