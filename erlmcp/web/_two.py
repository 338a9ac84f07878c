"""One HTTP/2 connection: its transport, its times and its end. The requests on it are `Streams`.

The machine is drawn in ``docs/machines/http-client-connection.md``.
"""

from typing import Any, Final

from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError
from twisted.internet.interfaces import IProtocol, IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from erlmcp.timing import Entry
from erlmcp.web._carrying import CLOSING_TIME, Home, describe, is_clean
from erlmcp.web._direct import send_at_once, sends_at_once
from erlmcp.web._streams import Streams
from erlmcp.web._ticket import Ticket
from erlmcp.web._types import WebError

_UNREAD: Final = 256 * 1024  # bytes kept for a server that makes us answer, and does not read
_SOONEST: Final = 0.5


@implementer(IProtocol, IPushProducer)
class TwoConnection:
    """A Twisted protocol, and a carrier of requests.

    Args:
        home: where it belongs: whose requests it carries.

    Attributes:
        streams: the requests under way.
    """

    __slots__ = (
        "_direct",
        "_entry",
        "_heard",
        "_home",
        "_ours",
        "_over",
        "_pinged",
        "_unread",
        "streams",
        "transport",
    )

    def __init__(self, home: Home) -> None:
        self.transport: Any = None
        self.streams = Streams(home, self)
        self._home = home
        self._direct = False
        self._unread = 0
        self._heard = 0.0
        self._pinged = False
        self._over = False
        self._ours: WebError | None = None  # why we ended it, if we did
        self._entry: Entry | None = None

    # What Twisted calls

    def makeConnection(self, transport: Any) -> None:  # noqa: N802 - Twisted's name
        """The connection is there, TLS and all."""
        self.transport = transport
        self.connectionMade()

    def connectionMade(self) -> None:
        """It can be used."""
        self._direct = sends_at_once(self.transport)
        self.transport.registerProducer(self, streaming=True)
        self._heard = self.streams.ended = self._home.seconds()
        # The preface goes with the first request, or with the end of the turn.
        self._home.flush_soon(self)
        self._wake()

    def dataReceived(self, data: bytes) -> None:
        """Some bytes of some frames."""
        if self._over:
            return
        self._heard = self._home.seconds()
        self._pinged = False
        streams = self.streams
        try:
            streams.feed(data)
        except ProtocolError as error:
            spoken = "" if streams.greeted else ", or speaks no HTTP/2 at all"
            self._break(f"the server breaks the rules of HTTP/2{spoken}: {error or type(error).__name__}")
            return
        self._settle()
        self.flush()

    def connectionLost(self, reason: Failure) -> None:
        """The connection is gone."""
        self._over = True
        if self._entry is not None:
            self._entry.cancel()
            self._entry = None
        home = self._home
        home.closing(self)
        error = self._ours or self.streams.blame
        if error is None:
            told = describe(reason, clean=is_clean(reason))
            error = WebError(f"{home.origin}: the connection ended before the answer did{told}")
        self.streams.drop(error)
        home.gone(self)

    def pauseProducing(self) -> None:
        """The transport's buffer is full: nothing more is begun until it is empty."""
        self.streams.congested = True

    def resumeProducing(self) -> None:
        """The transport's buffer is empty."""
        self.streams.congested = False
        self._unread = 0
        if not self._over:
            self.streams.upload()
            self._settle()
            self.flush()

    def stopProducing(self) -> None:
        """The transport takes no more: `connectionLost` says so too."""

    # What its home calls

    @property
    def usable(self) -> bool:
        """Whether one more request may be sent now."""
        return self.roomy and not self.streams.congested

    @property
    def roomy(self) -> bool:
        """Whether it takes one more request, if perhaps not now."""
        streams = self.streams
        return streams.open and len(streams.tickets) < streams.limit

    @property
    def capacity(self) -> int:
        """How many requests it takes at once."""
        return self.streams.limit

    def begin(self, ticket: Ticket) -> bool:
        """Send a request; False if it cannot be, and nothing of it has left."""
        if not self.streams.begin(ticket):
            return False
        if self.streams.feeding:
            # It goes at the end of that.
            return True
        if len(self.streams.tickets) == 1:
            # Who asks one thing at a time waits for it.
            self.flush()
        else:
            self._home.flush_soon(self)
        return True

    def close(self) -> None:
        """End it now; what is under way fails."""
        if self.streams.tickets:
            self._break("the pool is closed", ErrorCodes.NO_ERROR)
        else:
            self._end()

    def flush(self) -> None:
        """Write what was gathered."""
        streams = self.streams
        data = streams.take()
        if data and self._direct:
            try:
                data = send_at_once(self.transport, data)
            except OSError:
                # The reactor will find out that the connection is gone.
                return
        streams.written()
        if data:
            self.transport.write(data)
            if streams.congested:
                # Requests are not begun now, and bodies wait: these are answers to what the server sends.
                self._unread += len(data)
                if self._unread > _UNREAD:
                    self._ours = WebError(
                        f"{self._home.origin}: the server makes us answer, and does not read"
                    )
                    self.transport.abortConnection()

    # What the ticket calls

    def cancel(self, ticket: Ticket) -> None:
        """Nobody wants the answer."""
        if self.streams.cancel(ticket) and not self.streams.feeding:
            self._home.flush_soon(self)
            self._settle()

    def hold(self, ticket: Ticket) -> None:
        """No more of the body for now: `Streams` looks before it opens a window."""

    def release(self, ticket: Ticket) -> None:
        """More of the body again."""
        if self.streams.reopen(ticket) and not self.streams.feeding:
            self._home.flush_soon(self)

    # The end

    def _settle(self) -> None:
        """Something has ended, or there is more room than before."""
        if self.streams.open:
            self._home.freed(self)
        elif not self.streams.tickets and not self._over:
            self._end()

    def _end(self) -> None:
        """Close it in order: nothing is under way."""
        if self._over:
            return
        self._over = True
        self.streams.close()
        self.flush()
        self.transport.unregisterProducer()
        self.transport.loseConnection()
        self._wake_in(CLOSING_TIME)

    def _break(self, fault: str, code: ErrorCodes = ErrorCodes.PROTOCOL_ERROR) -> None:
        """End it for what the server did, or did not do."""
        self._over = True
        self._ours = WebError(f"{self._home.origin}: {fault}")
        self.streams.close(code)
        self.flush()
        self.transport.abortConnection()
        self.streams.drop(self._ours)

    # Time

    def _wake(self) -> None:
        """Wake when the first of what is waited for may be overdue."""
        options = self._home.options
        streams = self.streams
        now = self._home.seconds()
        if not streams.tickets:
            due = streams.ended + options.idle
        else:
            due = self._heard + options.ping
            for stream in streams.unheaded:
                due = min(due, streams.tickets[stream].since + options.response_head_timeout)
                break
        # What begins after this must not wait longer than it may.
        within = min(due - now, options.response_head_timeout, options.ping)
        self._wake_in(max(_SOONEST, within))

    def _wake_in(self, seconds: float) -> None:
        if self._entry is not None:
            self._entry.cancel()
        self._entry = self._home.wheel.after(seconds, self._tick)

    def _tick(self) -> None:
        """Look what is overdue."""
        self._entry = None
        if self._over:
            self.transport.abortConnection()
            return
        options = self._home.options
        streams = self.streams
        now = self._home.seconds()
        while streams.unheaded:
            ticket = streams.tickets[next(iter(streams.unheaded))]
            if now - ticket.since < options.response_head_timeout:
                break
            streams.refuse(ticket, f"no answer within {options.response_head_timeout:g} s")
        silent = now - self._heard
        if streams.tickets and silent >= options.ping:
            if self._pinged:
                self._break(f"nothing was heard for {silent:g} s, not even the answer to a PING")
                return
            self._pinged = True
            streams.ping()
        elif not streams.tickets and now - streams.ended >= options.idle:
            self._end()
            return
        self._settle()
        if not self._over:
            self.flush()
            self._wake()
