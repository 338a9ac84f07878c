"""What is written to a child and what it has not yet read: at once as far as it goes, the rest counted and bounded."""

import os
from collections import deque
from collections.abc import Callable
from typing import Any, Final

PIECE: Final = 128 * 1024
"""Bytes that are handed to the pipe's own buffer at once."""


class Input:
    """The standard input of a child; a producer to its pipe.

    Args:
        bound: bytes that may wait for the child to read.
        drained: called when what had to wait has been read.
    """

    __slots__ = (
        "_bound",
        "_choked",
        "_closed",
        "_drained",
        "_handed",
        "_leaving",
        "_pipe",
        "_queue",
        "_queued",
    )

    def __init__(self, bound: int, drained: Callable[[], object]) -> None:
        self._bound = bound
        self._drained = drained
        self._pipe: Any = None
        self._choked = False
        self._closed = False  # nothing more is taken
        self._leaving = False  # the pipe is to be closed once the child has read all
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._handed = 0

    def attach(self, pipe: Any) -> None:
        """Begin to write to a pipe of Twisted's (`twisted.internet.process.ProcessWriter`)."""
        self._pipe = pipe

    @property
    def unsent(self) -> int:
        """Bytes that the child has not yet taken, at most; zero while it keeps up."""
        return self._handed + self._queued

    def write(self, data: bytes) -> bool:
        """Write; False if nothing of it was taken: the pipe is closed, or too much waits already."""
        if self._closed or self._pipe is None or self.unsent + len(data) > self._bound:
            return False
        if self._choked:
            self._enqueue(data)
            return True
        try:
            sent = os.write(self._pipe.fileno(), data)
        except OSError:
            # Full; or broken, which the pipe will find out as it tries.
            sent = 0
        if sent < len(data):
            self._choked = True
            self._enqueue(data[sent:])
            # As a pull producer we are asked at once, and whenever the pipe has nothing left.
            self._pipe.registerProducer(self, streaming=False)
        return True

    def close(self) -> None:
        """Close the pipe once the child has read what was written."""
        if not self._closed:
            self._closed = self._leaving = True
            if not self._choked:
                self._leave()

    def resumeProducing(self) -> None:
        """Hear from the pipe that its buffer is empty: hand on the next piece."""
        self._handed = 0
        if self._queue:
            piece: list[bytes] = []
            while self._queue and self._handed < PIECE:
                piece.append(self._queue.popleft())
                self._handed += len(piece[-1])
            self._queued -= self._handed
            self._pipe.write(b"".join(piece))
            return
        self._choked = False
        self._pipe.unregisterProducer()
        if self._leaving:
            self._leave()
        else:
            self._drained()

    def pauseProducing(self) -> None:
        """Nothing to do: a pull producer is not paused."""

    def stopProducing(self) -> None:
        """Hear that the pipe is gone; what waits is of no use."""
        self._closed = True
        self._leaving = False
        self._queue.clear()
        self._queued = self._handed = 0

    def _enqueue(self, data: bytes) -> None:
        self._queue.append(data)
        self._queued += len(data)

    def _leave(self) -> None:
        self._leaving = False
        if self._pipe is not None:
            self._pipe.loseConnection()
