"""One HTTP/1.1 connection: one request after the other, each answered before the next is sent.

The machine is drawn in ``docs/machines/http-client-connection.md``. Reading the bytes is `Reading`'s.
"""

from enum import IntEnum
from typing import Any, Final

from twisted.internet.interfaces import IProtocol, IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from erlmcp.timing import Entry
from erlmcp.web._carrying import CLOSING_TIME, Home, describe, is_clean
from erlmcp.web._direct import is_quiet, send_at_once, sends_at_once
from erlmcp.web._heads import head_of_one
from erlmcp.web._reading import Reading
from erlmcp.web._ticket import Ticket
from erlmcp.web._types import WebError


class Phase(IntEnum):
    """What a connection waits for."""

    IDLE = 0
    HEAD = 1
    BODY = 2
    CLOSING = 3
    GONE = 4


IDLE: Final = Phase.IDLE
HEAD: Final = Phase.HEAD
BODY: Final = Phase.BODY
CLOSING: Final = Phase.CLOSING
GONE: Final = Phase.GONE


@implementer(IProtocol, IPushProducer)
class OneConnection:
    """A Twisted protocol, and a carrier of requests.

    Args:
        home: where it belongs: whose requests it carries.

    Attributes:
        phase: what it waits for.
    """

    __slots__ = (
        "_congested",
        "_direct",
        "_entry",
        "_home",
        "_reading",
        "_since",
        "_ticket",
        "_wakes",
        "phase",
        "transport",
    )

    def __init__(self, home: Home) -> None:
        self.transport: Any = None
        self.phase = IDLE
        self._home = home
        self._ticket: Ticket | None = None
        self._reading = Reading(home.options.header_bytes)
        self._direct = False
        self._congested = False
        self._entry: Entry | None = None
        self._since = 0.0
        self._wakes = 0.0

    # What Twisted calls

    def makeConnection(self, transport: Any) -> None:  # noqa: N802 - Twisted's name
        """The connection is there, TLS and all."""
        self.transport = transport
        self.connectionMade()

    def connectionMade(self) -> None:
        """It can be used."""
        self._direct = sends_at_once(self.transport)
        self.transport.registerProducer(self, streaming=True)
        self._since = self._home.seconds()
        self._wake_in(self._home.options.idle)

    def dataReceived(self, data: bytes) -> None:
        """Some bytes of the answer."""
        ticket = self._ticket
        if ticket is None:
            # Nothing was asked: what comes can only be taken for the answer to what is asked next.
            if self.phase < CLOSING:
                self._end()
            return
        reading = self._reading
        try:
            reading.feed(data)
        except WebError as error:
            self._break(WebError(f"{self._home.origin}: {error}"))
            return
        if reading.complete:
            self._complete()
        elif reading.headed and self.phase == HEAD:
            self.phase = BODY

    def connectionLost(self, reason: Failure) -> None:
        """The connection is gone."""
        self.phase = GONE
        if self._entry is not None:
            self._entry.cancel()
            self._entry = None
        ticket, self._ticket = self._ticket, None
        reading = self._reading
        clean = is_clean(reason)
        finished = ticket is not None and reading.finish(clean=clean)
        begun = reading.begun
        reading.discard()
        self._home.closing(self)
        if ticket is None:
            pass
        elif finished:
            ticket.finish()
        else:
            when = "in the middle of its answer" if begun else "before it answered"
            ticket.fail(
                WebError(f"{self._home.origin}: the connection ended {when}{describe(reason, clean=clean)}")
            )
        self._home.gone(self)

    def pauseProducing(self) -> None:
        """The transport's buffer is full."""
        self._congested = True

    def resumeProducing(self) -> None:
        """The transport's buffer is empty."""
        self._congested = False

    def stopProducing(self) -> None:
        """The transport takes no more: `connectionLost` says so too."""

    # What its home calls

    @property
    def usable(self) -> bool:
        """Whether a request may be sent now: a server may have closed what was idle, and the reactor not know yet."""
        return self.phase == IDLE and is_quiet(self.transport)

    def begin(self, ticket: Ticket) -> bool:
        """Send a request; False if nothing of it has left and the connection is gone."""
        request = ticket.request
        home = self._home
        data = head_of_one(request, home.authority)
        if request.body:
            data += request.body
        if self._direct:
            try:
                data = send_at_once(self.transport, data)
            except OSError:
                self._end()
                return False
        self._ticket = ticket
        ticket.carrier = self
        self._reading.begin(ticket.receiver, head_only=request.method == b"HEAD")
        self.phase = HEAD
        now = self._since = home.seconds()
        if data:
            self.transport.write(data)
        if ticket.paused:
            self.transport.pauseProducing()
        limit = home.options.response_head_timeout
        if now + limit < self._wakes:
            # Else the entry that is there wakes early enough, and finds out what to wait for.
            self._wake_in(limit)
        return True

    def close(self) -> None:
        """End it now; what is under way fails."""
        if self._ticket is None and self.phase == IDLE:
            self._end()
        elif self.phase < CLOSING:
            self._break(WebError(f"{self._home.origin}: the pool is closed"))

    # What the ticket calls

    def cancel(self, ticket: Ticket) -> None:
        """Nobody wants the answer; HTTP/1.1 has no other word for that than the connection's end."""
        if self._ticket is ticket:
            self._ticket = None
            self._reading.receiver = None
            self._abort()

    def hold(self, ticket: Ticket) -> None:
        """Read no more."""
        if self._ticket is ticket:
            self.transport.pauseProducing()

    def release(self, ticket: Ticket) -> None:
        """Read again."""
        if self._ticket is ticket:
            self.transport.resumeProducing()

    # The end of an answer, and of the connection

    def _complete(self) -> None:
        ticket, self._ticket = self._ticket, None
        if ticket is None:
            return
        reading = self._reading
        reading.receiver = None
        ticket.carrier = None
        if ticket.paused:
            self.transport.resumeProducing()
        # A server that answers before it has read all will hardly read the rest.
        if reading.keeps and not self._congested and self.phase < CLOSING:
            self.phase = IDLE
            self._since = self._home.seconds()
            self._home.freed(self)
        else:
            self._end()
        ticket.finish()

    def _break(self, error: WebError) -> None:
        """End it for what the server did, or did not do."""
        ticket, self._ticket = self._ticket, None
        self._reading.receiver = None
        self._abort()
        if ticket is not None:
            ticket.fail(error)

    def _end(self) -> None:
        """Close it in order."""
        self.phase = CLOSING
        self._home.closing(self)
        self.transport.unregisterProducer()
        self.transport.loseConnection()
        self._wake_in(CLOSING_TIME)

    def _abort(self) -> None:
        if self.phase < CLOSING:
            self.phase = CLOSING
            self._home.closing(self)
        self.transport.abortConnection()

    # Time

    def _wake_in(self, seconds: float) -> None:
        if self._entry is not None:
            self._entry.cancel()
        self._wakes = self._home.seconds() + seconds
        self._entry = self._home.wheel.after(seconds, self._tick)

    def _tick(self) -> None:
        """Look whether what is waited for is overdue."""
        self._entry = None
        options = self._home.options
        if self.phase == CLOSING:
            self.transport.abortConnection()
            return
        limit = options.response_head_timeout if self.phase == HEAD else options.idle
        waited = self._home.seconds() - self._since
        if self.phase == BODY:
            # How long a body takes is its receiver's business.
            self._wake_in(options.idle)
        elif waited < limit:
            self._wake_in(limit - waited)
        elif self.phase == HEAD:
            self._break(WebError(f"{self._home.origin}: no answer within {limit:g} s"))
        else:
            self._end()
