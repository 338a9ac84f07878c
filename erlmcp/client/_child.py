"""The wire to a child process: newline-delimited JSON over its standard input and output.

Many servers print to their standard output what is no message; that is reported and skipped here.
"""

import re
from dataclasses import replace
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from erlmcp.client._stream import PIECE, StreamLimits, StreamWire
from erlmcp.client._wire import Inbox, WireError, WireMaker
from erlmcp.processes import Child, ChildLimits, Command, Exit, Grace, LaunchError

PATIENCE: Final = 0.25
"""Seconds after a child has closed a stream of its own in which it may still be found to have ended, and how."""

# An object with members. Whatever else has a brace (a Python dict, say) is left to what reads messages.
_OBJECT = re.compile(rb"\s*\{\s*[\"}]")


def child_wires(
    reactor: Any,
    command: Command,
    name: str = "",
    *,
    limits: StreamLimits | None = None,
    child: ChildLimits | None = None,
    grace: Grace | None = None,
) -> WireMaker:
    """What makes wires to children that run a command, one child each.

    Args:
        reactor: spawns them and tells the time.
        command: what to run.
        name: what each child is called in logs and errors; the program's name unless given.
        limits: the bounds of each wire; ``connect`` and ``close`` are not used.
        child: the bounds of each child.
        grace: how each is ended.
    """
    return lambda: ChildWire(reactor, command, name or command.argv[0], limits, child=child, grace=grace)


class ChildWire(StreamWire):
    """A wire to one child, which lives as long as the wire.

    Args:
        reactor: spawns it and tells the time.
        command: what to run.
        name: what it is called in logs and errors.
        limits: the wire's bounds.
        child: the child's bounds; what may wait for it to read is the wire's matter.
        grace: how it is ended.

    Attributes:
        child: the child process.
    """

    def __init__(
        self,
        reactor: Any,
        command: Command,
        name: str,
        limits: StreamLimits | None = None,
        *,
        child: ChildLimits | None = None,
        grace: Grace | None = None,
    ) -> None:
        super().__init__(reactor, name, limits)
        # What is handed to the child is at most all that may wait, twice: as the last piece, and when the wire closes.
        bounds = replace(child or ChildLimits(), input=2 * (self._limits.outgoing + PIECE))
        self.child = Child(reactor, command, name, self, limits=bounds, grace=grace)
        self._linger: IDelayedCall | None = None
        self._started = False

    def open(self, inbox: Inbox) -> Deferred[None]:
        """See `Wire.open`."""
        self._inbox = inbox
        self._started = True
        opening = self.child.start()
        opening.addCallbacks(self._opened, self._refused)
        return opening

    def pause(self) -> None:
        """See `Wire.pause`: the child has to wait before it can write more."""
        self.child.pause()

    def resume(self) -> None:
        """See `Wire.resume`."""
        self.child.resume()

    def close(self) -> Deferred[None]:
        """See `Wire.close`: the child is ended in steps; fires when nothing of it is left."""
        if not self._started:
            return succeed(None)
        if not self._closing:
            self._closing = True
            if self._end() is not None:
                self._flush_all()
            self._stop_lingering()
            # A child that waits for us to read would not come to its end.
            self.child.resume()
        closed = Deferred[None]()
        self.child.end().addCallback(lambda _: closed.callback(None))
        return closed

    def _write(self, data: bytes) -> None:
        self.child.write(data)

    def _waiting(self) -> int:
        return self.child.unsent

    def _is_message(self, line: bytes) -> bool:
        if line[:2] == b'{"' or _OBJECT.match(line) is not None:
            return True
        if not line.lstrip().startswith(b"["):
            return False
        # A batch, or a line of a log such as "[INFO] ready".
        try:
            msgspec.json.decode(line, type=list[msgspec.Raw])
        except (msgspec.MsgspecError, ValueError):
            return False
        return True

    # The child's (`erlmcp.processes.Receiver`).

    def data_received(self, data: bytes) -> None:
        """See `Receiver.data_received`."""
        self._received(data)

    def drained(self) -> None:
        """See `Receiver.drained`."""
        if self._turn is None and self._open:
            self._flush()

    def closed(self, what: str) -> None:
        """See `Receiver.closed`: without its input or output a server is of no use."""
        if self._linger is None and self._open:
            self._linger = self._reactor.callLater(PATIENCE, self._give_up, what)

    def ended(self, exit: Exit) -> None:  # noqa: A002 - the interface's name
        """See `Receiver.ended`."""
        self._stop_lingering()
        # Its last words go apart: not everybody who hears of its end may read them.
        self._lose(WireError(f"{self.peer} ended with {exit}", tail=exit.tail))

    def _opened(self, _: None) -> None:
        self._open = not self._closing

    def _refused(self, failure: Failure) -> None:
        failure.trap(LaunchError)
        error = failure.value
        raise WireError(str(error), unsent=True, tail=getattr(error, "tail", ""))

    def _give_up(self, what: str) -> None:
        self._linger = None
        self._lose(WireError(f"{self.peer} lives, but has closed its standard {what}", tail=self.child.tail))
        self.child.end()

    def _stop_lingering(self) -> None:
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
