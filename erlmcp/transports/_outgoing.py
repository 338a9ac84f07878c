"""What a connection has written and its peer has not yet taken: counted, bounded, handed on in pieces.

A Twisted transport buffers without end and says only "full" and "empty" to its producer. Here the bytes past
"full" wait in a queue of our own, so that their number is known while the peer reads slowly.
"""

from collections import deque
from typing import Any

# Handed to a transport at once: more than Twisted's own mark for "full" (64 KiB), so that it says so again.
PIECE = 128 * 1024


class Outgoing:
    """The writing half of a connection; a push producer to its transport.

    A subclass has to register itself: ``transport.registerProducer(self, streaming=True)``.

    Attributes:
        transport: the Twisted transport.
    """

    __slots__ = ("_choked", "_handed", "_leaving", "_queue", "_queued", "transport")

    def __init__(self) -> None:
        self.transport: Any = None
        self._choked = False
        self._handed = 0
        self._leaving = False
        self._queue: deque[bytes] | None = None
        self._queued = 0

    @property
    def unsent(self) -> int:
        """Bytes that the peer has not taken, at most: zero while it keeps up."""
        return self._handed + self._queued if self._choked else 0

    def pauseProducing(self) -> None:
        """Hear from the transport that its buffer is full."""
        self._choked = True

    def resumeProducing(self) -> None:
        """Hear from the transport that its buffer is empty again: hand on the next piece."""
        self._choked = False
        self._handed = 0
        queue = self._queue
        while queue and not self._choked:
            piece: list[bytes] = []
            size = 0
            while queue and size < PIECE:
                part = queue.popleft()
                piece.append(part)
                size += len(part)
            self._queued -= size
            self._handed = size
            self.transport.write(b"".join(piece))
        if not queue:
            self._queue = None
        self.drained()
        if self._leaving and not self._choked:
            self._leave()

    def stopProducing(self) -> None:
        """Hear from the transport that it is gone; what waits is of no use."""
        self._leaving = True
        self._queue = None
        self._queued = 0

    def drained(self) -> None:
        """The peer has taken something. For a subclass to act upon."""

    def send(self, data: bytes) -> None:
        """Write, or queue behind what the peer has not taken yet."""
        if not self._choked:
            self._handed = len(data)
            self.transport.write(data)
            return
        if self._queue is None:
            self._queue = deque()
        self._queue.append(data)
        self._queued += len(data)

    def lose(self) -> None:
        """Close once all that was sent has been handed on; calling again changes nothing."""
        if not self._leaving:
            self._leaving = True
            if not self._choked:
                self._leave()

    def _leave(self) -> None:
        # A transport that has a producer waits for it before it closes; and TLS must hear the peer's farewell.
        self.transport.unregisterProducer()
        self.transport.resumeProducing()
        self.transport.loseConnection()
