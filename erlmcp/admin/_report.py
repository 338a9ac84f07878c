"""A daemon's status as people read it."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

_HEAD = ("NAME", "STATE", "SINCE", "RESTARTS", "LAST ERROR")
_ERROR = 100


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
    return "\n".join([f"erlmcp {report['version']}, pid {report['pid']}: {ready}", *lines])


def _rows(status: Mapping[str, Any], depth: int) -> Iterator[tuple[str, ...]]:
    since = datetime.fromtimestamp(status["since"], UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    error = " ".join(str(status["error"] or status["detail"].get("refusing") or "").split())
    if len(error) > _ERROR:
        error = f"{error[: _ERROR - 1]}…"
    yield ("  " * depth + status["name"], status["state"], since, str(status["restarts"]), error)
    for child in status["children"]:
        yield from _rows(child, depth + 1)
