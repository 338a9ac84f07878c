"""The wire over a connection: a JSON document in each line, over any client endpoint of Twisted's."""

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import clientFromString
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IDelayedCall,
    IHandshakeListener,
    IProtocol,
    ISSLTransport,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from zope.interface import implementer

from erlmcp.client._stream import StreamLimits, StreamWire
from erlmcp.client._wire import Inbox, WireError, WireMaker
from erlmcp.transports import Outgoing as Writer
from erlmcp.transports import tune


def line_wires(
    reactor: Any, description: str, *, peer: str = "", limits: StreamLimits | None = None
) -> WireMaker:
    """What makes wires to a server that speaks lines at an endpoint.

    Args:
        reactor: connects and tells the time.
        description: a client endpoint as Twisted describes them: ``tcp:host:port``, ``unix:/path``,
            ``tls:host:port:trustRoots=/folder:certificate=/file.pem:privateKey=/file.pem``, or a plugin's.
        peer: how the server is named in errors; the description unless given.
        limits: the bounds of each wire.

    Raises:
        ValueError: the description says nothing that can be connected to.
    """
    try:
        clientFromString(reactor, description)
    except (ValueError, TypeError, LookupError, OSError) as error:
        raise ValueError(f"{description!r} describes no endpoint to connect to: {error}") from error
    return lambda: LineWire(reactor, clientFromString(reactor, description), peer or description, limits)


class LineWire(StreamWire):
    """A wire over one connection. Lines of whatever content go up: a server on a socket has no other use for it.

    Args:
        reactor: tells the time.
        endpoint: where to connect.
        peer: how the server is named in errors.
        limits: the wire's bounds.
    """

    def __init__(
        self, reactor: Any, endpoint: IStreamClientEndpoint, peer: str, limits: StreamLimits | None = None
    ) -> None:
        super().__init__(reactor, peer, limits)
        self._endpoint = endpoint
        self._connection: _Connection | None = None
        self._opening: Deferred[None] | None = None
        self._attempt: Deferred[Any] | None = None
        self._timer: IDelayedCall | None = None
        self._closes: list[Deferred[None]] = []

    def open(self, inbox: Inbox) -> Deferred[None]:
        """See `Wire.open`."""
        self._inbox = inbox
        self._opening = opening = Deferred[None]()
        connect = self._limits.connect
        self._timer = self._reactor.callLater(connect, self._refuse, f"no connection within {connect:g} s")
        self._attempt = self._endpoint.connect(Factory.forProtocol(lambda: _Connection(self)))
        self._attempt.addErrback(lambda failure: self._refuse(failure.getErrorMessage()))
        return opening

    def pause(self) -> None:
        """See `Wire.pause`."""
        if self._open and self._connection is not None:
            self._connection.transport.pauseProducing()

    def resume(self) -> None:
        """See `Wire.resume`."""
        if self._open and self._connection is not None:
            self._connection.transport.resumeProducing()

    def close(self) -> Deferred[None]:
        """See `Wire.close`: what was sent is handed on before, in ``StreamLimits.close`` seconds at most."""
        if self._opening is not None:
            self._refuse("it was closed meanwhile")
        connection = self._connection
        if connection is None:
            return succeed(None)
        closed = Deferred[None]()
        self._closes.append(closed)
        if not self._closing:
            self._closing = True
            self._end()
            self._flush_all()
            self._timer = self._reactor.callLater(self._limits.close, connection.cut)
            # Reading goes on, or the end of the other side would not be noticed.
            connection.transport.resumeProducing()
            connection.lose()
        return closed

    def _write(self, data: bytes) -> None:
        if self._connection is not None:
            self._connection.send(data)

    def _waiting(self) -> int:
        return self._connection.unsent if self._connection is not None else 0

    # The connection's.

    def connecting(self, connection: "_Connection") -> None:
        """There is a connection; TLS has still to be agreed upon, if it has any."""
        self._connection = connection

    def connected(self) -> None:
        """The connection can be used."""
        opening, self._opening = self._opening, None
        if opening is not None:
            self._stop_timer()
            self._open = True
            opening.callback(None)

    def took(self) -> None:
        """The server has taken what waited for it."""
        if self._turn is None and self._open:
            self._flush()

    def came(self, data: bytes) -> None:
        """Bytes came."""
        self._received(data)

    def disconnected(self, reason: Failure) -> None:
        """The connection is gone."""
        self._connection = None
        self._stop_timer()
        if reason.check(ConnectionDone):
            why = "the server closed it"
        else:
            # OpenSSL's errors are lists of triples, and say nothing as text.
            why = reason.getErrorMessage() or type(reason.value).__name__
        self._refuse(why)
        self._lose(WireError(f"the connection to {self.peer} is lost: {why}"))
        closes, self._closes = self._closes, []
        for closed in closes:
            closed.callback(None)

    def _refuse(self, why: str) -> None:
        """Opening has failed, if it is under way."""
        opening, self._opening = self._opening, None
        if opening is None:
            return
        self._stop_timer()
        if self._attempt is not None:
            self._attempt.cancel()
        if self._connection is not None:
            self._connection.cut()
        opening.errback(WireError(f"no connection to {self.peer}: {why}", unsent=True))

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None


@implementer(IProtocol, IHandshakeListener)
class _Connection(Writer):
    """One connection: the Twisted protocol, and the writer of its wire."""

    __slots__ = ("_wire", "factory")

    def __init__(self, wire: LineWire) -> None:
        super().__init__()
        self._wire = wire
        self.factory: Any = None

    def makeConnection(self, transport: Any) -> None:  # noqa: N802 - Twisted's name
        """See `IProtocol.makeConnection`."""
        self.transport = transport
        tune(transport)
        self.begin()
        self._wire.connecting(self)
        if not ISSLTransport.providedBy(transport):
            self._wire.connected()

    def connectionMade(self) -> None:
        """See `IProtocol.connectionMade`; `makeConnection` has done everything."""

    def handshakeCompleted(self) -> None:  # noqa: N802 - Twisted's name
        """See `IHandshakeListener.handshakeCompleted`."""
        self._wire.connected()

    def dataReceived(self, data: bytes) -> None:
        """See `IProtocol.dataReceived`."""
        self._wire.came(data)

    def connectionLost(self, reason: Failure) -> None:
        """See `IProtocol.connectionLost`."""
        self.stopProducing()
        self._wire.disconnected(reason)

    def drained(self) -> None:
        """See `Outgoing.drained`."""
        self._wire.took()
