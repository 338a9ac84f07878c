"""An HTTP listener: from an endpoint description to connections, and to their end."""

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IProtocolNegotiationFactory
from zope.interface import implementer

from erlmcp.interfaces import IChannel, IListener, ListenContext
from erlmcp.timing import Wheel
from erlmcp.transports import listen, parse, unlisten
from erlmcp.transports.http._fork import Fork
from erlmcp.transports.http._head import Rules
from erlmcp.transports.http._protocol import HttpConnection
from erlmcp.transports.http._shared import Connection, Second, Shared


@implementer(IProtocolFactory, IProtocolNegotiationFactory)
class HttpFactory:
    """Makes the connections of a listener.

    Args:
        shared: what they have in common.
        closed: called when the port listens no more.
    """

    noisy = False

    def __init__(self, shared: Shared, closed: Callable[[], None] = lambda: None) -> None:
        self.shared = shared
        self._closed = closed

    def doStart(self) -> None:  # noqa: N802 - Twisted's name
        """The port is about to listen."""

    def doStop(self) -> None:  # noqa: N802 - Twisted's name
        """The port listens no more."""
        self._closed()

    def acceptableProtocols(self) -> list[bytes]:  # noqa: N802 - Twisted's name
        """What is agreed on over TLS (ALPN): Twisted fails the handshake of a client that offers none of these."""
        return [b"h2", b"http/1.1"] if self.shared.second.offered else [b"http/1.1"]

    def buildProtocol(self, addr: Any) -> HttpConnection:  # noqa: ARG002 - the transport says who it is
        """One connection."""
        return HttpConnection(self.shared)


@implementer(IListener)
class HttpListener:
    """One listener.

    Args:
        context: what it is made with.
        rules: what a request's head must satisfy.
        second: what it does about HTTP/2.
        views: the channels of its further paths.

    Attributes:
        name: the listener's name.
        addresses: what it listens on, once bound.
        lost: fires with the reason when its port is closed although nobody has asked for it.
        shared: what its connections have in common.

    Raises:
        EndpointError: the endpoint description cannot be (a ValueError).
    """

    def __init__(
        self,
        context: ListenContext,
        rules: Rules,
        second: Second,
        views: Mapping[bytes, IChannel] | None = None,
    ) -> None:
        self.name = context.name
        self.addresses: tuple[Any, ...] = ()
        self.lost: Deferred[str] = Deferred()
        self._description = context.endpoint
        self._endpoint = parse(context.reactor, context.endpoint)
        self._rules = rules
        self._port: IListeningPort | None = None
        self._wheel = Wheel(context.clock)
        self.shared = Shared(
            name=context.name,
            channel=Fork(context.channel, views) if views else context.channel,
            limits=context.limits,
            rules=rules,
            wheel=self._wheel,
            seconds=context.clock.seconds,
            second=second,
        )
        self.factory = HttpFactory(self.shared, self._port_closed)

    def bind(self) -> Deferred[None]:
        """Take the port and serve. Fails with `erlmcp.transports.BindError`."""

        def bound(port: IListeningPort) -> None:
            self._port = port
            address = port.getHost()
            self.addresses = (address,)
            self._rules.visitors.listen_on(getattr(address, "host", None))

        return listen(self._endpoint, self._description, self.factory).addCallback(bound)

    def give_port(self) -> IListeningPort | None:
        """Give the port away, to whoever serves it from now on; None if there is none."""
        port, self._port = self._port, None
        return port

    def retire(self) -> Deferred[None]:
        """Another listens here now: accept no more, and close each connection with its next answer."""
        port, self._port = self._port, None
        self.shared.old.drain()
        for connection in list(self.shared.connections):
            connection.retire()
        return unlisten(port)

    def sweep(self, quiet: float) -> None:
        """Close what has been idle for so many seconds since it was retired."""
        for connection in list(self.shared.connections):
            connection.sweep(quiet)

    def drain(self) -> Deferred[None]:
        """Accept no more, close what is idle, let the rest end; fires when no connection is left."""
        self.shared.draining = True
        self.shared.old.drain()
        return self._end(lambda connection: connection.drain())

    def close(self) -> Deferred[None]:
        """End all connections now; fires when they are gone."""
        self.shared.draining = True
        return self._end(lambda connection: connection.abort())

    def _port_closed(self) -> None:
        if self._port is not None:
            self._port = None
            self.lost.callback("its port was closed")

    def _end(self, how: Callable[[Connection], None]) -> Deferred[None]:
        port, self._port = self._port, None
        stopped = unlisten(port)
        for connection in list(self.shared.connections):
            how(connection)

        async def ended() -> None:
            await stopped
            await self.shared.emptied()
            self._wheel.stop()

        return Deferred.fromCoroutine(ended())
