"""The requests to one origin: its connections, those that are being made, and who waits for one."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, Protocol

from erlmcp.timing import Entry, Wheel
from erlmcp.web._carrying import Connection, Flushing
from erlmcp.web._dial import Dial
from erlmcp.web._one import OneConnection
from erlmcp.web._options import Options
from erlmcp.web._ticket import ATTEMPTS, Ticket
from erlmcp.web._two import TwoConnection
from erlmcp.web._types import Origin, WebError

_TWO: Final = b"h2"
_REST: Final = 1.0


class Street(Protocol):
    """What a lane asks of its pool."""

    reactor: Any
    options: Options
    wheel: Wheel

    def context_for(self, host: str) -> Any:
        """Makes TLS connections to a host."""

    def flush_soon(self, connection: Flushing) -> None:
        """Call its `flush` once, soon."""

    def emptied(self, lane: "Lane") -> None:
        """There is nothing left on it."""


class Lane:
    """Hands requests to connections, in order, and makes connections when there are too few.

    Args:
        pool: to whom it belongs.
        origin: where it leads.
        options: instead of the pool's.

    Attributes:
        connections: those that are there.
        waiting: requests that are on none, in order.
    """

    __slots__ = (
        "_closed",
        "_dials",
        "_entry",
        "_idle",
        "_pool",
        "_resting",
        "_speaks_two",
        "_twos",
        "authority",
        "connections",
        "options",
        "origin",
        "seconds",
        "waiting",
        "wheel",
    )

    def __init__(self, pool: Street, origin: Origin, options: Options | None = None) -> None:
        self.origin = origin
        self.authority = origin.authority
        self.options = options or pool.options
        self.wheel = pool.wheel
        self.seconds: Callable[[], float] = pool.reactor.seconds
        self.connections: dict[Connection, None] = {}
        self.waiting: OrderedDict[Ticket, None] = OrderedDict()
        self._pool = pool
        self._idle: dict[Connection, None] = {}
        self._twos: dict[TwoConnection, None] = {}  # those that take requests
        self._dials: dict[Dial, None] = {}
        self._entry: Entry | None = None
        self._closed = False
        self._resting = 0.0  # until when no more connections are tried for beside those that are there
        mode = pool.options.http2
        # Unknown (None) until TLS has agreed on something for the first time.
        self._speaks_two: bool | None = None if mode == "alpn" else mode == "prior_knowledge"
        if mode == "alpn" and origin.scheme == "http":
            self._speaks_two = False

    @property
    def empty(self) -> bool:
        """Whether there is nothing on it."""
        return not (self.connections or self.waiting or self._dials)

    # Requests

    def submit(self, ticket: Ticket) -> None:
        """Send a request, now or when there is a connection for it."""
        if self.waiting or not self._begin(ticket):
            self._wait(ticket)

    def withdraw(self, ticket: Ticket) -> None:
        """See `Queue.withdraw`."""
        self.waiting.pop(ticket, None)
        if not self.waiting:
            self._calm()

    def again(self, ticket: Ticket, error: WebError) -> None:
        """See `Home.again`."""
        ticket.carrier = None
        if ticket.receiver is None:
            return
        if self._closed or ticket.attempts >= ATTEMPTS:
            ticket.fail(error)
            return
        # It has waited its turn before, so it is the first again, and those behind it have not waited longer.
        first = next(iter(self.waiting), None)
        self._wait(ticket)
        self.waiting.move_to_end(ticket, last=False)
        if first is not None:
            ticket.since = first.since

    def _begin(self, ticket: Ticket) -> bool:
        """Send a request, if a connection takes it now."""
        ticket.attempts += 1
        for two in self._twos:
            if two.usable:
                if two.begin(ticket):
                    return True
                break
        while self._idle:
            one, _ = self._idle.popitem()
            if one.usable and one.begin(ticket):
                return True
            # What has arrived on it is its end, most likely: the reactor will tell it.
        ticket.attempts -= 1
        return False

    def _wait(self, ticket: Ticket) -> None:
        ticket.since = self.seconds()
        self.waiting[ticket] = None
        if self._entry is None:
            self._entry = self.wheel.after(self.options.queue_timeout, self._tick)
        self._dial()

    def _serve(self) -> None:
        """Give those who wait what there is."""
        waiting = self.waiting
        while waiting:
            ticket = next(iter(waiting))
            if not self._begin(ticket):
                break
            waiting.pop(ticket, None)
        if waiting:
            self._dial()
        else:
            self._calm()

    def _tick(self) -> None:
        """Who has waited too long?"""
        self._entry = None
        limit = self.options.queue_timeout
        now = self.seconds()
        late = []
        for ticket in self.waiting:
            if now - ticket.since < limit:
                self._entry = self.wheel.after(ticket.since + limit - now, self._tick)
                break
            late.append(ticket)
        for ticket in late:
            self.waiting.pop(ticket, None)
            count = len(self.connections)
            ticket.fail(
                WebError(f"{self.origin}: no turn within {limit:g} s on {count} connections", unsent=True)
            )
        self._leave()

    def _calm(self) -> None:
        """Nobody waits."""
        if self._entry is not None:
            self._entry.cancel()
            self._entry = None
        self._leave()

    # Connections

    def freed(self, connection: Connection) -> None:
        """See `Home.freed`."""
        if isinstance(connection, OneConnection):
            self._idle[connection] = None
        if self.waiting:
            self._serve()

    def flush_soon(self, connection: Flushing) -> None:
        """See `Home.flush_soon`."""
        self._pool.flush_soon(connection)

    def closing(self, connection: Connection) -> None:
        """See `Home.closing`."""
        self._idle.pop(connection, None)
        if isinstance(connection, TwoConnection):
            self._twos.pop(connection, None)

    def gone(self, connection: Connection) -> None:
        """See `Home.gone`."""
        self.closing(connection)
        self.connections.pop(connection, None)
        if self.waiting:
            self._dial()
        self._leave()

    def close(self) -> None:
        """End everything."""
        self._closed = True
        for dial in list(self._dials):
            dial.cancel()
        self._dials.clear()
        waiting, self.waiting = self.waiting, OrderedDict()
        for connection in list(self.connections):
            connection.close()
        for ticket in waiting:
            ticket.fail(WebError(f"{self.origin}: the pool is closed", unsent=True))
        self._calm()

    def _dial(self) -> None:
        """Make as many connections as are wanted, and allowed."""
        if self._closed or (self.connections and self.seconds() < self._resting):
            return
        while len(self._dials) < self._wanted() and self._fits():
            secure = self.origin.scheme == "https"
            context = self._pool.context_for(self.origin.host) if secure else None
            dial = Dial(self._pool.reactor, self.origin, self.options, context, self._ready, self._failed)
            self._dials[dial] = None
            dial.start()

    def _fits(self) -> bool:
        # A connection that takes no more requests is on its way out, but it is there.
        return len(self.connections) + len(self._dials) < self.options.connections_per_origin

    def _wanted(self) -> int:
        count = len(self.waiting)
        if self._speaks_two is None:
            return min(count, 1)
        if not self._speaks_two:
            return count
        if any(two.roomy for two in self._twos):
            return 0
        # What the server has said it takes at once is what it will take on the next connection, too.
        each = max(
            (two.capacity for two in self._twos), default=min(100, self.options.streams_per_connection)
        )
        return -(-count // max(1, each))

    def _ready(self, dial: Dial, become: Callable[[Any], None], agreed: bytes | None) -> None:
        self._dials.pop(dial, None)
        if self.origin.scheme == "https":
            self._speaks_two = agreed == _TWO
        connection: Connection
        if self._speaks_two:
            connection = two = TwoConnection(self)
            self._twos[two] = None
        else:
            connection = OneConnection(self)
            self._idle[connection] = None
        self.connections[connection] = None
        become(connection)
        self._serve()

    def _failed(self, dial: Dial, error: WebError) -> None:
        self._dials.pop(dial, None)
        if self.connections or self._dials:
            # Those who wait can still hope: a connection becomes free, or is lost and dialled for again.
            self._resting = self.seconds() + _REST
            return
        waiting, self.waiting = self.waiting, OrderedDict()
        self._calm()
        for ticket in waiting:
            ticket.fail(error)

    def _leave(self) -> None:
        if self.empty:
            self._pool.emptied(self)
