"""Newline-delimited JSON-RPC on one connection: framing, back-pressure, and the limits of time.

A line connection is the Twisted protocol and the `IExchange` in one. It knows nothing of listening; tcp and stdio
give it a transport. Its states are drawn in ``docs/machines/line-connection.md``.
"""

import enum
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol, IProtocol, IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from erlmcp.interfaces import IExchange, Peer
from erlmcp.jsonrpc import INVALID_REQUEST, LineFramer, Overlong, encode_error
from erlmcp.telemetry import Logger
from erlmcp.timing import Entry
from erlmcp.transports._connections import Connections
from erlmcp.transports._outgoing import Outgoing
from erlmcp.transports._peers import peer_of, tune

log = Logger()

# Answers gathered while one read is worked on are written together, in pieces of at least this size.
_BATCH = 64 * 1024
_SPACE = b" \t\r\n"
_OPENERS = (b"{", b"[")


class Phase(enum.Enum):
    """Where a connection stands.

    Attributes:
        FRESH: nothing but white space has arrived.
        SERVING: lines are taken.
        ENDING: no more is read; what is in flight is awaited.
        CLOSING: what was written is on its way out.
        GONE: the transport is lost.
    """

    FRESH = "fresh"
    SERVING = "serving"
    ENDING = "ending"
    CLOSING = "closing"
    GONE = "gone"


@implementer(IProtocol, IHalfCloseableProtocol, IPushProducer, IExchange)
class LineConnection(Outgoing):
    """One connection that carries one JSON-RPC message in each line.

    Args:
        siblings: the connections of the listener, and what they have in common.

    Attributes:
        phase: where it stands.
    """

    __slots__ = (
        "_batch",
        "_batched",
        "_framer",
        "_heard",
        "_in_flight",
        "_last",
        "_later",
        "_most",
        "_partial",
        "_reading",
        "_siblings",
        "_slow",
        "_stall",
        "_waiting",
        "_watch",
        "calls",
        "peer",
        "phase",
        "session",
    )

    headers = None
    streaming = True

    def __init__(self, siblings: Connections) -> None:
        super().__init__()
        self.phase = Phase.FRESH
        self.calls: dict[int | str, Any] = {}
        self.session: Any = None
        self.peer: Peer = siblings.nobody
        self._siblings = siblings
        self._framer = LineFramer(siblings.wire.message)
        self._heard = False  # whether the channel has had a message
        self._in_flight = 0
        self._most = siblings.wire.in_flight  # zero once no more lines are to be taken
        self._waiting: list[bytes | Overlong] = []  # framed, but not handed out
        self._reading = True
        self._batch: list[bytes] | None = None
        self._batched = 0
        self._last = 0.0  # when a message came, or the last one was settled
        self._partial: float | None = None  # since when a line is incomplete
        self._watch: Entry | None = None  # lease, then idle
        self._slow: Entry | None = None
        self._stall: Entry | None = None
        self._later: IDelayedCall | None = None

    # What the transport tells.

    def makeConnection(self, transport: Any) -> None:  # noqa: N802 - IProtocol's name
        """See `IProtocol`."""
        self.transport = transport
        self.connectionMade()

    def connectionMade(self) -> None:
        """Count the connection, and give it its limits of time."""
        siblings = self._siblings
        peer = peer_of(self.transport, name=siblings.transport, listener=siblings.name)
        if not siblings.opened(self, peer):
            self.phase = Phase.GONE
            self.cut()
            return
        self.peer = peer
        self._last = siblings.clock.seconds()
        self.begin()
        tune(self.transport)
        if siblings.linger is not None:
            self.phase = Phase.SERVING
        else:
            self._watch = siblings.wheel.after(siblings.wire.lease, self._expire)

    def dataReceived(self, data: bytes) -> None:
        """Take what was read: hand out its lines, write their answers together."""
        if self.phase is not Phase.SERVING and not self._begins(data):
            return
        framer = self._framer
        lines = framer.feed(data)
        now = self._siblings.clock.seconds()
        if framer.pending or framer.skipping:
            if lines or self._partial is None:
                self._partial = now
                if self._slow is None and self._siblings.linger is None:
                    self._slow = self._siblings.wheel.after(self._siblings.wire.slow, self._check_partial)
        else:
            self._partial = None
        if lines:
            self._last = now
            if self._waiting:
                self._waiting += lines
            else:
                self._hand_out(lines)

    def readConnectionLost(self) -> None:
        """The peer sends no more. Its unterminated last line, if any, is not executed."""
        linger = self._siblings.linger
        if self._framer.finish() is not None:
            # Of a host, or somebody who tries us out by hand, one line: else nothing would tell why no answer came.
            say = log.debug if linger is None else log.warn
            say("{peer}: the last line has no newline and is not executed", peer=self.peer.address)
        if linger is not None and self.phase is Phase.SERVING:
            self.phase = Phase.ENDING
            self._stall = self._siblings.wheel.after(linger, self.cut)
            self._end_if_done()
        else:
            self._depart()
            self._close()

    def writeConnectionLost(self) -> None:
        """The peer takes no more: nothing that is under way can reach it."""
        self.cut()

    def connectionLost(self, reason: Failure) -> None:  # noqa: ARG002 - IProtocol's signature
        """See `IProtocol`."""
        counted, self.phase = self.phase is not Phase.GONE, Phase.GONE
        self.stop_taking()
        self.stopProducing()
        for entry in (self._watch, self._slow, self._stall):
            if entry is not None:
                entry.cancel()
        if self._later is not None:
            self._later.cancel()
            self._later = None
        if counted:
            self._depart()
            self._siblings.closed(self)

    # IExchange.

    @property
    def congested(self) -> bool:
        """See `IExchange`."""
        return self._choked and self.unsent >= self._siblings.wire.write_buffer

    def reply(
        self,
        message: bytes,
        status: int = 200,  # noqa: ARG002 - HTTP's
        headers: tuple[tuple[bytes, bytes], ...] = (),  # noqa: ARG002 - HTTP's
    ) -> None:
        """See `IExchange`."""
        self._in_flight -= 1
        batch = self._batch
        if batch is not None:
            batch.append(message)
            self._batched += len(message)
        else:
            self._write(message + b"\n")
            self._settled()

    def notify(self, message: bytes, event: str = "") -> None:  # noqa: ARG002 - HTTP's
        """See `IExchange`. A peer that does not read, and is told of ever more, is cut."""
        batch = self._batch
        if batch is not None:
            batch.append(message)
            self._batched += len(message)
            if self._batched > _BATCH:
                self._flush()
        else:
            self._write(message + b"\n")
        if self._overrun():
            log.debug("{peer} does not read: cut", peer=self.peer.address)
            self.cut()

    def prime(self, event: str, retry: int) -> None:
        """See `IExchange`. Nothing: a stream of lines cannot be resumed."""

    def leave(self) -> None:
        """See `IExchange`."""
        self.accept()

    def accept(self) -> None:
        """See `IExchange`."""
        self._in_flight -= 1
        if self._batch is None:
            self._settled()

    def abandon(self) -> None:
        """See `IExchange`."""
        self.accept()

    # What the listener asks for.

    def drain(self) -> None:
        """Take no more lines; close once the last call in flight is answered."""
        if self.phase in (Phase.FRESH, Phase.SERVING):
            self.phase = Phase.ENDING
            self.stop_taking()
            self._pause()
            self._end_if_done()

    def cut(self) -> None:
        """See `Outgoing`."""
        self.stop_taking()
        super().cut()

    def stop_taking(self) -> None:
        """Hand out no more lines, not even those that are framed."""
        self._most = 0
        self._waiting = []

    # Taking lines.

    def _begins(self, data: bytes) -> bool:
        """Whether lines may be taken from a connection that was silent until now."""
        if self.phase is not Phase.FRESH:
            return False
        first = data.lstrip(_SPACE)[:1]
        if not first:
            return False
        siblings = self._siblings
        if first not in _OPENERS:
            # A browser can be made to POST to a loopback port: its request line must end it before the body runs.
            log.debug("{peer} does not speak JSON: closed", peer=self.peer.address)
            self._close()
            return False
        peer = peer_of(self.transport, name=siblings.transport, listener=siblings.name)
        if not siblings.recognized(self, peer):
            self.cut()
            return False
        self.peer = peer
        self.phase = Phase.SERVING
        return True

    def _hand_out(self, lines: list[bytes | Overlong]) -> None:
        received = self._siblings.received
        self._heard = True
        self._batch = []
        taken = 0
        try:
            for line in lines:
                taken += 1
                if line.__class__ is bytes:
                    self._in_flight += 1
                    received(line, self)
                else:
                    self._refuse(line)
                if self._in_flight >= self._most or self._batched > _BATCH:
                    self._flush()
                    if self._full():
                        break
        except BaseException:
            # What the channel lets pass ends a socket's connection; standard streams are left to serve the rest.
            if self._later is None:
                self._later = self._siblings.clock.callLater(0, self._go_on)
            raise
        finally:
            self._flush()
            self._batch = None
            if self._most:
                if taken < len(lines):
                    self._waiting = lines[taken:]
                if self._full():
                    self._pause()
            self._end_if_done()

    def _refuse(self, line: Any) -> None:
        limit = self._siblings.wire.message
        text = (
            f"the message has {line.size} bytes, more than the {limit} allowed here"
            " (limits.message in the server's configuration)"
        )
        self._in_flight += 1
        self.reply(encode_error(None, INVALID_REQUEST, text))

    def _full(self) -> bool:
        return self._in_flight >= self._most or self.congested

    def _settled(self) -> None:
        """A message was settled outside of a batch: perhaps the next may be taken, or the connection end."""
        if self.phase is Phase.SERVING or self._waiting:
            if not self._reading and self._later is None:
                # Not from here: the channel is in the middle of something.
                self._later = self._siblings.clock.callLater(0, self._go_on)
            if not self._in_flight:
                self._last = self._siblings.clock.seconds()
        else:
            self._end_if_done()

    def _go_on(self) -> None:
        self._later = None
        if self._full():
            return
        lines = self._waiting
        if lines:
            self._waiting = []
            self._hand_out(lines)
        if not self._reading and not self._waiting and not self._full() and self.phase is Phase.SERVING:
            self._reading = True
            self.transport.resumeProducing()

    def _pause(self) -> None:
        if self._reading:
            self._reading = False
            self.transport.pauseProducing()

    # Writing.

    def _flush(self) -> None:
        batch = self._batch
        if batch:
            batch.append(b"")
            data = b"\n".join(batch)
            self._batch = []
            self._batched = 0
            self._write(data)

    def _write(self, data: bytes) -> None:
        if self.phase is Phase.GONE:
            return
        self.send(data)
        if self._overrun() and self._stall is None and self._siblings.linger is None:
            self._expect_progress()

    def _overrun(self) -> bool:
        return self._choked and self.unsent >= 4 * self._siblings.wire.write_buffer

    def drained(self) -> None:
        """The peer has taken something: go on reading, or closing."""
        if self._stall is not None and self.phase is not Phase.ENDING:
            self._stall.cancel()
            self._stall = None
        if self.phase is Phase.CLOSING:
            self._expect_progress()
        elif not self._reading and self._later is None:
            self._go_on()

    # Ending.

    def _end_if_done(self) -> None:
        if self.phase is Phase.ENDING and not self._in_flight and not self._waiting:
            self._close()

    def _close(self) -> None:
        """Close when all that was written is on its way; at the latest when the peer takes nothing for a while."""
        if self.phase in (Phase.CLOSING, Phase.GONE):
            return
        self.phase = Phase.CLOSING
        self.stop_taking()
        if self._stall is None:
            self._expect_progress()
        self.lose()

    def _depart(self) -> None:
        """Tell the channel, once, that nobody waits for answers any more."""
        if self._heard:
            self._heard = False
            self.stop_taking()
            self._siblings.channel.closed(self)

    # Limits of time.

    def _expect_progress(self) -> None:
        self._stall = self._siblings.wheel.after(self._siblings.wire.slow, self.cut)

    def _expire(self) -> None:
        """The lease has ended, or the time without messages."""
        siblings = self._siblings
        self._watch = None
        wait = siblings.wire.idle
        if not self._heard:
            wait = 0.0
        elif not self._in_flight and not self._waiting:
            wait -= siblings.clock.seconds() - self._last
        if wait > 0:
            self._watch = siblings.wheel.after(wait, self._expire)
        else:
            log.debug("{peer} was silent for too long: closed", peer=self.peer.address)
            self._close()

    def _check_partial(self) -> None:
        """A line has begun a while ago: has it ended since?"""
        siblings = self._siblings
        self._slow = None
        if self._partial is None or self.phase is not Phase.SERVING:
            return
        now = siblings.clock.seconds()
        if not self._reading:
            self._partial = now
        wait = self._partial + siblings.wire.slow - now
        if wait > 0:
            self._slow = siblings.wheel.after(wait, self._check_partial)
        else:
            log.debug("{peer} was too slow with a line: closed", peer=self.peer.address)
            self._close()
