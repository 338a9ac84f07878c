"""What a connection has written and its peer has not yet taken: counted, bounded, handed on in pieces.

A Twisted transport buffers without end and says only "full" and "empty" to its producer. Here the bytes past
"full" wait in a queue of our own, so that their number is known while the peer reads slowly. Where the transport is a
plain socket, what fits into it is sent at once: that spares a turn of the reactor, and system calls for each answer.
"""

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import ISSLTransport
from twisted.internet.tcp import Connection

# Handed to a transport at once: more than Twisted's own mark for "full" (64 KiB), so that it says so again.
PIECE = 128 * 1024


class Outgoing:
    """The writing half of a connection; a producer to its transport.

    Attributes:
        transport: the Twisted transport; to be set before `begin`.
    """

    __slots__ = ("_choked", "_closed", "_direct", "_handed", "_leaving", "_queue", "_queued", "transport")

    def __init__(self) -> None:
        self.transport: Any = None
        self._direct: Callable[[bytes], int] | None = None
        self._choked = False
        self._closed = False  # nothing more is sent
        self._leaving = False  # the transport is to be closed once all has been handed on
        self._handed = 0
        self._queue: deque[bytes] | None = None
        self._queued = 0

    def begin(self, direct: Callable[[bytes], int] | None = None) -> None:
        """Begin to use the transport.

        Args:
            direct: writes what fits without blocking and returns how much did; None finds out.
        """
        self._direct = _socket(self.transport) if direct is None else direct
        if self._direct is None:
            self.transport.registerProducer(self, streaming=True)

    @property
    def unsent(self) -> int:
        """Bytes that the peer has not taken, at most: zero while it keeps up."""
        return self._handed + self._queued if self._choked else 0

    def send(self, data: bytes) -> None:
        """Write, or queue behind what the peer has not taken yet. Once closed, drop."""
        if self._closed:
            return
        if self._choked:
            self._enqueue(data)
        elif self._direct is None:
            self._handed = len(data)
            self.transport.write(data)
        else:
            try:
                sent = self._direct(data)
            except OSError:
                # Full; or broken, which the transport will find out as it tries.
                sent = 0
            if sent < len(data):
                self._choked = True
                self._enqueue(data[sent:])
                # As a pull producer we are asked at once, and whenever the transport has nothing left.
                self.transport.registerProducer(self, streaming=False)

    def drained(self) -> None:
        """The peer has taken something. For a subclass to act upon."""

    def lose(self) -> None:
        """Close once all that was sent has been handed on; calling again changes nothing."""
        if not self._closed:
            self._closed = self._leaving = True
            if not self._choked:
                self._leave()

    def cut(self) -> None:
        """Close now, whatever is under way or not yet written."""
        self.stopProducing()
        self.transport.abortConnection()

    def pauseProducing(self) -> None:
        """Hear from the transport that its buffer is full."""
        self._choked = True

    def resumeProducing(self) -> None:
        """Hear from the transport that its buffer is empty: hand on the next piece."""
        progress = self._handed > 0
        self._handed = 0
        if self._direct is None:
            self._choked = False
            while self._queue and not self._choked:
                self._hand_on(self._queue)
        elif self._queue:
            self._hand_on(self._queue)
        elif self._choked:
            self._choked = False
            self.transport.unregisterProducer()
        if not self._queue:
            self._queue = None
        if progress:
            self.drained()
        if self._leaving and not self._choked:
            self._leave()

    def stopProducing(self) -> None:
        """Hear from the transport that it is gone; what waits is of no use."""
        self._closed = True
        self._leaving = False
        self._queue = None
        self._queued = 0

    def _enqueue(self, data: bytes) -> None:
        if self._queue is None:
            self._queue = deque()
        self._queue.append(data)
        self._queued += len(data)

    def _hand_on(self, queue: deque[bytes]) -> None:
        piece: list[bytes] = []
        size = 0
        while queue and size < PIECE:
            part = queue.popleft()
            piece.append(part)
            size += len(part)
        self._queued -= size
        self._handed = size
        self.transport.write(b"".join(piece))

    def _leave(self) -> None:
        self._leaving = False
        if self._direct is None:
            # A transport that has a producer waits for it before it closes; and TLS must hear the peer's farewell.
            self.transport.unregisterProducer()
            self.transport.resumeProducing()
        self.transport.loseConnection()


def _socket(transport: Any) -> Callable[[bytes], int] | None:
    """How to write to the socket below, if nothing is between."""
    if isinstance(transport, Connection) and not ISSLTransport.providedBy(transport):
        send: Callable[[bytes], int] = transport.getHandle().send
        return send
    return None
