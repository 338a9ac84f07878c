"""The sending half of a connection over HTTP/2: windows, what waits for them, and streams that end."""

from typing import Final

from h2.errors import ErrorCodes

from erlmcp.transports.http._frames import MOST_PAYLOAD, Frames
from erlmcp.transports.http._h2 import ServerProtocol
from erlmcp.transports.http._link import CUT, Link
from erlmcp.transports.http._shared import Shared
from erlmcp.transports.http._stream import Pairs, Stream

_WAITING: Final = 16
_JOINED: Final = 64 * 1024
_TINY: Final = 1024
_NOTHING: Final = bytearray()


class Outflow(Link):
    """What a connection does with what its streams want to say; a `Carrier`.

    What the client's windows or its socket do not take waits with its stream. Nothing is written but in `_flush`.

    Args:
        shared: what all connections of a listener have in common.
    """

    __slots__ = ("_bodies", "_frames", "_gathered", "_h2", "_inside", "_pending", "_streams", "_waiting")

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        wire = shared.wire
        self._frames = Frames(wire.headers, shared.seconds())
        self._h2 = ServerProtocol(wire.headers, shared.second.streams)
        self._streams: dict[int, Stream] = {}
        self._waiting: dict[Stream, None] = {}
        self._pending = 0  # bytes that wait on all streams
        self._bodies = 0  # bytes of requests that are not complete
        self._gathered = 0  # bytes of content that h2 has since the last flush
        self._inside = False  # whether frames are being taken: what that comes to is flushed at its end

    def _rest(self) -> None:
        """Nothing can be done for now: arrange for what is waited for to be looked after."""
        raise NotImplementedError

    # What a stream asks for

    @property
    def date(self) -> bytes:
        """What the field Date says now."""
        return self._shared.stamp.date()[6:-2]

    def is_congested(self, stream: Stream) -> bool:
        """Whether this stream's part of what is unread makes too much of it."""
        return len(stream.waits) > 0 and self._pending >= self._shared.wire.write_buffer

    def overflows(self, stream: Stream) -> bool:
        """Cut a stream whose client has left far too much unread; true if it was."""
        most = CUT * self._shared.wire.write_buffer
        if self._inside or not stream.waits or self._pending < most:
            return False
        self._cut_off(stream)
        self._settle()
        return True

    def head(self, stream: Stream, headers: Pairs, *, last: bool) -> None:
        """Send the head of an answer. Unless it is all, `data` follows at once."""
        self._h2.send_headers(stream.number, headers, last)
        if last:
            self._end_stream(stream)
            self._settle()

    def data(self, stream: Stream, data: bytes, *, last: bool) -> None:
        """Send content, or keep it until it may be sent."""
        stream.last = last
        size = len(data)
        if stream.waits:
            stream.waits += data
            self._wait(stream, size)
        else:
            sent = 0 if size and self._paused else self._send(stream, data)
            if sent < size:
                stream.waits = bytearray(data[sent:])
                stream.moved = self._shared.seconds()
                self._waiting[stream] = None
                self._wait(stream, size - sent)
            elif last:
                self._end_stream(stream)
            else:
                stream.since = self._shared.seconds()
        self._settle()

    def drop(self, stream: Stream) -> None:
        """No answer will come: only this stream ends for that."""
        self._forget(stream)
        self._h2.reset_stream(stream.number, ErrorCodes.CANCEL)
        self._settle()

    def _settle(self) -> None:
        if not self._inside:
            self._flush()
            self._rest()
        elif self._gathered >= _JOINED:
            # The transport is to say that it is full before a hundred long answers are joined.
            self._flush()

    def _send(self, stream: Stream, data: bytes | bytearray) -> int:
        """Send as much as the windows allow; gives how much. The last of an answer ends its stream."""
        number = stream.number
        size = len(data)
        if not size:
            # Nothing is always allowed, and says at most that this was all.
            if stream.last:
                self._h2.send_data(number, b"", end_stream=True)
            return 0
        most = min(size, self._h2.local_flow_control_window(number))
        if most == size <= MOST_PAYLOAD:
            self._h2.send_data(number, bytes(data), stream.last)
            self._frames.sent()
            self._gathered += size
            return size
        sent = 0
        while sent < most:
            end = min(sent + MOST_PAYLOAD, most)
            self._h2.send_data(number, bytes(data[sent:end]), stream.last and end == size)
            if end - sent >= _TINY:
                # Who opens the window byte by byte earns nothing by it.
                self._frames.sent()
            sent = end
        self._gathered += sent
        return sent

    def _widen(self, number: int) -> None:
        if number:
            stream = self._streams.get(number)
            if stream is not None and stream.waits:
                self._send_more(stream)
        else:
            self._send_waiting()

    def _send_waiting(self) -> None:
        """Send what waits, in turn: who got something goes to the end of the queue."""
        for stream in list(self._waiting):
            if self._paused or self._h2.outbound_flow_control_window <= 0:
                break
            self._send_more(stream)
            self._flush()

    def _send_more(self, stream: Stream) -> None:
        if self._paused:
            return
        sent = self._send(stream, stream.waits)
        if not sent:
            return
        stream.since = stream.moved = self._shared.seconds()
        self._pending -= sent
        del self._waiting[stream]
        if sent < len(stream.waits):
            del stream.waits[:sent]
            self._waiting[stream] = None
        else:
            stream.waits = _NOTHING
            if stream.last:
                self._end_stream(stream)

    def _wait(self, stream: Stream, size: int) -> None:
        """So much more waits. Answers are owed, whatever waits; but not without any end to it."""
        self._pending += size
        if self._pending > _WAITING * self._shared.wire.write_buffer and len(self._waiting) > 1:
            self._cut_off(stream)

    def _flush(self) -> None:
        self._gathered = 0
        data = self._h2.data_to_send()
        if data:
            self._write(data)

    # Streams that end

    def _end_stream(self, stream: Stream) -> None:
        """The answer is sent to its end."""
        self._forget(stream)
        self._frames.answered()
        if not stream.complete and not self._h2.streams[stream.number].closed:
            # The rest of the request is of no use to anybody (RFC 9113, 8.1).
            self._h2.reset_stream(stream.number, ErrorCodes.NO_ERROR)

    def _forget(self, stream: Stream) -> None:
        self._streams.pop(stream.number, None)
        if stream in self._waiting:
            del self._waiting[stream]
            self._pending -= len(stream.waits)
            stream.waits = _NOTHING
        if not stream.complete:
            self._bodies -= stream.size
        if not self._streams:
            self._since = self._shared.seconds()

    def _cut_off(self, stream: Stream) -> None:
        self._forget(stream)
        self._h2.reset_stream(stream.number, ErrorCodes.ENHANCE_YOUR_CALM)
        self._leave_channel(stream)

    def _reset(self, number: int, code: ErrorCodes) -> None:
        self._h2.reset_stream(number, code)
        self._frames.reset()

    def _leave_channel(self, stream: Stream) -> None:
        """Tell the channel that who asked is gone, if it has not answered yet."""
        exchange = stream.exchange
        if exchange.attached:
            exchange.detach()
            self._shared.channel.closed(exchange)

    def _lose_streams(self) -> None:
        streams, self._streams = self._streams, {}
        self._waiting.clear()
        for stream in streams.values():
            self._leave_channel(stream)
