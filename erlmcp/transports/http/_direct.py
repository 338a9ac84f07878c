"""Sending at once what the kernel takes at once, and telling what it has not taken yet.

Twisted's ``write`` only remembers the bytes, asks epoll to say when the socket takes some, and sends them in the
reactor's next turn. For a short answer on a socket with nothing unsent that is a third of a request's whole cost.
"""

from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.tcp import Server


def sends_at_once(transport: Any) -> bool:
    """Whether `send_at_once` knows this transport: a plain TCP connection, nothing wrapped and nothing like one."""
    return type(transport) is Server


def send_at_once(transport: Any, data: bytes) -> bytes:
    """Send what can be sent now; gives what must still go through ``transport.write``, which is all of it on an error.

    The order of bytes is kept, since nothing is sent past bytes that wait.
    """
    waits = transport.dataBuffer or transport._tempDataLen  # noqa: SLF001 - Twisted has no public word for it
    if waits or transport.disconnecting or not transport.connected:
        return data
    try:
        sent: int = transport.socket.send(data)
    except OSError:
        # Full; or lost, which Twisted finds out by itself, outside of our callers.
        return data
    return b"" if sent == len(data) else data[sent:]


def waiting(transport: Any) -> int | None:
    """How many bytes wait in the descriptor, under TLS or a proxy's wrapper if need be; None if there is none."""
    while transport is not None and not isinstance(transport, FileDescriptor):
        transport = getattr(transport, "transport", None)
    if transport is None:
        return None
    left: int = len(transport.dataBuffer) - transport.offset + transport._tempDataLen  # noqa: SLF001 - as above
    return left
