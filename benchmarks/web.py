"""Load over HTTP: wrk where it is installed, else keep-alive connections of our own."""

import json
import select
import shutil
import socket
import ssl
import time
from pathlib import Path
from typing import Any

from benchmarks.lines import call
from benchmarks.processes import load_core, run_pinned

SCRIPT = Path(__file__).resolve().parent / "echo.lua"


def request(port: int) -> bytes:
    """One ``tools/call`` of echo as an HTTP/1.1 request."""
    body = call(1).strip()
    return (
        b"POST /mcp HTTP/1.1\r\n"
        b"Host: 127.0.0.1:%d\r\n"
        b"Accept: application/json, text/event-stream\r\n"
        b"Content-Type: application/json\r\n"
        b"MCP-Protocol-Version: 2026-07-28\r\n"
        b"Mcp-Method: tools/call\r\n"
        b"Mcp-Name: echo\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (port, len(body), body)
    )


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


def check(port: int, *, tls: bool = False) -> None:
    """Make one call and see that its answer is an echo."""
    with connect(port, tls=tls) as connection:
        answer = exchange(connection, request(port))
    if not answer.startswith(b"HTTP/1.1 200") or b'"hi"' not in answer or b'"isError":true' in answer:
        raise RuntimeError(f"this is no echo: {answer[:700]!r}")


def load(port: int, *, seconds: float, connections: int = 32, tls: bool = False) -> dict[str, Any]:
    """Keep `connections` busy for a while.

    Returns:
        ``requests``, ``seconds``, ``errors``, and ``p50_us``, ``p99_us`` where wrk tells them.
    """
    wrk = shutil.which("wrk")
    if wrk is None:
        return _own_load(port, seconds, connections, tls=tls)
    url = f"{'https' if tls else 'http'}://127.0.0.1:{port}/mcp"
    printed = run_pinned(
        [wrk, "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "-s", str(SCRIPT), url],
        patience=seconds + 60,
    )
    found = [line for line in printed.splitlines() if line.startswith("RESULT ")]
    result: dict[str, Any] = json.loads(found[-1].removeprefix("RESULT "))
    return result


def _own_load(port: int, seconds: float, connections: int, *, tls: bool) -> dict[str, Any]:
    """Without wrk: one thread, one request in flight per connection. It tops out long before wrk does."""
    message = request(port)
    with load_core():
        opened = [connect(port, tls=tls) for _ in range(connections)]
        by_descriptor = {connection.fileno(): connection for connection in opened}
        poll = select.poll()
        answered = errors = 0
        try:
            for connection in opened:
                poll.register(connection.fileno(), select.POLLIN)
                connection.sendall(message)
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
                    connection.sendall(message)
            elapsed = time.perf_counter() - begun
        finally:
            for connection in opened:
                connection.close()
    return {"requests": answered, "seconds": elapsed, "errors": errors}
