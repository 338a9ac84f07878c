"""A handshake client: what it said in ``initialize``, and what of it is alive in this process."""

from secrets import token_hex

from erlmcp.interfaces import Change, IExchange
from erlmcp.jsonrpc import encode_notification
from erlmcp.protocol import ClientCapabilities, Implementation, Revision, notifications
from erlmcp.server._call import Call
from erlmcp.server._events import EventStream, Room
from erlmcp.server._listener import Listener

MOST_STREAMS = 64
_LISTENING = "get"
"""Marks the names of streams that belong to no call: one that is forgotten can be begun anew, and nothing is owed."""
LISTS = frozenset({"tools", "prompts", "resources"})
DEFAULT_LEVEL = "info"
"""What is sent before ``logging/setLevel``: the specification leaves it open."""


def is_listening(name: str) -> bool:
    """Whether a stream of this name, kept or not, is one that belongs to no call."""
    return name.rpartition("-")[2].startswith(_LISTENING)


class Session(Listener):
    """One session. On a stream it lives as long as that; on HTTP its token says all but the live parts.

    Attributes:
        number: 128 random bits; the key of what is stored of it.
        revision: what was negotiated.
        capabilities, client: what the client said of itself.
        expires: seconds since the epoch.
        log_level: the lowest level that is sent.
        streams: on HTTP, the streams that can be resumed, by name.
        calls: on HTTP, what is in flight, by request id.
        wire: on a stream, its connection.
        used: when a message last came, on the reactor's clock.
    """

    __slots__ = (
        "_listening",
        "_owner",
        "_room",
        "_tombstone",
        "calls",
        "capabilities",
        "client",
        "expires",
        "log_level",
        "number",
        "revision",
        "streams",
        "used",
        "wire",
    )

    def __init__(
        self,
        *,
        number: str,
        owner: str,
        revision: Revision,
        capabilities: ClientCapabilities,
        client: Implementation | None,
        expires: float,
        room: Room,
        wire: IExchange | None = None,
    ) -> None:
        super().__init__(LISTS)
        self.number = number
        self.revision = revision
        self.capabilities = capabilities
        self.client = client
        self.expires = expires
        self.wire = wire
        self.log_level = DEFAULT_LEVEL
        self.streams: dict[str, EventStream] = {}
        self.calls: dict[int | str, Call] = {}
        self.used = 0.0
        self._owner = owner
        self._room = room
        self._tombstone = f"ended/{number}"
        self._listening: list[EventStream] = []

    @property
    def tombstone(self) -> str:
        """The engine's key that says that it was ended."""
        return self._tombstone

    @property
    def alive(self) -> bool:
        """Whether more of it is kept in this process than its token says."""
        return bool(self.streams or self.calls)

    @property
    def listens(self) -> bool:
        """Whether changes can be sent to it, now or when it comes back."""
        return self.wire is not None or bool(self._listening)

    def new_stream(self, mark: str = "") -> EventStream:
        """A stream that can be resumed; one that is over, or else the oldest, makes room for it."""
        while len(self.streams) >= MOST_STREAMS:
            over = next((one for one in self.streams.values() if one.finished), None)
            self.drop(over or next(iter(self.streams.values())))
        stream = EventStream(self._room, f"{self._owner}-{mark}{token_hex(8)}", primed=self.revision.priming)
        self.streams[stream.name] = stream
        return stream

    @property
    def owed(self) -> bool:
        """Whether the answer of a call waits for its client to come back for it."""
        return any(one.owed and not is_listening(one.name) for one in self.streams.values())

    def listen(self, exchange: IExchange) -> EventStream:
        """A GET stream is there: changes are sent on one of these, never on two."""
        stream = self.new_stream(_LISTENING)
        self._listening.append(stream)
        stream.begin(exchange)
        return stream

    def disconnected(self, exchange: IExchange) -> None:
        """A connection has ended; its stream may be resumed."""
        for stream in self.streams.values():
            if stream.exchange is exchange:
                stream.exchange = None

    def close(self) -> None:
        """The server ends: what was late, then the end of the streams for it. Those of calls end with their answers.

        A client may come back to another process.
        """
        self.flush()
        for stream in self._listening:
            stream.leave()

    def forget_streams(self) -> None:
        """Keep no stream for a client that does not come back."""
        for stream in self.streams.values():
            stream.forget()
        self.streams.clear()
        self._listening.clear()

    def end(self) -> None:
        """The session is over, and with it all of its streams."""
        self.flush()
        for stream in self.streams.values():
            stream.leave()

    @property
    def congested(self) -> bool:
        """See `Listener`."""
        target = self.wire or self._target()
        return target is not None and target.congested

    def send(self, change: Change) -> None:
        """See `Listener`."""
        if change.kind == "updated":
            method, params = notifications.resource_updated(change.uri, 0)
            message = encode_notification(method, {"uri": params["uri"]})
        else:
            message = encode_notification(notifications.list_changed(change.kind, 0)[0])
        if self.wire is not None:
            self.wire.notify(message)
        else:
            target = self._target()
            if target is not None:
                target.send(message)

    def _target(self) -> EventStream | None:
        """The stream for what belongs to no call: one that is heard, else one that may be resumed."""
        heard = next((one for one in self._listening if one.exchange is not None), None)
        return heard or (self._listening[-1] if self._listening else None)

    def drop(self, stream: EventStream) -> None:
        """Keep a stream no more."""
        del self.streams[stream.name]
        if stream in self._listening:
            self._listening.remove(stream)
        stream.leave()
        stream.forget()
