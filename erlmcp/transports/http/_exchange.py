"""One request and its answer: what the channel holds of an HTTP request."""

from collections.abc import Mapping
from typing import Any, Protocol

from zope.interface import implementer

from erlmcp.interfaces import IExchange, Peer
from erlmcp.transports.http import _sse
from erlmcp.transports.http._answers import (
    JSON,
    Refusal,
    Stamp,
    answer,
    connection_field,
    field_lines,
    status_line,
)
from erlmcp.transports.http._head import ACCEPTS_BOTH, ACCEPTS_JSON, ACCEPTS_STREAM, Purpose

_NOBODY = Peer(transport="http")
_OK = 200
_ACCEPTED = 202
_MESSAGE: Purpose = Purpose.MESSAGE


class Wire(Protocol):
    """What an exchange needs of its connection."""

    @property
    def congested(self) -> bool:
        """Whether the peer reads too slowly."""

    @property
    def closes(self) -> bool:
        """Whether the answer under way is the last one."""

    def settle(self, data: bytes, *, close: bool) -> None:
        """Write the last bytes of the answer under way, and go on to the next request, or close."""

    def stream(self, data: bytes, *, owed: bool = False) -> None:
        """Write some bytes of the answer under way. What is owed does not cut a peer that reads slowly."""

    @property
    def stamp(self) -> Stamp:
        """Makes the Date line."""


@implementer(IExchange)
class Exchange:
    """The way back for one request.

    It is made when the request's head is complete and attached to its connection when its turn has come. Settled, or
    with the connection gone, it is detached: whatever the channel still does with it then is dropped.

    Attributes:
        peer: where the request came from.
        headers: its header fields.
        calls, session: the channel's.
        streaming: whether the client takes an event stream.
        purpose: what it is for.
        body: the message, as it came in.
        begun: whether a stream has begun.
        refusal: why the request does not get to the channel, if it does not.
        inflates: whether the body is gzip.
        keep: whether the connection goes on after the answer.
        legacy: whether the client speaks HTTP/1.0.
        bare: whether the answer has no content (to HEAD).
        cors: header lines that every answer to this request carries.
        plain: whether the usual answer is all that it takes: HTTP/1.1 that goes on, JSON, no CORS.
    """

    __slots__ = (
        "_admits",
        "_wire",
        "bare",
        "begun",
        "body",
        "calls",
        "cors",
        "headers",
        "inflates",
        "keep",
        "legacy",
        "peer",
        "plain",
        "purpose",
        "refusal",
        "session",
        "streaming",
    )

    def __init__(
        self, headers: Mapping[bytes, bytes] | None, *, keep: bool = True, legacy: bool = False
    ) -> None:
        self.peer = _NOBODY
        self.headers = headers
        self.calls: dict[int | str, Any] = {}
        self.session: Any = None
        self.purpose = _MESSAGE
        self.streaming = True
        self.body = b""
        self.refusal: Refusal | None = None
        self.inflates = False
        self.keep = keep
        self.legacy = legacy
        self.bare = False
        self.cors = b""
        self._admits = ACCEPTS_BOTH
        self.begun = False
        self.plain = keep and not legacy
        self._wire: Wire | None = None

    @property
    def congested(self) -> bool:
        """Whether the peer reads too slowly, or is gone."""
        return self._wire is None or self._wire.congested

    def admit(self, admits: int, cors: bytes) -> None:
        """Set what the client accepts, and the header lines of CORS, where it is not the usual."""
        self._admits = admits
        self.streaming = admits & ACCEPTS_STREAM != 0
        self.cors = cors
        self.plain = self.plain and admits & ACCEPTS_JSON != 0 and not cors and self.purpose is _MESSAGE

    def attach(self, wire: Wire, peer: Peer) -> None:
        """Begin: from now on the channel's answers go to this connection."""
        self._wire = wire
        self.peer = peer

    def detach(self) -> None:
        """The connection is gone."""
        self._wire = None

    def reply(self, message: bytes, status: int = 200, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        """Answer; on a stream that has begun, with its last event."""
        wire, self._wire = self._wire, None
        if wire is None:
            return
        if self.begun:
            last = self._framed(_sse.event(message)) if message else b""
            wire.settle(last + self._end(), close=self._closes(wire))
        elif self.plain and status == _OK and not headers and not wire.closes:
            wire.settle(b"%b%d\r\n\r\n%b" % (wire.stamp.prefix(), len(message), message), close=False)
        elif status == _OK and self._admits == ACCEPTS_STREAM and message:
            data = self._stream_head(wire, headers) + self._framed(_sse.event(message)) + self._end()
            wire.settle(data, close=self._closes(wire))
        else:
            self._answer(wire, status, field_lines(headers), message)

    def notify(self, message: bytes, event: str = "") -> None:
        """Send an event before the answer. A client that takes JSON alone gets none."""
        self._say(_sse.event(message, _sse.id_field(event)) if event else _sse.event(message))

    def prime(self, event: str, retry: int) -> None:
        """See `IExchange`. A client that takes JSON alone gets nothing."""
        self._say(_sse.priming(event, retry))

    def begin(self) -> None:
        """Begin the stream with its head alone: the client learns that it is there, before it has anything to say."""
        if not self.begun:
            self._say(b"")

    def leave(self) -> None:
        """See `IExchange`. A stream that has not begun is sent empty; where none can be, this is `abandon`."""
        wire = self._wire
        if wire is None or not self.streaming:
            self.abandon()
            return
        self._wire = None
        head = b"" if self.begun else self._stream_head(wire, ())
        self.begun = True
        wire.settle(head + self._end(), close=self._closes(wire))

    def accept(self) -> None:
        """A notification was taken: 202 without content (revision 2026-07-28, streamable-http, Sending Messages)."""
        wire, self._wire = self._wire, None
        if wire is not None:
            if self.begun:
                wire.settle(self._end(), close=self._closes(wire))
            else:
                self._answer(wire, _ACCEPTED, b"", b"")

    def abandon(self) -> None:
        """No answer will come. HTTP has no other word for that than the end of the connection."""
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.settle(self._end() if self.begun else b"", close=True)

    def decline(self, refusal: Refusal) -> None:
        """Answer a request that the channel never sees, now that its turn has come."""
        if self._wire is not None:
            self.refuse(self._wire, refusal)

    def refuse(self, wire: Wire, refusal: Refusal) -> None:
        """Answer a request that the channel never sees."""
        self._wire = None
        self.keep = self.keep and not refusal.close
        self._answer(wire, refusal.status, refusal.fields, refusal.body)

    def heartbeat(self) -> bytes:
        """What to say on a stream with nothing to say; empty where no stream has begun."""
        return self._framed(_sse.COMMENT) if self.begun else b""

    def _say(self, data: bytes, *, owed: bool = False) -> None:
        wire = self._wire
        if wire is None or not self.streaming:
            return
        if data:
            data = self._framed(data)
        if not self.begun:
            data = self._stream_head(wire, ()) + data
            self.begun = True
        wire.stream(data, owed=owed)

    def _closes(self, wire: Wire) -> bool:
        # HTTP/1.0 has no chunks: there the end of a stream is the end of the connection.
        return (
            wire.closes or not self.keep or (self.legacy and (self.begun or self._admits == ACCEPTS_STREAM))
        )

    def _answer(self, wire: Wire, status: int, fields: bytes, body: bytes) -> None:
        close = wire.closes or not self.keep
        lines = b"".join(
            (JSON if body else b"", fields, self.cors, connection_field(close=close, legacy=self.legacy))
        )
        wire.settle(answer(status, wire.stamp.date(), lines, body, bare=self.bare), close=close)

    def _stream_head(self, wire: Wire, headers: tuple[tuple[bytes, bytes], ...]) -> bytes:
        ending = b"Connection: close\r\n" if self.legacy else _sse.CHUNKED
        if not self.legacy:
            ending += connection_field(close=wire.closes or not self.keep, legacy=False)
        return b"".join(
            (
                status_line(_OK),
                wire.stamp.date(),
                _sse.FIELDS,
                field_lines(headers),
                self.cors,
                ending,
                b"\r\n",
            )
        )

    def _framed(self, data: bytes) -> bytes:
        return data if self.legacy else _sse.chunk(data)

    def _end(self) -> bytes:
        return b"" if self.legacy else _sse.LAST_CHUNK
