"""One request on a connection of HTTP/2, and its answer: the `Wire` of its exchange."""

from typing import Final, Protocol

from erlmcp.transports.http import _sse
from erlmcp.transports.http._exchange import Exchange

Pairs = list[tuple[bytes, bytes]]

_JSON: Final = (b"content-type", b"application/json")
_OK: Final = (b":status", b"200")
_NO_CONTENT: Final = 204
_NOTHING: Final = bytearray()  # never grows: what waits gets an array of its own


class Carrier(Protocol):
    """What a stream needs of its connection."""

    def head(self, stream: "Stream", headers: Pairs, *, last: bool) -> None:
        """Send the head of an answer."""

    def data(self, stream: "Stream", data: bytes, *, last: bool) -> None:
        """Send content, as soon as the client's windows allow."""

    def drop(self, stream: "Stream") -> None:
        """No answer will come."""

    def overflows(self, stream: "Stream") -> bool:
        """Whether the client has left so much unread that the stream was cut."""

    def is_congested(self, stream: "Stream") -> bool:
        """Whether the client reads too slowly."""

    @property
    def date(self) -> bytes:
        """What the field Date says now."""


class Stream:
    """A stream that a client has opened.

    Args:
        carrier: its connection.
        number: its identifier.
        exchange: what the channel will hold of it.
        now: the time, in seconds.

    Attributes:
        number, exchange: as above.
        since: when it was opened; once a stream of events has begun, when that last said something.
        body: what has come of the request's content.
        size: how many bytes that is.
        received: how many bytes of the window it has used and not been given back.
        complete: whether all of the request is there.
        waits: what waits to be sent.
        moved: when something of that was last sent.
        last: whether the answer ends with it.
    """

    __slots__ = (
        "_carrier",
        "body",
        "complete",
        "exchange",
        "last",
        "moved",
        "number",
        "received",
        "since",
        "size",
        "waits",
    )

    closes = False

    def __init__(self, carrier: Carrier, number: int, exchange: Exchange, now: float) -> None:
        self._carrier = carrier
        self.number = number
        self.exchange = exchange
        self.since = now
        self.body: bytes | bytearray = b""
        self.size = 0
        self.received = 0
        self.complete = False
        self.waits = _NOTHING
        self.moved = 0.0
        self.last = False

    def keep(self, part: bytes) -> None:
        """Keep a part of the request's content."""
        self.size += len(part)
        body = self.body
        if not body:
            self.body = part
        else:
            if isinstance(body, bytes):
                body = self.body = bytearray(body)
            body += part

    # What the exchange calls

    @property
    def congested(self) -> bool:
        """Whether the client reads too slowly."""
        return self._carrier.is_congested(self)

    def usual(self, message: bytes) -> None:
        """See `Wire`."""
        carrier = self._carrier
        length = (b"content-length", b"%d" % len(message))
        carrier.head(self, [_OK, (b"date", carrier.date), _JSON, length], last=False)
        carrier.data(self, message, last=True)

    def answer(self, exchange: Exchange, status: int, fields: bytes, body: bytes) -> None:
        """See `Wire`."""
        carrier = self._carrier
        headers = [(b":status", b"%d" % status), (b"date", carrier.date)]
        if body:
            headers.append(_JSON)
        headers += pairs(fields + exchange.cors)
        if status != _NO_CONTENT:
            headers.append((b"content-length", b"%d" % len(body)))
        last = exchange.bare or not body
        carrier.head(self, headers, last=last)
        if not last:
            carrier.data(self, body, last=True)

    def say(
        self, exchange: Exchange, data: bytes, fields: bytes = b"", *, owed: bool = False, last: bool = False
    ) -> None:
        """See `Wire`."""
        carrier = self._carrier
        if not exchange.begun:
            exchange.begun = True
            headers = [_OK, (b"date", carrier.date), *pairs(_sse.FIELDS + fields + exchange.cors)]
            carrier.head(self, headers, last=last and not data)
            if last and not data:
                return
        elif not owed and not last and carrier.overflows(self):
            return
        carrier.data(self, data, last=last)

    def cut(self, exchange: Exchange) -> None:
        """See `Wire`."""
        if exchange.begun:
            self._carrier.data(self, b"", last=True)
        else:
            self._carrier.drop(self)


def pairs(lines: bytes) -> Pairs:
    """Header lines, as HTTP/2 has them."""
    return [
        (name.lower(), value)
        for name, _, value in (line.partition(b": ") for line in lines.split(b"\r\n") if line)
    ]
