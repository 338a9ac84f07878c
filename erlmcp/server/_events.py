"""SSE streams whose events can be asked for again (revisions 2025-03-26 to 2025-11-25, basic/transports, resumability).

A stream outlives the connection that it was begun on: what is sent while nobody listens is kept, within bounds, and
replayed when the client comes back with ``Last-Event-ID``. An id names the worker, the stream and the event.
"""

from collections import deque

from erlmcp.interfaces import IExchange

MOST_EVENTS = 256
MOST_BYTES = 1024 * 1024
MOST_TOGETHER = 64 * 1024 * 1024
RETRY = 1000
"""Milliseconds after which a client that was left may come back."""


class Room:
    """What all streams may keep together; past it, those that have been silent longest forget what they have.

    Args:
        most: bytes.

    Attributes:
        bytes: how many are kept.
    """

    __slots__ = ("_most", "_streams", "bytes")

    def __init__(self, most: int = MOST_TOGETHER) -> None:
        self.bytes = 0
        self._most = most
        self._streams: dict[EventStream, None] = {}  # in the order in which they last spoke

    def take(self, stream: "EventStream", size: int) -> None:
        """A stream keeps so much more."""
        self.bytes += size
        self._streams.pop(stream, None)
        self._streams[stream] = None
        while self.bytes > self._most:
            next(iter(self._streams)).forget()

    def give(self, stream: "EventStream", size: int) -> None:
        """A stream has forgotten all that it kept."""
        self.bytes -= size
        self._streams.pop(stream, None)


class EventStream:
    """One stream and its last events: at most 256, of at most 1 MiB together; the oldest go first.

    Args:
        room: what it shares with the other streams.
        name: unique among all streams, with the worker's name in it.
        primed: whether the client understands an empty event that only carries an id (2025-11-25).

    Attributes:
        exchange: the connection that listens now, None for none.
        finished: whether no more will come.
        lost: whether the end of it has been forgotten, so that there is nothing to come back for.
        owed: whether something was sent while nobody listened, for which the client has not come yet.
    """

    __slots__ = (
        "_bytes",
        "_events",
        "_next",
        "_primed",
        "_room",
        "exchange",
        "finished",
        "lost",
        "name",
        "owed",
    )

    def __init__(self, room: Room, name: str, *, primed: bool) -> None:
        self.name = name
        self.lost = False
        self.owed = False
        self._room = room
        self.exchange: IExchange | None = None
        self.finished = False
        self._primed = primed
        self._events: deque[tuple[int, bytes]] = deque()
        self._bytes = 0
        self._next = 1

    @property
    def congested(self) -> bool:
        """Whether what may be left out should be."""
        return self.exchange is not None and self.exchange.congested

    def begin(self, exchange: IExchange) -> None:
        """Listen from the start."""
        self.exchange = exchange
        if self._primed:
            exchange.prime(f"{self.name}.0", RETRY)

    def resume(self, exchange: IExchange, after: int) -> None:
        """Listen from behind an event: replay what came after it, then go on; all of it, if that event is forgotten."""
        former, self.exchange = self.exchange, exchange
        if former is not None:
            # The client says itself that it does not hear the former any more.
            former.leave()
        if self._primed:
            exchange.prime(f"{self.name}.{after}", RETRY)
        for number, message in self._events:
            if number > after:
                exchange.notify(message, f"{self.name}.{number}")
        self.owed = False
        if self.finished:
            self.leave()

    def after(self, event: int) -> list[bytes]:
        """What was sent behind an event, as far as it is kept."""
        return [message for number, message in self._events if number > event]

    def send(self, message: bytes) -> None:
        """Send an event, and keep it."""
        number = self._next
        self._next += 1
        self._events.append((number, message))
        before = self._bytes
        self._bytes += len(message)
        while len(self._events) > MOST_EVENTS or (self._bytes > MOST_BYTES and len(self._events) > 1):
            self._bytes -= len(self._events.popleft()[1])
        self._room.take(self, self._bytes - before)
        if self.exchange is not None:
            self.exchange.notify(message, f"{self.name}.{number}")
        else:
            self.owed = True

    def finish(self, message: bytes = b"") -> None:
        """Send the last event, if there is one, and end the stream."""
        self.finished = True
        if message:
            self.send(message)
        self.leave()

    def forget(self) -> None:
        """Keep nothing of what was sent."""
        self._room.give(self, self._bytes)
        self._events.clear()
        self._bytes = 0
        self.lost = self.finished
        self.owed = False

    def leave(self) -> None:
        """End the connection, not the stream: whoever wants the rest comes back for it."""
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.leave()


def read_event_id(text: str) -> tuple[str, int] | None:
    """The stream's name and the event's number; None if it is no id of ours."""
    name, dot, number = text.rpartition(".")
    if not dot or not number.isascii() or not number.isdigit() or len(number) > 15:
        return None
    return name, int(number)


def stream_owner(name: str) -> str:
    """The worker that a stream is of, by its name; empty for none."""
    return name.partition("-")[0]
