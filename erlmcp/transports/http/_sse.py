"""Server-sent events, and the chunks that carry them. Pure.

Source: WHATWG HTML, 9.2 Server-sent events; revision 2026-07-28, streamable-http, Receiving Messages.
"""

from typing import Final

COMMENT: Final = b":\n\n"
"""What a quiet stream says to stay open; a line that begins with a colon carries nothing."""

LAST_CHUNK: Final = b"0\r\n\r\n"

FIELDS: Final = (
    b"Content-Type: text/event-stream\r\nCache-Control: no-store, no-transform\r\nX-Accel-Buffering: no\r\n"
)
CHUNKED: Final = b"Transfer-Encoding: chunked\r\n"


def event(message: bytes, fields: bytes = b"") -> bytes:
    """One event that carries `message`; line breaks in it, which JSON allows between tokens, become lines of data.

    `fields` are further lines of it, each with its newline.
    """
    if 0x0A in message or 0x0D in message:
        message = b"\ndata: ".join(message.splitlines())
    return b"%bdata: %b\n\n" % (fields, message)


def id_field(event: str) -> bytes:
    """The line that gives an event an id; a client that comes back says the last one in ``Last-Event-ID``."""
    return b"id: %b\n" % event.encode()


def priming(event: str, retry: int) -> bytes:
    """An event with an id and without data, and the milliseconds to wait before coming back (2025-11-25)."""
    return b"id: %b\nretry: %d\ndata: \n\n" % (event.encode(), retry)


def chunk(data: bytes) -> bytes:
    """One chunk of a body of unknown length (RFC 9112, 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)
