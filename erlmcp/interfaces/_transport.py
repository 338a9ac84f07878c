"""Between a transport and the house above it."""

from collections.abc import Mapping
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.plugin import IPlugin
from zope.interface import Attribute, Interface

from erlmcp.interfaces._values import Peer, WireLimits


class IExchange(Interface):
    """The way back for what arrived: on HTTP one POST and its answer, elsewhere one whole connection.

    Each message handed to `IChannel.received` is settled exactly once, by `reply`, `accept` or `abandon`; that is how
    a transport counts what is in flight. None of the methods raises when the peer is gone: the bytes are dropped.
    """

    peer: Peer = Attribute("where the messages come from")
    headers: Mapping[bytes, bytes] | None = Attribute(
        "HTTP header fields, names in lower case, a repeated field joined by b', '; None where a transport has none"
    )
    calls: dict[int | str, Any] = Attribute(
        "what is in flight, by request id; the channel keeps it, not the transport"
    )
    session: Any = Attribute(
        "the handshake session that the messages belong to; None at first, then the channel's"
    )
    streaming: bool = Attribute(
        "whether notifications can go before an answer (false: the HTTP client takes JSON only)"
    )
    congested: bool = Attribute("whether the peer reads too slowly: send nothing that may be left out")

    def reply(message: bytes, status: int = 200, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        """Answer one message. `status` and `headers` are HTTP's (ignored elsewhere, or once a stream has begun)."""

    def notify(message: bytes, event: str = "") -> None:
        """Send a message that belongs to one not yet answered; begins a stream on HTTP.

        `event` is its SSE event id, for streams that can be resumed; ignored elsewhere.
        """

    def prime(event: str, retry: int) -> None:
        """Begin an HTTP stream with an empty event that carries an id; elsewhere, do nothing.

        `retry` tells the client how many milliseconds to wait before it comes back (revision 2025-11-25,
        basic/transports).
        """

    def leave() -> None:
        """Settle a message by ending its HTTP stream without an answer: the client will come back for that.

        The connection stays. Elsewhere the same as `abandon`.
        """

    def accept() -> None:
        """Settle a message that gets no answer: a notification was taken (HTTP 202)."""

    def abandon() -> None:
        """Settle a message that will not be answered, because its sender cancelled it."""


class IChannel(Interface):
    """The house, as a transport sees it. One for each listener."""

    def received(message: bytes, exchange: IExchange) -> None:
        """Take one whole message: a line without its newline, or a body. Never raises."""

    def closed(exchange: IExchange) -> None:
        """The peer is gone: cancel all that the exchange carries. Called at most once for each exchange."""

    def opened(exchange: IExchange) -> None:
        """An HTTP GET wants a stream of its own, or the rest of one (``Last-Event-ID``); settled like a message.

        A refusal (`IExchange.reply`) comes before this returns: what is then not settled has begun, and ends with
        `IExchange.leave`.
        """

    def deleted(exchange: IExchange) -> None:
        """An HTTP DELETE ends the session that its headers name; settled like a message, by `reply` without content."""


class IConnectionLimits(Interface):
    """Who may connect. The governor decides; transports ask."""

    wire: WireLimits = Attribute("the bounds that each connection keeps by itself")

    def admit(peer: Peer) -> str | None:
        """Count a new connection: None if it may stay (then `leave` is due), else the limit that it hit."""

    def flooded() -> int:
        """Count an admitted connection that is ended since its client asked for too much of it; how many there were."""

    def leave(peer: Peer) -> None:
        """An admitted connection has ended."""


class ListenContext(msgspec.Struct, frozen=True, kw_only=True):
    """What `tap` gives to a transport for one listener.

    Attributes:
        name: the listener's name in logs, metrics and errors.
        reactor: what the endpoint is made with (IReactorTCP, IReactorTime and the like).
        channel: where messages go.
        limits: connection limits.
        endpoint: the Twisted endpoint description; empty for a transport that needs none.
        views: further channels, by the name of the ``[[server_view]]`` that each shows: all those that the transport's
            options name in ``views``, which are path -> view, if it has such an option.
    """

    name: str
    reactor: Any
    channel: Any  # IChannel; zope interfaces are no types to msgspec
    limits: Any  # IConnectionLimits
    endpoint: str = ""
    views: Mapping[str, Any] = {}

    @property
    def clock(self) -> IReactorTime:
        """The reactor as a clock."""
        clock: IReactorTime = self.reactor
        return clock


class IListener(Interface):
    """One listener, made by an `ITransport`, driven by the daemon in this order: bind, drain, close."""

    name: str = Attribute("the listener's name")
    addresses: tuple[Any, ...] = Attribute("the IAddress objects it listens on, once bound")

    def bind() -> Deferred[None]:
        """Take the port and serve. Fails with an error that names the endpoint and the reason."""

    def drain() -> Deferred[None]:
        """Accept no more, close what is idle, let the rest end; fires when no connection is left."""

    def close() -> Deferred[None]:
        """End all connections now; fires when they are gone."""


class ITransport(IPlugin):
    """A transport plugin: how messages come in. Found with ``twisted.plugin``."""

    name: str = Attribute("what ``transport = ...`` and ``--listen NAME:...`` say")
    options: type[msgspec.Struct] = Attribute(
        "a frozen msgspec struct of the keys that this transport adds to ``[[listen]]``, with their defaults"
    )

    def listener(context: ListenContext, options: Any) -> IListener:
        """Make the listener; nothing is opened yet. Raises ValueError for an endpoint that cannot be."""
