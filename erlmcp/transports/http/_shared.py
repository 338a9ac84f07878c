"""What the HTTP connections of one listener share: where requests go, bounds, spare parsers, and who is there."""

import time
from collections.abc import Callable
from typing import Final, Protocol

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from erlmcp.interfaces import IChannel, IConnectionLimits, Peer, WireLimits
from erlmcp.timing import Wheel
from erlmcp.transports.http._answers import Stamp
from erlmcp.transports.http._exchange import Exchange
from erlmcp.transports.http._familiar import FamiliarHeads, Kept
from erlmcp.transports.http._head import Fields, Headers, Purpose, Rules
from erlmcp.transports.http._intake import Intake
from erlmcp.transports.http._old_stream import ENDING, OldMessage, OldStream, OldStreams

_SPARE: Final = 256
_QUIET: Final = 60.0

log = Logger()


class Second(msgspec.Struct, frozen=True, kw_only=True):
    """What a listener does about HTTP/2.

    Attributes:
        offered: whether it is offered over TLS (ALPN).
        h2c: whether connections without TLS may begin with its preface.
        streams: how many requests may be under way on one connection.
    """

    offered: bool = True
    h2c: bool = False
    streams: int = 100


_USUAL: Final = Second()


class Connection(Protocol):
    """What a listener asks of each of its connections."""

    def retire(self) -> None:
        """Close with the next answer."""

    def sweep(self, quiet: float) -> None:
        """Close, once retired, if nothing has come for so many seconds."""

    def drain(self) -> None:
        """Answer what has begun, then close."""

    def abort(self) -> None:
        """End at once."""


class Shared:
    """What all connections of one listener have in common.

    Args:
        name: the listener's name.
        channel: where requests go.
        limits: who may connect, and the bounds of a connection.
        rules: what a request's head must satisfy.
        wheel: their time limits.
        seconds: the clock of those.
        wall: seconds since the epoch, for Date.
        second: what it does about HTTP/2.

    Attributes:
        connections: those that are there, in order of arrival.
        draining: whether no more requests are wanted.
        familiar: heads that were taken before.
        familiar_fields: the same of HTTP/2, where they are fields from the start.
        old: the streams of revision 2024-11-05.
    """

    __slots__ = (
        "_spare",
        "_told",
        "_waiting",
        "channel",
        "connections",
        "draining",
        "familiar",
        "familiar_fields",
        "limits",
        "name",
        "old",
        "rules",
        "second",
        "seconds",
        "stamp",
        "wheel",
        "wire",
    )

    def __init__(
        self,
        *,
        name: str,
        channel: IChannel,
        limits: IConnectionLimits,
        rules: Rules,
        wheel: Wheel,
        seconds: Callable[[], float],
        wall: Callable[[], float] = time.time,
        second: Second = _USUAL,
    ) -> None:
        self.name = name
        self.channel = channel
        self.limits = limits
        self.wire: WireLimits = limits.wire
        self.rules = rules
        self.wheel = wheel
        self.seconds = seconds
        self.stamp = Stamp(wall)
        self.connections: dict[Connection, None] = {}
        self.draining = False
        self.old = OldStreams(channel, limits.wire.in_flight, rules.old_messages)
        self.familiar = FamiliarHeads()
        self.familiar_fields: Kept[Fields, tuple[Headers, bytes]] = Kept()
        self.second = second
        self._told = float("-inf")
        self._spare: list[Intake] = []
        self._waiting: list[Deferred[None]] = []

    def serve(self, exchange: Exchange, body: bytes) -> None:
        """A request whose turn has come and which is no message on the MCP path."""
        if isinstance(exchange, OldMessage):
            self.old.take(exchange, body)
        elif exchange.purpose is Purpose.DELETE:
            self.channel.deleted(exchange)
        elif self.draining:
            exchange.decline(ENDING)
        elif isinstance(exchange, OldStream):
            self.old.open(exchange)
        else:
            self.channel.opened(exchange)
            exchange.begin()

    def lend(self) -> Intake:
        """An intake for a connection on which something arrives."""
        return self._spare.pop() if self._spare else Intake(self.rules, self.wire, self.familiar)

    def take_back(self, intake: Intake) -> None:
        """An intake that is between two requests."""
        if len(self._spare) < _SPARE:
            self._spare.append(intake)
        else:
            intake.discard()

    def flooded(self, reason: str, peer: Peer | None) -> None:
        """A connection ends because its client asked for too much of it; one line a minute says so."""
        count = self.limits.flooded()
        now = self.seconds()
        if now - self._told >= _QUIET:
            address = peer.address if peer is not None else "an unknown address"
            log.warn(  # noqa: G010 - Twisted's
                "{name}: the connection from {address} was ended: {reason} ({count} so far)",
                name=self.name,
                address=address,
                reason=reason,
                count=count,
            )
            self._told = now

    def forget(self, connection: Connection) -> None:
        """A connection is gone."""
        self.connections.pop(connection, None)
        if not self.connections:
            waiting, self._waiting = self._waiting, []
            for deferred in waiting:
                deferred.callback(None)

    def emptied(self) -> Deferred[None]:
        """Fires when no connection is left."""
        if not self.connections:
            return succeed(None)
        deferred: Deferred[None] = Deferred()
        self._waiting.append(deferred)
        return deferred
