"""Load over HTTP: wrk where it is installed, else keep-alive connections of our own."""

import json
import select
import shutil
import socket
import ssl
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.lines import call, handshake_call
from benchmarks.processes import load_core, run_pinned

HANDSHAKE = "2025-11-25"
HEADERS = (
    "Accept: application/json, text/event-stream",
    "Content-Type: application/json",
    "MCP-Protocol-Version: 2026-07-28",
    "Mcp-Method: tools/call",
    "Mcp-Name: echo",
)
SCRIPT = Path(__file__).resolve().parent / "echo.lua"


def request(port: int, session: str = "", body: bytes | None = None) -> bytes:
    """One ``tools/call`` of echo as an HTTP/1.1 request: a modern one, or one of a handshake session, or its `body`."""
    if session:
        era = f"MCP-Protocol-Version: {HANDSHAKE}\r\nMcp-Session-Id: {session}\r\n"
        return _post(port, body or handshake_call(1).strip(), era)
    era = "MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\nMcp-Name: echo\r\n"
    return _post(port, call(1).strip(), era)


def listening(port: int, session: str) -> bytes:
    """A GET for the stream of a session."""
    return (
        f"GET /mcp HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: text/event-stream\r\n"
        f"MCP-Protocol-Version: {HANDSHAKE}\r\nMcp-Session-Id: {session}\r\n\r\n"
    ).encode()


def _post(port: int, body: bytes, headers: str) -> bytes:
    head = (
        "POST /mcp HTTP/1.1\r\n"
        f"Host: 127.0.0.1:{port}\r\n"
        "Accept: application/json, text/event-stream\r\n"
        "Content-Type: application/json\r\n"
        f"{headers}Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def initialize(port: int, connection: socket.socket) -> str:
    """Open a handshake session; gives its id."""
    greeting = {
        "protocolVersion": HANDSHAKE,
        "capabilities": {},
        "clientInfo": {"name": "bench", "version": "1"},
    }
    message = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": greeting}
    head = exchange(connection, _post(port, json.dumps(message).encode(), "")).partition(b"\r\n\r\n")[0]
    for line in head.decode().split("\r\n"):
        name, _, value = line.partition(":")
        if name.lower() == "mcp-session-id":
            return value.strip()
    raise RuntimeError(f"no session: {head!r}")


def sessions(port: int, number: int) -> list[str]:
    """The ids of so many new sessions."""
    with connect(port, tls=False) as connection:
        return [initialize(port, connection) for _ in range(number)]


def connect(port: int, *, tls: bool) -> socket.socket:
    """One connection on loopback; the certificate is self-signed, so it is not verified."""
    plain = socket.create_connection(("127.0.0.1", port), timeout=10.0)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if not tls:
        return plain
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(plain, server_hostname="localhost")


def exchange(connection: socket.socket, message: bytes) -> bytes:
    """Send one request and read its whole answer (Content-Length or chunked); gives head and body."""
    connection.sendall(message)
    return _answer(connection)


def _answer(connection: socket.socket) -> bytes:
    data = b""
    while True:
        part = connection.recv(65536)
        if not part:
            raise RuntimeError(f"the server closed the connection after {data[:300]!r}")
        data += part
        head, found, body = data.partition(b"\r\n\r\n")
        if not found:
            continue
        low = head.lower()
        if b"transfer-encoding: chunked" in low:
            if body.endswith(b"0\r\n\r\n"):
                return data
        else:
            _, _, rest = low.partition(b"content-length:")
            if len(body) >= int(rest.split(b"\r\n", 1)[0]):
                return data


def check(port: int, *, tls: bool = False, session: str = "") -> None:
    """Make one call and see that its answer is an echo."""
    with connect(port, tls=tls) as connection:
        answer = exchange(connection, request(port, session))
    if not answer.startswith(b"HTTP/1.1 200") or b'"hi"' not in answer or b'"isError":true' in answer:
        raise RuntimeError(f"this is no echo: {answer[:700]!r}")


def one_at_a_time(port: int, seconds: float, session: str = "") -> float:
    """Call again and again on one connection with one call in flight; gives the median of a call's time in µs."""
    message = request(port, session)
    times = []
    with connect(port, tls=False) as connection:
        end = time.perf_counter() + seconds
        while (begun := time.perf_counter()) < end:
            answer = exchange(connection, message)
            times.append((time.perf_counter() - begun) * 1e6)
            if not answer.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"this is no answer: {answer[:300]!r}")
    return statistics.median(times)


def load(
    port: int, *, seconds: float, connections: int = 32, tls: bool = False, ids: Sequence[str] = ()
) -> dict[str, Any]:
    """Keep `connections` busy for a while, with modern calls, or with those of handshake sessions, in turn.

    Returns:
        ``requests``, ``seconds``, ``errors``, and ``p50_us``, ``p99_us`` where wrk tells them.
    """
    wrk = shutil.which("wrk")
    if wrk is None:
        return _own_load(port, seconds, connections, tls=tls, ids=ids)
    url = f"{'https' if tls else 'http'}://127.0.0.1:{port}/mcp"
    printed = run_pinned(
        [
            wrk,
            "-t1",
            "--timeout",
            "60s",
            f"-c{connections}",
            f"-d{max(1, round(seconds))}s",
            "-s",
            str(SCRIPT),
            url,
        ],
        patience=seconds + 60,
        environment={"MCP_SESSIONS": " ".join(ids)},
    )
    found = [line for line in printed.splitlines() if line.startswith("RESULT ")]
    result: dict[str, Any] = json.loads(found[-1].removeprefix("RESULT "))
    return result


def _own_load(
    port: int, seconds: float, connections: int, *, tls: bool, ids: Sequence[str]
) -> dict[str, Any]:
    """Without wrk: one thread, one request in flight per connection. It tops out long before wrk does."""
    requests = [request(port, session) for session in ids or [""]]
    with load_core():
        opened = [connect(port, tls=tls) for _ in range(connections)]
        of = {one.fileno(): requests[turn % len(requests)] for turn, one in enumerate(opened)}
        by_descriptor = {connection.fileno(): connection for connection in opened}
        poll = select.poll()
        answered = errors = 0
        try:
            for connection in opened:
                poll.register(connection.fileno(), select.POLLIN)
                connection.sendall(of[connection.fileno()])
            begun = time.perf_counter()
            while time.perf_counter() - begun < seconds:
                ready = poll.poll(10_000)
                if not ready:
                    raise RuntimeError("no answer for 10 s")
                for descriptor, _event in ready:
                    connection = by_descriptor[descriptor]
                    answer = _answer(connection)
                    answered += 1
                    errors += not answer.startswith(b"HTTP/1.1 200")
                    connection.sendall(of[descriptor])
            elapsed = time.perf_counter() - begun
        finally:
            for connection in opened:
                connection.close()
    return {"requests": answered, "seconds": elapsed, "errors": errors}
