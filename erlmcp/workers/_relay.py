"""The way between workers: what belongs to another worker's parked call, stream or session is handed to it, and back.

The worker that a message came to keeps the exchange with the client; the owner gets a `Forwarded` one in its place.
Nothing is forwarded twice.
"""

from collections.abc import Callable, Mapping
from itertools import count
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from erlmcp.interfaces import IChannel, IExchange, Peer
from erlmcp.workers._line import Line

log = Logger()

MOST: Final = 10_000
"""Messages that one worker has with others at once."""


class Carried(msgspec.Struct, array_like=True):
    """A message on its way to its owner.

    Attributes:
        number: the sender's own; 0 where nothing is to come back.
        way: the method of `IChannel` that it is for: ``received`` or ``opened``.
        message: the message.
        peer, headers, streaming: as the exchange has them.
        scope: of the server that it came to, and whose owner it is for.
    """

    number: int
    way: str
    message: bytes
    peer: Peer
    headers: dict[bytes, bytes] | None
    streaming: bool
    scope: str = ""


class Step(msgspec.Struct, array_like=True):
    """What the owner does with the exchange, or the sender with the forwarded one.

    Attributes:
        number: the sender's.
        way: a method of `IExchange`, or ``lost`` where there is no such owner any more; ``closed`` or ``received``
            in the other direction.
        message: its message, if it has one.
        event: its event id, if it has one.
        figure: the HTTP status, or the ``retry`` of a priming event.
        headers: HTTP header fields of an answer.
    """

    number: int
    way: str
    message: bytes = b""
    event: str = ""
    figure: int = 0
    headers: tuple[tuple[bytes, bytes], ...] = ()


encode: Final = msgspec.msgpack.Encoder().encode
_read_carried: Final = msgspec.msgpack.Decoder(Carried).decode
_read_step: Final = msgspec.msgpack.Decoder(Step).decode
_SETTLING: Final = frozenset({"reply", "accept", "leave", "abandon", "lost"})

Streams = Callable[[str, str, int], list[bytes]]
"""Gives what follows an event of a stream that belongs to no call, and ends it: session, stream, event -> messages."""


@implementer(IExchange)
class Forwarded:
    """An exchange whose connection is another worker's.

    Attributes:
        peer, headers, calls, session, streaming: see `IExchange`.
    """

    __slots__ = ("_line", "_number", "calls", "headers", "peer", "session", "streaming")

    def __init__(self, line: Line, carried: Carried) -> None:
        self._line = line
        self._number = carried.number
        self.peer = carried.peer
        self.headers: Mapping[bytes, bytes] | None = carried.headers
        self.streaming = carried.streaming
        self.calls: dict[int | str, Any] = {}
        self.session: Any = None

    @property
    def congested(self) -> bool:
        """See `IExchange`."""
        return self._line.congested

    def reply(self, message: bytes, status: int = 200, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        """See `IExchange`."""
        self._step(Step(self._number, "reply", message, figure=status, headers=tuple(headers)))

    def notify(self, message: bytes, event: str = "") -> None:
        """See `IExchange`."""
        self._step(Step(self._number, "notify", message, event))

    def prime(self, event: str, retry: int) -> None:
        """See `IExchange`."""
        self._step(Step(self._number, "prime", event=event, figure=retry))

    def leave(self) -> None:
        """See `IExchange`."""
        self._step(Step(self._number, "leave"))

    def accept(self) -> None:
        """See `IExchange`."""
        self._step(Step(self._number, "accept"))

    def abandon(self) -> None:
        """See `IExchange`."""
        self._step(Step(self._number, "abandon"))

    def _step(self, step: Step) -> None:
        if self._number:
            self._line.tell("back", encode(step))


class Way:
    """One server's ways to its like in other workers: those of the same scope; see `erlmcp.server._ways.Ways`.

    Args:
        relay: the worker's.
        scope: the server's.

    Attributes:
        streams: what others are given of this server's.
    """

    def __init__(self, relay: "Relay", scope: str) -> None:
        self.streams: Streams = lambda *_: []
        self._relay = relay
        self._scope = scope

    def elsewhere(self, owner: str, exchange: IExchange) -> bool:
        """Whether a message is another worker's, who is there, and may be forwarded."""
        return self._relay.elsewhere(owner, exchange)

    def forward(
        self, owner: str, way: str, message: bytes, exchange: IExchange, lost: Callable[[], None]
    ) -> None:
        """Hand a message to its owner, who settles it.

        Args:
            owner: one for which `elsewhere` holds.
            way: ``received`` or ``opened``.
            message: the message.
            exchange: its exchange.
            lost: called instead if the owner goes before it has settled it, or serves this no more.
        """
        self._relay.forward(owner, way, message, exchange, lost, self._scope)

    def everywhere(self, message: bytes, exchange: IExchange) -> None:
        """Let all others have a notification that is for one of them, nobody knows which."""
        self._relay.everywhere(message, exchange, self._scope)

    def again(self, message: bytes, exchange: IExchange) -> None:
        """A connection on which something is forwarded says more of it: that it is cancelled."""
        self._relay.again(message, exchange)

    def closed(self, exchange: IExchange) -> None:
        """A client has gone."""
        self._relay.closed(exchange)

    def take_stream(self, owner: str, session: str, stream: str, after: int) -> Deferred[list[bytes]]:
        """Take a stream that belongs to no call over from its worker: what was sent on it after an event.

        Fails with `LineLost` or `Refused`.
        """
        return self._relay.take_stream(owner, session, stream, after, self._scope)


class _Sent:
    """A message that is at its owner."""

    __slots__ = ("exchange", "lost", "owner")

    def __init__(self, owner: str, exchange: IExchange, lost: Callable[[], None]) -> None:
        self.owner = owner
        self.exchange = exchange
        self.lost = lost


class Relay:
    """One worker's ways to the others.

    Args:
        owner: this worker's name.

    Attributes:
        channels: of this worker's listeners, by the listener's name and the scope of the server behind it: one listener
            may show several.
    """

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.channels: dict[tuple[str, str], IChannel] = {}
        self._ways: dict[str, Way] = {}
        self._lines: dict[str, Line] = {}
        self._numbers = count(1)
        self._sent: dict[int, _Sent] = {}
        self._by_exchange: dict[IExchange, dict[int, None]] = {}
        self._guests: dict[tuple[str, int], _Guest] = {}

    @property
    def under_way(self) -> int:
        """How many messages are at other workers, or here for them."""
        return len(self._sent) + len(self._guests)

    def join(self, owner: str, line: Line) -> None:
        """Another worker is there."""
        self._lines[owner] = line
        line.told = lambda what, body: self._told(owner, line, what, body)
        line.asked = self._asked
        line.lost = lambda: self._gone(owner, line)

    def part(self) -> None:
        """This one has gone: what is still asked of it is lost."""
        for line in list(self._lines.values()):
            line.end()

    def within(self, scope: str) -> Way:
        """The ways of the server of one scope."""
        return self._ways.setdefault(scope, Way(self, scope))

    # What the servers ask of it; see `Way`

    def elsewhere(self, owner: str, exchange: IExchange) -> bool:
        """See `Way`."""
        return owner in self._lines and len(self._sent) < MOST and not isinstance(exchange, Forwarded)

    def forward(
        self,
        owner: str,
        way: str,
        message: bytes,
        exchange: IExchange,
        lost: Callable[[], None],
        scope: str = "",
    ) -> None:
        """See `Way`."""
        number = next(self._numbers)
        self._sent[number] = _Sent(owner, exchange, lost)
        self._by_exchange.setdefault(exchange, {})[number] = None
        self._lines[owner].tell("carry", encode(_carried(number, way, message, exchange, scope)))

    def everywhere(self, message: bytes, exchange: IExchange, scope: str = "") -> None:
        """See `Way`."""
        if isinstance(exchange, Forwarded):
            return
        body = encode(_carried(0, "received", message, exchange, scope))
        for line in self._lines.values():
            line.tell("carry", body)

    def again(self, message: bytes, exchange: IExchange) -> None:
        """See `Way`."""
        for number in self._by_exchange.get(exchange, ()):
            self._line_of(number).tell("step", encode(Step(number, "received", message)))

    def closed(self, exchange: IExchange) -> None:
        """See `Way`."""
        for number in list(self._by_exchange.get(exchange, ())):
            self._line_of(number).tell("step", encode(Step(number, "closed")))
            self._forget(number)

    def take_stream(
        self, owner: str, session: str, stream: str, after: int, scope: str = ""
    ) -> Deferred[list[bytes]]:
        """See `Way`."""
        asking = self._lines[owner].ask("stream", encode((session, stream, after, scope)))
        return asking.addCallback(lambda body: msgspec.msgpack.decode(body, type=list[bytes]))

    # What comes from others

    def _asked(self, what: str, body: bytes) -> bytes:
        if what != "stream":
            raise ValueError(f"nobody here knows of {what!r}")
        session, stream, after, scope = msgspec.msgpack.decode(body, type=tuple[str, str, int, str])
        way = self._ways.get(scope)
        return encode([] if way is None else way.streams(session, stream, after))

    def _told(self, owner: str, line: Line, what: str, body: bytes) -> None:
        if what == "carry":
            self._carry(owner, line, _read_carried(body))
        elif what == "back":
            self._back(_read_step(body))
        else:
            self._stepped(owner, _read_step(body))

    def _carry(self, owner: str, line: Line, carried: Carried) -> None:
        exchange = _Guest(self, owner, line, carried)
        channel = exchange.channel
        if channel is None:
            # A reload has taken the listener away, or what it shows.
            exchange.lose()
            return
        if carried.number:
            self._guests[owner, carried.number] = exchange
        if carried.way == "opened":
            channel.opened(exchange)
        else:
            channel.received(carried.message, exchange)

    def _stepped(self, owner: str, step: Step) -> None:
        guest = self._guests.get((owner, step.number))
        if guest is None:
            return
        channel = guest.channel
        if step.way == "closed":
            del self._guests[owner, step.number]
            if channel is not None:
                channel.closed(guest)
        elif channel is not None:
            guest.muted = True
            channel.received(step.message, guest)
            guest.muted = False

    def _back(self, step: Step) -> None:
        sent = self._sent.get(step.number)
        if sent is None:
            return
        exchange = sent.exchange
        if step.way in _SETTLING:
            self._forget(step.number)
        match step.way:
            case "reply":
                exchange.reply(step.message, step.figure, step.headers)
            case "notify":
                exchange.notify(step.message, step.event)
            case "prime":
                exchange.prime(step.event, step.figure)
            case "leave":
                exchange.leave()
            case "accept":
                exchange.accept()
            case "abandon":
                exchange.abandon()
            case "lost":
                sent.lost()

    def settled(self, owner: str, number: int) -> None:
        """A message of another worker's client has been settled here."""
        self._guests.pop((owner, number), None)

    def _gone(self, owner: str, line: Line) -> None:
        if self._lines.get(owner) is line:
            del self._lines[owner]
        for number, sent in list(self._sent.items()):
            if sent.owner == owner:
                self._forget(number)
                sent.lost()
        for key, guest in list(self._guests.items()):
            if key[0] == owner:
                del self._guests[key]
                channel = guest.channel
                if channel is not None:
                    channel.closed(guest)

    def _line_of(self, number: int) -> Line:
        return self._lines[self._sent[number].owner]

    def _forget(self, number: int) -> None:
        sent = self._sent.pop(number)
        numbers = self._by_exchange.get(sent.exchange)
        if numbers is not None:
            numbers.pop(number, None)
            if not numbers:
                del self._by_exchange[sent.exchange]


class _Guest(Forwarded):
    """A forwarded exchange, as the relay keeps it until it is settled.

    Attributes:
        muted: whether what is settled now is a further message, of which its connection knows already.
    """

    __slots__ = ("_owner", "_relay", "_scope", "muted")

    def __init__(self, relay: Relay, owner: str, line: Line, carried: Carried) -> None:
        super().__init__(line, carried)
        self._relay = relay
        self._owner = owner
        self._scope = carried.scope
        self.muted = False

    @property
    def channel(self) -> IChannel | None:
        """What it came for, here; None if that is gone."""
        return self._relay.channels.get((self.peer.listener, self._scope))

    def lose(self) -> None:
        """Nobody is here who could settle it."""
        self._step(Step(self._number, "lost"))

    def _step(self, step: Step) -> None:
        if self.muted and step.way == "accept":
            return
        super()._step(step)
        if step.way in _SETTLING:
            self._relay.settled(self._owner, step.number)


def _carried(number: int, way: str, message: bytes, exchange: IExchange, scope: str) -> Carried:
    headers = exchange.headers
    return Carried(
        number,
        way,
        message,
        exchange.peer,
        None if headers is None else dict(headers),
        exchange.streaming,
        scope,
    )
