"""MCP messages as frames: each is preceded by its length, four bytes, most significant first."""

from typing import Annotated, Any

import msgspec
from twisted.internet.protocol import Protocol, connectionDone
from twisted.plugin import IPlugin
from twisted.python.failure import Failure
from zope.interface import implementer

from erlmcp.interfaces import IExchange, IListener, ITransport, ListenContext
from erlmcp.transports import Connections, Outgoing, StreamListener, peer_of

__all__ = ["FramesOptions", "FramesTransport"]

PREFIX = 4


class FramesOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys that this transport adds to ``[[listen]]``.

    Attributes:
        largest: bytes of the largest frame; limits.message holds as well.
    """

    largest: Annotated[int, msgspec.Meta(ge=64)] = 1024 * 1024


@implementer(IPlugin, ITransport)
class FramesTransport:
    """``transport = "frames"``."""

    name = "frames"
    options = FramesOptions

    def listener(self, context: ListenContext, options: FramesOptions) -> IListener:
        """Make a listener on the endpoint of the context."""
        largest = min(options.largest, context.limits.wire.message)

        def connect(siblings: Connections) -> FramesConnection:
            return FramesConnection(siblings, largest)

        return StreamListener(context, Connections(context, self.name), connect)


@implementer(IExchange)
class FramesConnection(Outgoing, Protocol):
    """One connection: a Twisted protocol downwards, an `IExchange` upwards."""

    headers = None  # HTTP's alone
    streaming = True  # notifications may go before an answer

    def __init__(self, siblings: Connections, largest: int) -> None:
        super().__init__()
        self.calls: dict[int | str, Any] = {}  # the channel's
        self.session: Any = None  # the channel's
        self.peer = siblings.nobody
        self._siblings = siblings
        self._largest = largest
        self._buffer = bytearray()
        self._in_flight = 0
        self._paused = False
        self._ending = False
        self._quiet: Any = None

    # Protocol: what Twisted tells.

    def connectionMade(self) -> None:
        """Ask for admission, be told when the peer does not read, and wait for the first frame so long."""
        siblings = self._siblings
        self.peer = peer_of(self.transport, name=siblings.transport, listener=siblings.name)
        if not siblings.opened(self, self.peer):
            self.cut()
            return
        self.begin()
        self._quiet = siblings.wheel.after(siblings.wire.lease, self._expire)

    def dataReceived(self, data: bytes) -> None:
        """Take what was read: at most one read more than a frame is ever held."""
        self._buffer += data
        self._hand_out()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Nobody waits for answers any more."""
        self._ending = True
        self.stopProducing()
        if self._quiet is not None:
            self._quiet.cancel()
            self._siblings.channel.closed(self)
        self._siblings.closed(self)

    # IExchange: what the channel asks for. Each message is settled once, by `reply`, `accept` or `abandon`.
    # `leave` and `prime` have a meaning of their own on HTTP alone.

    @property
    def congested(self) -> bool:
        """Whether what can be left out should be."""
        return self.unsent >= self._siblings.wire.write_buffer

    def reply(self, message: bytes, status: int = 200, headers: Any = ()) -> None:
        """Answer a message; status and headers are HTTP's."""
        self._send(message)
        self.accept()

    def notify(self, message: bytes, event: str = "") -> None:
        """Send something that is no answer; a peer that never reads does not get ever more of it."""
        self._send(message)
        if self.unsent >= 4 * self._siblings.wire.write_buffer:
            self.cut()

    def accept(self) -> None:
        """Settle a message that gets no answer, and perhaps take the next."""
        self._in_flight -= 1
        if self._ending:
            self._close_if_done()
        elif self._paused:
            # Later, not from here: the channel is in the middle of something.
            self._siblings.clock.callLater(0, self.drained)

    def abandon(self) -> None:
        """Settle a message that was cancelled."""
        self.accept()

    def leave(self) -> None:
        """Settle a message that the client will come back for: here, nobody comes back."""
        self.accept()

    def prime(self, event: str, retry: int) -> None:
        """Nothing: these streams cannot be resumed."""

    # What the listener asks for.

    def drain(self) -> None:
        """Take no more frames; close when the last answer is written."""
        self._ending = True
        self._close_if_done()

    def cut(self) -> None:
        """Close now."""
        self._ending = True
        super().cut()

    # The rest is ours.

    def drained(self) -> None:
        """There may be room again, for answers to the peer or for calls in flight."""
        if self._paused and self._has_room():
            self._paused = False
            self._hand_out()
            if not self._paused:
                self.transport.resumeProducing()

    def _has_room(self) -> bool:
        return not (self._ending or self.congested or self._in_flight >= self._siblings.wire.in_flight)

    def _hand_out(self) -> None:
        while self._has_room() and len(self._buffer) >= PREFIX:
            size = int.from_bytes(self._buffer[:PREFIX], "big")
            if size > self._largest:
                # Also where a browser ends that was made to POST to this port: "POST" is a length of 1.3 GB.
                self.cut()
                return
            end = PREFIX + size
            if len(self._buffer) < end:
                break
            message = bytes(self._buffer[PREFIX:end])
            del self._buffer[:end]
            self._in_flight += 1
            self._siblings.received(message, self)
            self._await_the_next()
        if not self._paused and not self._has_room():
            self._paused = True
            self.transport.pauseProducing()

    def _await_the_next(self) -> None:
        self._quiet.cancel()
        self._quiet = self._siblings.wheel.after(self._siblings.wire.idle, self._expire)

    def _expire(self) -> None:
        if self._in_flight:
            self._await_the_next()
        else:
            self.cut()

    def _send(self, message: bytes) -> None:
        self.send(len(message).to_bytes(PREFIX, "big") + message)

    def _close_if_done(self) -> None:
        if not self._in_flight:
            self.lose()
