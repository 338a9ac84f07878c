"""One child process: started, written to, read from, and ended with all that it has started.

What follows from what is a table (`_lifecycle.py`); here are its effects. The processes are those of
``launcher.py``: the launcher is our child, the command is the launcher's.
"""

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from erlmcp.processes._command import Command, inherited_environment
from erlmcp.processes._exit import Exit
from erlmcp.processes._input import Input
from erlmcp.processes._lifecycle import Effect, State, step
from erlmcp.processes._lifecycle import Input as Happened
from erlmcp.processes._pipes import STDERR, STDIN, STDOUT, Pipes
from erlmcp.processes._words import Words

log = Logger()

LAUNCHER: Final = str(Path(__file__).with_name("launcher.py"))


class LaunchError(Exception):
    """A command could not be started; the message says which, and why.

    Attributes:
        tail: what was written to standard error meanwhile.
    """

    def __init__(self, message: str, tail: str = "") -> None:
        super().__init__(message)
        self.tail = tail


@dataclass(frozen=True, slots=True)
class Grace:
    """Seconds that each step of an end may take before the next one is taken.

    Attributes:
        close: after standard input was closed, until SIGTERM.
        terminate: after SIGTERM, until SIGKILL; also what is left of a child whose command has ended has so long.
        kill: after SIGKILL, until the launcher itself is killed, which happens only if the system is in trouble.
    """

    close: float = 2.0
    terminate: float = 2.0
    kill: float = 5.0


@dataclass(frozen=True, slots=True)
class ChildLimits:
    """Bounds of a child.

    Attributes:
        input: bytes that may wait for the child to read them.
        start: seconds until the command must run.
        words: bytes of standard error that are read in a second; a child that writes more has to wait.
        orphan_grace: seconds between SIGTERM and SIGKILL for all of it once our own process has died.
    """

    input: int = 4 * 1024 * 1024
    start: float = 10.0
    words: int = 1024 * 1024
    orphan_grace: float = 1.0


class Receiver(Protocol):
    """Who hears of a child. It is called from the reactor, and does not raise."""

    def data_received(self, data: bytes) -> None:
        """The child wrote to its standard output."""

    def drained(self) -> None:
        """The child has read all that it had to be waited for (`Child.unsent` is zero again)."""

    def closed(self, what: str) -> None:
        """The child has closed its standard ``input`` or ``output``, as named; it may live on. Comes before `ended`."""

    def ended(self, exit: Exit) -> None:  # noqa: A002 - what it is called everywhere
        """The command has ended, and all that it wrote has been received. What it started is being ended."""


class Child:
    """A child process, used once.

    Args:
        reactor: spawns processes and tells the time.
        command: what to run.
        name: what it is called in logs and errors.
        receiver: hears of it.
        limits: its bounds.
        grace: how it is ended unless `end` is told otherwise.
        report: gets a line of standard error, and how many before it were left out; None writes them to the log.

    Attributes:
        name: as given.
        pid: the process id of the command (its process group's and session's too) once it runs; stays when it is gone.
        state: where it is in its life.
    """

    def __init__(
        self,
        reactor: Any,
        command: Command,
        name: str,
        receiver: Receiver,
        *,
        limits: ChildLimits | None = None,
        grace: Grace | None = None,
        report: Callable[[str, int], object] | None = None,
    ) -> None:
        self.name = name
        self.pid: int | None = None
        self.state = State.NEW
        self._reactor = reactor
        self._command = command
        self._receiver = receiver
        self._limits = limits or ChildLimits()
        self._grace = grace or Grace()
        self._words = Words(reactor.seconds, report or self._log)
        self._input = Input(self._limits.input, receiver.drained)
        self._pipes = Pipes(self)
        self._timer: IDelayedCall | None = None
        self._started: Deferred[None] | None = None
        self._ends: list[Deferred[Exit]] = []
        self._exit: Exit | None = None
        self._refusal = ""
        self._status: int | None = None
        self._ran = False
        self._paused = False
        self._closed_early = ""
        self._effects: dict[Effect, Callable[[], None]] = {
            Effect.SPAWN: self._spawn,
            Effect.SAY_STARTED: self._say_started,
            Effect.SAY_REFUSED: self._say_refused,
            Effect.SAY_EXITED: self._say_exited,
            Effect.CLOSE_INPUT: self._input.close,
            Effect.TERMINATE: lambda: self._pipes.order(b"T"),
            Effect.KILL: lambda: self._pipes.order(b"K"),
            Effect.KILL_LAUNCHER: self._kill_launcher,
            Effect.SAY_GONE: self._say_gone,
        }

    @property
    def tail(self) -> str:
        """The last lines of standard error."""
        return self._words.tail

    @property
    def unsent(self) -> int:
        """Bytes that the child has not yet taken, at most; zero while it keeps up."""
        return self._input.unsent

    def start(self) -> Deferred[None]:
        """Start it; fires once the command runs, fails with `LaunchError`. To be called once.

        Raises:
            RuntimeError: it was started, or ended, before.
        """
        if self.state is not State.NEW:
            raise RuntimeError(f"{self.name} was started before: a child is used once")
        self._started = started = Deferred[None]()
        self._happens(Happened.LAUNCH)
        return started

    def write(self, data: bytes) -> bool:
        """Write to its standard input; False if nothing of it was taken.

        That is so if it is not running, is being ended, has closed its input, or more than ``ChildLimits.input``
        bytes would wait for it.
        """
        return self._input.write(data)

    def pause(self) -> None:
        """Read no more of its standard output for now: it will have to wait."""
        self._paused = True
        self._pipes.pause(STDOUT)

    def resume(self) -> None:
        """Read its standard output on."""
        self._paused = False
        if self._ran:
            self._pipes.resume(STDOUT)

    def end(self, grace: Grace | None = None) -> Deferred[Exit]:
        """End it in steps: its input is closed, then SIGTERM, then SIGKILL, to all that it has started too.

        Fires once nothing of it is left, and all of it is reaped. It may be called at any time, and again: a shorter
        grace than that under way counts. A child that did not start gives an `Exit` without a code.
        """
        if self.state is State.GONE:
            return succeed(self._exit or Exit(None))
        ended = Deferred[Exit]()
        self._ends.append(ended)
        if grace is not None:
            self._grace = grace
        before = self.state
        self._happens(Happened.END)
        if self.state is before and self._timer is not None and self._timer.active():
            remaining = self._timer.getTime() - self._reactor.seconds()
            self._timer.reset(min(remaining, self._patience()))
        return ended

    # What the launcher and its pipes say.

    def reported(self, line: bytes) -> None:
        """A line of the launcher's came."""
        what, _, rest = line.partition(b" ")
        if what == b"started":
            self.pid = int(rest)
            self._happens(Happened.STARTED)
        elif what == b"failed":
            self._refusal = self._why(*rest.split(b" "))
            self._happens(Happened.REFUSED)
        else:
            self._status = int(rest)
            self._happens(Happened.EXITED)

    def gone(self, status: int) -> None:
        """The launcher has ended."""
        if self._exit is None and self._status is None:
            # Nobody is left to say how the command ended; without its parent it has been killed.
            self._status = status
            self._refusal = self._refusal or f"its launcher ended with {Exit.from_status(status)}"
            if self.pid is not None:
                _kill_group(self.pid)
        self._happens(Happened.GONE)

    def wrote(self, data: bytes) -> None:
        """Standard output came."""
        if self._ran:
            self._receiver.data_received(data)

    def said(self, data: bytes) -> None:
        """Standard error came."""
        self._words.feed(data)

    def shut(self, what: str) -> None:
        """It has closed its standard input or output; it may do so before the launcher says that it runs."""
        if what == "input":
            self._input.stopProducing()
        if self.state is State.STARTING:
            self._closed_early = what
        elif self.state is State.RUNNING:
            self._receiver.closed(what)

    # The table, and its effects.

    def _happens(self, happened: Happened) -> None:
        before = self.state
        self.state, effects = step(before, happened)
        if self.state is not before or happened is Happened.DUE:
            self._set_timer()
        if happened is Happened.DUE and before is State.STARTING:
            self._refusal = f"it did not run within {self._limits.start:g} s"
        for effect in effects:
            self._effects[effect]()

    def _set_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        if self.state not in {State.NEW, State.RUNNING, State.GONE}:
            self._timer = self._reactor.callLater(self._patience(), self._happens, Happened.DUE)

    def _patience(self) -> float:
        patience = {
            State.STARTING: self._limits.start,
            State.CLOSING: self._grace.close,
            State.TERMINATING: self._grace.terminate,
        }
        return patience.get(self.state, self._grace.kill)

    def _spawn(self) -> None:
        argv = [sys.executable, "-I", "-S", LAUNCHER]
        try:
            self._pipes.spawn(self._reactor, argv, inherited_environment(), self._limits.words)
        except OSError as error:
            self._refusal = f"{sys.executable}: {error.strerror or error}"
            self._happens(Happened.GONE)
            return
        # Whoever hears of it hears first that it runs.
        self._pipes.pause(STDOUT)
        self._pipes.order(self._command.order(os.getpid(), self._limits.orphan_grace))

    def _say_started(self) -> None:
        self._ran = True
        self._input.attach(self._pipes.pipe(STDIN))
        if self._started is not None:
            self._started.callback(None)
        if not self._paused:
            self._pipes.resume(STDOUT)
        if self._closed_early and self.state is State.RUNNING:
            self._receiver.closed(self._closed_early)

    def _say_refused(self) -> None:
        if self._started is not None:
            why = self._refusal or "it was ended before it ran"
            self._pipes.drain(STDERR)
            started, self._started = self._started, None
            started.errback(LaunchError(f"{self.name} could not be started: {why}", self.tail))

    def _say_exited(self) -> None:
        if self._exit is not None or self._status is None or not self._ran:
            return
        for fd in (STDOUT, STDERR):
            self._pipes.drain(fd)
        wrapped = self._command.sandbox.kind == "bwrap"
        self._exit = Exit.from_status(self._status, self.tail, wrapped=wrapped)
        self._receiver.ended(self._exit)

    def _say_gone(self) -> None:
        self._words.finish()
        ends, self._ends = self._ends, []
        for ended in ends:
            ended.callback(self._exit or Exit(None, None, self.tail))

    def _kill_launcher(self) -> None:
        log.error("{child}: not ended by SIGKILL; killing its launcher", child=self.name)
        if self.pid is not None:
            _kill_group(self.pid)
        self._pipes.kill()

    def _why(self, failed: bytes, number: bytes) -> str:
        reason = os.strerror(int(number))
        if failed == b"chdir":
            return f"its folder {self._command.cwd}: {reason}"
        if failed == b"exec":
            program = self._command.sandbox.wrap(self._command.argv, self._command.cwd)[0]
            path = self._command.environment().get("PATH", "")
            where = "" if "/" in program else f" (looked for in PATH={path})"
            return f"{program}: {reason}{where}"
        return f"its {failed.decode()}: {reason}"

    def _log(self, line: str, left_out: int) -> None:
        if left_out:
            log.info("{child}: ({count} lines left out)", child=self.name, count=left_out)
        log.info("{child}: {line}", child=self.name, line=line)


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except OSError:
        # It has ended already.
        return
