"""The daemon's end of the admin socket: newline-delimited JSON, few connections, each short."""

import os
import socket
import stat
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, connectionDone
from twisted.logger import Logger
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

from erlmcp.admin._ask import SOCKET
from erlmcp.transports import clear_stale

log = Logger(namespace="erlmcp.admin")

CONNECTIONS = 16
"""How many there may be at once."""

LEASE = 60.0
"""Seconds that a connection may last."""

Answers = Mapping[str, Callable[[dict[str, Any]], Any]]


class AdminService(Service):
    """Listens on ``admin.sock`` in a directory that nobody else can enter, and answers the daemon's user and root.

    A question is a line ``{"ask": NAME, …}``, an answer ``{"answer": …}`` or ``{"error": "…"}``.

    Args:
        reactor: what it listens with.
        folder: the directory; made if it is missing.
        answers: by name, what gives the answer to a question: anything that msgspec encodes, or a Deferred of it.
            Read for each question, so that more can be added.
    """

    def __init__(self, reactor: Any, folder: Path, answers: Answers) -> None:
        self._reactor = reactor
        self._folder = folder
        self._factory = _Lines(reactor, answers)
        self._port: Any = None

    def startService(self) -> None:
        """Listen.

        Raises:
            OSError, ValueError: that cannot be; the message says why and what would be right.
        """
        Service.startService(self)
        _prepare(self._folder)
        path = self._folder / SOCKET
        clear_stale(str(path))
        try:
            self._port = self._reactor.listenUNIX(
                str(path), self._factory, backlog=CONNECTIONS, mode=0o600, wantPID=True
            )
        except CannotListenError as error:
            raise ValueError(
                f"{path}: {error.socketError}: another daemon has this runtime directory"
            ) from error

    def stopService(self) -> Deferred[None]:
        """Hang up, and remove the socket."""
        Service.stopService(self)
        port, self._port = self._port, None
        for line in list(self._factory.lines):
            line.transport.loseConnection()
        return (
            succeed(None) if port is None else maybeDeferred(port.stopListening).addCallback(lambda _: None)
        )

    def detail(self) -> dict[str, Any]:
        """Where it listens."""
        return {"socket": str(self._folder / SOCKET)}


class _Lines(Factory):
    noisy = False

    def __init__(self, reactor: Any, answers: Answers) -> None:
        self.reactor = reactor
        self.answers = answers
        self.lines: set[_Line] = set()

    def buildProtocol(self, addr: IAddress | None) -> Any:  # noqa: ARG002 - Twisted's signature
        """Refuse what is too much."""
        return _Line(self) if len(self.lines) < CONNECTIONS else None


class _Line(LineOnlyReceiver):
    delimiter = b"\n"
    MAX_LENGTH = 64 * 1024
    factory: _Lines
    transport: Any

    def __init__(self, lines: _Lines) -> None:
        self.factory = lines
        self._lease: Any = None
        self._busy = False

    def connectionMade(self) -> None:
        """Answer nobody but the daemon's own user, and root."""
        self.factory.lines.add(self)
        uid = _peer(self.transport.getHandle())
        if uid not in (0, os.geteuid()):
            log.warn("the user {uid} has knocked at the admin socket", uid=uid)  # noqa: G010 - Twisted's name
            self._say({"error": "only the daemon's own user and root are answered here"})
            self.transport.loseConnection()
            return
        self._lease = self.factory.reactor.callLater(LEASE, self.transport.abortConnection)

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002 - Twisted's signature
        """Forget it."""
        self.factory.lines.discard(self)
        if self._lease is not None and self._lease.active():
            self._lease.cancel()

    def lineReceived(self, line: bytes) -> None:
        """Answer a question."""
        if self._busy:
            self._say({"error": "one question at a time"})
            return
        try:
            question = msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.DecodeError as error:
            self._say({"error": f"a question is a JSON object on a line: {error}"})
            return
        asked = question.pop("ask", None)
        give = self.factory.answers.get(asked) if isinstance(asked, str) else None
        if give is None:
            known = ", ".join(sorted(self.factory.answers))
            self._say({"error": f"there is no answer to {asked!r}; those known are {known}"})
            return
        self._busy = True
        answering = maybeDeferred(give, question)
        answering.addCallback(lambda answer: self._say({"answer": answer}))
        answering.addErrback(self._failed, asked)
        answering.addErrback(lambda failure: log.failure("an answer could not be sent", failure))

    def lineLengthExceeded(self, line: bytes) -> None:  # noqa: ARG002, N802 - Twisted's name and signature
        """No question is that long."""
        self._say({"error": f"a question has at most {self.MAX_LENGTH} bytes"})
        self.transport.loseConnection()

    def _failed(self, failure: Failure, asked: str) -> None:
        error = failure.value
        if not isinstance(error, (ValueError, KeyError, RuntimeError)):
            log.failure("{asked} could not be answered", failure, asked=asked)
        self._say({"error": str(error) or type(error).__name__})

    def _say(self, answer: dict[str, Any]) -> None:
        self._busy = False
        if self.connected:
            self.transport.write(msgspec.json.encode(answer) + b"\n")


def _peer(handle: socket.socket) -> int:
    """The user at the other end of a unix socket (SO_PEERCRED, unix(7))."""
    size = struct.calcsize("3i")
    uid: int = struct.unpack("3i", handle.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))[1]
    return uid


def _prepare(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except FileExistsError:
        raise ValueError(f"the runtime directory {folder} is no directory") from None
    except OSError as error:
        raise ValueError(
            f"the runtime directory {folder} cannot be made: {error.strerror}; make {folder.parent} first, writable for"
            " the daemon's user, or name another ([server] runtime)"
        ) from None
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise ValueError(f"the runtime directory {folder} is no directory")
    if found.st_uid != os.geteuid():
        raise ValueError(
            f"the runtime directory {folder} belongs to the user {found.st_uid}, not to {os.geteuid()}, who runs this"
        )
    if found.st_mode & 0o077:
        raise ValueError(
            f"the runtime directory {folder} can be entered by others (mode {stat.S_IMODE(found.st_mode):o}): make it"
            " 700 (chmod; with systemd: RuntimeDirectoryMode=0700)"
        )
