"""The wire over HTTP: each message a POST, its answer a document or a stream; for both eras.

In the handshake era it keeps the session: its id, its version header, the GET stream, and its deletion.
"""

from typing import Final

from twisted.internet.defer import Deferred, succeed

from erlmcp.client._http_exchanges import Farewell, Listening, Post
from erlmcp.client._http_site import Headers, Site
from erlmcp.client._order import Order
from erlmcp.client._wire import Inbox, Outgoing, WireError
from erlmcp.timing import Wheel

_SESSION: Final = b"mcp-session-id"
_VERSION: Final = b"mcp-protocol-version"
_LONGEST_SESSION: Final = 4096


class HttpWire:
    """The way to one MCP server over HTTP (`erlmcp.client.Wire`).

    Args:
        site: the server's URL, and the means to reach it.

    Attributes:
        inbox: who gets what comes; set by `open`.
        session_id: the session that the server named; empty if none.
        session_fields: the headers that each message of the handshake era carries.
        is_closing: whether nothing is begun any more.
    """

    linked = True

    def __init__(self, site: Site) -> None:
        self.peer = site.peer
        self.session = self
        self.inbox: Inbox
        self.session_id = b""
        self.session_fields: tuple[tuple[bytes, bytes], ...] = ()
        self.is_closing = False
        self.wheel = Wheel(site.clock, tick=1.0, slots=8)
        self._site = site
        self._posts: dict[Outgoing, Post] = {}
        self._listening: Listening | None = None
        self._order = Order(self.wheel, site.limits.hold)
        self._paused = False

    # The wire.

    def open(self, inbox: Inbox) -> Deferred[None]:
        """Nothing is connected before there is something to send."""
        self.inbox = inbox
        return succeed(None)

    def send(self, outgoing: Outgoing) -> None:
        """POST a message. What follows ``notifications/initialized`` waits until the server has taken that."""
        posts = self._posts
        if self.is_closing or len(posts) >= self._site.limits.exchanges:
            why = "the client is closing" if self.is_closing else f"{len(posts)} messages are under way"
            self.inbox.failed(outgoing, WireError(why, unsent=True))
            return
        posts[outgoing] = post = Post(self, self._site, outgoing)
        if self._paused:
            post.pause()
        self._order.start(outgoing, post)

    def abandon(self, outgoing: Outgoing) -> None:
        """Close the stream of a message: in the modern era that is how it is cancelled."""
        post = self._posts.get(outgoing)
        if post is not None:
            post.stop()
            self.left(outgoing)

    def pause(self) -> None:
        """Read no more of any answer for now."""
        self._paused = True
        for exchange in (*self._posts.values(), *self._own()):
            exchange.pause()

    def resume(self) -> None:
        """Read on."""
        self._paused = False
        for exchange in (*self._posts.values(), *self._own()):
            exchange.resume()

    def close(self) -> Deferred[None]:
        """End every exchange, and delete the session if there is one; takes no longer than the limit for that."""
        if self.is_closing:
            return succeed(None)
        self.is_closing = True
        fields, named = self.session_fields, self.session_id
        for post in [*self._posts.values()]:
            post.stop()
        self._posts.clear()
        self._order.clear()
        self.forget()
        self.wheel.stop()
        if not named:
            return succeed(None)
        return self._farewell(fields or ((_SESSION, named),))

    # Its session.

    def begin(self, version: str) -> None:
        """Send the version, and the session if the server named one, with each message from now on."""
        named = ((_SESSION, self.session_id),) if self.session_id else ()
        self.session_fields = ((_VERSION, version.encode("ascii")), *named)

    def listen(self) -> None:
        """Open the stream of the server's own messages, and keep it open as well as it goes."""
        if self._listening is None and not self.is_closing:
            self._listening = Listening(self, self._site)
            if self._paused:
                self._listening.pause()
            self._listening.start()

    def forget(self) -> None:
        """Send the session no more, and close its stream."""
        self.session_id = b""
        self.session_fields = ()
        listening, self._listening = self._listening, None
        if listening is not None:
            listening.stop()

    # What its exchanges say.

    def named(self, headers: Headers) -> None:
        """Take the session that an answer to ``initialize`` names.

        Raises:
            ValueError: it is no string of visible ASCII characters, or too long (2025-11-25, "Session Management").
        """
        self.session_id = b""
        for name, value in headers:
            if name == _SESSION:
                if not value or len(value) > _LONGEST_SESSION:
                    raise ValueError(f"it has {len(value)} characters, not 1 to {_LONGEST_SESSION}")
                if min(value) < 0x21 or max(value) > 0x7E:
                    raise ValueError("it has other characters than visible ASCII")
                self.session_id = value

    def session_gone(self, session: bytes) -> None:
        """The server no longer knows a session: there is nothing left to delete."""
        if session == self.session_id:
            self.session_id = b""

    def left(self, outgoing: Outgoing) -> None:
        """Nothing more comes for a message. What waited for it goes."""
        self._posts.pop(outgoing, None)
        self._order.left(outgoing)

    def _own(self) -> tuple[Listening, ...]:
        return () if self._listening is None else (self._listening,)

    def _farewell(self, fields: Headers) -> Deferred[None]:
        done: Deferred[None] = Deferred()

        def over() -> None:
            if timer.active():
                timer.cancel()
            farewell.stop()
            if not done.called:
                done.callback(None)

        farewell = Farewell(self._site, fields, over)
        timer = self._site.clock.callLater(self._site.limits.farewell, over)
        farewell.start()
        return done
