"""The wire of 2024-11-05 (HTTP with SSE): one GET stream brings everything, and messages are POSTed elsewhere.

The stream says first where that is. For servers that answer a POST to their URL with 400, 404 or 405, and no more.
"""

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall

from erlmcp.client._exchange import Exchange, Refusal
from erlmcp.client._http_exchanges import ACCEPT_BOTH, ACCEPT_EVENTS, JSON
from erlmcp.client._http_site import Site
from erlmcp.client._order import Order
from erlmcp.client._wire import Inbox, Outgoing, WireError
from erlmcp.timing import Wheel
from erlmcp.web import join_url, split_url


class OldStreamWire:
    """The way to one MCP server of 2024-11-05 over HTTP (`erlmcp.client.Wire`).

    Args:
        site: the URL of its stream, and the means to reach it.
    """

    linked = False
    session = None

    def __init__(self, site: Site) -> None:
        self.peer = site.peer
        self.inbox: Inbox
        self._site = site
        self._messages: Site | None = None  # where they go, once the stream has said so
        self._stream = _Stream(site, self)
        self._opened: Deferred[None] | None = None
        self._timer: IDelayedCall | None = None
        self._is_over = False
        self._posts: dict[Outgoing, _Message] = {}
        self._wheel = Wheel(site.clock, tick=1.0, slots=8)
        self._order = Order(self._wheel, site.limits.hold)

    def open(self, inbox: Inbox) -> Deferred[None]:
        """Open the stream; done when it has said where messages go."""
        if self._is_over:
            return fail(WireError("the wire is closed", unsent=True))
        self.inbox = inbox
        opened = self._opened = Deferred()
        self._timer = self._site.clock.callLater(self._site.limits.opening, self._too_late)
        self._stream.start()
        return opened

    def send(self, outgoing: Outgoing) -> None:
        """POST a message. What answers it comes on the stream."""
        if self._messages is None or len(self._posts) >= self._site.limits.exchanges:
            why = (
                "it is not connected"
                if self._messages is None
                else f"{len(self._posts)} messages are under way"
            )
            self.inbox.failed(outgoing, WireError(why, unsent=True))
            return
        message = self._posts[outgoing] = _Message(self._messages, self, outgoing)
        self._wheel.after(self._site.limits.notice, self._overdue, outgoing, message)
        self._order.start(outgoing, message)

    def abandon(self, outgoing: Outgoing) -> None:
        """Nothing: the stream is everybody's. A message that has not gone yet does not go."""
        message = self._posts.get(outgoing)
        if message is not None and message.is_over:
            self.left(outgoing)

    def pause(self) -> None:
        """Read no more for now."""
        self._stream.pause()

    def resume(self) -> None:
        """Read on."""
        self._stream.resume()

    def close(self) -> Deferred[None]:
        """End the stream, which is all that the server knows of us."""
        opened = self._end()
        if opened is not None:
            opened.errback(WireError("the wire was closed before it was open", unsent=True))
        return succeed(None)

    def left(self, outgoing: Outgoing) -> None:
        """A message is with the server, or will not be."""
        self._posts.pop(outgoing, None)
        self._order.left(outgoing)

    def _overdue(self, outgoing: Outgoing, message: "_Message") -> None:
        """What hangs may not pile up; a request may be answered while the server still takes it, on the stream."""
        if self._posts.get(outgoing) is not message:
            return
        if outgoing.answered and not outgoing.settled:
            self._wheel.after(self._site.limits.notice, self._overdue, outgoing, message)
        else:
            message.stop()
            self.left(outgoing)

    def place(self, uri: bytes) -> None:
        """Take the URI that the stream gives for messages, if it is of the same origin."""
        if self._messages is not None:
            return
        try:
            url = join_url(self._site.url, uri.strip().decode("utf-8"))
            origin, _ = split_url(url)
        except ValueError as error:
            self.lose(
                WireError(f"the server says where messages go, and that is no URL: {error}", unsent=True)
            )
            return
        if origin != self._site.origin:
            self.lose(WireError(f"the server sends messages away to {origin}, which is refused", unsent=True))
            return
        self._messages = self._site.elsewhere(url)
        opened = self._settle()
        if opened is not None:
            opened.callback(None)

    def lose(self, error: WireError) -> None:
        """The stream is gone, and every answer with it."""
        if self._is_over:
            return
        opened = self._end()
        if opened is not None:
            opened.errback(error)
        else:
            self.inbox.lost(error)

    def _too_late(self) -> None:
        limit = self._site.limits.opening
        if self._stream.is_waiting:  # a user is asked, perhaps
            self._timer = self._site.clock.callLater(limit, self._too_late)
            return
        self.lose(WireError(f"the server does not say where messages go within {limit:g} s", unsent=True))

    def _settle(self) -> Deferred[None] | None:
        """Who waits for the opening, who is told once."""
        opened, self._opened = self._opened, None
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        return opened

    def _end(self) -> Deferred[None] | None:
        self._is_over = True
        self._messages = None
        self._stream.stop()
        for message in [*self._posts.values()]:
            message.stop()
        self._posts.clear()
        self._order.clear()
        self._wheel.stop()
        return self._settle()


class _Stream(Exchange):
    """The one stream. It may wait for authorization (`is_waiting`)."""

    __slots__ = ("_wire", "is_waiting")

    def __init__(self, site: Site, wire: OldStreamWire) -> None:
        super().__init__(site, "GET")
        self._wire = wire
        self.is_waiting = False

    def waits(self) -> None:
        self.is_waiting = True

    def goes_on(self) -> None:
        self.is_waiting = False

    def fields(self) -> list[tuple[bytes, bytes]]:
        return [ACCEPT_EVENTS]

    def event(self, kind: bytes, data: bytes) -> None:
        if kind == b"endpoint":
            self._wire.place(data)
        elif kind == b"message":
            self._wire.inbox.received(data, None)

    def answer(self, document: bytes, status: int) -> None:
        what = f"the server answers GET with a document of {len(document)} bytes and no stream"
        self._wire.lose(WireError(what, status=status, unsent=True))

    def finished(self) -> None:
        self._wire.lose(WireError("the server has ended its stream"))

    def refused(self, refusal: Refusal) -> None:
        self._wire.lose(refusal.error(unsent=True))

    def broken(self, error: WireError) -> None:
        self._wire.lose(error)


class _Message(Exchange):
    """One message on its way. That the server has taken it says nothing about its answer."""

    __slots__ = ("_outgoing", "_wire", "urgent")

    def __init__(self, site: Site, wire: OldStreamWire, outgoing: Outgoing) -> None:
        super().__init__(site, "POST")
        self._wire = wire
        self._outgoing = outgoing
        self.urgent = not outgoing.answered

    def fields(self) -> list[tuple[bytes, bytes]]:
        return [JSON, ACCEPT_BOTH, *self._outgoing.headers]

    def content(self) -> bytes:
        return self._outgoing.body

    def waits(self) -> None:
        self._outgoing.wait(self._site.clock.seconds())

    def goes_on(self) -> None:
        self._outgoing.go_on(self._site.clock.seconds())

    def wants_answer(self) -> bool:
        return False

    def finished(self) -> None:
        self._wire.left(self._outgoing)

    def refused(self, refusal: Refusal) -> None:
        self._wire.left(self._outgoing)
        self._wire.inbox.failed(self._outgoing, refusal.error())

    def broken(self, error: WireError) -> None:
        self._wire.left(self._outgoing)
        self._wire.inbox.failed(self._outgoing, error)
