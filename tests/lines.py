"""Lines between processes, without processes: what one end writes the other gets when the world is pumped."""

import os
from collections import deque
from typing import Any

from twisted.internet.address import UNIXAddress
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from erlmcp.workers import Line


class Pipe:
    """The transport of one end."""

    def __init__(self, post: "Post") -> None:
        self.post = post
        self.protocol: Any = None
        self.peer: Pipe
        self.producer: Any = None
        self.gone = False

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def write(self, data: bytes) -> None:
        if not self.gone:
            self.post.sent.append((self.peer, data))

    def sendFileDescriptor(self, descriptor: int) -> None:  # noqa: N802
        self.post.sent.append((self.peer, os.dup(descriptor)))

    def loseConnection(self) -> None:
        self.post.sent.append((self, None))
        self.post.sent.append((self.peer, None))

    abortConnection = loseConnection

    def getPeer(self) -> UNIXAddress:
        return UNIXAddress("peer")

    getHost = getPeer

    def take(self, what: bytes | int | None) -> None:
        if self.gone:
            if isinstance(what, int):
                os.close(what)
        elif isinstance(what, bytes):
            self.protocol.dataReceived(what)
        elif what is None:
            self.gone = True
            self.protocol.connectionLost(Failure(ConnectionDone()))
        else:
            self.protocol.fileDescriptorReceived(what)


class Post:
    """Carries what is written."""

    def __init__(self) -> None:
        self.sent: deque[tuple[Pipe, bytes | int | None]] = deque()

    def pump(self) -> None:
        """Deliver all that is on its way, and what comes of it."""
        while self.sent:
            pipe, what = self.sent.popleft()
            pipe.take(what)

    def join(self, one: Line, other: Line) -> None:
        """Connect two lines."""
        first, second = Pipe(self), Pipe(self)
        first.peer, second.peer = second, first
        first.protocol, second.protocol = one, other
        one.makeConnection(first)
        other.makeConnection(second)


class World(Clock):
    """A clock that carries post too."""

    def __init__(self) -> None:
        super().__init__()
        self.post = Post()

    def turn(self, seconds: float = 0.0) -> None:
        """Let time pass, and all be said that is to be said."""
        self.post.pump()
        self.advance(seconds)
        self.post.pump()
        self.advance(0)
        self.post.pump()
