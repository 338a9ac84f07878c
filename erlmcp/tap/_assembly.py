"""The parts, put together: settings in, a server and its listeners out. Nothing is opened here."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from erlmcp import __version__, config
from erlmcp.catalog import Catalog, ValidateGate, check_answer
from erlmcp.config import ConfigurationError, ListenerLimits, Problem, Settings
from erlmcp.governor import (
    AdmitGate,
    AuthenticateGate,
    AuthorizeGate,
    ConnectionLimits,
    LimitsGate,
    RateGate,
)
from erlmcp.interfaces import ListenContext
from erlmcp.jsonrpc import Limits as MessageLimits
from erlmcp.protocol import KeyRing
from erlmcp.receipts import Unrecorded
from erlmcp.server import Gates, Server
from erlmcp.telemetry import Counters

OPEN = (
    "others than this machine can reach it, and it has no authentication: listen on a loopback address"
    ' (interface=127.0.0.1) or a unix socket, or say auth = "none" if everybody may use it'
)


class Frontend(msgspec.Struct, frozen=True):
    """A listener and what the configuration says of it.

    Attributes:
        listener: an `IListener`.
        endpoint: as configured; for messages.
        open: whether it may be reached by others without authentication.
    """

    listener: Any
    endpoint: str
    open: bool


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """What a daemon runs.

    Attributes:
        server: the server.
        frontends: its listeners, in the order in which they are bound.
        backends: what serves.
        counters: what is counted.
        keys: where the sealing keys are from.
    """

    server: Server
    frontends: Sequence[Frontend]
    backends: Sequence[Any]
    counters: Counters
    keys: str


def backends_for(settings: Settings, plugins: Mapping[str, Any]) -> list[Any]:
    """Make the backends that the configuration names.

    Args:
        settings: the configuration.
        plugins: the provider plugins by name.

    Raises:
        ConfigurationError: with a problem for each that cannot be made, or has another's name.
    """
    backends: list[Any] = []
    problems: list[Problem] = []
    names: dict[str, str] = {}
    for one in settings.providers:
        try:
            made = config.backend(one.use, one.options, plugins)
        except ValueError as error:
            problems.append(Problem(key=one.key, wrong=str(error)))
            continue
        if made.name in names:
            wrong = f"its name is {made.name!r}, like that of {names[made.name]}"
            problems.append(Problem(key=one.key, wrong=wrong, right="names of providers are unique"))
        names.setdefault(made.name, one.key)
        backends.append(made)
    if problems:
        raise ConfigurationError(problems)
    return backends


def assemble(
    settings: Settings,
    backends: Sequence[Any],
    reactor: Any,
    *,
    transports: Mapping[str, Any],
    environ: Mapping[str, str],
    make_keys: bool = True,
) -> Parts:
    """Make the server and its listeners.

    Args:
        settings: the configuration.
        backends: what it serves.
        reactor: what everything runs on.
        transports: the transport plugins by name.
        environ: the environment, for secrets and systemd's directories.
        make_keys: whether missing sealing keys may be made in the state directory.

    Raises:
        ConfigurationError: with every problem found: endpoints that cannot be, open listeners, keys that cannot be had.
    """
    problems: list[Problem] = []
    ring, origin = _key_ring(settings, environ, problems, make=make_keys)
    catalog = Catalog(backends)
    counters = Counters()
    admit = AdmitGate(
        reactor.seconds, timeout=settings.limits.timeout, concurrency=settings.limits.concurrency
    )
    counters.gauge("erlmcp_requests_in_flight", (), lambda: admit.under_way)
    sizes = {one.name: one.limits.message for one in settings.listen}
    server = Server(
        name=settings.server.name,
        version=settings.server.version or __version__,
        title=settings.server.title,
        instructions=settings.server.instructions,
        catalog=catalog,
        gates=Gates(
            limits=LimitsGate(sizes, settings.limits.message),
            authenticate=AuthenticateGate(),
            authorize=AuthorizeGate(),
            rate=RateGate(),
            validate=ValidateGate(catalog),
            admit=admit,
            record=Unrecorded(),
            check_answer=check_answer,
        ),
        counters=counters,
        key_ring=ring,
        clock=reactor,
        limits=_message_limits(settings.limits),
        page_size=settings.server.page_size,
    )
    frontends = [
        frontend
        for one in settings.listen
        if (frontend := _frontend(one, server, counters, reactor, transports, problems)) is not None
    ]
    if problems:
        raise ConfigurationError(problems)
    return Parts(server=server, frontends=frontends, backends=backends, counters=counters, keys=origin)


def _key_ring(
    settings: Settings, environ: Mapping[str, str], problems: list[Problem], *, make: bool
) -> tuple[KeyRing, str]:
    try:
        sealing = config.sealing_keys(settings.server, environ, make=make)
        return KeyRing(sealing.keys), sealing.origin
    except ValueError as error:
        problems.append(Problem(key="server.keys", wrong=str(error)))
        return KeyRing([KeyRing.generate()]), ""


def _message_limits(limits: ListenerLimits) -> MessageLimits:
    return MessageLimits(size=limits.message, depth=limits.depth, keys=limits.keys, string=limits.string)


def _frontend(
    one: config.ListenSettings,
    server: Server,
    counters: Counters,
    reactor: Any,
    transports: Mapping[str, Any],
    problems: list[Problem],
) -> Frontend | None:
    if one.auth is None and config.endpoint_reachable(one.endpoint):
        problems.append(Problem(key=one.key, wrong=f"the endpoint {one.endpoint} is open: {OPEN}"))
        return None
    connections = ConnectionLimits(
        one.limits.wire, connections=one.limits.connections, per_address=one.limits.per_address
    )
    context = ListenContext(
        name=one.name,
        reactor=reactor,
        channel=server.channel(_message_limits(one.limits)),
        limits=connections,
        endpoint=one.endpoint,
    )
    try:
        listener = transports[one.transport].listener(context, one.options)
    except ValueError as error:
        problems.append(Problem(key=one.key, wrong=str(error)))
        return None
    counters.gauge("erlmcp_connections_active", (one.name, one.transport), lambda: connections.active)
    for limit in connections.refused:
        counters.gauge(
            "erlmcp_connections_refused_total",
            (one.name, limit),
            lambda limit=limit: connections.refused[limit],
        )
    return Frontend(listener=listener, endpoint=one.endpoint, open=one.auth == "none")
