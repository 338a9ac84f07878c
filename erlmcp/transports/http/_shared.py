"""What the HTTP connections of one listener share: where requests go, bounds, spare parsers, and who is there."""

import time
from collections.abc import Callable
from typing import Final, Protocol

from twisted.internet.defer import Deferred, succeed

from erlmcp.interfaces import IChannel, IConnectionLimits, WireLimits
from erlmcp.timing import Wheel
from erlmcp.transports.http._answers import Stamp
from erlmcp.transports.http._exchange import Exchange
from erlmcp.transports.http._familiar import FamiliarHeads
from erlmcp.transports.http._head import Purpose, Rules
from erlmcp.transports.http._intake import Intake
from erlmcp.transports.http._old_stream import ENDING, OldMessage, OldStream, OldStreams

_SPARE: Final = 256


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

    Attributes:
        connections: those that are there, in order of arrival.
        draining: whether no more requests are wanted.
        familiar: heads that were taken before.
        old: the streams of revision 2024-11-05.
    """

    __slots__ = (
        "_spare",
        "_waiting",
        "channel",
        "connections",
        "draining",
        "familiar",
        "limits",
        "name",
        "old",
        "rules",
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
