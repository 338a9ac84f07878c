"""A worker's log: written as one JSON event a line, and read by its parent, who decides what becomes of it."""

from collections.abc import Callable
from typing import Any, Final, TextIO

from twisted.logger import (
    ILogObserver,
    Logger,
    LogLevel,
    eventAsJSON,
    eventFromJSON,
    globalLogBeginner,
    globalLogPublisher,
)
from zope.interface import provider

log = Logger()

LONGEST: Final = 256 * 1024
"""Bytes of one line; what is longer is cut into several, and is no event."""
_DROPPED: Final = frozenset({"log_logger", "log_source", "log_failure"})


def log_to_parent(stream: TextIO) -> None:
    """Write all that is logged in this process for the parent, and what is printed too.

    Args:
        stream: what the parent reads.
    """

    @provider(ILogObserver)
    def observe(event: Any) -> None:
        kept = {key: value for key, value in event.items() if key not in _DROPPED}
        failure = event.get("log_failure")
        if failure is not None:
            kept["log_traceback"] = failure.getTraceback()
        try:
            line = eventAsJSON(kept)
        except Exception:  # noqa: BLE001 - a field that cannot be told must not silence the rest
            line = eventAsJSON({"log_format": "an event could not be logged", "log_level": LogLevel.error})
        stream.write(line + "\n")
        stream.flush()

    globalLogBeginner.beginLoggingTo([observe], discardBuffer=False, redirectStandardIO=True)


class LogReader:
    """Reads what one worker writes, and logs it here.

    Args:
        slot: the worker's number, which goes with each event.
        plain: whether it is text, and no events.
        publish: takes the events.
    """

    def __init__(
        self, slot: int, *, plain: bool = False, publish: Callable[[Any], None] = globalLogPublisher
    ) -> None:
        self._slot = slot
        self._plain = plain
        self._publish = publish
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Read some of it."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._line(line)
        if len(self._rest) > LONGEST:
            line, self._rest = self._rest, b""
            self._line(line)

    def end(self) -> None:
        """No more will come."""
        if self._rest:
            self._line(self._rest)
            self._rest = b""

    def _line(self, line: bytes) -> None:
        text = line.decode("utf-8", "replace").rstrip("\r")
        if not text:
            return
        event = None if self._plain else _read(text)
        if event is None:
            log.warn("worker {worker}: {text}", worker=self._slot, text=text)  # noqa: G010 - Twisted's name
        else:
            event["worker"] = self._slot
            self._publish(event)


def _read(text: str) -> dict[str, Any] | None:
    try:
        event = eventFromJSON(text)
    except (ValueError, KeyError, TypeError):
        return None
    return event if isinstance(event, dict) and "log_level" in event else None
