"""Stand-ins for what a transport talks to: a channel that records, limits that admit, a stream that can be full."""

from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from erlmcp.interfaces import IChannel, IConnectionLimits, IExchange, ListenContext, Peer, WireLimits


def echo(message: bytes, exchange: IExchange) -> None:
    exchange.reply(b"echo " + message)


def hold(message: bytes, exchange: IExchange) -> None:
    """Leave the message unsettled."""


@implementer(IChannel)
class RecordingChannel:
    """Keeps what it is given; `answer` decides what to do with each message."""

    def __init__(self, answer: Callable[[bytes, IExchange], None] = echo) -> None:
        self.answer = answer
        self.messages: list[bytes] = []
        self.exchanges: list[IExchange] = []
        self.gone: list[IExchange] = []
        self.open: list[IExchange] = []
        self.ended: list[IExchange] = []

    def received(self, message: bytes, exchange: IExchange) -> None:
        self.messages.append(message)
        self.exchanges.append(exchange)
        self.answer(message, exchange)

    def closed(self, exchange: IExchange) -> None:
        self.gone.append(exchange)

    def opened(self, exchange: IExchange) -> None:
        self.open.append(exchange)

    def deleted(self, exchange: IExchange) -> None:
        self.ended.append(exchange)


@implementer(IConnectionLimits)
class OpenLimits:
    """Admits everybody, or refuses with `refusal`; keeps who is here."""

    def __init__(self, refusal: str | None = None, **wire: Any) -> None:
        self.wire = WireLimits(**wire)
        self.refusal = refusal
        self.here: list[Peer] = []
        self.floods = 0

    def admit(self, peer: Peer) -> str | None:
        if self.refusal is None:
            self.here.append(peer)
        return self.refusal

    def flooded(self) -> int:
        self.floods += 1
        return self.floods

    def leave(self, peer: Peer) -> None:
        self.here.remove(peer)


def context(
    channel: IChannel, limits: IConnectionLimits | None = None, reactor: Any = None, endpoint: str = ""
) -> ListenContext:
    return ListenContext(
        name="test",
        reactor=Clock() if reactor is None else reactor,
        channel=channel,
        limits=OpenLimits() if limits is None else limits,
        endpoint=endpoint,
    )


class Stream(StringTransport):
    """A transport with Twisted's manners: full at 64 KiB, closed when its producer lets it, lost a turn later.

    Nothing leaves it until `take`.
    """

    full_at = 64 * 1024

    def __init__(self, clock: Clock, protocol: Any, **addresses: Any) -> None:
        super().__init__(**addresses, lenient=True)
        self._clock = clock
        self.protocol = protocol
        self.lost = False
        self.choked = False
        self.taken = b""
        self.writes = 0
        protocol.makeConnection(self)

    def write(self, data: bytes) -> None:
        if self.lost or self.disconnecting:
            return
        super().write(data)
        self.writes += 1
        if self.producer is not None and len(self.value()) > self.full_at:
            self.choked = True
            self.producer.pauseProducing()

    def take(self) -> bytes:
        """The peer reads all that is there, and what the producer then adds."""
        taken = b""
        while not self.lost:
            piece = self.value()
            self.clear()
            taken += piece
            choked, self.choked = self.choked, False
            if choked and self.producer is not None:
                self.producer.resumeProducing()
            if not self.value():
                break
        self.taken += taken
        self._close_if_due()
        return taken

    def receive(self, data: bytes) -> None:
        """The peer sends, and the reactor reads unless it was told not to."""
        assert self.producerState == "producing", "nobody reads while the protocol has paused"
        if not self.lost and not self.disconnecting:
            self.protocol.dataReceived(data)

    def loseConnection(self) -> None:
        self.disconnecting = True
        self._close_if_due()

    def unregisterProducer(self) -> None:
        super().unregisterProducer()
        self._close_if_due()

    def abortConnection(self) -> None:
        if not self.lost:
            self.disconnecting = True
            self._lose(ConnectionAborted())

    def _close_if_due(self) -> None:
        if self.disconnecting and not self.value() and self.producer is None and not self.lost:
            self._lose(ConnectionDone())

    def _lose(self, why: Exception) -> None:
        self.lost = True
        self._clock.callLater(0, self.protocol.connectionLost, Failure(why))
