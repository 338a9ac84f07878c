"""A line between two of the daemon's processes: AMP over a unix socket that one of them has inherited or been handed.

An AMP value ends at 65 535 bytes: what is longer goes in pieces. A descriptor can go along with a message.
"""

import os
import socket
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, connectionDone
from twisted.logger import Logger
from twisted.protocols.amp import AMP, Argument, BinaryBoxProtocol, Command, Descriptor, String
from twisted.python.failure import Failure
from zope.interface import implementer

log = Logger()

PIECE: Final = 65_000
"""Bytes of one AMP value."""
MOST_WAITING: Final = 256 * 1024 * 1024
"""Bytes that may wait for a peer that does not read; past it the line is cut, and with it the peer."""


class LineLost(Exception):  # noqa: N818 - it says what has become of the line
    """The process at the other end has gone, or what was said could not be said."""


class Refused(Exception):  # noqa: N818 - likewise
    """The process at the other end would not or could not; its words."""


class Pieces(Argument):
    """Bytes of any length, as several values of one box."""

    def fromBox(self, name: bytes, strings: Any, objects: Any, proto: Any) -> None:  # noqa: ARG002, N802 - AMP's
        """Join the pieces."""
        count = int(strings.pop(name))
        objects[name.decode()] = b"".join(strings.pop(b"%b%d" % (name, index)) for index in range(count))

    def toBox(self, name: bytes, strings: Any, objects: Any, proto: Any) -> None:  # noqa: ARG002, N802 - AMP's
        """Cut into pieces."""
        value = objects.pop(name.decode())
        pieces = [value[at : at + PIECE] for at in range(0, len(value), PIECE)]
        strings[name] = b"%d" % len(pieces)
        for index, piece in enumerate(pieces):
            strings[b"%b%d" % (name, index)] = piece


def _fields(*, descriptor: bool = False) -> list[tuple[bytes, Argument]]:
    body: Argument = Pieces()  # type: ignore[no-untyped-call]
    fields: list[tuple[bytes, Argument]] = [(b"what", String()), (b"body", body)]
    return [*fields, (b"descriptor", Descriptor())] if descriptor else fields


class _Ask(Command):
    arguments = _fields()
    response = _fields()[1:]
    errors = {Refused: b"REFUSED"}  # noqa: RUF012 - AMP's metaclass reads it


class _Tell(Command):
    arguments = _fields()
    requiresAnswer = False  # noqa: N815 - AMP's name


class _Hand(Command):
    arguments = _fields(descriptor=True)
    errors = {Refused: b"REFUSED"}  # noqa: RUF012 - AMP's metaclass reads it


@implementer(IPushProducer)
class Line(AMP):
    """One end of a line.

    Set before it is connected, or in the same turn:

    Attributes:
        asked: what answers questions: (what, body) -> bytes or a Deferred of them. `Refused` goes to whoever asked.
        told: what hears what needs no answer: (what, body).
        handed: what takes descriptors, which are its own from then on: (what, body, descriptor).
        lost: called once when the line has ended.
        congested: whether the other end reads too slowly.
        open: whether it is connected.
    """

    noisy = False
    transport: Any

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.asked: Callable[[str, bytes], bytes | Deferred[bytes]] = _nobody
        self.told: Callable[[str, bytes], None] = _nobody
        self.handed: Callable[[str, bytes, int], None] = _close
        self.lost: Callable[[], None] = lambda: None
        self.congested = False
        self.open = False
        self._unsent = 0

    def ask(self, what: str, body: bytes = b"") -> Deferred[bytes]:
        """Ask the other end; fails with `LineLost` or `Refused`."""
        asking: Deferred[Any] = self._call(_Ask, len(body), what=what.encode(), body=body)
        return asking.addCallback(lambda answer: answer["body"])

    def tell(self, what: str, body: bytes = b"") -> None:
        """Tell the other end, if it is still there."""
        if self.open:
            self._count(len(body))
            self.callRemote(_Tell, what=what.encode(), body=body)  # type: ignore[no-untyped-call]

    def hand(self, what: str, body: bytes, descriptor: int) -> Deferred[None]:
        """Hand over a descriptor, of which the other end gets a copy; it may be closed once this has fired.

        Fails with `LineLost` or `Refused`.
        """
        handing: Deferred[Any] = self._call(
            _Hand, len(body), what=what.encode(), body=body, descriptor=descriptor
        )
        return handing.addCallback(lambda _: None)

    def end(self) -> None:
        """End it once all is sent that was said."""
        if self.open:
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def cut(self) -> None:
        """End it now."""
        if self.open:
            self.transport.abortConnection()

    def makeConnection(self, transport: Any) -> None:  # noqa: N802 - Twisted's name
        """See `twisted.internet.interfaces.IProtocol`. AMP's own would log each connection."""
        self.open = True
        BinaryBoxProtocol.makeConnection(self, transport)
        transport.registerProducer(self, True)  # noqa: FBT003 - Twisted's signature

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """See `twisted.internet.interfaces.IProtocol`."""
        self.open = False
        BinaryBoxProtocol.connectionLost(self, reason)
        # Descriptors that no message has claimed.
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()
        self.lost()

    def pauseProducing(self) -> None:
        """The other end reads too slowly."""
        self.congested = True
        self._unsent = 0

    def resumeProducing(self) -> None:
        """It has caught up."""
        self.congested = False

    def stopProducing(self) -> None:
        """The connection ends."""

    @_Ask.responder
    def _asked(self, what: bytes, body: bytes) -> Deferred[dict[str, bytes]]:
        answering: Deferred[Any] = maybeDeferred(self.asked, what.decode(), body)
        return answering.addCallbacks(lambda answer: {"body": answer}, _refuse, errbackArgs=(what,))

    @_Tell.responder
    def _told(self, what: bytes, body: bytes) -> dict[str, bytes]:
        try:
            self.told(what.decode(), body)
        except Exception:  # noqa: BLE001 - AMP would end the line
            log.failure("what was told of {what!r} was not taken", what=what)
        return {}

    @_Hand.responder
    def _handed(self, what: bytes, body: bytes, descriptor: int) -> dict[str, bytes]:
        try:
            self.handed(what.decode(), body, descriptor)
        except Exception:  # noqa: BLE001 - AMP would end the line
            _refuse(Failure(), what)
        return {}

    def _call(self, command: type[Command], size: int, **arguments: Any) -> Deferred[Any]:
        if not self.open:
            return fail(LineLost("the process at the other end has gone"))
        self._count(size)
        calling: Deferred[Any] = self.callRemote(command, **arguments)  # type: ignore[no-untyped-call]
        # AMP ends a line whose answer's Deferred has no errback left when it fails: ours may get one later.
        answered: Deferred[Any] = Deferred()
        calling.addCallbacks(answered.callback, lambda failure: answered.errback(_as_lost(failure)))
        return answered

    def _count(self, size: int) -> None:
        if self.congested:
            self._unsent += size
            if self._unsent > MOST_WAITING:
                self.cut()


def adopt(reactor: Any, descriptor: int, line: Line) -> None:
    """Connect a line to a unix socket; the descriptor is closed (the line has a copy of its own)."""
    os.set_blocking(descriptor, False)
    try:
        reactor.adoptStreamConnection(descriptor, socket.AF_UNIX, _Once(line))
    finally:
        os.close(descriptor)


def pair() -> tuple[int, int]:
    """Two descriptors of a connected pair of unix sockets."""
    first, second = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    return first.detach(), second.detach()


class _Once(Factory):
    noisy = False

    def __init__(self, line: Line) -> None:
        self._line = line

    def buildProtocol(self, addr: Any) -> Line:  # noqa: ARG002 - a pair has no address
        return self._line


def _nobody(what: str, *_rest: Any) -> Any:
    raise Refused(f"nobody here knows of {what!r}")


def _close(what: str, body: bytes, descriptor: int) -> None:
    os.close(descriptor)
    _nobody(what, body)


def _refuse(failure: Failure, what: bytes) -> Any:
    error = failure.value
    if isinstance(error, Refused):
        raise error
    log.failure("{what!r} failed", failure, what=what)
    raise Refused(f"{type(error).__name__}: {error}") from error


def _as_lost(failure: Failure) -> Exception:
    error = failure.value
    return error if isinstance(error, Refused) else LineLost(str(error) or type(error).__name__)
