"""Listeners from their settings: made, counted, and refused where others could reach them unasked."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import msgspec

from erlmcp import __version__
from erlmcp.config import (
    ListenerLimits,
    ListenSettings,
    Problem,
    Settings,
    endpoint_reachable,
    views_by_path,
)
from erlmcp.governor import ConnectionLimits
from erlmcp.interfaces import ListenContext
from erlmcp.jsonrpc import Limits
from erlmcp.server import Views
from erlmcp.tap._views import scope_of
from erlmcp.telemetry import Counters
from erlmcp.transports import EndpointError

OPEN = (
    "others than this machine can reach it, and it has no authentication: listen on a loopback address"
    ' (interface=127.0.0.1) or a unix socket, or say auth = "none" if everybody may use it'
)


class Frontend(msgspec.Struct, frozen=True):
    """A listener and what the configuration says of it.

    Attributes:
        listener: an `IListener`.
        endpoint: as configured; for messages.
        open: whether others may reach it without authentication.
        remake: makes another listener like it, for when this one has ended; None where there can be no other.
    """

    listener: Any
    endpoint: str
    open: bool
    remake: Callable[[], Any] | None = None


class FrontendMaker:
    """Makes the listeners of one configuration.

    Args:
        settings: the configuration.
        reactor: what the listeners run on.
        counters: what is counted of all that there was before, too.
        gauges: where their connections are counted.
        reactors: where listeners come with their sockets, the reactor of each by its name.

    Attributes:
        channels: those of the listeners that were made, by the listener's name and the scope of what it shows.
        limits: who may connect, likewise.
        problems: what was wrong with those that could not be made.
    """

    def __init__(
        self,
        settings: Settings,
        reactor: Any,
        counters: Counters,
        gauges: Counters,
        reactors: Mapping[str, Any] | None = None,
    ) -> None:
        self.channels: dict[tuple[str, str], Any] = {}
        self.limits: dict[str, ConnectionLimits] = {}
        self.problems: list[Problem] = []
        self._reactors = reactors
        self._settings = settings
        self._reactor = reactor
        self._counters = counters
        self._gauges = gauges

    def frontend(self, one: ListenSettings, server: Views, transport: Any) -> Frontend | None:
        """Make one listener, or note a problem.

        Args:
            one: its settings.
            server: what it serves one of: everything, or a view; and on further paths, further ones.
            transport: its `ITransport`.
        """
        key = f"{one.key}.endpoint"
        limits = ConnectionLimits(
            one.limits.wire, connections=one.limits.connections, per_address=one.limits.per_address
        )
        bounds = message_limits(one.limits)
        reactors = self._reactors
        scope = scope_of(self._settings, one)
        views = {name: server.channel(bounds, name) for name in views_by_path(one).values()}
        context = ListenContext(
            name=one.name,
            reactor=self._reactor if reactors is None else reactors[one.name],
            channel=server.channel(bounds, scope),
            limits=limits,
            endpoint=one.endpoint if reactors is None else reactors[one.name].describe(one.endpoint),
            views=views,
        )
        self.limits[one.name] = limits
        self.channels |= {(one.name, name): channel for name, channel in views.items()}
        self.channels[one.name, scope] = context.channel
        make = partial(transport.listener, context, one.options)
        try:
            listener = make()
        except ValueError as error:
            at = key if isinstance(error, EndpointError) else one.key
            self.problems.append(self._settings.problem(at, str(error)))
            return None
        # Only now: an interface with its name misspelt is no endpoint, rather than an open one.
        if self._is_open(key, one.endpoint, one.auth):
            return None
        self._count(one, limits)
        return Frontend(listener=listener, endpoint=one.endpoint, open=one.auth == "none", remake=make)

    def console(self, metrics: Callable[[], Any] | None = None) -> Frontend | None:
        """Make the listener for health and metrics, if one is configured, or note a problem.

        Args:
            metrics: gives the text of ``/metrics``, or a Deferred of it; None for that of this process alone.
        """
        telemetry = self._settings.telemetry
        key = "telemetry.endpoint"
        if telemetry.endpoint is None:
            return None
        # twisted.web and prometheus_client take their time to import: only who asks for them pays.
        from erlmcp.console import ConsoleListener

        if metrics is None:
            from erlmcp.telemetry.exposition import Exposition

            metrics = Exposition(self._counters, __version__).text
        make = partial(
            ConsoleListener, self._reactor, telemetry.endpoint, metrics=metrics, hosts=telemetry.hosts
        )
        try:
            listener = make()
        except ValueError as error:
            self.problems.append(self._settings.problem(key, str(error)))
            return None
        if self._is_open(key, telemetry.endpoint, telemetry.auth):
            return None
        return Frontend(
            listener=listener, endpoint=telemetry.endpoint, open=telemetry.auth == "none", remake=make
        )

    def _is_open(self, key: str, endpoint: str, auth: str | None) -> bool:
        refused = auth is None and bool(endpoint_reachable(endpoint))
        if refused:
            self.problems.append(self._settings.problem(key, f"{endpoint} is open: {OPEN}"))
        return refused

    def _count(self, one: ListenSettings, limits: ConnectionLimits) -> None:
        self._gauges.gauge("erlmcp_connections_active", (one.name, one.transport), lambda: limits.active)
        for limit in limits.refused:
            read = partial(limits.refused.__getitem__, limit)
            self._total("erlmcp_connections_refused_total", (one.name, limit), read)
        self._total("erlmcp_connections_flooded_total", (one.name,), lambda: limits.floods)

    def _total(self, name: str, labels: tuple[str, ...], read: Callable[[], int]) -> None:
        before = self._counters.gauges.get(name, {}).get(labels)
        # Of a listener that this one takes the place of: a total never falls.
        past = 0.0 if before is None else before()
        self._gauges.gauge(name, labels, lambda: past + read())


def message_limits(limits: ListenerLimits) -> Limits:
    """The bounds of one message, as the parser keeps them."""
    return Limits(size=limits.message, depth=limits.depth, keys=limits.keys, string=limits.string)
