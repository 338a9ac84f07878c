"""One request and its answer: what the channel holds of an HTTP request."""

from collections.abc import Mapping
from typing import Any, Protocol

from zope.interface import implementer

from erlmcp.interfaces import IExchange, Peer
from erlmcp.transports.http import _sse
from erlmcp.transports.http._answers import Refusal, field_lines
from erlmcp.transports.http._head import ACCEPTS_BOTH, ACCEPTS_JSON, ACCEPTS_STREAM, Purpose

_NOBODY = Peer(transport="http")
_OK = 200
_ACCEPTED = 202
_MESSAGE: Purpose = Purpose.MESSAGE


class Wire(Protocol):
    """What an exchange needs of its connection, or of its stream on one: how answers are written is theirs."""

    @property
    def congested(self) -> bool:
        """Whether the peer reads too slowly."""

    @property
    def closes(self) -> bool:
        """Whether the answer under way is the last one, and has to say so."""

    def usual(self, message: bytes) -> None:
        """Answer 200 with JSON and nothing else to say, on a connection that goes on."""

    def answer(self, exchange: "Exchange", status: int, fields: bytes, body: bytes) -> None:
        """Answer as a whole. `fields` are header lines; what depends on the connection is added."""

    def say(
        self,
        exchange: "Exchange",
        data: bytes,
        fields: bytes = b"",
        *,
        owed: bool = False,
        last: bool = False,
    ) -> None:
        """Write some of an event stream; its head, with `fields`, goes before if it has not begun.

        What is owed does not cut a peer that reads slowly. The last of it ends the stream.
        """

    def cut(self, exchange: "Exchange") -> None:
        """End what has begun, or say in this protocol's way that no answer will come."""


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
        admits: what the client accepts, of `ACCEPTS_BOTH`.
        body: the message, as it came in.
        begun: whether a stream has begun.
        refusal: why the request does not get to the channel, if it does not.
        inflates: whether the body is gzip.
        keep: whether the connection goes on after the answer (HTTP/1.1).
        legacy: whether the client speaks HTTP/1.0.
        bare: whether the answer has no content (to HEAD).
        cors: header lines that every answer to this request carries.
        plain: whether the usual answer is all that it takes: a connection that goes on, JSON, no CORS.
    """

    __slots__ = (
        "_wire",
        "admits",
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
        self.admits = ACCEPTS_BOTH
        self.begun = False
        self.plain = keep and not legacy
        self._wire: Wire | None = None

    @property
    def congested(self) -> bool:
        """Whether the peer reads too slowly, or is gone."""
        return self._wire is None or self._wire.congested

    @property
    def attached(self) -> bool:
        """Whether somebody still waits for what the channel says."""
        return self._wire is not None

    def admit(self, admits: int, cors: bytes) -> None:
        """Set what the client accepts, and the header lines of CORS, where it is not the usual."""
        self.admits = admits
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
            wire.say(self, _sse.event(message) if message else b"", last=True)
        elif self.plain and status == _OK and not headers and not wire.closes:
            wire.usual(message)
        elif status == _OK and self.admits == ACCEPTS_STREAM and message:
            wire.say(self, _sse.event(message), field_lines(headers), last=True)
        else:
            wire.answer(self, status, field_lines(headers), message)

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
        wire.say(self, b"", last=True)

    def accept(self) -> None:
        """A notification was taken: 202 without content (revision 2026-07-28, streamable-http, Sending Messages)."""
        wire, self._wire = self._wire, None
        if wire is not None:
            if self.begun:
                wire.say(self, b"", last=True)
            else:
                wire.answer(self, _ACCEPTED, b"", b"")

    def abandon(self) -> None:
        """No answer will come. HTTP/1.1 has no other word for that than the end of the connection."""
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.cut(self)

    def decline(self, refusal: Refusal) -> None:
        """Answer a request that the channel never sees, now that its turn has come."""
        if self._wire is not None:
            self.refuse(self._wire, refusal)

    def refuse(self, wire: Wire, refusal: Refusal) -> None:
        """Answer a request that the channel never sees."""
        self._wire = None
        self.keep = self.keep and not refusal.close
        wire.answer(self, refusal.status, refusal.fields, refusal.body)

    def _say(self, data: bytes, *, owed: bool = False) -> None:
        wire = self._wire
        if wire is not None and self.streaming:
            wire.say(self, data, owed=owed)
