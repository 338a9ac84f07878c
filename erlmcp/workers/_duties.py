"""A worker's own side: what its parent has it do, and the end of it all when the parent has gone."""

import ctypes
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from erlmcp.engine import RemoteEngine
from erlmcp.workers._adopting import AdoptingReactor
from erlmcp.workers._line import Line, Refused, adopt
from erlmcp.workers._process import CONTROL
from erlmcp.workers._relay import Relay
from erlmcp.workers._words import Begin, Ending, Pulse, encode, read_begin, read_ending

log = Logger()

MIRRORED: Final = ("ended/", "session/")
"""What the server looks up at each request of a session."""
_PARENT_DEATH: Final = 1  # PR_SET_PDEATHSIG
_LOST: Final = 70
_PARTING: Final = 0.1


class Work(Protocol):
    """What a worker does, once it is put together."""

    def start(self) -> Deferred[None]:
        """Listen and serve."""

    def end(self, seconds: float, *, gently: bool) -> Deferred[None]:
        """End what is under way; fires when it has, after `seconds` at the latest."""

    def pulse(self) -> Pulse:
        """How it fares."""

    def counters(self) -> bytes:
        """What it has counted."""


class Kit:
    """What a worker is put together with.

    Attributes:
        begin: what it is to be.
        engine: the parent's.
        relay: the way to the others.
        reactors: listener's name -> the reactor as that listener is to see it.
    """

    def __init__(self, begin: Begin, engine: RemoteEngine, reactors: dict[str, AdoptingReactor]) -> None:
        self.begin = begin
        self.engine = engine
        self.relay = Relay(begin.owner)
        self.reactors = reactors


class Duties:
    """Does what the parent says.

    Args:
        reactor: what it runs on.
        build: puts the worker together; raises ValueError or the like with all that is wrong.
        leave: ends the process, all done.
    """

    def __init__(self, reactor: Any, build: Callable[[Kit], Work], leave: Callable[[], None]) -> None:
        self.line = Line()
        self.line.asked = self._asked
        self.line.handed = self._handed
        self.line.lost = _orphaned
        self._reactor = reactor
        self._build = build
        self._leave = leave
        self._sockets: dict[str, list[int]] = {}
        self._kit: Kit | None = None
        self._work: Work | None = None

    def connect(self, parent: int) -> None:
        """Take the line to the parent up.

        Args:
            parent: its process id: if it has gone already, so has this process's reason.
        """
        die_with_parent(parent)
        adopt(self._reactor, CONTROL, self.line)

    def _asked(self, what: str, body: bytes) -> bytes | Deferred[bytes]:
        work = self._work
        if what == "news" and self._kit is not None:
            self._kit.engine.told(body)
            return b""
        if what == "begin" and self._kit is None:
            return Deferred.fromCoroutine(self._begin(read_begin(body)))
        if work is not None:
            if what == "pulse":
                return encode(work.pulse())
            if what == "counters":
                return work.counters()
            if what == "serve":
                return work.start().addCallback(lambda _: b"")
            if what == "end":
                return Deferred.fromCoroutine(self._end(work, read_ending(body)))
        raise Refused(f"this worker cannot {what!r} now")

    def _handed(self, what: str, body: bytes, descriptor: int) -> None:
        name = body.decode()
        if what == "socket":
            self._sockets.setdefault(name, []).append(descriptor)
        elif what == "peer" and self._kit is not None:
            line = Line()
            self._kit.relay.join(name, line)
            adopt(self._reactor, descriptor, line)
        elif what == "connection" and self._kit is not None and name in self._kit.reactors:
            self._kit.reactors[name].take(descriptor)
        else:
            os.close(descriptor)
            raise Refused(f"this worker has no use for {what!r}")

    async def _begin(self, begin: Begin) -> bytes:
        engine = RemoteEngine(
            lambda body: self.line.ask("engine", body), lambda body: self.line.tell("engine", body), MIRRORED
        )
        reactors = {
            name: AdoptingReactor(self._reactor, self._sockets.pop(name, ()), address)
            for name, address in begin.places.items()
        }
        self._kit = Kit(begin, engine, reactors)
        try:
            self._work = self._build(self._kit)
        except Exception as error:
            # The words are for the operator, and the log of the parent has them.
            raise Refused(str(error)) from error
        await engine.synced
        return b""

    async def _end(self, work: Work, ending: Ending) -> bytes:
        await work.end(ending.seconds, gently=ending.gently)
        if self._kit is not None:
            self._kit.relay.part()
        # Only once the answer is on its way, and what others were told.
        self._reactor.callLater(_PARTING, self._leave)
        return work.counters()


def die_with_parent(parent: int) -> None:
    """Have the kernel end this process when its parent ends; at once, if it has ended already."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PARENT_DEATH, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        _orphaned()


def _orphaned() -> None:
    """Without its parent a worker has no engine, and nobody who would take its place."""
    os._exit(_LOST)
