"""What the wires that carry lines have in common: messages wait for the turn's end, and leave together.

Which wire carries the bytes, and how it begins and ends, is the subclass's matter (`_lines.py`, `_child.py`).
"""

from collections import deque
from dataclasses import dataclass
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from erlmcp.client._wire import Inbox, Outgoing, Session, WireError
from erlmcp.jsonrpc import LineFramer, Overlong
from erlmcp.telemetry import Logger
from erlmcp.transports import burst

log = Logger()

PIECE: Final = 128 * 1024
"""Bytes that are handed on together; one longer message goes alone."""


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Bounds of a wire that carries lines.

    Attributes:
        message: bytes of a line from the server; a longer one is thrown away as it arrives.
        outgoing: bytes that may wait for the server to take them; a message that would not fit fails.
        connect: seconds until the connection must stand, TLS included. A child has `ChildLimits.start`.
        close: seconds that a connection that is being closed may take to hand on what waits.
    """

    message: int = 64 * 1024 * 1024
    outgoing: int = 16 * 1024 * 1024
    connect: float = 10.0
    close: float = 5.0


class StreamWire:
    """One JSON document in each line, both ways. A subclass has the bytes; see `erlmcp.client._wire.Wire`.

    Attributes:
        linked, session, peer: as `Wire` says.
        skipped: how many lines came that were no message, or too long to be kept.
    """

    linked: bool = False
    session: Session | None = None

    def __init__(self, reactor: Any, peer: str, limits: StreamLimits | None = None) -> None:
        self.peer = peer
        self.skipped = 0
        self._reactor = reactor
        self._limits = limits or StreamLimits()
        self._framer = LineFramer(self._limits.message)
        self._inbox: Inbox | None = None
        self._queue: deque[Outgoing] = deque()
        self._queued = 0
        self._is_full = False
        self._turn: IDelayedCall | None = None
        self._open = False
        self._closing = False

    # The subclass's.

    def open(self, inbox: Inbox) -> Deferred[None]:
        """See `Wire.open`."""
        raise NotImplementedError

    def close(self) -> Deferred[None]:
        """See `Wire.close`."""
        raise NotImplementedError

    def _write(self, data: bytes) -> None:
        """Hand bytes on. Called only while `_waiting` is zero."""
        raise NotImplementedError

    def _waiting(self) -> int:
        """How many bytes the server has not yet taken; zero while it keeps up."""
        raise NotImplementedError

    # What is sent.

    def send(self, outgoing: Outgoing) -> None:
        """See `Wire.send`."""
        size = len(outgoing.body) + 1
        if not self._open or self._closing:
            self._fail(outgoing, f"{self.peer} is not connected")
        elif self._queued + size > self._limits.outgoing:
            self._fail(
                outgoing,
                f"{self.peer} does not take what it is sent: {self._queued} bytes wait, this message has {size}, "
                f"and {self._limits.outgoing} may wait",
            )
        else:
            self._queue.append(outgoing)
            self._queued += size
            if self._turn is None and not self._waiting():
                self._turn = self._reactor.callLater(0, self._flush)
            if not self._is_full and self._queued > self._limits.outgoing // 4:
                self._set_full(is_full=True)

    def abandon(self, outgoing: Outgoing) -> None:
        """See `Wire.abandon`: nothing to do."""

    def _flush(self) -> None:
        """Hand on what waits, as far as it is taken."""
        self._turn = None
        queue = self._queue
        while queue and not self._waiting():
            piece: list[bytes] = []
            size = 0
            while queue and size < PIECE:
                body = queue.popleft().body
                piece.append(body)
                size += len(body) + 1
            piece.append(b"")
            self._queued -= size
            self._write(b"\n".join(piece))
        if self._is_full and not queue:
            self._set_full(is_full=False)

    def _flush_all(self) -> None:
        """Hand on what waits before the wire closes, however fast it is taken."""
        if self._queue:
            self._write(b"".join(outgoing.body + b"\n" for outgoing in self._queue))
            self._queue.clear()
        self._queued = 0

    def _fail(self, outgoing: Outgoing, why: str) -> None:
        if self._inbox is not None:
            self._inbox.failed(outgoing, WireError(why, unsent=True))

    def _set_full(self, *, is_full: bool) -> None:
        self._is_full = is_full
        if self._inbox is not None:
            self._inbox.full(is_full)

    # What comes.

    def _received(self, data: bytes) -> None:
        inbox = self._inbox
        if inbox is None:
            return
        lines = self._framer.feed(data)
        if len(lines) > 1:
            # Those who are answered with these are answered together.
            with burst:
                self._judge(lines, inbox)
        else:
            self._judge(lines, inbox)

    def _judge(self, lines: list[bytes | Overlong], inbox: Inbox) -> None:
        for line in lines:
            if self._closing:
                return
            if type(line) is Overlong:
                self._skip(f"a line of {line.size} bytes, and {self._limits.message} are allowed")
            elif self._is_message(line):  # type: ignore[arg-type]
                inbox.received(line, None)  # type: ignore[arg-type]
            else:
                self._skip(f"a line that is no message: {line[:200]!r}")  # type: ignore[index]

    def _is_message(self, line: bytes) -> bool:  # noqa: ARG002 - the subclass's
        """Whether a line is worth handing up, where something is wrong with it is said; all are, but for a child's."""
        return True

    def _skip(self, what: str) -> None:
        """Report a line that is thrown away: the first ones, then ever fewer, for there is no end to some."""
        self.skipped += 1
        if self.skipped.bit_count() == 1:
            seen = {"peer": self.peer, "what": what, "count": self.skipped}
            log.warn("{peer} sent {what} ({count} so far)", **seen)  # noqa: G010 - Twisted's name

    # How it ends.

    def _lose(self, error: WireError) -> None:
        """The wire is gone: what has not left fails as unsent, the rest with the wire, once."""
        inbox = self._end()
        if inbox is not None and not self._closing:
            queue = list(self._queue)
            self._queue.clear()
            for outgoing in queue:
                inbox.failed(outgoing, WireError(str(error), unsent=True, tail=error.tail))
            inbox.lost(error)
        self._queue.clear()
        self._queued = 0

    def _end(self) -> Inbox | None:
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        was_open, self._open = self._open, False
        return self._inbox if was_open else None
