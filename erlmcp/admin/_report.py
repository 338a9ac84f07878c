"""A daemon's status as people read it."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

_HEAD = ("NAME", "STATE", "SINCE", "RESTARTS", "DETAIL", "LAST ERROR")
_CELL = 100


def as_text(report: Mapping[str, Any]) -> str:
    """The answer to ``status`` as a table.

    Args:
        report: that answer: ``version``, ``pid``, ``unready`` (None if ready), and ``tree``.
    """
    ready = "ready" if report["unready"] is None else f"not ready: {report['unready']}"
    rows = [_HEAD, *_rows(report["tree"], 0)] if report["tree"] else []
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))] if rows else []
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    busy = f"{report.get('in_flight', 0)} in flight, {report.get('parked', 0)} parked"
    return "\n".join([f"erlmcp {report['version']}, pid {report['pid']}: {ready}; {busy}", *lines])


def _rows(status: Mapping[str, Any], depth: int) -> Iterator[tuple[str, ...]]:
    since = datetime.fromtimestamp(status["since"], UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    error = _cell(str(status["error"] or status["detail"].get("refusing") or ""))
    said = _cell(", ".join(_words(status["detail"])))
    yield ("  " * depth + status["name"], status["state"], since, str(status["restarts"]), said, error)
    for child in status["children"]:
        yield from _rows(child, depth + 1)


def _words(detail: Mapping[str, Any]) -> Iterator[str]:
    """What a part says of itself, such as an upstream's sessions; what is zero or empty goes without saying."""
    for name, value in detail.items():
        if name == "refusing" or not value:
            continue
        if isinstance(value, str | int | float):
            yield f"{name} {value}"
        elif isinstance(value, list | tuple):
            yield f"{name} {' '.join(map(str, value))}"


def _cell(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _CELL else f"{line[: _CELL - 1]}…"
