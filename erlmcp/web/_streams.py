"""The requests on one HTTP/2 connection, each on its stream: what comes for which, and what may go. No I/O.

Frames and their states are the h2 library's; the transport and the clock are `TwoConnection`'s.
"""

from typing import Any, Final, Protocol

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
from twisted.logger import Logger

from erlmcp.web._carrying import Connection, Home
from erlmcp.web._h2 import CONNECTION_WINDOW, STREAM_WINDOW, ClientConnection
from erlmcp.web._heads import fault_in_head, head_of_two, status_of
from erlmcp.web._ticket import Carrier, Ticket
from erlmcp.web._types import WebError

log = Logger()

_FIRST: Final = (
    100  # streams before the server has said how many it takes (RFC 9113, 6.5.2 recommends no less)
)
_LAST_ID: Final = 2**31 - 1
_CREDIT: Final = 1000.0  # frames that say nothing for a request: so many at once,
_REFILL: Final = 100.0  # so many more a second,
_PER_REQUEST: Final = 8.0  # and so many for each request or part of one that is sent


class Carrying(Connection, Carrier, Protocol):
    """The connection, for those who hold its requests."""


class Streams:
    """All streams of one connection.

    Args:
        home: to whom the requests belong.
        carrier: the connection.

    Attributes:
        tickets: the requests under way, by the number of their stream.
        unheaded: the streams whose answer has not begun, the one that waits longest first.
        limit: how many there may be at once.
        open: whether more may be begun.
        congested: whether the transport takes no more for now; whoever uses this keeps it right.
        feeding: whether what has come is being looked at, so that what is written waits for the end of that.
        greeted: whether the server has spoken HTTP/2.
        left: the last stream of which something has left.
        ended: when the last one ended.
        blame: why the server ends the connection, if it has said so.
    """

    __slots__ = (
        "_carrier",
        "_consumed",
        "_credit",
        "_h2",
        "_home",
        "_next",
        "_refilled",
        "_scheme",
        "_uploads",
        "blame",
        "congested",
        "ended",
        "feeding",
        "greeted",
        "left",
        "limit",
        "open",
        "tickets",
        "unheaded",
    )

    def __init__(self, home: Home, carrier: Carrying) -> None:
        self._home = home
        self._carrier = carrier
        self._h2 = ClientConnection(home.options.header_bytes)
        self._scheme = home.origin.scheme.encode("ascii")
        self._uploads: dict[int, None] = {}  # those whose body waits for the window, in order
        self._next = 1
        self._consumed = 0
        self._credit = _CREDIT
        self._refilled = home.seconds()
        self.tickets: dict[int, Ticket] = {}
        self.unheaded: dict[int, None] = {}
        self.limit = min(_FIRST, home.options.streams_per_connection)
        self.open = True
        self.congested = False
        self.feeding = False
        self.greeted = False
        self.left = 0
        self.ended = home.seconds()
        self.blame: WebError | None = None
        self._h2.begin()

    # What the connection calls

    def begin(self, ticket: Ticket) -> bool:
        """Send a request; False if it cannot be, and nothing of it was written."""
        home = self._home
        h2 = self._h2
        request = ticket.request
        stream = self._next
        h2.live = len(self.tickets)
        fields, fleeting, length = head_of_two(request, self._scheme, home.authority)
        block = h2.packer.pack(fields, fleeting, length)
        try:
            ticket.sent = h2.request(stream, request.method, block, request.body)
        except ProtocolError:
            self._retire()
            return False
        self._next = stream + 2
        self.tickets[stream] = ticket
        self.unheaded[stream] = None
        ticket.carrier = self._carrier
        ticket.stream = stream
        ticket.since = home.seconds()
        ticket.consumed = 0
        self._earn()
        if ticket.sent < len(request.body):
            self._send(ticket)
        if self._next > _LAST_ID:
            self._retire()
        return True

    def cancel(self, ticket: Ticket) -> bool:
        """Nobody wants the answer; whether it was still to come."""
        stream = ticket.stream
        if self.tickets.get(stream) is not ticket:
            return False
        self._forget(stream)
        self._reset(stream)
        return True

    def reopen(self, ticket: Ticket) -> bool:
        """Its receiver takes more again; whether there is something to write for that."""
        if self.tickets.get(ticket.stream) is ticket and ticket.consumed >= STREAM_WINDOW // 2:
            self._open_window(ticket)
            return True
        return False

    def refuse(self, ticket: Ticket, fault: str) -> None:
        """The answer is not one, or does not come."""
        self._forget(ticket.stream)
        self._reset(ticket.stream)
        ticket.fail(WebError(f"{self._home.origin}: {fault}"))

    def feed(self, data: bytes) -> None:
        """Some bytes of some frames.

        Raises:
            ProtocolError: the server breaks the rules, or keeps us busy with nothing.
        """
        self.feeding = True
        try:
            self._h2.take(data, self)
            if self._consumed >= CONNECTION_WINDOW // 4 and not self.closed:
                consumed, self._consumed = self._consumed, 0
                self._h2.increment_flow_control_window(consumed)
        finally:
            self.feeding = False

    def upload(self) -> None:
        """Send on of the bodies that wait for a window."""
        for stream in list(self._uploads):
            if self.congested or self._h2.outbound_flow_control_window <= 0:
                break
            ticket = self.tickets[stream]
            before = ticket.sent
            self._send(ticket)
            if ticket.sent > before:
                self._earn()

    def ping(self) -> None:
        """Ask whether the server is there."""
        self._h2.ping(b"erlmcp\0\0")

    def take(self) -> bytes:
        """What is to be written."""
        return self._h2.data_to_send()

    def written(self) -> None:
        """What was taken has gone to the transport."""
        self.left = self._next - 2

    @property
    def closed(self) -> bool:
        """Whether GOAWAY was said: no frame may follow it."""
        return self._h2.state_machine.state.name == "CLOSED"

    def close(self, code: ErrorCodes = ErrorCodes.NO_ERROR) -> None:
        """Say that it is over."""
        self._retire()
        if not self.closed:
            self._h2.close_connection(code)

    def drop(self, error: WebError) -> None:
        """Nothing that is under way will be answered."""
        self.open = False
        for stream in list(self.tickets):
            self._fail(stream, error, unsent=stream > self.left)

    # What comes

    def on_event(self, event: Event) -> None:
        """See `Sink`: what h2 makes of a frame."""
        take = _TAKES.get(type(event))
        if take is not None:
            take(self, event)
        else:
            self._spend()

    def on_head(self, stream: int, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """See `Sink`."""
        self.unheaded.pop(stream, None)
        ticket = self.tickets.get(stream)
        receiver = None if ticket is None else ticket.receiver
        if ticket is not None and receiver is not None:
            try:
                receiver.head(status, headers)
            except Exception:  # noqa: BLE001 - one caller's fault is not another's
                log.failure("a receiver failed at the head of its answer")
                self.refuse(ticket, "the receiver of the answer failed")

    def on_data(self, stream: int, data: bytes, size: int) -> None:
        """See `Sink`."""
        self._consumed += size
        if not data:
            self._spend()
        ticket = self.tickets.get(stream)
        if ticket is None:
            return
        ticket.consumed += size
        receiver = ticket.receiver
        if data and receiver is not None:
            try:
                receiver.body(data)
            except Exception:  # noqa: BLE001 - as above
                log.failure("a receiver failed at a part of its answer")
                self.refuse(ticket, "the receiver of the answer failed")
                return
        if ticket.consumed >= STREAM_WINDOW // 2 and not ticket.paused and ticket.receiver is not None:
            self._open_window(ticket)

    def on_end(self, stream: int) -> None:
        """See `Sink`."""
        ticket = self._forget(stream)
        if ticket is None:
            return
        if ticket.sent < len(ticket.request.body):
            self._reset(stream)
        ticket.finish()

    def _on_head(self, event: ResponseReceived) -> None:
        ticket = self.tickets.get(event.stream_id)
        if ticket is None:
            return
        headers: Any = event.headers
        fault = fault_in_head(headers)
        status = status_of(headers)
        if fault is None and status is None:
            value = headers[0][1] if headers else b""
            fault = f"the answer has no status, or one that is none: {value[:10]!r}"
        if fault is not None or status is None:
            self.refuse(ticket, fault or "")
            return
        self.on_head(event.stream_id, status, headers[1:])

    def _on_data(self, event: DataReceived) -> None:
        self.on_data(event.stream_id, event.data or b"", event.flow_controlled_length or 0)

    def _on_end(self, event: StreamEnded) -> None:
        self.on_end(event.stream_id)

    def _on_reset(self, event: StreamReset) -> None:
        self._spend()
        error = WebError(
            f"{self._home.origin}: the server has reset the stream: {_name_of(event.error_code)}"
        )
        # RFC 9113, 8.7: no processing has occurred.
        self._fail(event.stream_id, error, unsent=event.error_code == ErrorCodes.REFUSED_STREAM)

    def _on_settings(self, _event: RemoteSettingsChanged) -> None:
        self.greeted = True
        self._spend()
        taken = self._h2.remote_settings.max_concurrent_streams
        self.limit = min(taken, self._home.options.streams_per_connection)
        self.upload()

    def _on_window(self, _event: WindowUpdated) -> None:
        self._spend()
        if self._uploads:
            self.upload()

    def _on_goaway(self, event: ConnectionTerminated) -> None:
        self._spend()
        self._retire()
        last = event.last_stream_id or 0
        code = _name_of(event.error_code)
        said = (event.additional_data or b"")[:100].decode("ascii", "replace")
        words = f"{code}: {said!r}" if said else code
        origin = self._home.origin
        if event.error_code:
            self.blame = WebError(f"{origin}: the server has ended the connection: {words}")
        error = WebError(f"{origin}: the server takes no more requests: {words}")
        for stream in [number for number in self.tickets if number > last]:
            # RFC 9113, 6.8: the server has not acted, nor will it.
            self._fail(stream, error, unsent=True)

    # What goes

    def _send(self, ticket: Ticket) -> None:
        """Send of a body what may be sent."""
        h2 = self._h2
        stream = ticket.stream
        body = ticket.request.body
        size = len(body)
        while ticket.sent < size and not self.congested:
            room = min(h2.room_of(stream), h2.max_outbound_frame_size, size - ticket.sent)
            if room <= 0:
                break
            end = ticket.sent + room
            h2.send_data(stream, body[ticket.sent : end], end == size)
            ticket.sent = end
        if ticket.sent < size:
            self._uploads[stream] = None
        else:
            self._uploads.pop(stream, None)

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
            # It has ended by itself, in what was received together with this; or the connection has.
            return

    def _fail(self, stream: int, error: WebError, *, unsent: bool) -> None:
        """A stream has ended without its answer; `unsent`: the server says that it has not acted."""
        # A server that has begun to answer has acted, whatever it says then.
        unsent = unsent and stream in self.unheaded
        ticket = self._forget(stream)
        if ticket is None:
            return
        if unsent:
            self._home.again(ticket, WebError(str(error), unsent=True))
        else:
            ticket.fail(error)

    def _forget(self, stream: int) -> Ticket | None:
        """A stream has ended: whose it was."""
        ticket = self.tickets.pop(stream, None)
        self.unheaded.pop(stream, None)
        self._uploads.pop(stream, None)
        if ticket is not None:
            ticket.carrier = None
            self.ended = self._home.seconds()
        return ticket

    def _retire(self) -> None:
        """Begin nothing more."""
        if self.open:
            self.open = False
            self._home.closing(self._carrier)

    # Against a server that keeps us busy with nothing

    def _spend(self) -> None:
        self._credit -= 1
        if self._credit < 0:
            now = self._home.seconds()
            self._credit = min(_CREDIT, (now - self._refilled) * _REFILL)
            self._refilled = now
            if self._credit < 1:
                raise ProtocolError("it sends frame after frame that is for no request")

    def _earn(self) -> None:
        if self._credit < _CREDIT:
            self._credit += _PER_REQUEST


def _name_of(code: ErrorCodes | int | None) -> str:
    return code.name if isinstance(code, ErrorCodes) else f"error {code}"


_TAKES: Final[dict[type[Event], Any]] = {
    ResponseReceived: Streams._on_head,  # noqa: SLF001 - its own
    DataReceived: Streams._on_data,  # noqa: SLF001 - as above
    StreamEnded: Streams._on_end,  # noqa: SLF001 - as above
    StreamReset: Streams._on_reset,  # noqa: SLF001 - as above
    RemoteSettingsChanged: Streams._on_settings,  # noqa: SLF001 - as above
    WindowUpdated: Streams._on_window,  # noqa: SLF001 - as above
    ConnectionTerminated: Streams._on_goaway,  # noqa: SLF001 - as above
}
