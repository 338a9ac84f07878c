"""One connection over HTTP/1.1: whose turn it is, what the clock cuts off, and how it ends.

Requests are answered one after the other, so answers cannot get out of order; what a client sends ahead waits, in a
bounded buffer, and then in its own. The machine is drawn in ``docs/machines/http-connection.md``.
"""

from typing import Any, Final

from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from erlmcp.interfaces import Peer
from erlmcp.transports import peer_of, tune
from erlmcp.transports.http import _sse
from erlmcp.transports.http._answers import (
    CONTINUE,
    JSON,
    PREFACE,
    Refusal,
    answer,
    connection_field,
    stream_head,
)
from erlmcp.transports.http._direct import sends_at_once
from erlmcp.transports.http._exchange import Exchange
from erlmcp.transports.http._familiar import Head
from erlmcp.transports.http._head import Purpose
from erlmcp.transports.http._inflate import inflate_body
from erlmcp.transports.http._intake import SLICE, Intake
from erlmcp.transports.http._link import CUT, Link, crowded
from erlmcp.transports.http._phase import ANSWER, BODY, CLOSING, FRESH, GONE, HEAD, IDLE, STREAM
from erlmcp.transports.http._shared import Shared

_JOINED: Final = 16 * 1024
_PIECES: Final = 64
_MESSAGE: Final = Purpose.MESSAGE
_TOO_SLOW: Final = Refusal(408, "the request took too long to arrive", close=True)


@implementer(IProtocol, IHalfCloseableProtocol, IPushProducer)
class HttpConnection(Link):
    """A Twisted protocol that hands requests to a channel; HTTP/2 it hands over to a connection of that kind.

    Args:
        shared: what all connections of a listener have in common.
    """

    __slots__ = ("_current", "_intake", "_last", "_out", "_successor")

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self._intake: Intake | None = None
        self._current: Exchange | None = None
        self._out: list[bytes] | None = None
        self._last = False
        self._successor: Link | None = None

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
            Exchange(None).refuse(self, crowded(reason))

    def dataReceived(self, data: bytes) -> None:
        """Some bytes of some requests."""
        if self._retired and self._current is None:
            self.closes = True
        if self.phase == IDLE and self._intake is None and self._out is None and not self._paused:
            head = self._shared.familiar.find(data)
            whole = head is not None and head.size + head.length == len(data)
            if head is not None and whole and self._recognized and self._peer is not None:
                self._take_whole(head, data, self._peer)
                return
        if self.phase >= CLOSING:
            if self._successor is not None:
                self._successor.dataReceived(data)
            else:
                self._discard(len(data))
        elif self._current is not None or self._paused or self._out is not None:
            self._hold(data)
        elif self.phase == FRESH:
            self._choose(data)
        else:
            self._pump(data)

    def readConnectionLost(self) -> None:
        """The peer sends no more. Whoever goes away before the answer has cancelled (streamable-http, Cancellation)."""
        if self._successor is not None:
            self._successor.readConnectionLost()
        elif self._current is not None:
            self.transport.abortConnection()
        elif self.phase == CLOSING:
            self.transport.loseConnection()
        else:
            self._close()

    def connectionLost(self, reason: Failure) -> None:
        """The connection is gone, and with it whoever asked."""
        if self._successor is not None:
            self._successor.connectionLost(reason)
            return
        self._take_leave()
        self._let_go()
        exchange, self._current = self._current, None
        if exchange is not None:
            exchange.detach()
            self._shared.channel.closed(exchange)
        self._shared.forget(self)

    def _go_on(self) -> None:
        if self._current is None and self._out is None:
            self._pump(b"")

    @property
    def _busy(self) -> bool:
        """Whether a request waits for its answer."""
        return self._current is not None

    # HTTP/2

    def _choose(self, data: bytes) -> None:
        """The first bytes: which version is spoken?"""
        data = self._held + data
        self._held = b""
        if hasattr(self.transport, "negotiatedProtocol"):
            second = self.transport.negotiatedProtocol == b"h2"
        elif self._shared.second.h2c and PREFACE.startswith(data):
            if len(data) < len(PREFACE):
                # Nothing else begins with these bytes in the end, but it may be `POST` so far.
                self._hold(data)
                return
            second = True
        else:
            second = self._shared.second.h2c and data.startswith(PREFACE)
        if second:
            self._hand_on(data)
        else:
            self._pump(data)

    def _hand_on(self, data: bytes) -> None:
        """Let a connection of the other kind go on with what this one has become."""
        # h2 costs memory and start-up time that listeners without it do not pay.
        from erlmcp.transports.http._http2 import Http2Connection

        if self._retired:
            # HTTP/2 need not wait for an answer to say so.
            self.closes = self._shared.draining
        successor = Http2Connection(self._shared)
        successor.succeed(self)
        self._successor = successor
        self.phase = GONE
        successor.dataReceived(data)

    # What the exchange calls

    @property
    def congested(self) -> bool:
        """Whether the peer reads too slowly."""
        return self._paused and self._unsent >= self._shared.wire.write_buffer

    def usual(self, message: bytes) -> None:
        """See `Wire`."""
        data = b"%b%d\r\n\r\n%b" % (self._shared.stamp.prefix(), len(message), message)
        out = self._out
        if out is None:
            self._settle(data, close=False)
        else:
            self._current = None
            self._collect(out, data)

    def answer(self, exchange: Exchange, status: int, fields: bytes, body: bytes) -> None:
        """See `Wire`."""
        close = self.closes or not exchange.keep
        ending = connection_field(close=close, legacy=exchange.legacy)
        lines = b"".join((JSON if body else b"", fields, exchange.cors, ending))
        date = self._shared.stamp.date()
        self._settle(answer(status, date, lines, body, bare=exchange.bare), close=close)

    def say(
        self, exchange: Exchange, data: bytes, fields: bytes = b"", *, owed: bool = False, last: bool = False
    ) -> None:
        """See `Wire`."""
        legacy = exchange.legacy
        # HTTP/1.0 has no chunks: there the end of a stream is the end of the connection.
        close = self.closes or not exchange.keep or legacy
        if data and not legacy:
            data = _sse.chunk(data)
        if not exchange.begun:
            exchange.begun = True
            data = (
                stream_head(self._shared.stamp.date(), fields + exchange.cors, close=close, legacy=legacy)
                + data
            )
        if last:
            self._settle(data if legacy else data + _sse.LAST_CHUNK, close=close)
        else:
            self._stream(data, owed=owed)

    def cut(self, exchange: Exchange) -> None:
        """See `Wire`."""
        self._settle(_sse.LAST_CHUNK if exchange.begun and not exchange.legacy else b"", close=True)

    def _settle(self, data: bytes, *, close: bool) -> None:
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

    def _stream(self, data: bytes, *, owed: bool = False) -> None:
        """A part of the answer under way."""
        if self._out is not None:
            # In the middle of handing over: a replay, say. The channel bounds what it says at once.
            self._collect(self._out, data)
        elif self._paused and not owed and self._unsent >= CUT * self._shared.wire.write_buffer:
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
        if self._current is not None and not self._current.begun:
            self.closes = True

    def sweep(self, quiet: float) -> None:
        """Close, once retired, if nothing has come for so many seconds."""
        since = max(self._since, self._retired)
        if self.phase <= IDLE and self._out is None and self._shared.seconds() - since >= quiet:
            self._close()

    def drain(self) -> None:
        """Answer what has begun, then close; now, if nothing has."""
        self.closes = True
        # In the middle of handing over, the phase is still the one before; that request closes when it is answered.
        if self.phase <= IDLE and self._out is None:
            self._close()

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
        else:
            self._read_on()
        self._rest(intake, fresh=intake.completed != before)

    def _take_whole(self, head: Head, data: bytes, peer: Peer) -> None:
        """One whole request with a familiar head, and nothing else there: as `_pump`, but without a parser."""
        exchange = self._current = Exchange(head.headers)
        exchange.path = head.path
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
        elif self._busy and exchange.begun:
            self._enter(STREAM, self._shared.wire.heartbeat)
        else:
            self.phase = ANSWER if self._busy else IDLE
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
            exchange.refuse(self, crowded(reason))
            return
        self._current = exchange
        exchange.attach(self, self._peer)
        body, exchange.body = exchange.body, b""
        if exchange.purpose is _MESSAGE:
            self._shared.channel.received(body, exchange)
        else:
            self._shared.serve(exchange, body)

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

    def _collect(self, out: list[bytes], data: bytes) -> None:
        """Join what is answered in one go, up to where back-pressure must be felt."""
        out.append(data)
        if len(data) >= _JOINED or len(out) >= _PIECES:
            self._write(b"".join(out))
            out.clear()

    # Time and the end

    def _overdue(self, now: float) -> None:
        wire = self._shared.wire
        waited = now - self._since
        limits = (wire.lease, wire.idle, wire.slow, wire.slow, wire.idle, wire.heartbeat)
        limit = limits[self.phase]
        if waited < limit:
            self._wake_in(limit - waited)
        elif self.phase <= IDLE:
            self._close()
        elif self.phase <= BODY:
            self._lingers = True
            Exchange(None).refuse(self, _TOO_SLOW)
        else:
            self._stay(now, limit)

    def _stay(self, now: float, limit: float) -> None:
        """An answer takes as long as it takes; a stream says meanwhile that it is still there."""
        exchange = self._current
        if exchange is not None:
            self._since = now
            if exchange.begun:
                self._write(_sse.COMMENT if exchange.legacy else _sse.chunk(_sse.COMMENT))
        self._wake_in(limit)

    def _let_go(self) -> None:
        intake, self._intake = self._intake, None
        if intake is not None:
            intake.discard()
