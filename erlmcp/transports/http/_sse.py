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


def event(message: bytes) -> bytes:
    """One event that carries `message`; line breaks in it, which JSON allows between tokens, become lines of data."""
    if b"\n" in message or b"\r" in message:
        message = b"\ndata: ".join(message.splitlines())
    return b"data: %b\n\n" % message


def chunk(data: bytes) -> bytes:
    """One chunk of a body of unknown length (RFC 9112, 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)
