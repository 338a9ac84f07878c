"""What the ``erlmcp`` command has put together: a look at a whole configuration, and one client on standard streams."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from erlmcp import config
from erlmcp.config import ConfigurationError, ListenSettings, Problem, Settings
from erlmcp.tap._assembly import assemble, backends_for
from erlmcp.tap._exit import StartFailed
from erlmcp.tap._isolated import LONGEST, Isolated
from erlmcp.tap._options import require_reactor
from erlmcp.tap._parent import unfit
from erlmcp.tap._service import make_daemon


class Findings(msgspec.Struct, frozen=True):
    """What is to be said of a configuration.

    Attributes:
        problems: why the daemon would not start with it; empty if it would.
        notes: what else an operator should know.
    """

    problems: Sequence[Problem]
    notes: Sequence[str] = ()


def examine(file: Path) -> Findings:
    """Find everything that a start would find wrong, short of opening a port. Makes no keys.

    Args:
        file: the configuration's main file.
    """
    try:
        transports = config.transports()
        settings = config.load(file, transports)
    except ConfigurationError as error:
        return Findings(error.problems)
    notes = []
    if not settings.listen:
        notes.append(f"{file} has no [[listen]], so it serves `erlmcp stdio` alone")
    shown = {one.view for one in settings.listen}.union(
        *(config.views_by_path(one).values() for one in settings.listen)
    )
    notes += [
        f"{one.key}: no [[listen]] shows {one.name}; `erlmcp stdio --view {one.name}` does"
        for one in settings.views
        if one.name not in shown
    ]
    inherited = [one for one in settings.listen if _is_inherited(one)]
    notes += [
        f"{one.key}.endpoint: {one.endpoint} cannot be checked here: systemd passes it to the daemon alone"
        for one in inherited
    ]
    here = tuple(one for one in settings.listen if one not in inherited)
    return Findings(_assembled(msgspec.structs.replace(settings, listen=here), transports), notes)


def serve_stdio(
    file: Path | None,
    providers: Sequence[str],
    options: Mapping[str, Any] | None = None,
    view: str | None = None,
    *,
    isolated: bool = False,
) -> None:
    """Serve one client on the process's standard streams until they end or the process is told to.

    The file may be that of a daemon: its listeners, its telemetry and its engine's file are left alone.

    Args:
        file: a configuration; None for none.
        providers: further providers.
        options: the table of these providers' own.
        view: the ``[[server_view]]`` that the client is shown; None for everything.
        isolated: whether the client is a daemon, for which providers run in this process: it keeps the limits of time,
            and is told what it has to know for that.

    Raises:
        StartFailed: the configuration cannot be used; the message has every problem.
    """
    try:
        settings = config.load(
            file, config.transports(), listen=["stdio"], providers=providers, options=options
        )
        views = [one.name for one in settings.views]
        if view is not None and view not in views:
            raise ValueError(f"--view: no [[server_view]] is named {view!r}; {config.nearest(view, views)}")
        own = settings.listen[-1]
        streams = msgspec.structs.replace(own.options, deadline=settings.server.drain)
        settings = msgspec.structs.replace(
            settings,
            listen=(msgspec.structs.replace(own, options=streams, view=view),),
            # Its client is this process's own.
            server=msgspec.structs.replace(settings.server, workers=0),
            telemetry=config.TelemetrySettings(),
        )
        if isolated:
            limits = msgspec.structs.replace(settings.limits, timeout=LONGEST)
            settings = msgspec.structs.replace(settings, limits=limits)
        backends = backends_for(settings, config.providers())
        if isolated:
            backends = [Isolated(one) for one in backends]
        require_reactor(backends)
    except (ConfigurationError, ValueError) as error:
        raise StartFailed(str(error)) from error
    from twisted.internet import reactor

    daemon = make_daemon(settings, backends, reactor, keep_state=False, hangs_up=lambda: True)
    daemon.privilegedStartService()
    daemon.startService()
    reactor.addSystemEventTrigger("before", "shutdown", daemon.stopService)
    reactor.run()


def _assembled(settings: Settings, transports: dict[str, Any]) -> list[Problem]:
    """What is found when all is put together: providers, keys, endpoints, the reactor."""
    problems: list[Problem] = []
    backends: Sequence[Any] = ()
    try:
        backends = backends_for(settings, config.providers())
        require_reactor(backends)
    except ConfigurationError as error:
        problems += error.problems
    except ValueError as error:
        problems.append(Problem(wrong=str(error)))
    from twisted.internet import reactor

    try:
        assemble(settings, backends, reactor, transports=transports, environ=os.environ, make_keys=False)
    except ConfigurationError as error:
        problems += error.problems
    if settings.server.workers:
        problems += unfit(settings)
    return problems


def _is_inherited(one: ListenSettings) -> bool:
    return one.endpoint.removeprefix("haproxy:").startswith("systemd:") and "LISTEN_FDS" not in os.environ
