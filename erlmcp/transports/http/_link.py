"""What a connection has whichever version of HTTP it speaks: who is there, bytes that wait, time, and its end."""

from typing import Any, Final

from twisted.internet.interfaces import IHalfCloseableDescriptor
from twisted.python.failure import Failure

from erlmcp.interfaces import Peer
from erlmcp.timing import Entry
from erlmcp.transports import peer_of
from erlmcp.transports._burst import burst
from erlmcp.transports.http._answers import Refusal, Stamp
from erlmcp.transports.http._direct import send_at_once, waiting
from erlmcp.transports.http._phase import CLOSING, FRESH, GONE, Phase
from erlmcp.transports.http._shared import Shared

CUT: Final = 4
"""How many times `write_buffer` may wait for a peer that does not read."""

_HELD: Final = 64 * 1024


def crowded(reason: str | None) -> Refusal:
    """503, with the limit that was hit."""
    return Refusal(503, f"no more connections are taken: {reason}", b"Retry-After: 1\r\n", close=True)


class Link:
    """The half of a connection that does not depend on HTTP's version; the other half is a subclass.

    Args:
        shared: what all connections of a listener have in common.

    Attributes:
        phase: what it waits for.
        closes: whether the answer under way is the last one.
    """

    __slots__ = (
        "_direct",
        "_discarded",
        "_entry",
        "_held",
        "_lingers",
        "_moved",
        "_paused",
        "_peer",
        "_reading",
        "_recognized",
        "_retired",
        "_shared",
        "_since",
        "_taken",
        "_unsent",
        "_wakes",
        "closes",
        "phase",
        "transport",
    )

    def __init__(self, shared: Shared) -> None:
        self.transport: Any = None
        self.phase = FRESH
        self.closes = shared.draining
        self._shared = shared
        self._peer: Peer | None = None
        self._held = b""
        self._direct = False
        self._lingers = False
        self._entry: Entry | None = None
        self._since = 0.0
        self._wakes = 0.0
        self._paused = False
        self._reading = True
        self._recognized = False
        self._unsent = 0
        self._taken = 0  # of what waits since the transport's buffer was full
        self._moved = 0.0  # when that last became more
        self._discarded = 0
        self._retired = 0.0  # when another listener took over

    # What a version adds

    def dataReceived(self, data: bytes) -> None:
        """Some bytes of some requests."""
        raise NotImplementedError

    def readConnectionLost(self) -> None:
        """The peer sends no more."""
        raise NotImplementedError

    def connectionLost(self, reason: Failure) -> None:
        """The connection is gone, and with it whoever asked."""
        raise NotImplementedError

    def drain(self) -> None:
        """Answer what has begun, then close; now, if nothing has."""
        raise NotImplementedError

    def _go_on(self) -> None:
        """The transport takes bytes again."""
        raise NotImplementedError

    def _overdue(self, now: float) -> None:
        """Look whether what is waited for is overdue, and arrange to be called again."""
        raise NotImplementedError

    def _let_go(self) -> None:
        """Give back what only a connection needs that still reads."""

    # What Twisted calls

    def pauseProducing(self) -> None:
        """The transport's buffer is full: nothing more is begun until it is empty."""
        if not self._paused:
            self._paused = True
            self._unsent = 0
            self._taken = -(waiting(self.transport) or 0)
            self._moved = self._shared.seconds()
            slow = self._shared.wire.slow
            if self._entry is None or self._wakes > self._moved + slow:
                self._wake_in(slow)

    def resumeProducing(self) -> None:
        """The transport's buffer is empty."""
        self._paused = False
        self._unsent = 0
        # What was waited for could not come meanwhile.
        self._since = self._shared.seconds()
        if self.phase == CLOSING:
            self._end()
        else:
            self._go_on()

    def stopProducing(self) -> None:
        """The transport takes no more: `connectionLost` says so too."""

    def writeConnectionLost(self) -> None:
        """Our own half is closed: `_close` asked for it, and the peer's end is awaited."""

    def abort(self) -> None:
        """End at once."""
        self.transport.abortConnection()

    @property
    def stamp(self) -> Stamp:
        """Makes the Date line."""
        return self._shared.stamp

    def retire(self) -> None:
        """Another listens now: begin no more than what is on its way here."""
        raise NotImplementedError

    def sweep(self, quiet: float) -> None:
        """Close, once retired, if nothing has come for so many seconds."""
        raise NotImplementedError

    def stand_aside(self) -> None:
        """Another connection goes on in this one's place."""
        if self._entry is not None:
            self._entry.cancel()
        self._entry = None
        self._held = b""

    # Who is there

    def _recognize(self) -> str | None:
        """Learn who the peer is, now that TLS or a proxy has said it; why it may not stay as such, if so."""
        self._recognized = True
        limits = self._shared.limits
        before, self._peer = self._peer, None
        peer = peer_of(self.transport, name="http", listener=self._shared.name)
        if before is not None and before != peer:
            limits.leave(before)
            reason = limits.admit(peer)
            if reason is not None:
                return reason
        self._peer = peer
        return None

    def _take_leave(self) -> None:
        """The connection is gone: nobody counts it any more."""
        shared = self._shared
        self.phase = GONE
        if self._entry is not None:
            self._entry.cancel()
        self._held = b""
        if self._peer is not None:
            shared.limits.leave(self._peer)

    # Bytes that wait, in and out

    def _write(self, data: bytes) -> None:
        if burst.depth and self._direct:
            burst.hold(self._write_now, data)
        else:
            self._write_now(data)

    def _write_now(self, data: bytes) -> None:
        if self._direct:
            data = send_at_once(self.transport, data)
            if not data:
                return
        self.transport.write(data)
        if self._paused:
            self._unsent += len(data)

    def _hold(self, data: bytes) -> None:
        self._held += data
        if self._reading and len(self._held) >= _HELD:
            self._reading = False
            self.transport.pauseProducing()

    def _read_on(self) -> None:
        if not self._reading:
            self._reading = True
            self.transport.resumeProducing()

    def _discard(self, size: int) -> None:
        self._discarded += size
        if self._discarded > self._shared.wire.message:
            self.transport.abortConnection()

    # Time

    def _enter(self, phase: Phase, within: float) -> None:
        """Wait for something that must not take longer than `within` seconds."""
        self.phase = phase
        now = self._since = self._shared.seconds()
        if self._entry is None or now + within < self._wakes:
            self._wake_in(within)

    def _wake_in(self, seconds: float) -> None:
        if self._entry is not None:
            self._entry.cancel()
        self._wakes = self._shared.seconds() + seconds
        self._entry = self._shared.wheel.after(seconds, self._tick)

    def _tick(self) -> None:
        """Look whether what is waited for is overdue. Waits end all the time without anyone touching the wheel."""
        self._entry = None
        now = self._shared.seconds()
        if self._paused:
            self._watch_reader(now)
        elif self.phase != CLOSING:
            self._overdue(now)
        elif now - self._since < self._shared.wire.slow:
            self._wake_in(self._since + self._shared.wire.slow - now)
        else:
            self.transport.abortConnection()

    def _watch_reader(self, now: float) -> None:
        """Cut a peer that takes nothing of what waits for it: megabytes are kept for each that does not read."""
        wire = self._shared.wire
        left = waiting(self.transport)
        limit = wire.idle if left is None else wire.slow
        taken = self._unsent - (left or 0)
        if taken > self._taken:
            self._taken = taken
            self._moved = now
        if now - self._moved < limit:
            self._wake_in(self._moved + limit - now)
        else:
            self.transport.abortConnection()

    # The end

    def _close(self) -> None:
        """Close once all is written that was answered."""
        if self.phase >= CLOSING:
            return
        self._let_go()
        self._held = b""
        self._enter(CLOSING, self._shared.wire.slow)
        self._read_on()
        if burst.depth and self._direct:
            # Only what is written can say that its reader is slow.
            burst.flush()
        if not self._paused:
            self._end()

    def _end(self) -> None:
        transport = self.transport
        # With a producer both Twisted's sockets and its TLS would wait for its end before theirs.
        transport.unregisterProducer()
        half = IHalfCloseableDescriptor.providedBy(self.transport) and not hasattr(
            transport, "getPeerCertificate"
        )
        if self._lingers and half:
            # To close with input unread would reset the connection, and the answer might never be seen (RFC 9112, 9.6).
            transport.loseWriteConnection()
        else:
            transport.loseConnection()
