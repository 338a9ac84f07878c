"""Log events as lines: text, JSON, or text that systemd's journal takes priorities from. Pure.

What peers send may stand in an event: no line of theirs can pass for one of ours, nor speak to a terminal.
"""

import re
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from twisted.logger import LogLevel, formatEvent, formatTime

Event = dict[str, Any]

PRIORITIES: Final = {
    LogLevel.debug: 7,
    LogLevel.info: 6,
    LogLevel.warn: 4,
    LogLevel.error: 3,
    LogLevel.critical: 2,
}
"""syslog(3)'s, which the journal's are."""

LONGEST_MESSAGE: Final = 8 * 1024
LONGEST_TRACEBACK: Final = 16 * 1024
LONGEST_FIELD: Final = 1024
MOST_FIELDS: Final = 32

_UNSAFE: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_OURS: Final = "erlmcp"
_TAKEN: Final = frozenset({"time", "level", "priority", "logger", "message", "traceback"})


def text_line(event: Event, *, traceback: bool) -> str:
    """An event as twistd writes it; further lines of it begin with a tab.

    Args:
        event: the event.
        traceback: whether its failure is told in full.
    """
    system = event.get("log_system") or f"{event.get('log_namespace', '-')}#{level_of(event).name}"
    lines = _lines(event, traceback=traceback)
    return f"{formatTime(event.get('log_time'))} [{_safe(str(system))}] " + "\n\t".join(lines) + "\n"


def journal_lines(event: Event, *, traceback: bool) -> str:
    """An event for the journal, which has the time itself: each line with its priority (sd-daemon(3))."""
    mark = f"<{PRIORITIES[level_of(event)]}>"
    logger = _safe(str(event.get("log_namespace", "-")))
    first, *rest = _lines(event, traceback=traceback)
    return "".join([f"{mark}[{logger}] {first}\n", *(f"{mark}{line}\n" for line in rest)])


def json_line(event: Event, *, traceback: bool) -> str:
    """An event as one JSON object on one line.

    ``time`` (RFC 3339, UTC), ``level``, ``priority``, ``logger`` and ``message`` are always there, ``traceback`` where
    something failed; then, of erlmcp's own events, their fields: numbers, text and truth values as they are.
    """
    level = level_of(event)
    record: dict[str, Any] = {
        "time": _utc(event.get("log_time")),
        "level": level.name,
        "priority": PRIORITIES[level],
        "logger": str(event.get("log_namespace", "-")),
        "message": _message(event),
    }
    if traceback and has_traceback(event):
        record["traceback"] = _traceback(event)
    record.update(fields_of(event))
    try:
        return msgspec.json.encode(record).decode() + "\n"
    except UnicodeEncodeError:
        safe = {key: _safe(value) if isinstance(value, str) else value for key, value in record.items()}
        return msgspec.json.encode(safe).decode() + "\n"


def has_traceback(event: Event) -> bool:
    """Whether it tells of a failure: here, as ``log_failure``, or in another process, as the text ``log_traceback``."""
    return event.get("log_failure") is not None or isinstance(event.get("log_traceback"), str)


def fields_of(event: Event) -> dict[str, Any]:
    """The fields of one of erlmcp's own events, bounded; those of others may hold anything, and stay out."""
    if str(event.get("log_namespace", "")).partition(".")[0] != _OURS:
        return {}
    found: dict[str, Any] = {}
    for key, value in event.items():
        if key.startswith("log_") or key in _LEGACY or value is None:
            continue
        found[f"{key}_" if key in _TAKEN else key] = _scalar(value)
        if len(found) >= MOST_FIELDS:
            break
    return found


_LEGACY: Final = frozenset({"system", "format", "isError", "failure", "why", "printed"})
"""What Twisted adds to events for observers of its older kind."""


def _lines(event: Event, *, traceback: bool) -> list[str]:
    lines = f"{_whose(event)}{_message(event)}".split("\n")
    if traceback and has_traceback(event):
        lines += _safe(_traceback(event)).rstrip("\n").split("\n")
    return lines


def _whose(event: Event) -> str:
    """Which of several processes says so: without it "stopped" would be read as the daemon's own word."""
    worker = event.get("worker")
    if not isinstance(worker, int) or str(event.get("log_format", "")).startswith("worker {worker}"):
        return ""
    return f"worker {worker}: "


def _message(event: Event) -> str:
    text = formatEvent(event)
    if len(text) > LONGEST_MESSAGE:
        text = text[:LONGEST_MESSAGE] + "…"
    return _safe(text)


def _traceback(event: Event) -> str:
    failure = event.get("log_failure")
    try:
        text: str = event["log_traceback"] if failure is None else failure.getTraceback()
    except Exception as error:  # noqa: BLE001 - an exception's own methods may fail
        return f"(a traceback that cannot be told: {type(error).__name__})"
    # Its end says what went wrong.
    return text if len(text) <= LONGEST_TRACEBACK else "…" + text[-LONGEST_TRACEBACK:]


def _scalar(value: Any) -> bool | int | float | str:
    if isinstance(value, (bool, float)) or (isinstance(value, int) and abs(value) < 1 << 63):
        return value
    return _safe(_readable(value)[:LONGEST_FIELD])


def _readable(value: Any) -> str:
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001 - it is somebody else's object
        return f"({type(value).__name__}, which cannot be told: {type(error).__name__})"


def _safe(text: str) -> str:
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def level_of(event: Event) -> Any:
    """An event's level, `info` where it has none."""
    level = event.get("log_level")
    return level if level in PRIORITIES else LogLevel.info


def _utc(when: Any) -> str:
    try:
        moment = datetime.fromtimestamp(float(when), UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return ""
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
