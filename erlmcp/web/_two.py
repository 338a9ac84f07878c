"""One HTTP/2 connection: many requests at once, each on a stream of its own.

The machine is drawn in ``docs/machines/http-client-connection.md``. Frames and their states are the h2 library's.
"""

from typing import Any, Final

from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import ProtocolError
from twisted.internet.interfaces import IProtocol, IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from erlmcp.timing import Entry
from erlmcp.web._carrying import CLOSING_TIME, Home, describe, is_clean
from erlmcp.web._direct import send_at_once, sends_at_once
from erlmcp.web._h2 import CONNECTION_WINDOW, STREAM_WINDOW, ClientConnection
from erlmcp.web._heads import head_of_two
from erlmcp.web._ticket import Ticket
from erlmcp.web._types import WebError

log = Logger()

_FIRST: Final = (
    100  # streams before the server has said how many it takes (RFC 9113, 6.5.2 recommends no less)
)
_LAST_ID: Final = 2**31 - 1
_CREDIT: Final = 1000.0  # frames that say nothing for a request: so many at once,
_REFILL: Final = 100.0  # so many more a second,
_PER_REQUEST: Final = 8.0  # and so many for each request or part of one that is sent
_UNREAD: Final = 256 * 1024  # bytes kept for a server that makes us answer, and does not read
_SOONEST: Final = 0.5


@implementer(IProtocol, IPushProducer)
class TwoConnection:
    """A Twisted protocol, and a carrier of requests.

    Args:
        home: where it belongs: whose requests it carries.

    Attributes:
        streams: the requests under way, by the number of their stream.
    """

    __slots__ = (
        "_congested",
        "_consumed",
        "_credit",
        "_direct",
        "_entry",
        "_feeding",
        "_flushed",
        "_greeted",
        "_h2",
        "_heard",
        "_home",
        "_limit",
        "_next",
        "_open",
        "_ours",
        "_pinged",
        "_refilled",
        "_since",
        "_unread",
        "_uploads",
        "_waiting",
        "streams",
        "transport",
    )

    def __init__(self, home: Home) -> None:
        self.transport: Any = None
        self.streams: dict[int, Ticket] = {}
        self._home = home
        self._h2 = ClientConnection(home.options.header_bytes)
        self._waiting: dict[int, None] = {}  # for the head of their answer, in order
        self._uploads: dict[int, None] = {}  # for the window to open, in order
        self._next = 1
        self._flushed = 0
        self._limit = min(_FIRST, home.options.streams_per_connection)
        self._open = True
        self._greeted = False
        self._feeding = False
        self._direct = False
        self._congested = False
        self._consumed = 0
        self._unread = 0
        self._credit = _CREDIT
        self._refilled = 0.0
        self._heard = 0.0
        self._since = 0.0
        self._pinged = False
        self._ours: WebError | None = None
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
        self._heard = self._since = self._refilled = self._home.seconds()
        self._h2.begin()
        self.flush()
        self._wake()

    def dataReceived(self, data: bytes) -> None:
        """Some bytes of some frames."""
        self._heard = self._home.seconds()
        self._pinged = False
        self._feeding = True
        try:
            for event in self._h2.receive_data(data):
                take = _TAKES.get(type(event))
                if take is not None:
                    take(self, event)
                else:
                    self._spend(1)
            if self._consumed >= CONNECTION_WINDOW // 4:
                consumed, self._consumed = self._consumed, 0
                self._h2.increment_flow_control_window(consumed)
        except ProtocolError as error:
            self._feeding = False
            spoken = "" if self._greeted else ", or speaks no HTTP/2 at all"
            self._break(f"the server breaks the rules of HTTP/2{spoken}: {error or type(error).__name__}")
            return
        self._feeding = False
        if self._open or self.streams:
            self.flush()
            self._home.freed(self)
        else:
            self._end()

    def connectionLost(self, reason: Failure) -> None:
        """The connection is gone."""
        self._open = False
        if self._entry is not None:
            self._entry.cancel()
            self._entry = None
        self._home.closing(self)
        clean = is_clean(reason)
        error = self._ours or WebError(
            f"{self._home.origin}: the connection ended before the answer did{describe(reason, clean=clean)}"
        )
        self._drop(error)
        self._home.gone(self)

    def pauseProducing(self) -> None:
        """The transport's buffer is full: nothing more is begun until it is empty."""
        self._congested = True
        self._since = self._home.seconds()

    def resumeProducing(self) -> None:
        """The transport's buffer is empty."""
        self._congested = False
        self._unread = 0
        if self._open or self.streams:
            self._upload()
            self.flush()
            self._home.freed(self)

    def stopProducing(self) -> None:
        """The transport takes no more: `connectionLost` says so too."""

    # What its home calls

    @property
    def usable(self) -> bool:
        """Whether one more request may be sent now."""
        return self._open and len(self.streams) < self._limit and not self._congested

    @property
    def capacity(self) -> int:
        """How many requests it takes at once."""
        return self._limit

    def begin(self, ticket: Ticket) -> bool:
        """Send a request; False if it cannot be, and nothing of it has left."""
        home = self._home
        h2 = self._h2
        request = ticket.request
        stream = self._next
        h2.live = len(self.streams)
        try:
            h2.send_headers(stream, head_of_two(request, home.origin, home.authority), not request.body)
        except ProtocolError:
            self._retire()
            return False
        self._next = stream + 2
        if self._next > _LAST_ID:
            self._retire()
        self.streams[stream] = ticket
        self._waiting[stream] = None
        ticket.carrier = self
        ticket.stream = stream
        ticket.since = home.seconds()
        ticket.sent = ticket.consumed = 0
        self._earn()
        if request.body:
            self._send(ticket)
        if not self._feeding:
            home.flush_soon(self)
        return True

    def close(self) -> None:
        """End it now; what is under way fails."""
        if self.streams:
            self._break("the pool is closed", ErrorCodes.NO_ERROR)
        else:
            self._end()

    def flush(self) -> None:
        """Write what was gathered."""
        data = self._h2.data_to_send()
        if data and self._direct:
            try:
                data = send_at_once(self.transport, data)
            except OSError:
                # The reactor will find out that the connection is gone.
                return
        self._flushed = self._next - 2
        if data:
            self.transport.write(data)
            if self._congested:
                # Requests are not begun now, and bodies wait: these are answers to what the server sends.
                self._unread += len(data)
                if self._unread > _UNREAD:
                    self.transport.abortConnection()

    # What the ticket calls

    def cancel(self, ticket: Ticket) -> None:
        """Nobody wants the answer."""
        if self.streams.get(ticket.stream) is ticket:
            self._forget(ticket.stream)
            self._reset(ticket.stream)
            self._settle()

    def hold(self, ticket: Ticket) -> None:
        """Its window is opened no further: `_on_data` looks."""

    def release(self, ticket: Ticket) -> None:
        """Open its window again."""
        if self.streams.get(ticket.stream) is ticket and ticket.consumed >= STREAM_WINDOW // 2:
            self._open_window(ticket)
            if not self._feeding:
                self._home.flush_soon(self)

    # What comes

    def _on_head(self, event: ResponseReceived) -> None:
        ticket = self.streams.get(event.stream_id)
        if ticket is None:
            return
        self._waiting.pop(event.stream_id, None)
        headers: Any = event.headers
        status = 0
        answered: list[tuple[bytes, bytes]] = []
        for name, value in headers:
            if name == b":status":
                status = int(value) if value.isdigit() else 0
            else:
                answered.append((name, value))
        if not 200 <= status <= 599:
            self._refuse(ticket, f"the answer has the status {status}, which is none")
            return
        receiver = ticket.receiver
        if receiver is not None:
            try:
                receiver.head(status, answered)
            except Exception:  # noqa: BLE001 - one caller's fault is not another's
                log.failure("a receiver failed at the head of its answer")
                self._refuse(ticket, "the receiver of the answer failed")

    def _on_data(self, event: DataReceived) -> None:
        size = event.flow_controlled_length
        self._consumed += size
        data = event.data
        if not data:
            self._spend(1)
        ticket = self.streams.get(event.stream_id)
        if ticket is None:
            return
        ticket.consumed += size
        receiver = ticket.receiver
        if data and receiver is not None:
            try:
                receiver.body(data)
            except Exception:  # noqa: BLE001 - as above
                log.failure("a receiver failed at a part of its answer")
                self._refuse(ticket, "the receiver of the answer failed")
                return
        goes_on = event.stream_ended is None and ticket.carrier is self
        if goes_on and not ticket.paused and ticket.consumed >= STREAM_WINDOW // 2:
            self._open_window(ticket)

    def _on_end(self, event: StreamEnded) -> None:
        ticket = self._forget(event.stream_id)
        if ticket is None:
            return
        if ticket.sent < len(ticket.request.body):
            self._reset(event.stream_id)
        ticket.finish()

    def _on_reset(self, event: StreamReset) -> None:
        self._spend(1)
        ticket = self._forget(event.stream_id)
        if ticket is None:
            return
        code = _name_of(event.error_code)
        unsent = event.error_code == ErrorCodes.REFUSED_STREAM
        error = WebError(f"{self._home.origin}: the server has reset the stream: {code}", unsent=unsent)
        if unsent:
            self._home.again(ticket, error)
        else:
            ticket.fail(error)

    def _on_settings(self, _event: RemoteSettingsChanged) -> None:
        self._greeted = True
        self._spend(1)
        taken = self._h2.remote_settings.max_concurrent_streams
        self._limit = min(taken, self._home.options.streams_per_connection)
        self._upload()

    def _on_window(self, _event: WindowUpdated) -> None:
        self._spend(1)
        if self._uploads:
            self._upload()

    def _on_goaway(self, event: ConnectionTerminated) -> None:
        self._spend(1)
        self._retire()
        last = event.last_stream_id
        if last is None:
            last = 0
        code = _name_of(event.error_code)
        said = (event.additional_data or b"")[:100].decode("ascii", "replace")
        words = f"{code}: {said}" if said else code
        origin = self._home.origin
        for stream in [number for number in self.streams if number > last]:
            ticket = self._forget(stream)
            if ticket is not None:
                # RFC 9113, 6.8: the server has not acted, nor will it.
                error = WebError(f"{origin}: the server takes no more requests: {words}", unsent=True)
                self._home.again(ticket, error)
        if event.error_code:
            self._ours = WebError(f"{origin}: the server has ended the connection: {words}")

    # What goes

    def _send(self, ticket: Ticket) -> None:
        """Send of a body what may be sent."""
        h2 = self._h2
        stream = ticket.stream
        body = ticket.request.body
        size = len(body)
        while ticket.sent < size and not self._congested:
            room = min(h2.room_of(stream), h2.max_outbound_frame_size, size - ticket.sent)
            if room <= 0:
                break
            end = ticket.sent + room
            h2.send_data(stream, body if room == size else body[ticket.sent : end], end == size)
            ticket.sent = end
        if ticket.sent < size:
            self._uploads[stream] = None
        else:
            self._uploads.pop(stream, None)

    def _upload(self) -> None:
        """Send on of what waits for a window."""
        for stream in list(self._uploads):
            if self._congested or self._h2.outbound_flow_control_window <= 0:
                break
            ticket = self.streams[stream]
            before = ticket.sent
            self._send(ticket)
            if ticket.sent > before:
                self._earn()

    def _open_window(self, ticket: Ticket) -> None:
        consumed, ticket.consumed = ticket.consumed, 0
        try:
            self._h2.increment_flow_control_window(consumed, ticket.stream)
        except ProtocolError:
            # The stream has ended in what was received together with this.
            return

    def _reset(self, stream: int) -> None:
        try:
            self._h2.reset_stream(stream, ErrorCodes.CANCEL)
        except ProtocolError:
            # It has ended by itself, in what was received together with this.
            return
        if not self._feeding:
            self._home.flush_soon(self)

    # Against a server that keeps us busy with nothing

    def _spend(self, frames: int) -> None:
        self._credit -= frames
        if self._credit < 0:
            now = self._home.seconds()
            self._credit = min(_CREDIT, self._credit + (now - self._refilled) * _REFILL)
            self._refilled = now
            if self._credit < 0:
                raise ProtocolError("it sends frame after frame that is for no request")

    def _earn(self) -> None:
        if self._credit < _CREDIT:
            self._credit += _PER_REQUEST

    # The end

    def _forget(self, stream: int) -> Ticket | None:
        """A stream has ended: whose it was."""
        ticket = self.streams.pop(stream, None)
        self._waiting.pop(stream, None)
        self._uploads.pop(stream, None)
        if ticket is not None:
            ticket.carrier = None
            self._since = self._home.seconds()
        return ticket

    def _refuse(self, ticket: Ticket, fault: str) -> None:
        """The answer is not one."""
        self._forget(ticket.stream)
        self._reset(ticket.stream)
        ticket.fail(WebError(f"{self._home.origin}: {fault}"))

    def _settle(self) -> None:
        """A stream has ended outside of what was received."""
        if self._feeding:
            return
        if self._open:
            self._home.freed(self)
        elif not self.streams:
            self._end()

    def _retire(self) -> None:
        """Begin nothing more."""
        if self._open:
            self._open = False
            self._home.closing(self)

    def _end(self) -> None:
        """Close it in order: nothing is under way."""
        self._retire()
        if self._h2.state_machine.state.name != "CLOSED":
            self._h2.close_connection()
        self.flush()
        self.transport.unregisterProducer()
        self.transport.loseConnection()
        self._wake_in(CLOSING_TIME)

    def _break(self, fault: str, code: ErrorCodes = ErrorCodes.PROTOCOL_ERROR) -> None:
        """End it for what the server did, or did not do."""
        self._retire()
        self._ours = WebError(f"{self._home.origin}: {fault}")
        if self._h2.state_machine.state.name != "CLOSED":
            self._h2.close_connection(code)
        self.flush()
        self.transport.abortConnection()
        self._drop(self._ours)

    def _drop(self, error: WebError) -> None:
        """Nothing that is under way will be answered."""
        unsent = WebError(str(error), unsent=True)
        for stream in list(self.streams):
            ticket = self._forget(stream)
            if ticket is None:
                continue
            if stream > self._flushed:
                self._home.again(ticket, unsent)
            else:
                ticket.fail(error)

    # Time

    def _wake(self) -> None:
        """Wake when the first of what is waited for may be overdue."""
        options = self._home.options
        now = self._home.seconds()
        if not self.streams:
            due = self._since + options.idle
        else:
            due = self._heard + options.ping
            for stream in self._waiting:
                due = min(due, self.streams[stream].since + options.response_head_timeout)
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
        options = self._home.options
        now = self._home.seconds()
        if not self._open and not self.streams:
            self.transport.abortConnection()
            return
        while self._waiting:
            ticket = self.streams[next(iter(self._waiting))]
            if now - ticket.since < options.response_head_timeout:
                break
            self._refuse(ticket, f"no answer within {options.response_head_timeout:g} s")
        if self.streams:
            silent = now - self._heard
            if silent >= 2 * options.ping and self._pinged:
                self._break(f"nothing was heard for {silent:g} s, not even the answer to a PING")
                return
            if silent >= options.ping and not self._pinged:
                self._pinged = True
                self._h2.ping(b"erlmcp\0\0")
                self._home.flush_soon(self)
        elif now - self._since >= options.idle:
            self._end()
            return
        self._settle()
        self._wake()


def _name_of(code: ErrorCodes | int | None) -> str:
    return code.name if isinstance(code, ErrorCodes) else f"error {code}"


_TAKES: Final[dict[type[Event], Any]] = {
    ResponseReceived: TwoConnection._on_head,  # noqa: SLF001 - its own
    DataReceived: TwoConnection._on_data,  # noqa: SLF001
    StreamEnded: TwoConnection._on_end,  # noqa: SLF001
    StreamReset: TwoConnection._on_reset,  # noqa: SLF001
    RemoteSettingsChanged: TwoConnection._on_settings,  # noqa: SLF001
    WindowUpdated: TwoConnection._on_window,  # noqa: SLF001
    ConnectionTerminated: TwoConnection._on_goaway,  # noqa: SLF001
}
