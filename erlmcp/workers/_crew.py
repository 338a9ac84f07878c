"""All workers of a daemon, as their parent has them: who is there, who gets what, who takes whose place."""

import os
import socket
from collections import deque
from collections.abc import Mapping, Sequence
from secrets import token_hex
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure

from erlmcp.engine import EngineHost
from erlmcp.interfaces import IEngine
from erlmcp.telemetry import Sums
from erlmcp.workers._adopting import spell
from erlmcp.workers._line import LineLost, Refused, pair
from erlmcp.workers._places import Place
from erlmcp.workers._process import State, WorkerDied, WorkerProcess
from erlmcp.workers._words import Begin

log = Logger()

_WAITING: Final = 1024
"""Accepted connections that may wait for a worker, where none is there; more are closed."""
READY: Final = 60.0
"""Seconds that a worker has to become ready."""
_COUNTING: Final = 2.0
"""Seconds that a worker has to say what it has counted."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What workers are to be.

    Attributes:
        settings: the configuration, as the worker's entry reads it.
        keys: the sealing keys, newest first.
        places: where the daemon listens, by listener.
        drain: seconds that calls in flight get when a worker ends.
    """

    settings: bytes
    keys: Sequence[bytes]
    places: Mapping[str, Place]
    drain: float


class Crew:
    """The workers of one daemon.

    Args:
        reactor: what their processes are run with.
        engine: what they share; it lives here.
        arguments: the command line of a worker.
        plan: what they are to be.

    Attributes:
        plan: likewise; what comes after a change of it is made by the new one.
        processes: all that are there, those that end among them.
        closed: whether nobody is to be started any more, as the daemon ends.
    """

    def __init__(self, reactor: Any, engine: IEngine, arguments: Sequence[str], plan: Plan) -> None:
        self.plan = plan
        self.processes: list[WorkerProcess] = []
        self.closed = False
        self._reactor = reactor
        self._host = EngineHost(engine, reactor)
        self._arguments = arguments
        self._ended = Sums()
        self._waiting: deque[tuple[str, socket.socket]] = deque()
        self._warm: dict[int, WorkerProcess] = {}
        self._met: list[WorkerProcess] = []

    @property
    def ready(self) -> int:
        """How many workers serve."""
        return sum(one.state is State.READY for one in self.processes)

    @property
    def ending(self) -> int:
        """How many are on their way out."""
        return sum(one.state is State.ENDING for one in self.processes)

    def warm(self, slots: int) -> None:
        """Begin a worker for each slot: their interpreters start at the same time, and are made ready in turn."""
        self.closed = False
        for slot in range(1, slots + 1):
            one = self._warm[slot] = self._spawn(slot)
            one.gone.addErrback(self._cooled, one)

    def start(self, slot: int, *, succeeds: bool = False) -> WorkerProcess:
        """Begin a worker of a slot; see `make_ready`.

        Args:
            slot: from 1.
            succeeds: whether another serves there until it does.

        Raises:
            Refused: the daemon ends.
        """
        if self.closed:
            raise Refused("the daemon has been told to end")
        return self._warm.pop(slot, None) or self._spawn(slot, succeeds=succeeds)

    def _cooled(self, failure: Failure, one: WorkerProcess) -> Failure | None:
        """It has ended; before anybody has asked for it, nobody hears of it."""
        if self._warm.get(one.slot) is not one:
            return failure
        del self._warm[one.slot]
        return None

    def _spawn(self, slot: int, *, succeeds: bool = False) -> WorkerProcess:
        plan = self.plan
        places = {name: _door_address(place) for name, place in plan.places.items()}
        begin = Begin(token_hex(4), slot, plan.settings, list(plan.keys), places, succeeds)
        one = WorkerProcess(self._reactor, self._arguments, begin)
        one.plan = plan
        guest = self._host.guest(lambda body: one.line.ask("news", body))
        one.line.asked = lambda what, body: guest.asked(body) if what == "engine" else _unknown(what)
        one.line.told = lambda what, body: guest.told(body) if what == "engine" else _unknown(what)
        one.spawn()
        self.processes.append(one)

        def gone(result: Any) -> Any:
            self.processes.remove(one)
            if one in self._met:
                self._met.remove(one)
            guest.left()
            if one.counted:
                self._ended.add(one.counted, ended=True)
            return result

        one.gone.addBoth(gone)
        return one

    async def make_ready(self, one: WorkerProcess) -> None:
        """Have a worker put its parts together, meet the others, and serve.

        Raises:
            Refused: it cannot; why.
            WorkerDied: it has gone, or was killed as it was not ready in time.
        """
        index = one.slot - 1
        sockets = {
            name: [each.fileno() for each in place.sockets[index]]
            for name, place in one.plan.places.items()
            if index < len(place.sockets)
        }
        late = self._reactor.callLater(READY, one.kill)
        try:
            await one.begin(sockets)
            await self._introduce(one)
            await one.serve()
            await one.feel()
        except LineLost as error:
            in_time = late.active()
            await one.when_gone()
            how = one.how if in_time else f"it was not ready within {READY:g} s"
            raise WorkerDied(f"worker {one.slot} has ended before it was ready: {how}") from error
        finally:
            if late.active():
                late.cancel()
        log.info("worker {slot} is ready, process {pid}", slot=one.slot, pid=one.pid)
        # Those for whom nobody is there yet wait again.
        waiting, self._waiting = self._waiting, deque()
        for name, connection in waiting:
            self.accepted(name, connection)

    def drop(self, name: str) -> None:
        """Let nobody wait any more who came by a door that has been closed.

        Args:
            name: the listener's.
        """
        for one in [each for each in self._waiting if each[0] == name]:
            self._waiting.remove(one)
            one[1].close()

    def accepted(self, name: str, connection: socket.socket) -> None:
        """Hand a connection that came by a door to the worker that has the fewest.

        Args:
            name: the listener's.
            connection: its own from now on.
        """
        able = [one for one in self.processes if one.state is State.READY and name in one.names]
        if not able:
            if len(self._waiting) < _WAITING:
                self._waiting.append((name, connection))
            else:
                connection.close()
            return
        one = min(able, key=lambda each: each.load)

        def failed(failure: Failure) -> None:
            failure.trap(LineLost, Refused)
            # It has died just now; the connection is still whole.
            if one.state is not State.READY:
                self.accepted(name, connection.dup())

        handing = one.connect(name, connection.fileno())
        handing.addErrback(failed).addBoth(lambda _: connection.close())

    def sums(self) -> Deferred[Sums]:
        """What all workers have counted, those that are gone among them."""
        enough: Deferred[None] = Deferred()
        timer = self._reactor.callLater(_COUNTING, enough.callback, None)
        asked = [one for one in self.processes if one.state in (State.READY, State.ENDING)]
        counting: Deferred[Any] = DeferredList([Deferred.fromCoroutine(one.count()) for one in asked])
        done: Deferred[Any] = DeferredList([counting, enough], fireOnOneCallback=True)

        def counted(_: Any) -> Sums:
            if timer.active():
                timer.cancel()
            sums = Sums()
            sums.add(bytes(self._ended), ended=True)
            for one in self.processes:
                if one.counted:
                    sums.add(one.counted)
            for one in self.processes:
                sums.put("erlmcp_workers", (one.state.value,), 1.0)
            return sums

        return done.addCallback(counted)

    def close(self) -> None:
        """Let nobody wait any more, nobody be there for nothing, and nobody else begin."""
        self.closed = True
        for slot in list(self._warm):
            self._warm.pop(slot).end(0.0, gently=False)
        while self._waiting:
            self._waiting.popleft()[1].close()

    async def _introduce(self, new: WorkerProcess) -> None:
        """Give a worker a line to each other, before anybody can come to it with what is another's."""
        others, self._met = self._met, [*self._met, new]
        for other in list(others):
            first, second = pair()
            met: Deferred[Any] = DeferredList(
                [
                    _handed(other, new.owner, first),
                    _handed(new, other.owner, second),
                ],
                consumeErrors=True,
            )
            await met


def _handed(one: WorkerProcess, owner: str, descriptor: int) -> Deferred[Any]:
    def close(result: Any) -> Any:
        os.close(descriptor)
        return result

    return one.line.hand("peer", owner.encode(), descriptor).addBoth(close)


def _door_address(place: Place) -> str:
    return spell(place.addresses[0]) if place.doors and place.addresses else ""


def _unknown(what: str) -> Any:
    raise Refused(f"nobody here knows of {what!r}")
