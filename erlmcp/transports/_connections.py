"""The connections of one listener: what they have in common, who is admitted, and when the last one has gone."""

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred, succeed

from erlmcp.interfaces import ListenContext, Peer, WireLimits
from erlmcp.telemetry import Logger
from erlmcp.timing import Wheel

log = Logger()


class Connection(Protocol):
    """What a listener asks of each of its connections."""

    def drain(self) -> None:
        """Take no more messages; close once the last one in flight is answered."""

    def cut(self) -> None:
        """Close now, whatever is under way or not yet written."""


class Connections:
    """A listener's table of connections.

    Args:
        context: what the listener was made with.
        transport: our transport's name, such as ``tcp``.
        linger: None for peers that come and go: they have a lease, must begin with JSON, may not be slow or idle,
            and their end of stream cancels what they asked for. Else our parent process: nothing of that holds, and
            after its end of stream it is still answered for so many seconds.

    Attributes:
        wire: the bounds of each connection.
        channel, received: where messages go.
        clock, wheel: for limits of time.
        nobody: the peer of a connection that is not made yet.
    """

    def __init__(self, context: ListenContext, transport: str, linger: float | None = None) -> None:
        self.wire: WireLimits = context.limits.wire
        self.channel = context.channel
        self.received: Callable[[bytes, Any], None] = context.channel.received
        self.clock = context.clock
        self.wheel = Wheel(context.clock)
        self.transport = transport
        self.name = context.name
        self.linger = linger
        self.nobody = Peer(transport=transport, listener=context.name)
        self._limits = context.limits
        self._admitted: dict[Connection, Peer] = {}
        self._empty: list[Deferred[None]] = []
        self._draining = False

    def __len__(self) -> int:
        return len(self._admitted)

    def opened(self, connection: Connection, peer: Peer) -> bool:
        """Whether a new connection may stay; if so, `closed` is due at its end."""
        refusal = "the listener is closing" if self._draining else self._limits.admit(peer)
        if refusal is None:
            self._admitted[connection] = peer
            return True
        log.debug("{listener}: {peer} is refused: {why}", listener=self.name, peer=peer.address, why=refusal)
        return False

    def recognized(self, connection: Connection, peer: Peer) -> bool:
        """Whether a connection may stay now that TLS or a proxy has said more of its peer."""
        before = self._admitted[connection]
        if peer == before:
            return True
        self._limits.leave(self._admitted.pop(connection))
        return self.opened(connection, peer)

    def closed(self, connection: Connection) -> None:
        """A connection has ended."""
        peer = self._admitted.pop(connection, None)
        if peer is not None:
            self._limits.leave(peer)
        if self._draining and not self._admitted:
            self.wheel.stop()
            waiting, self._empty = self._empty, []
            for fired in waiting:
                fired.callback(None)

    def drain(self) -> Deferred[None]:
        """Admit no more, and let the rest end; fires when none is left."""
        self._draining = True
        for connection in list(self._admitted):
            connection.drain()
        return self._until_empty()

    def abort(self) -> Deferred[None]:
        """Admit no more, and end the rest now; fires when none is left."""
        self._draining = True
        for connection in list(self._admitted):
            connection.cut()
        return self._until_empty()

    def _until_empty(self) -> Deferred[None]:
        if not self._admitted:
            self.wheel.stop()
            return succeed(None)
        fired: Deferred[None] = Deferred()
        self._empty.append(fired)
        return fired
