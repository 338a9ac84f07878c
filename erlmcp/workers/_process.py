"""One worker process, as its parent has it: started, introduced, ready, replaced or ended, gone.

The states are those of ``docs/machines/worker.md``.
"""

import os
import signal
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from erlmcp.workers._line import Line, LineLost, Refused, adopt, pair
from erlmcp.workers._logs import LogReader
from erlmcp.workers._words import Begin, Ending, Pulse, encode, read_pulse

log = Logger()

CONTROL: Final = 3
"""The descriptor that a worker finds its line at."""
SILENCE: Final = 10.0
"""Seconds after which a worker that does not answer is killed."""
_BEAT: Final = 1.0
_LAST_WORDS: Final = 0.2
_COUNT_EVERY: Final = 5
_NOT_THEIRS: Final = (
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
)


class State(Enum):
    """Where a worker stands."""

    STARTING = "starting"
    READY = "ready"
    ENDING = "ending"
    GONE = "gone"


class WorkerDied(Exception):  # noqa: N818 - it says what has happened
    """A worker process has ended by itself; how."""


class WorkerProcess:
    """One worker process.

    Args:
        reactor: what it is run with.
        arguments: its command line, to which this process's id is added.
        begin: what it is to be.

    Attributes:
        owner: its name.
        slot: its number.
        names: of the listeners that it serves.
        state: where it stands.
        pulse: how it fares.
        handed: how many connections it was handed in all.
        counted: what it has counted, as of the last time that it was asked.
        plan: what it was made by; whoever makes it says so.
        how: how the process has ended, in words; empty until then.
        gone: fires when the process has ended and its output is read: None if it was to end, else with `WorkerDied`.
    """

    def __init__(self, reactor: Any, arguments: Sequence[str], begin: Begin) -> None:
        self.owner = begin.owner
        self.slot = begin.slot
        self.names = frozenset(begin.places)
        self.state = State.STARTING
        self.pulse = Pulse(0, 0)
        self.handed = 0
        self._told = 0  # how many of these it knew of when it last told how it fares
        self.counted = b""
        self.plan: Any = None
        self.how = ""
        self.gone: Deferred[None] = Deferred()
        self.line = Line()
        self._reactor = reactor
        self._arguments = list(arguments)
        self._begin = begin
        self._transport: Any = None
        self._beat: Any = None
        self._beats = 0
        self._asked = False
        self._heard = 0.0
        self._due = 0.0

    @property
    def pid(self) -> int | None:
        """Its process id; None once it has ended."""
        return None if self._transport is None else self._transport.pid

    @property
    def load(self) -> int:
        """How many connections it has, as far as is known."""
        return self.pulse.connections + self.handed - self._told

    def spawn(self) -> None:
        """Start the process, and connect the line to it."""
        ours, theirs = pair()
        null = os.open(os.devnull, os.O_RDWR)
        try:
            self.line.lost = self._lost
            self._transport = self._reactor.spawnProcess(
                _Output(self),
                self._arguments[0],
                [*self._arguments, str(os.getpid())],
                env=_environment(os.environ),
                childFDs={0: null, 1: "r", 2: "r", CONTROL: theirs},
            )
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(null)
            os.close(theirs)
        adopt(self._reactor, ours, self.line)
        self._heard = self._reactor.seconds()
        self._next_beat()

    async def begin(self, sockets: Mapping[str, Sequence[int]]) -> None:
        """Have it put its parts together.

        Args:
            sockets: listener's name -> descriptors of what its slot listens on there; copies are handed over.

        Raises:
            Refused: it cannot; why.
            LineLost: it has gone.
        """
        for name, descriptors in sockets.items():
            for descriptor in descriptors:
                await self.line.hand("socket", name.encode(), descriptor)
        await self.line.ask("begin", encode(self._begin))

    async def serve(self) -> None:
        """Have it listen. Raises as `begin`."""
        await self.line.ask("serve")
        self.state = State.READY

    async def feel(self) -> None:
        """Ask how it fares. Raises as `begin`."""
        handed = self.handed
        self._felt(await self.line.ask("pulse"), handed)

    def connect(self, name: str, descriptor: int) -> Deferred[None]:
        """Hand it a connection of a listener."""
        self.handed += 1
        return self.line.hand("connection", name.encode(), descriptor)

    async def count(self) -> bytes:
        """What it has counted; as of before where it does not answer."""
        try:
            self.counted = await self.line.ask("counters")
        except (LineLost, Refused):
            log.debug("worker {slot} did not say what it has counted", slot=self.slot)
        return self.counted

    def end(self, seconds: float, *, gently: bool) -> Deferred[None]:
        """Have it end; fires when it has gone. It is killed a little after its time.

        Args:
            seconds: how long it may take for what is under way.
            gently: see `Ending`.
        """
        if self.state in (State.STARTING, State.READY):
            was = self.state
            self.state = State.ENDING
            if was is State.STARTING:
                self.kill()
            else:
                asked = self.line.ask("end", encode(Ending(seconds, gently)))
                asked.addCallbacks(self._counted, lambda _: None)
                late = self._reactor.callLater(seconds + SILENCE, self.kill)
                self.gone.addBoth(_cancel, late)
        return self.when_gone()

    def when_gone(self) -> Deferred[None]:
        """Fires when the process has ended, whatever the way."""
        if self.state is State.GONE:
            return succeed(None)
        waiting: Deferred[None] = Deferred()

        def ended(result: Any) -> Any:
            waiting.callback(None)
            return result

        self.gone.addBoth(ended)
        return waiting

    def kill(self) -> None:
        """End it now."""
        if self._transport is not None:
            try:
                self._transport.signalProcess(signal.SIGKILL)
            except ProcessExitedAlready:
                log.debug("worker {slot} has gone already", slot=self.slot)

    def exited(self) -> None:
        """The process has ended. What it has written is waited for, but not for a child of its that has its output."""
        transport = self._transport
        if transport is not None:
            closing = self._reactor.callLater(_LAST_WORDS, transport.loseConnection)
            self.gone.addBoth(_cancel, closing)

    def ended(self, reason: Failure) -> None:
        """The process has ended, and its output too."""
        wanted = self.state is State.ENDING
        self.state = State.GONE
        self.how = _said(reason)
        self._transport = None
        if self._beat.active():
            self._beat.cancel()
        self.line.cut()
        if wanted:
            self.gone.callback(None)
        else:
            self.gone.errback(WorkerDied(f"worker {self.slot} has ended by itself: {self.how}"))

    def _counted(self, counted: bytes) -> None:
        self.counted = counted

    def _lost(self) -> None:
        # Without its line it is of no use to anybody, and it ends by itself if it can.
        if self.state is not State.ENDING:
            self.kill()

    def _next_beat(self) -> None:
        self._due = self._reactor.seconds() + _BEAT
        self._beat = self._reactor.callLater(_BEAT, self._pulse)

    def _pulse(self) -> None:
        """Ask how it fares; a process that hangs would keep those who wait in its slot waiting."""
        now = self._reactor.seconds()
        if now - self._due > 2 * _BEAT:
            # It is this process that has been stopped or was busy.
            self._heard = now
        silent = now - self._heard
        if silent >= SILENCE and self.state is State.READY:
            log.error(
                "worker {slot} is killed: it has said nothing for {silent:.0f} s",
                slot=self.slot,
                silent=silent,
            )
            self.kill()
            return
        self._next_beat()
        if self.state is State.READY and not self._asked:
            # Whenever no answer is waited for: what this process itself has missed is no silence of the worker's.
            self._asked = True
            asking = self.line.ask("pulse").addBoth(self._answered)
            asking.addCallbacks(self._felt, lambda _: None, callbackArgs=(self.handed,))
            self._beats += 1
            if self._beats % _COUNT_EVERY == 0:
                self.line.ask("counters").addCallbacks(self._counted, lambda _: None)
        elif self.state is not State.READY:
            self._heard = self._reactor.seconds()

    def _answered(self, answer: Any) -> Any:
        self._asked = False
        return answer

    def _felt(self, body: bytes, handed: int) -> None:
        self._heard = self._reactor.seconds()
        self.pulse = read_pulse(body)
        # It knows of those that it was handed before it was asked: the line keeps the order.
        self._told = handed


class _Output(ProcessProtocol):
    """What a worker writes: its log on standard output, and on standard error what was never meant for a log."""

    def __init__(self, worker: WorkerProcess) -> None:
        self._worker = worker
        self._events = LogReader(worker.slot)
        self._words = LogReader(worker.slot, plain=True)

    def childDataReceived(self, childFD: int, data: bytes) -> None:  # noqa: N802, N803 - Twisted's names
        """Read some of it."""
        (self._events if childFD == 1 else self._words).feed(data)

    def processExited(self, reason: Failure) -> None:  # noqa: ARG002, N802 - Twisted's name and signature
        """The process has gone."""
        self._worker.exited()

    def processEnded(self, reason: Failure) -> None:  # noqa: N802 - Twisted's name
        """The process has gone, and its output is read."""
        self._events.end()
        self._words.end()
        self._worker.ended(reason)


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    """A worker's variables: what systemd has said is for its parent."""
    return {key: value for key, value in environ.items() if key not in _NOT_THEIRS}


def _said(reason: Failure) -> str:
    error = reason.value
    if isinstance(error, ProcessTerminated) and error.signal:
        return f"signal {signal.Signals(error.signal).name}"
    if isinstance(error, (ProcessTerminated, ProcessDone)):
        return f"exit code {error.exitCode}"
    return str(error)


def _cancel(result: Any, timer: Any) -> Any:
    if timer.active():
        timer.cancel()
    return result
