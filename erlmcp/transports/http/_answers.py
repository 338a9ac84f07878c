"""Bytes of HTTP answers, and the refusals that the transport gives by itself. Pure.

What an answer means is decided elsewhere (`_head`, the channel); here it only gets its form.
"""

from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

import msgspec

from erlmcp.transports.http._sse import CHUNKED, FIELDS

JSON: Final = b"Content-Type: application/json\r\n"
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client that speaks HTTP/2 says first (RFC 9113, 3.4)."""

_INVALID_REQUEST: Final = -32600
_LINES: Final = {
    status.value: b"HTTP/1.1 %d %s\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus
}


class Refusal(msgspec.Struct, frozen=True):
    """Why a request does not reach the channel.

    Attributes:
        status: the HTTP status.
        message: what is wrong and what would be right, for the JSON-RPC error in the body; empty for no body.
        fields: further header lines, each ended by CR LF.
        close: whether the connection ends with it, because what follows on it cannot be trusted or is not wanted.
    """

    status: int
    message: str
    fields: bytes = b""
    close: bool = False

    @property
    def body(self) -> bytes:
        """A JSON-RPC error response without an id (revision 2026-07-28, streamable-http, Security & Endpoint)."""
        if not self.message:
            return b""
        error = {"code": _INVALID_REQUEST, "message": self.message}
        return msgspec.json.encode({"jsonrpc": "2.0", "error": error})


def status_line(status: int) -> bytes:
    """The status line of an answer; a status that has no name is sent without one."""
    return _LINES.get(status) or b"HTTP/1.1 %d \r\n" % status


def connection_field(*, close: bool, legacy: bool) -> bytes:
    """The ``Connection`` line where one is due: HTTP/1.1 goes on by default, HTTP/1.0 (`legacy`) ends by default."""
    if close:
        return b"Connection: close\r\n"
    return b"Connection: keep-alive\r\n" if legacy else b""


def field_lines(headers: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """Header fields as lines."""
    return b"".join([b"%b: %b\r\n" % field for field in headers])


def answer(status: int, date: bytes, fields: bytes, body: bytes, *, bare: bool = False) -> bytes:
    """A whole answer.

    Args:
        status: the HTTP status.
        date: the ``Date`` line.
        fields: all other header lines but Content-Length.
        body: the content.
        bare: leave the content out but say its length, as an answer to HEAD must.
    """
    # RFC 9110, 8.6: an answer with status 204 has no Content-Length.
    length = b"" if status == HTTPStatus.NO_CONTENT else b"Content-Length: %d\r\n" % len(body)
    return b"".join((status_line(status), date, fields, length, b"\r\n", b"" if bare else body))


def stream_head(date: bytes, fields: bytes, *, close: bool, legacy: bool) -> bytes:
    """The head of an answer that is an event stream: in chunks, or for HTTP/1.0 up to the connection's end."""
    ending = b"" if legacy else CHUNKED
    ending += connection_field(close=close, legacy=False)
    return b"".join((status_line(HTTPStatus.OK), date, FIELDS, fields, ending, b"\r\n"))


class Stamp:
    """The Date line (RFC 9110, 6.6.1) and, with it, the head of a plain answer; both are made once a second.

    Args:
        wall: seconds since the epoch, such as `time.time`.
    """

    __slots__ = ("_date", "_prefix", "_second", "_wall")

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._second = -1
        self._date = self._prefix = b""

    def date(self) -> bytes:
        """The Date line."""
        self.prefix()
        return self._date

    def prefix(self) -> bytes:
        """The head of a 200 answer with JSON, up to the digits of Content-Length."""
        second = int(self._wall())
        if second != self._second:
            self._second = second
            self._date = b"Date: %b\r\n" % formatdate(second, usegmt=True).encode()
            self._prefix = b"".join((status_line(HTTPStatus.OK), self._date, JSON, b"Content-Length: "))
        return self._prefix
