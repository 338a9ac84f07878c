"""What a client needs of a transport: bytes of one message out, bytes of one message in. No JSON, no era.

A wire carries messages to one server and says what came back for which; who they belong to, and what they mean, is
decided above, so that each wire is the same for both eras but for what HTTP makes of a session.
"""

from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import Deferred


class WireError(Exception):
    """A message could not be carried, or what it asked will not be answered.

    Attributes:
        unsent: the server has provably not acted on the message: it may be sent again.
        session_lost: the server no longer knows the session (HTTP 404 to a message that named one).
        status: the HTTP status that was answered instead of a message; None on other wires.
        tail: the last lines that a child process wrote to its standard error; empty on other wires.
    """

    def __init__(
        self,
        message: str,
        *,
        unsent: bool = False,
        session_lost: bool = False,
        status: int | None = None,
        tail: str = "",
    ) -> None:
        super().__init__(message)
        self.unsent = unsent
        self.session_lost = session_lost
        self.status = status
        self.tail = tail


class Outgoing:
    """One message on its way to the server, and the handle by which what comes for it is known.

    Attributes:
        body: the message, one JSON document without a line break.
        method: its method, for logs and for what a wire makes of ``initialize``; empty for a response.
        headers: what HTTP sends with it (``mcp-method`` and the like, lower case), beside what the wire adds.
        answered: whether it is a request, so that `Inbox.received` or `Inbox.failed` follows.
        resumable: whether a stream that is lost before the answer may be taken up again (``Last-Event-ID``).
        settled: set from above, within `Inbox.received`, when the answer has come: what is lost then is not missed.
        status: the HTTP status of what comes for it, set by the wire before `Inbox.received`; 0 on other wires.
    """

    __slots__ = ("answered", "body", "headers", "method", "resumable", "settled", "status")

    def __init__(
        self,
        body: bytes,
        method: str = "",
        headers: tuple[tuple[bytes, bytes], ...] = (),
        *,
        answered: bool = False,
        resumable: bool = False,
    ) -> None:
        self.body = body
        self.method = method
        self.headers = headers
        self.answered = answered
        self.resumable = resumable
        self.settled = False
        self.status = 0


class Inbox(Protocol):
    """Who gets what a wire brings. It is called from the reactor, and does not raise."""

    def received(self, data: bytes, via: Outgoing | None) -> None:
        """A message came.

        Args:
            data: one JSON document, not looked at yet.
            via: the request on whose stream it came; None where the wire does not link the two.
        """

    def failed(self, outgoing: Outgoing, error: WireError) -> None:
        """A message was not carried, or its stream ended: nothing more comes by way of it."""

    def ended(self, outgoing: Outgoing) -> None:
        """The stream of a request that is not `settled` ended cleanly: nothing more comes by way of it."""

    def lost(self, error: WireError) -> None:
        """The wire is gone, and everything that was under way on it; a new one must be opened."""

    def full(self, is_full: bool) -> None:
        """Whether the wire takes no more for now: what is sent nevertheless is kept up to its bound, then failed."""


class Session(Protocol):
    """What HTTP adds to the handshake era: a session id, a version header, a stream of the server's own messages."""

    def begin(self, version: str) -> None:
        """The handshake is done: send the version with each message, and the session that the server named, if any."""

    def listen(self) -> None:
        """Open the stream for what the server says by itself (GET), and keep it open as well as it goes."""

    def forget(self) -> None:
        """The session is lost: close its stream, and send its id no more."""


class Wire(Protocol):
    """The way to one server.

    Attributes:
        linked: whether what comes is linked to the request that caused it (HTTP), and closing a request's stream is
            how a modern request is cancelled.
        session: what HTTP adds to the handshake era; None on streams.
        peer: how the server is named in errors: a URL, an endpoint or a command.
    """

    @property
    def linked(self) -> bool:
        """See above."""

    @property
    def session(self) -> Session | None:
        """See above."""

    @property
    def peer(self) -> str:
        """See above."""

    def open(self, inbox: Inbox) -> Deferred[None]:
        """Connect, or start the child; HTTP has nothing to do. Fails with `WireError`. A wire is opened once."""

    def send(self, outgoing: Outgoing) -> None:
        """Carry a message. Does not raise: `Inbox.failed` says what went wrong, later or within the call."""

    def abandon(self, outgoing: Outgoing) -> None:
        """Nobody waits for the answer any more: HTTP closes the stream; other wires do nothing. No call follows."""

    def pause(self) -> None:
        """Read no more for now, where the wire can."""

    def resume(self) -> None:
        """Read on."""

    def close(self) -> Deferred[None]:
        """End it: a session is deleted, a child process ended in steps. `Inbox.lost` is not called."""


WireMaker = Callable[[], Wire]
"""Makes a new, unopened wire to the same server: after a loss, and for a probe in a child of its own."""
