"""The socket below a Twisted transport: sending at once what the kernel takes, and seeing whether the peer is gone.

Twisted's ``write`` only remembers the bytes and sends them in the reactor's next turn, so that nobody knows whether
any of them has left; and an end of stream that has arrived is not known before the reactor has read it.
"""

import socket
from typing import Any, Final

from twisted.internet.tcp import Client
from twisted.internet.unix import Client as UnixClient

_PEEK: Final = socket.MSG_PEEK | socket.MSG_DONTWAIT


def sends_at_once(transport: Any) -> bool:
    """Whether `send_at_once` knows this transport: a plain connection, nothing wrapped and nothing like one."""
    return type(transport) in (Client, UnixClient)


def send_at_once(transport: Any, data: bytes) -> bytes:
    """Send what can be sent now; gives what must still go through ``transport.write``.

    Raises:
        OSError: nothing of `data` has left, nor will it: the connection is gone.
    """
    if transport.disconnecting or not transport.connected:
        raise ConnectionError("the connection is closed")
    # Nothing is sent past bytes that wait.
    if transport.dataBuffer or transport._tempDataLen:  # noqa: SLF001 - Twisted has no public word for it
        return data
    try:
        sent: int = transport.socket.send(data)
    except (BlockingIOError, InterruptedError):
        return data
    return b"" if sent == len(data) else data[sent:]


def is_quiet(transport: Any) -> bool:
    """Whether nothing has arrived that is not read yet: neither bytes, nor the end, nor an error.

    True also where there is no socket to ask.
    """
    below = transport
    while below is not None and not hasattr(below, "socket"):
        below = getattr(below, "transport", None)
    if below is None:
        return True
    try:
        below.socket.recv(1, _PEEK)
    except (BlockingIOError, InterruptedError):
        return True
    except OSError:
        return False
    return False
