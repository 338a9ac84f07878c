"""What is shown while a call runs: its progress, and that it is alive."""

from typing import Final, TextIO

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from erlmcp.cli._forms import printable
from erlmcp.client import Progress

_WIDTH: Final = 24
_QUIET: Final = 10.0
"""Seconds between lines where there is no terminal to draw on."""


class Alive:
    """Shows on a stream how a call goes: a line that is drawn anew on a terminal, a line now and then elsewhere.

    Args:
        stream: where.
        clock: the reactor.
        drawing: whether the stream is a terminal.
    """

    def __init__(self, stream: TextIO, clock: IReactorTime, *, drawing: bool) -> None:
        self._stream = stream
        self._clock = clock
        self._drawing = drawing
        self._began = clock.seconds()
        self._progress: Progress | None = None
        self._drawn = 0
        self._held = False
        self._loop = LoopingCall(self._show)
        self._loop.clock = clock

    def start(self) -> None:
        """Begin: nothing is shown for the first second."""
        self._loop.start(1.0 if self._drawing else _QUIET, now=False)

    def stop(self) -> None:
        """End, and leave nothing of the line."""
        if self._loop.running:
            self._loop.stop()
        self._wipe()

    def hold(self) -> None:
        """Somebody else has the terminal."""
        self._held = True
        self._wipe()

    def resume(self) -> None:
        """The terminal is free again."""
        self._held = False

    def progress(self, progress: Progress) -> None:
        """The call has got on."""
        self._progress = progress
        self._show()

    def _show(self) -> None:
        if self._held:
            return
        elapsed = self._clock.seconds() - self._began
        line = describe(self._progress, elapsed, drawing=self._drawing)
        if self._drawing:
            self._stream.write("\r" + line + " " * max(0, self._drawn - len(line)))
            self._drawn = len(line)
        else:
            self._stream.write(line + "\n")
        self._stream.flush()

    def _wipe(self) -> None:
        if self._drawn:
            self._stream.write("\r" + " " * self._drawn + "\r")
            self._stream.flush()
            self._drawn = 0


def describe(progress: Progress | None, elapsed: float, *, drawing: bool = False) -> str:
    """One line: how far, of how much, what, and since when."""
    since = f"{elapsed:.0f} s"
    if progress is None:
        return f"waiting for the tool ({since})"
    what = f" {printable(progress.message).splitlines()[0][:60]}" if progress.message else ""
    if not progress.total:
        return f"{progress.done:g}{what} ({since})"
    part = min(max(progress.done / progress.total, 0.0), 1.0)
    filled = round(part * _WIDTH)
    bar = f"[{'#' * filled}{'.' * (_WIDTH - filled)}] " if drawing else ""
    return f"{bar}{part:4.0%} {progress.done:g}/{progress.total:g}{what} ({since})"
