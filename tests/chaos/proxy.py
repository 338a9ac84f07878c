"""A proxy on loopback whose connections go wrong: slow, byte by byte, half-open, cut, reset, or with garbage."""

import random
from collections.abc import Callable
from enum import Enum
from typing import Any, Final

from twisted.internet.address import IPv4Address
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

_MOST: Final = 1024 * 1024
"""Bytes that wait on one side before the other is no longer read."""
_BEAT: Final = 0.01
_SLOW: Final = 2048
"""Bytes that a slow connection passes on in one beat: about 200 kB a second."""


class Mode(Enum):
    """How a connection fares."""

    FAIR = "fair"
    SLOW = "slow"
    BYTEWISE = "byte by byte"
    SILENT = "half-open"
    CUT = "cut"
    RESET = "reset"
    SPOILT = "spoilt"


TRICKLES: Final = (Mode.SLOW, Mode.BYTEWISE)
ENDS: Final = (Mode.CUT, Mode.RESET, Mode.SPOILT)


class Side(Protocol):
    """One end of a proxied connection.

    Args:
        relay: the connection.
    """

    transport: Any

    def __init__(self, relay: "Relay") -> None:
        self.relay = relay
        self.peer: Side | None = None
        self.waiting = bytearray()
        self.open = False
        self._reading = True

    def connectionMade(self) -> None:
        """It is there."""
        self.open = True
        self.transport.setTcpNoDelay(True)
        self.relay.made(self)

    def dataReceived(self, data: bytes) -> None:
        """What the other end is to get, perhaps."""
        if self.relay.mode is Mode.SILENT:
            return
        self.waiting += data
        if len(self.waiting) > _MOST and self._reading:
            self._reading = False
            self.transport.pauseProducing()
        self.relay.pump(self)

    def take(self, most: int) -> bytes:
        """Some of what waits."""
        data = bytes(self.waiting[:most])
        del self.waiting[:most]
        if not self._reading and self.open and len(self.waiting) < _MOST // 2:
            self._reading = True
            self.transport.resumeProducing()
        return data

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """So goes the other one."""
        self.open = False
        self.relay.lost(self)


class Relay:
    """One connection and the one that it is passed on to.

    Args:
        proxy: whose it is.
    """

    def __init__(self, proxy: "FaultProxy") -> None:
        self.proxy = proxy
        self.mode = proxy.mode()
        self.client = Side(self)
        self.server = Side(self)
        self.client.peer, self.server.peer = self.server, self.client
        self._beat: IDelayedCall | None = None

    def made(self, side: Side) -> None:
        """One end is there."""
        if side is self.client:
            self.proxy.dial(self)
        elif self.client.open:
            self.turn(self.mode)
            self.pump(self.client)
        else:
            side.transport.abortConnection()

    def lost(self, side: Side) -> None:
        """One end has gone: what it has said is still passed on, unless things are bad."""
        peer = side.peer
        if self._beat is not None and self._beat.active():
            self._beat.cancel()
        if peer is not None and peer.open:
            if self.mode is Mode.FAIR and side.waiting:
                peer.transport.write(bytes(side.waiting))
            peer.transport.loseConnection()
        self.proxy.relays.pop(self, None)

    def refused(self) -> None:
        """Nobody is there to pass it on to."""
        if self.client.open:
            self.client.transport.abortConnection()

    def turn(self, mode: Mode) -> None:
        """Go wrong from now on, or right again."""
        if self.mode is Mode.SILENT and mode is not Mode.SILENT:
            # What was swallowed is missed on both sides: it can only end.
            mode = Mode.RESET
        self.mode = mode
        if mode in ENDS:
            self._end()
        elif mode in TRICKLES:
            self._next()
        else:
            self.pump(self.client)
            self.pump(self.server)

    def pump(self, side: Side) -> None:
        """Pass on what one end has said."""
        peer = side.peer
        if peer is None or not peer.open or self.mode is not Mode.FAIR or not side.waiting:
            return
        peer.transport.write(side.take(len(side.waiting)))

    def _next(self) -> None:
        if self._beat is None or not self._beat.active():
            self._beat = self.proxy.reactor.callLater(_BEAT, self._trickle)

    def _trickle(self) -> None:
        if self.mode not in TRICKLES:
            return
        for side in (self.client, self.server):
            if side.peer is not None and side.peer.open and side.waiting:
                if self.mode is Mode.SLOW:
                    side.peer.transport.write(side.take(_SLOW))
                else:
                    # Each byte is a segment of its own: Nagle's algorithm is off.
                    for _ in range(64):
                        side.peer.transport.write(side.take(1))
        self._next()

    def _end(self) -> None:
        chance = self.proxy.chance
        for side in (self.client, self.server):
            if not side.open:
                continue
            if self.mode is Mode.SPOILT:
                side.transport.write(chance.randbytes(chance.randrange(1, 2000)))
                side.transport.loseConnection()
            elif self.mode is Mode.RESET:
                side.transport.abortConnection()
            else:
                # In the middle of whatever is on its way.
                peer = side.peer
                if peer is not None and peer.waiting:
                    side.transport.write(peer.take(max(1, len(peer.waiting) // 2)))
                side.transport.loseConnection()


class FaultProxy(Factory):
    """Listens on a loopback port, and passes connections on to another, well or badly.

    Args:
        reactor: what it runs on.
        target: the port to pass on to.
        chance: decides what is left to chance.

    Attributes:
        relays: the connections that are there.
        mode: gives the mode of a new connection.
    """

    noisy = False

    def __init__(self, reactor: Any, target: int, chance: random.Random) -> None:
        self.reactor = reactor
        self.chance = chance
        self.relays: dict[Relay, None] = {}
        self.mode: Callable[[], Mode] = lambda: Mode.FAIR
        self._target = target
        self._port = reactor.listenTCP(0, self, interface="127.0.0.1")

    @property
    def port(self) -> int:
        """Where it listens."""
        address: IPv4Address = self._port.getHost()
        return address.port

    def buildProtocol(self, addr: Any) -> Side:
        """One connection."""
        relay = Relay(self)
        self.relays[relay] = None
        return relay.client

    def dial(self, relay: Relay) -> None:
        """Connect to the target."""
        relay.client.transport.pauseProducing()
        connecting = HostnameEndpoint(self.reactor, "127.0.0.1", self._target).connect(
            Factory.forProtocol(lambda: relay.server)
        )

        def there(_: Any) -> None:
            if relay.client.open:
                relay.client.transport.resumeProducing()

        connecting.addCallbacks(there, lambda _: relay.refused())

    def turn(self, mode: Callable[[], Mode]) -> None:
        """From now on connections are of this mode, each as it falls; those that are there too."""
        self.mode = mode
        for relay in list(self.relays):
            if relay.server.open:
                relay.turn(mode())

    def close(self) -> Any:
        """Listen no more, and end what is there."""
        for relay in list(self.relays):
            for side in (relay.client, relay.server):
                if side.open:
                    side.transport.abortConnection()
        return self._port.stopListening()
