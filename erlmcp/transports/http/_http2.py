"""One connection over HTTP/2: its streams, what waits for them, what the clock cuts off, and how it ends.

The h2 library keeps the protocol's state; `_frames` stands before it and counts, `_stream` is what an exchange sees.
The machine is drawn in ``docs/machines/http2-connection.md``.
"""

from typing import Any, Final

from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import ProtocolError
from hyperframe.frame import GoAwayFrame
from twisted.internet.interfaces import IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from erlmcp.transports.http import _sse
from erlmcp.transports.http._answers import Refusal
from erlmcp.transports.http._fields import MalformedError, exchange_for
from erlmcp.transports.http._frames import FloodError
from erlmcp.transports.http._h2 import CONNECTION_WINDOW, FIRST_WINDOW, WINDOW
from erlmcp.transports.http._head import Purpose, too_large
from erlmcp.transports.http._inflate import inflate_body
from erlmcp.transports.http._link import Link, crowded
from erlmcp.transports.http._outflow import Outflow
from erlmcp.transports.http._phase import CLOSING, FRESH, IDLE
from erlmcp.transports.http._shared import Shared
from erlmcp.transports.http._stream import Stream

_SLICE: Final = 32 * 1024
_WINDOW: Final = 256 * 1024
_BODIES: Final = 2
_ANY: Final = 2**31 - 1
_MESSAGE: Final = Purpose.MESSAGE
_CONTINUE: Final = [(b":status", b"100")]
_TOO_SLOW: Final = Refusal(408, "the request took too long to arrive")
_TOO_MUCH: Final = Refusal(
    503, "too many large requests arrive at once on this connection", b"Retry-After: 1\r\n"
)


@implementer(IPushProducer)
class Http2Connection(Outflow):
    """A connection on which HTTP/2 was agreed on, or begun with. Made by `HttpConnection`, in whose place it goes on.

    Args:
        shared: what all connections of a listener have in common.
    """

    __slots__ = ("_last", "_leaving", "_received")

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self._received = 0  # bytes of the window that were used and not given back
        self._leaving = False
        self._last: int | None = None  # of the streams that are taken, once that was said

    def succeed(self, before: Link) -> None:
        """Go on in the place of a connection that has only just begun."""
        for name in Link.__slots__:
            setattr(self, name, getattr(before, name))
        self._entry = None
        self._leaving = self.closes
        before.stand_aside()
        self.transport.unregisterProducer()
        self.transport.registerProducer(self, streaming=True)
        shared = self._shared
        shared.connections.pop(before, None)
        shared.connections[self] = None
        self._wake_in(shared.wire.lease)
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(CONNECTION_WINDOW - FIRST_WINDOW)
        self._flush()
        if self._retired:
            self._announce()

    # What Twisted calls

    def dataReceived(self, data: bytes) -> None:
        """Some frames, or pieces of them."""
        if self.phase >= CLOSING:
            self._discard(len(data))
        elif self._paused or self._inside:
            self._hold(data)
        elif self._held:
            held, self._held = self._held, b""
            self._take(held + data)
        else:
            self._take(data)

    def readConnectionLost(self) -> None:
        """The peer sends no more: it has cancelled what is under way (streamable-http, Cancellation)."""
        if self.phase == CLOSING:
            self.transport.loseConnection()
        elif self._streams:
            self.transport.abortConnection()
        else:
            self._close()

    def connectionLost(self, reason: Failure) -> None:  # noqa: ARG002 - how it ended changes nothing
        """The connection is gone, and with it whoever asked."""
        self._take_leave()
        self._lose_streams()
        self._shared.forget(self)

    def _go_on(self) -> None:
        self._send_waiting()
        if self._inside:
            return
        held, self._held = self._held, b""
        self._take(held)

    # What the listener calls

    def retire(self) -> None:
        """Say that the next requests belong on another connection; those on their way are still answered."""
        self._retired = self._shared.seconds()
        if self.phase < CLOSING and not self._leaving:
            self._announce()

    def sweep(self, quiet: float) -> None:
        """Once retired for so many seconds, begin no more."""
        if self._shared.seconds() - self._retired >= quiet:
            self.drain()

    def _announce(self) -> None:
        """The first of the two GOAWAY of a graceful end (RFC 9113, 6.8)."""
        self._flush()
        self._write(GoAwayFrame(0, last_stream_id=_ANY, error_code=ErrorCodes.NO_ERROR).serialize())

    def drain(self) -> None:
        """Begin no more, and say so; close once all that has begun is answered."""
        if self.phase >= CLOSING or self._leaving:
            return
        self._leaving = self.closes = True
        if self._streams or self._inside:
            self._flush()
            # h2 would send nothing any more after its own.
            last = self._last = self._h2.highest_inbound_stream_id
            self._write(GoAwayFrame(0, last_stream_id=last, error_code=ErrorCodes.NO_ERROR).serialize())
        else:
            self._finish(ErrorCodes.NO_ERROR)

    # What comes in

    def _take(self, data: bytes) -> None:
        """Take frames, hand requests over, and send what that comes to in one go."""
        shared = self._shared
        self._inside = True
        now = shared.seconds()
        size = len(data)
        taken = 0
        try:
            while taken < size and not self._paused and self.phase < CLOSING:
                piece = data if size <= _SLICE else data[taken : taken + _SLICE]
                taken += _SLICE
                whole = self._frames.take(piece, now)
                if whole:
                    self._act(self._h2.receive_data(whole), now)
                    self._give_back()
                    if taken < size:
                        self._flush()
        except FloodError as error:
            self._flood(str(error), error.code)
        except ProtocolError as error:
            self._break(error)
        finally:
            self._inside = False
        if self.phase >= CLOSING:
            return
        if taken < size:
            self._hold(data[taken:])
        elif not self._paused:
            self._read_on()
        self._flush()
        self._rest()

    def _act(self, events: list[Any], now: float) -> None:
        """Do what frames ask for that h2 has taken all of already."""
        if self._h2.strays:
            strays, self._h2.strays = self._h2.strays, 0
            self._frames.stray(strays)
        taken_back: set[int] = set()
        for event in events:
            # First, or it would be answered what is no stream any more to h2.
            if type(event) is StreamReset:
                taken_back.add(event.stream_id)
                self._forsake(event)
        for event in events:
            kind = type(event)
            if kind is RequestReceived:
                if event.stream_id not in taken_back:
                    self._open(event, now)
            elif kind is DataReceived:
                self._keep(event)
            elif kind is StreamEnded:
                self._complete(event)
            elif kind is WindowUpdated:
                self._widen(event.stream_id)
            elif kind is RemoteSettingsChanged:
                self._widen(0)

    def _open(self, event: Any, now: float) -> None:
        number = event.stream_id
        shared = self._shared
        if self._leaving or self.phase >= CLOSING or len(self._streams) >= shared.second.streams:
            self._reset(number, ErrorCodes.REFUSED_STREAM)
            return
        try:
            exchange = exchange_for(tuple(event.headers), shared.rules, shared.wire, shared.familiar_fields)
        except MalformedError:
            self._reset(number, ErrorCodes.PROTOCOL_ERROR)
            return
        if self.phase == FRESH:
            self.phase = IDLE
        stream = self._streams[number] = Stream(self, number, exchange, now)
        stream.complete = event.stream_ended is not None
        if exchange.refusal is not None:
            exchange.refuse(stream, exchange.refusal)
        elif event.stream_ended is None and b"expect" in (exchange.headers or {}):
            self._h2.send_headers(number, _CONTINUE)

    def _keep(self, event: Any) -> None:
        length = event.flow_controlled_length
        self._received += length
        stream = self._streams.get(event.stream_id)
        if stream is None or stream.last:
            return
        size = len(event.data)
        if stream.size + size > self._shared.wire.message:
            stream.exchange.refuse(stream, too_large(self._shared.wire.message))
        elif self._bodies + size > _BODIES * self._shared.wire.message:
            stream.exchange.refuse(stream, _TOO_MUCH)
        else:
            self._bodies += size
            stream.received += length
            stream.keep(event.data)

    def _give_back(self) -> None:
        """Widen the windows again, each once half of it is used."""
        if self._received >= CONNECTION_WINDOW // 2:
            self._h2.increment_flow_control_window(self._received)
            self._received = 0
        if not self._bodies:
            return
        for stream in self._streams.values():
            if stream.received >= WINDOW // 2 and not stream.complete:
                self._h2.increment_flow_control_window(stream.received, stream.number)
                stream.received = 0

    def _complete(self, event: Any) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is None:
            return
        stream.complete = True
        self._bodies -= stream.size
        if stream.last:
            return
        exchange = stream.exchange
        if exchange.inflates:
            exchange.body = bytes(stream.body)
            refusal = inflate_body(exchange, self._shared.wire.message)
            if refusal is not None:
                exchange.refuse(stream, refusal)
                return
            body, exchange.body = exchange.body, b""
        else:
            body = bytes(stream.body)
        stream.body = b""
        reason = None if self._recognized else self._recognize()
        if self._peer is None:
            exchange.refuse(stream, crowded(reason))
            self.drain()
            return
        exchange.attach(stream, self._peer)
        if exchange.purpose is _MESSAGE:
            self._shared.channel.received(body, exchange)
        else:
            self._shared.serve(exchange, body)

    def _forsake(self, event: Any) -> None:
        """A stream was reset: by the client, which has cancelled, or by h2, because the client did what it must not."""
        if not event.remote_reset:
            self._frames.reset()
        stream = self._streams.get(event.stream_id)
        if stream is not None:
            self._forget(stream)
            self._leave_channel(stream)

    # Time

    def _rest(self) -> None:
        if self.phase >= CLOSING:
            return
        if not self._streams and (self._leaving or self._frames.leaving):
            self._finish(ErrorCodes.NO_ERROR)
        elif self._streams or self._frames.since is not None:
            wire = self._shared.wire
            within = min(wire.slow, wire.heartbeat)
            if self._entry is None or self._shared.seconds() + within < self._wakes:
                self._wake_in(within)

    def _overdue(self, now: float) -> None:
        wire = self._shared.wire
        due = self._since + (wire.lease if self.phase == FRESH else wire.idle)
        since = self._frames.since
        if since is not None:
            due = since + wire.slow
        if now >= due and (since is not None or not self._streams):
            self._finish(ErrorCodes.NO_ERROR)
            return
        if self._streams:
            due = min(
                [
                    due if since is not None else now + wire.idle,
                    *map(self._watch, list(self._streams.values())),
                ]
            )
        self._flush()
        if self.phase < CLOSING and self._entry is None:
            self._wake_in(max(0.0, due - now))

    def _watch(self, stream: Stream) -> float:
        """Look after one stream; gives when to look again."""
        wire = self._shared.wire
        now = self._shared.seconds()
        if not (stream.complete or stream.last):
            if now - stream.since < wire.slow:
                return stream.since + wire.slow
            stream.exchange.refuse(stream, _TOO_SLOW)
        elif stream.waits:
            if now - stream.moved < wire.slow:
                return stream.moved + wire.slow
            self._cut_off(stream)
        elif stream.exchange.begun:
            if now - stream.since >= wire.heartbeat:
                self.data(stream, _sse.COMMENT, last=False)
            return stream.since + wire.heartbeat
        return now + wire.heartbeat

    # The end

    def _flood(self, reason: str, code: int) -> None:
        self._shared.flooded(reason, self._peer)
        self._finish(ErrorCodes(code), reason.encode())

    def _break(self, error: ProtocolError) -> None:
        """The client has broken the protocol: h2 has its GOAWAY ready, unless not even the preface was right."""
        if error.error_code == ErrorCodes.ENHANCE_YOUR_CALM:
            self._shared.flooded(str(error), self._peer)
        self._lingers = True
        self._leave()

    def _finish(self, code: ErrorCodes, reason: bytes = b"") -> None:
        self._lingers = code != ErrorCodes.NO_ERROR
        # What was said before must not be taken back: others may have been sent again elsewhere (RFC 9113, 6.8).
        self._h2.close_connection(code, reason or None, self._last)
        self._leave()

    def _leave(self) -> None:
        self._flush()
        self._close()
        self._lose_streams()
