"""The pipes to a launcher and its command, as Twisted's reactor sees them: who reads what, and for how long."""

import os
import signal
from typing import Any, Final, Protocol

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

STDIN, STDOUT, STDERR, ORDERS, REPORTS = range(5)
PIPES: Final = {STDIN: "w", STDOUT: "r", STDERR: "r", ORDERS: "w", REPORTS: "r"}
DRAIN: Final = 256
"""Reads of a pipe (of 8 KiB each) that a child's end may cause: pipes hold at most 1 MiB."""
REPORT: Final = 256
"""Bytes of the launcher's reports that are held until a line of them is complete."""


class Owner(Protocol):
    """Who hears what comes through the pipes."""

    def reported(self, line: bytes) -> None:
        """A line of the launcher's came."""

    def wrote(self, data: bytes) -> None:
        """Standard output came."""

    def said(self, data: bytes) -> None:
        """Standard error came."""

    def shut(self, what: str) -> None:
        """The command has closed its standard ``input`` or ``output``."""

    def gone(self, status: int) -> None:
        """The launcher has ended: with an exit code, or by a signal, whose number is negative."""


class Pipes(ProcessProtocol):
    """The launcher as Twisted sees it: five pipes, and an end."""

    def __init__(self, child: Owner) -> None:
        self._child = child
        self._reactor: Any = None
        self._reports = b""
        self._paused: set[int] = set()
        self._budget = 0
        self._spent = 0
        self._since = 0.0
        self._pause: IDelayedCall | None = None
        self._count = 0

    def spawn(self, reactor: Any, argv: list[str], env: dict[str, str], budget: int) -> None:
        """Start the launcher; raises OSError."""
        self._reactor = reactor
        self._budget = budget
        self._since = reactor.seconds()
        reactor.spawnProcess(self, argv[0], argv, env, childFDs=PIPES)

    def pipe(self, fd: int) -> Any:
        """The pipe to or from a descriptor of the launcher's; None if it is closed."""
        return self._open().get(fd)

    def order(self, orders: bytes) -> None:
        """Tell the launcher something."""
        pipe = self.pipe(ORDERS)
        if pipe is not None:
            pipe.write(orders)

    def kill(self) -> None:
        """Kill the launcher."""
        pid = getattr(self.transport, "pid", None)
        if pid is not None:
            os.kill(pid, signal.SIGKILL)

    def pause(self, fd: int) -> None:
        """Read a pipe no more."""
        self._paused.add(fd)
        pipe = self.pipe(fd)
        if pipe is not None:
            pipe.stopReading()

    def resume(self, fd: int) -> None:
        """Read a pipe on."""
        self._paused.discard(fd)
        pipe = self.pipe(fd)
        if pipe is not None and not pipe.disconnecting:
            pipe.startReading()

    def drain(self, fd: int) -> None:
        """Read at once what a pipe holds; its end is left to the reactor."""
        pipe = self.pipe(fd)
        for _ in range(DRAIN):
            before = self._count
            if pipe is None or pipe.doRead() is not None or self._count == before:
                return

    def childDataReceived(self, childFD: int, data: bytes) -> None:  # noqa: N802, N803 - Twisted's names
        """See `ProcessProtocol.childDataReceived`."""
        self._count += 1
        if childFD == STDOUT:
            self._child.wrote(data)
        elif childFD == STDERR:
            self._child.said(data)
            self._spend(len(data))
        else:
            *lines, rest = (self._reports + data).split(b"\n")
            self._reports = rest[:REPORT]
            for line in lines:
                self._child.reported(line)

    def childConnectionLost(self, childFD: int) -> None:  # noqa: N802, N803 - Twisted's names
        """See `ProcessProtocol.childConnectionLost`."""
        if childFD == STDOUT:
            self._child.shut("output")
        elif childFD == STDIN:
            self._child.shut("input")

    def processExited(self, reason: Failure) -> None:  # noqa: ARG002, N802 - Twisted's name
        """See `ProcessProtocol.processExited`: all of the tree has gone, so nothing can come any more."""
        for fd in (REPORTS, STDOUT, STDERR):
            self.drain(fd)
        # Not now: the reactor may hold events of these descriptors still, and would take them for those of whatever
        # gets the same numbers next, a child that is started in this one's place at once.
        self._reactor.callLater(0, self._close)

    def _close(self) -> None:
        for pipe in list(self._open().values()):
            # Somebody may hold the other ends still, if the launcher was killed.
            pipe.connectionLost(Failure(ConnectionDone()))

    def processEnded(self, reason: Failure) -> None:  # noqa: N802 - Twisted's name
        """See `ProcessProtocol.processEnded`."""
        if self._pause is not None and self._pause.active():
            self._pause.cancel()
        value: Any = reason.value
        self._child.gone(-value.signal if value.signal else value.exitCode)

    def _open(self) -> dict[int, Any]:
        transport: Any = self.transport
        return {} if transport is None else transport.pipes

    def _spend(self, size: int) -> None:
        now = self._reactor.seconds()
        if now - self._since >= 1:
            self._since, self._spent = now, 0
        self._spent += size
        if self._spent > self._budget and self._pause is None:
            self.pause(STDERR)
            self._pause = self._reactor.callLater(self._since + 1 - now, self._read_on)

    def _read_on(self) -> None:
        self._pause = None
        self.resume(STDERR)
