"""One HTTP connection: whose turn it is, what the clock cuts off, and how it ends.

Requests are answered one after the other, so answers cannot get out of order; what a client sends ahead waits, in a
bounded buffer, and then in its own. The machine is drawn in ``docs/machines/http-connection.md``.
"""

from typing import Any, Final

from twisted.internet.interfaces import (
    IHalfCloseableDescriptor,
    IHalfCloseableProtocol,
    IProtocol,
    IPushProducer,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from erlmcp.interfaces import Peer
from erlmcp.timing import Entry
from erlmcp.transports import peer_of, tune
from erlmcp.transports.http._answers import CONTINUE, Refusal, Stamp
from erlmcp.transports.http._direct import send_at_once, sends_at_once, waiting
from erlmcp.transports.http._exchange import Exchange
from erlmcp.transports.http._familiar import Head
from erlmcp.transports.http._head import Purpose
from erlmcp.transports.http._inflate import inflate_body
from erlmcp.transports.http._intake import SLICE, Intake
from erlmcp.transports.http._phase import ANSWER, BODY, CLOSING, FRESH, GONE, HEAD, IDLE, STREAM, Phase
from erlmcp.transports.http._shared import Shared

_CUT: Final = 4
_HELD: Final = 64 * 1024
_JOINED: Final = 16 * 1024
_PIECES: Final = 64


def _crowded(reason: str | None) -> Refusal:
    return Refusal(503, f"no more connections are taken: {reason}", b"Retry-After: 1\r\n", close=True)


_MESSAGE: Final = Purpose.MESSAGE
_TOO_SLOW: Final = Refusal(408, "the request took too long to arrive", close=True)


@implementer(IProtocol, IHalfCloseableProtocol, IPushProducer)
class HttpConnection:
    """A Twisted protocol that hands requests to a channel.

    Args:
        shared: what all connections of a listener have in common.

    Attributes:
        phase: what it waits for.
        closes: whether the answer under way is the last one.
    """

    __slots__ = (
        "_current",
        "_direct",
        "_discarded",
        "_entry",
        "_held",
        "_intake",
        "_last",
        "_lingers",
        "_moved",
        "_out",
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
        self._intake: Intake | None = None
        self._current: Exchange | None = None
        self._held = b""
        self._out: list[bytes] | None = None
        self._direct = False
        self._last = self._lingers = False
        self._entry: Entry | None = None
        self._since = 0.0
        self._wakes = 0.0
        self._paused = False
        self._reading = True
        self._recognized = False
        self._unsent = self._discarded = 0
        self._taken = 0  # of what waits since the transport's buffer was full
        self._moved = 0.0  # when that last became more
        self._retired = 0.0  # when another listener took over

    # What Twisted calls

    def makeConnection(self, transport: Any) -> None:  # noqa: N802 - Twisted's name
        """The connection is there."""
        self.transport = transport
        self.connectionMade()

    def connectionMade(self) -> None:
        """May it stay?"""
        shared = self._shared
        transport = self.transport
        tune(transport)
        self._direct = sends_at_once(transport)
        transport.registerProducer(self, streaming=True)
        shared.connections[self] = None
        self._since = shared.seconds()
        peer = peer_of(transport, name="http", listener=shared.name)
        reason = shared.limits.admit(peer)
        if reason is None:
            self._peer = peer
            self._wake_in(shared.wire.lease)
        elif peer.secure:
            # There is no handshake yet, so nothing can be said.
            transport.abortConnection()
        else:
            Exchange(None).refuse(self, _crowded(reason))

    def dataReceived(self, data: bytes) -> None:
        """Some bytes of some requests."""
        self.closes = self.closes or (self._retired > 0 and self._current is None)
        if self.phase == IDLE and self._intake is None and self._out is None and not self._paused:
            head = self._shared.familiar.find(data)
            whole = head is not None and head.size + head.length == len(data)
            if head is not None and whole and self._recognized and self._peer is not None:
                self._take_whole(head, data, self._peer)
                return
        if self.phase >= CLOSING:
            self._discard(len(data))
        elif self._current is not None or self._paused or self._out is not None:
            self._hold(data)
        else:
            self._pump(data)

    def readConnectionLost(self) -> None:
        """The peer sends no more. Whoever goes away before the answer has cancelled (streamable-http, Cancellation)."""
        if self._current is not None:
            self.transport.abortConnection()
        elif self.phase == CLOSING:
            self.transport.loseConnection()
        else:
            self._close()

    def writeConnectionLost(self) -> None:
        """Our own half is closed: `_close` asked for it, and the peer's end is awaited."""

    def connectionLost(self, reason: Failure) -> None:  # noqa: ARG002 - how it ended changes nothing
        """The connection is gone, and with it whoever asked."""
        shared = self._shared
        self.phase = GONE
        if self._entry is not None:
            self._entry.cancel()
        intake, self._intake = self._intake, None
        if intake is not None:
            intake.discard()
        self._held = b""
        exchange, self._current = self._current, None
        if self._peer is not None:
            shared.limits.leave(self._peer)
        if exchange is not None:
            exchange.detach()
            shared.channel.closed(exchange)
        shared.forget(self)

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
        elif self._current is None and self._out is None:
            self._pump(b"")

    def stopProducing(self) -> None:
        """The transport takes no more: `connectionLost` says so too."""

    # What the exchange calls

    @property
    def congested(self) -> bool:
        """Whether the peer reads too slowly."""
        return self._paused and self._unsent >= self._shared.wire.write_buffer

    @property
    def stamp(self) -> Stamp:
        """Makes the Date line."""
        return self._shared.stamp

    def settle(self, data: bytes, *, close: bool) -> None:
        """The answer under way is complete."""
        self._current = None
        self._last = self._last or close
        out = self._out
        if data:
            self._write(data) if out is None else self._collect(out, data)
        if out is not None:
            return
        if self._last or self.phase >= CLOSING:
            self._close()
        else:
            self._pump(b"")

    def stream(self, data: bytes, *, owed: bool = False) -> None:
        """A part of the answer under way."""
        if self._out is not None:
            # In the middle of handing over: a replay, say. The channel bounds what it says at once.
            self._collect(self._out, data)
        elif self._paused and not owed and self._unsent >= _CUT * self._shared.wire.write_buffer:
            self.transport.abortConnection()
        else:
            self._write(data)
            if self.phase == STREAM:
                self._since = self._shared.seconds()
            else:
                self._enter(STREAM, self._shared.wire.heartbeat)

    # What the listener calls

    def retire(self) -> None:
        """Close with the next answer that can still say so."""
        self._retired = self._shared.seconds()
        self.closes = self._current is not None and not self._current.begun

    def sweep(self, quiet: float) -> None:
        """Close, once retired, if nothing has come for so many seconds."""
        if self.phase <= IDLE and self._shared.seconds() - max(self._since, self._retired) >= quiet:
            self.drain()

    def drain(self) -> None:
        """Answer what has begun, then close; now, if nothing has."""
        self.closes = True
        # In the middle of handing over, the phase is still the one before; that request closes when it is answered.
        if self.phase <= IDLE and self._out is None:
            self._close()

    def abort(self) -> None:
        """End at once."""
        self.transport.abortConnection()

    # Requests, one after the other

    def _pump(self, data: bytes) -> None:
        """Feed `data`, and hand over requests, until one of them waits for its answer."""
        intake = self._intake
        if intake is None:
            intake = self._intake = self._shared.lend()
        if self._held:
            data, self._held = self._held + data, b""
        out: list[bytes] = []
        self._out = out
        before = intake.completed
        size = len(data)
        fed = 0
        queue = intake.queue
        while True:
            while queue and self._current is None and not (self._last or self._paused):
                self._hand_over(queue.popleft())
            if fed >= size or self._current is not None or self._last or self._paused:
                break
            intake.feed(data if size <= SLICE else data[fed : fed + SLICE])
            fed += SLICE
        self._out = None
        if out:
            self._write(b"".join(out) if len(out) > 1 else out[0])
        if self._last or self.phase >= CLOSING:
            self._close()
            return
        if fed < size:
            self._hold(data[fed:])
        elif not self._reading:
            self._reading = True
            self.transport.resumeProducing()
        self._rest(intake, fresh=intake.completed != before)

    def _take_whole(self, head: Head, data: bytes, peer: Peer) -> None:
        """One whole request with a familiar head, and nothing else there: as `_pump`, but without a parser."""
        exchange = self._current = Exchange(head.headers)
        exchange.attach(self, peer)
        out: list[bytes] = []
        self._out = out
        self._shared.channel.received(data[head.size :], exchange)
        self._out = None
        if out:
            self._write(b"".join(out) if len(out) > 1 else out[0])
        if self._last or self.phase >= CLOSING:
            self._close()
        elif self._held:
            self._pump(b"")
        elif self._current is not None and exchange.begun:
            self._enter(STREAM, self._shared.wire.heartbeat)
        else:
            self.phase = ANSWER if self._current is not None else IDLE
            self._since = self._shared.seconds()

    def _hand_over(self, exchange: Exchange) -> None:
        refusal = exchange.refusal
        if refusal is None and exchange.inflates:
            refusal = inflate_body(exchange, self._shared.wire.message)
        if refusal is not None:
            self._lingers = refusal.close
            exchange.refuse(self, refusal)
            return
        reason = None if self._recognized else self._recognize()
        if self._peer is None:
            exchange.refuse(self, _crowded(reason))
            return
        self._current = exchange
        exchange.attach(self, self._peer)
        body, exchange.body = exchange.body, b""
        if exchange.purpose is _MESSAGE:
            self._shared.channel.received(body, exchange)
        else:
            self._shared.serve(exchange, body)

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

    def _rest(self, intake: Intake, *, fresh: bool) -> None:
        """Nothing can be done for now: say what is waited for, and how long."""
        wire = self._shared.wire
        exchange = self._current
        if exchange is None and intake.begun:
            if intake.wants_continue:
                intake.wants_continue = False
                self._write(CONTINUE)
            phase = BODY if intake.in_body else HEAD
            if fresh or phase != self.phase:
                self._enter(phase, wire.slow)
            return
        if exchange is not None and exchange.begun:
            self._enter(STREAM, wire.heartbeat)
        elif exchange is not None or intake.queue or self._held:
            self.phase = ANSWER
            self._since = self._shared.seconds()
        elif fresh or self.phase > IDLE:
            self.phase = IDLE
            self._since = self._shared.seconds()
        if not (intake.begun or intake.stopped or intake.queue):
            self._intake = None
            self._shared.take_back(intake)
        if self.closes and self.phase <= IDLE:
            self._close()

    # Bytes that wait, in and out

    def _collect(self, out: list[bytes], data: bytes) -> None:
        """Join what is answered in one go, up to where back-pressure must be felt."""
        out.append(data)
        if len(data) >= _JOINED or len(out) >= _PIECES:
            self._write(b"".join(out))
            out.clear()

    def _write(self, data: bytes) -> None:
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
        if self._paused:
            self._watch_reader()
            return
        wire = self._shared.wire
        waited = self._shared.seconds() - self._since
        limits = (wire.lease, wire.idle, wire.slow, wire.slow, wire.idle, wire.heartbeat, wire.slow)
        limit = limits[self.phase]
        if waited < limit:
            self._wake_in(limit - waited)
        elif self.phase == CLOSING:
            self.transport.abortConnection()
        elif self.phase <= IDLE:
            self._close()
        elif self.phase <= BODY:
            self._lingers = True
            Exchange(None).refuse(self, _TOO_SLOW)
        else:
            self._stay(limit)

    def _watch_reader(self) -> None:
        """Cut a peer that takes nothing of what waits for it: megabytes are kept for each that does not read."""
        wire = self._shared.wire
        now = self._shared.seconds()
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

    def _stay(self, limit: float) -> None:
        """An answer takes as long as it takes; a stream says meanwhile that it is still there."""
        if self._current is not None:
            self._since = self._shared.seconds()
            beat = self._current.heartbeat()
            if beat:
                self._write(beat)
        self._wake_in(limit)

    # The end

    def _close(self) -> None:
        """Close once all is written that was answered."""
        if self.phase >= CLOSING:
            return
        intake, self._intake = self._intake, None
        if intake is not None:
            intake.discard()
        self._held = b""
        self._enter(CLOSING, self._shared.wire.slow)
        if not self._reading:
            self._reading = True
            self.transport.resumeProducing()
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
