"""Newline-delimited JSON-RPC over any Twisted stream endpoint: tcp, tls, ssl, unix, systemd, haproxy."""

from collections.abc import Callable
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IAddress, IListeningPort, IProtocol
from twisted.internet.protocol import ServerFactory
from twisted.plugin import IPlugin
from zope.interface import implementer

from erlmcp.interfaces import IListener, ITransport, ListenContext
from erlmcp.transports._binding import listen, parse, unlisten
from erlmcp.transports._connections import Connections
from erlmcp.transports._lines import LineConnection


class TcpOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The tcp transport has no keys of its own in ``[[listen]]``: what it needs is in the endpoint and the limits."""


@implementer(IListener)
class StreamListener:
    """A listener on a Twisted stream endpoint.

    Args:
        context: what the daemon gives.
        connections: the table that `make` enters its connections into.
        make: makes the protocol of one connection.

    Attributes:
        name: the listener's name.
        addresses: what it listens on, once bound.
        lost: fires with the reason when its port is closed although nobody has asked for it.
        stays: whether its connections stay with it until they end, when another has taken over.

    Raises:
        EndpointError: the endpoint description cannot be (a ValueError).
    """

    stays = True

    def __init__(
        self, context: ListenContext, connections: Connections, make: Callable[[Connections], IProtocol]
    ) -> None:
        self.name = context.name
        self.addresses: tuple[IAddress, ...] = ()
        self.lost: Deferred[str] = Deferred()
        self._description = context.endpoint
        self._endpoint = parse(context.reactor, context.endpoint)
        self._connections = connections
        self._factory = _Factory(connections, make, self._port_closed)
        self._port: IListeningPort | None = None

    def bind(self) -> Deferred[None]:
        """See `IListener`; fails with `BindError`."""
        return listen(self._endpoint, self._description, self._factory).addCallback(self._bound)

    def give_port(self) -> IListeningPort | None:
        """Give the port away, to whoever serves it from now on; None if there is none."""
        port, self._port = self._port, None
        return port

    def retire(self) -> Deferred[None]:
        """Another listens here now: accept no more."""
        return self._stop()

    def drain(self) -> Deferred[None]:
        """See `IListener`."""
        return _both(self._stop(), self._connections.drain())

    def close(self) -> Deferred[None]:
        """See `IListener`."""
        return _both(self._stop(), self._connections.abort())

    def _bound(self, port: IListeningPort) -> None:
        self._port = port
        self.addresses = (port.getHost(),)

    def _port_closed(self) -> None:
        if self._port is not None:
            self._port = None
            self.lost.callback("its port was closed")

    def _stop(self) -> Deferred[Any]:
        port, self._port = self._port, None
        return unlisten(port)


class _Factory(ServerFactory):
    noisy = False

    def __init__(
        self, connections: Connections, make: Callable[[Connections], IProtocol], closed: Callable[[], None]
    ) -> None:
        self._connections = connections
        self._make = make
        self._closed = closed

    def stopFactory(self) -> None:
        """The port listens no more."""
        self._closed()

    def buildProtocol(self, address: IAddress | None) -> Any:  # noqa: ARG002 - IProtocolFactory's signature
        return self._make(self._connections)


@implementer(IPlugin, ITransport)
class TcpTransport:
    """``transport = "tcp"``."""

    name = "tcp"
    options = TcpOptions

    def listener(self, context: ListenContext, options: TcpOptions) -> IListener:  # noqa: ARG002 - it has none
        """See `ITransport`."""
        return StreamListener(context, Connections(context, self.name), LineConnection)


def _both(first: Deferred[Any], second: Deferred[Any]) -> Deferred[None]:
    done: Deferred[None] = DeferredList(
        [first, second], fireOnOneErrback=True, consumeErrors=True
    ).addCallback(lambda _results: None)
    return done
