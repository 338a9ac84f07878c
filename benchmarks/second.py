"""Load over HTTP/2: h2load, of nghttp2."""

import re
import shutil
from pathlib import Path
from typing import Any

from benchmarks.lines import call
from benchmarks.processes import run_pinned
from benchmarks.web import HEADERS

_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


def is_there() -> bool:
    """Whether h2load is installed."""
    return shutil.which("h2load") is not None


def load(
    port: int, folder: Path, *, requests: int, connections: int, streams: int, tls: bool
) -> dict[str, Any]:
    """Make so many modern calls of echo.

    Args:
        port: on loopback.
        folder: where the body of the calls may be written.
        requests: how many calls.
        connections: how many connections.
        streams: how many calls are under way on each.
        tls: whether it is HTTP/2 over TLS (ALPN), or h2c.

    Returns:
        ``requests``, ``seconds`` and ``errors``.
    """
    body = folder / "call.json"
    body.write_bytes(call(1).strip())
    fields = [part for line in HEADERS for part in ("-H", line)]
    url = f"{'https' if tls else 'http'}://127.0.0.1:{port}/mcp"
    amount = [f"-n{requests}", f"-c{connections}", f"-m{streams}", "-t1"]
    printed = run_pinned(["h2load", *amount, "-d", str(body), *fields, url], patience=120)
    finished = re.search(r"finished in ([\d.]+)(us|ms|s),", printed)
    statuses = re.search(r"status codes: (\d+) 2xx", printed)
    if finished is None or statuses is None:
        raise RuntimeError(f"h2load says nothing that is understood:\n{printed[-1000:]}")
    return {
        "requests": requests,
        "seconds": float(finished[1]) * _SECONDS[finished[2]],
        "errors": requests - int(statuses[1]),
    }
