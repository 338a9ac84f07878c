"""Where log events are written: in which form, from which level on, and how often the same may be said."""

import time
from collections.abc import Callable
from typing import Any, Final, TextIO

import msgspec
from twisted.logger import ILogObserver, LogLevel
from zope.interface import implementer

from erlmcp.telemetry._records import Event, has_traceback, journal_lines, json_line, level_of, text_line

FORMS: Final = {"text": text_line, "json": json_line, "journal": journal_lines}

WINDOW: Final = 60.0
"""Seconds for which repetitions are counted."""
TRACEBACKS: Final = 5
"""How many tracebacks of one tool (prompt, resource) a window takes; after them, a line each."""
LINES: Final = 600
"""How many lines of one tool a window takes; after them, their number."""
_MOST_KEYS: Final = 512


class _Burst:
    __slots__ = ("began", "count")

    def __init__(self, began: float) -> None:
        self.began = began
        self.count = 0


class Allowance(msgspec.Struct, frozen=True):
    """What may be said of one more event of a kind.

    Attributes:
        line: whether it is written at all.
        traceback: whether in full.
        last: whether it is the last in full of this window.
        omitted: lines of its kind that the window before left out.
    """

    line: bool
    traceback: bool
    last: bool = False
    omitted: int = 0


class Bursts:
    """Counts what repeats. Pure; the number of kinds is bounded, the one begun first is forgotten first."""

    def __init__(self) -> None:
        self._bursts: dict[Any, _Burst] = {}

    def take(self, key: Any, now: float) -> Allowance:
        """Count one more of a kind.

        Args:
            key: its kind.
            now: seconds of a clock that does not go backwards.
        """
        omitted = 0
        burst = self._bursts.get(key)
        if burst is not None and now - burst.began >= WINDOW:
            omitted = max(0, burst.count - LINES)
            del self._bursts[key]
            burst = None
        if burst is None:
            if len(self._bursts) >= _MOST_KEYS:
                del self._bursts[next(iter(self._bursts))]
            burst = self._bursts[key] = _Burst(now)
        burst.count += 1
        count = burst.count
        return Allowance(count <= LINES, count <= TRACEBACKS, count == TRACEBACKS, omitted)


@implementer(ILogObserver)
class Output:
    """Writes events to a stream.

    Args:
        stream: open for writing text; flushed after each event.
        form: ``text``, ``json`` or ``journal``.
        level: the lowest level written.
        monotonic: for repetitions.
    """

    def __init__(
        self,
        stream: TextIO,
        form: str,
        *,
        level: str = "info",
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream
        self._line = FORMS[form]
        self._level = LogLevel.levelWithName(level)
        self._monotonic = monotonic
        self._bursts = Bursts()

    def __call__(self, event: Event) -> None:
        """Write an event, or count it."""
        level = level_of(event)
        if level < self._level:
            return
        # Twisted's older kind of event without any text: nothing to be written.
        if event.get("log_format") is None and not has_traceback(event):
            return
        traceback = True
        if "reference" in event and level is not LogLevel.info:
            # Of a request that went wrong: whoever can make requests must not be able to fill the disk.
            key = (event.get("log_namespace"), event["log_format"], event.get("method"), event.get("name"))
            allowed = self._bursts.take(key, self._monotonic())
            if allowed.omitted:
                self._write({**_bare(event), "omitted": allowed.omitted, "log_format": _OMITTED})
            if not allowed.line:
                return
            traceback = allowed.traceback
            if allowed.last:
                event = {**event, "log_format": event["log_format"] + _LAST}
        self._write(event, traceback=traceback)

    def _write(self, event: Event, *, traceback: bool = False) -> None:
        text = self._line(event, traceback=traceback)
        self._stream.write(text)
        self._stream.flush()


_OMITTED: Final = "{omitted} more failures of {method} {name} were left out"
_LAST: Final = "; further tracebacks of this are left out for a minute"


def _bare(event: Event) -> Event:
    kept = ("log_namespace", "log_level", "log_time", "method", "name")
    return {key: event[key] for key in kept if key in event}
