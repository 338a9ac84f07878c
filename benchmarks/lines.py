"""Load over newline-delimited JSON: stdio pipes and TCP sockets, one call in flight or many."""

import os
import select
import socket
import time
from collections.abc import Sequence
from typing import Self

from benchmarks.processes import Server

_ENVELOPE = (
    '"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28",'
    '"io.modelcontextprotocol/clientInfo":{"name":"bench","version":"1"},'
    '"io.modelcontextprotocol/clientCapabilities":{}}'
)
COUNT = 8192  # ids repeat after so many; far more than are ever in flight
PATIENCE = 10.0


def call(number: int) -> bytes:
    """One ``tools/call`` of echo as a line."""
    return (
        f'{{"jsonrpc":"2.0","id":{number},"method":"tools/call","params":'
        f'{{"name":"echo","arguments":{{"message":"hi"}},{_ENVELOPE}}}}}\n'
    ).encode()


def handshake_call(number: int) -> bytes:
    """The same for a client that has a session."""
    return (
        f'{{"jsonrpc":"2.0","id":{number},"method":"tools/call","params":'
        '{"name":"echo","arguments":{"message":"hi"}}}\n'
    ).encode()


LINES = [call(number) for number in range(1, COUNT + 1)]
HANDSHAKE_LINES = [handshake_call(number) for number in range(1, COUNT + 1)]


class Wire:
    """One connection's two file descriptors and what is in flight on them."""

    def __init__(self, read: int, write: int, owner: socket.socket | None = None) -> None:
        self.read = read
        self.write = write
        self.owner = owner
        self.lines = LINES
        self.next = 0
        self.in_flight = 0

    @classmethod
    def to_pipes(cls, server: Server) -> Self:
        """The pipes of a stdio server."""
        process = server.running
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the server was not started with pipes")
        return cls(process.stdout.fileno(), process.stdin.fileno())

    @classmethod
    def to_port(cls, port: int) -> Self:
        """A TCP connection on loopback."""
        owner = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        owner.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        owner.settimeout(None)
        return cls(owner.fileno(), owner.fileno(), owner)

    def send(self, count: int) -> None:
        """Write `count` calls."""
        start = self.next % COUNT
        batch = self.lines[start : start + count]
        if len(batch) < count:
            batch = batch + self.lines[: count - len(batch)]
        self.next += count
        self.in_flight += count
        rest = memoryview(b"".join(batch))
        while rest:
            rest = rest[os.write(self.write, rest) :]

    def receive(self) -> bytes:
        """Read what is there; each newline is one answer."""
        data = os.read(self.read, 262144)
        if not data:
            raise RuntimeError("the server closed the connection")
        self.in_flight -= data.count(b"\n")
        return data

    def close(self) -> None:
        """Close the socket, if it is one."""
        if self.owner is not None:
            self.owner.close()


def shake_hands(wire: Wire) -> None:
    """Begin a session of 2025-11-25."""
    greeting = (
        '{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25",'
        '"capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}\n'
    )
    os.write(wire.write, greeting.encode())
    wire.in_flight += 1
    deadline = time.monotonic() + 30.0
    while wire.in_flight:
        _wait([wire], deadline)
        wire.receive()
    os.write(wire.write, b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n')


def check(wire: Wire) -> None:
    """Make one call and see that its answer is an echo, so that no run measures errors."""
    wire.send(1)
    answer = b""
    deadline = time.monotonic() + 30.0
    while wire.in_flight:
        _wait([wire], deadline)
        answer += wire.receive()
    if b'"hi"' not in answer or b'"error"' in answer or b'"isError":true' in answer:
        raise RuntimeError(f"this is no echo: {answer[:500]!r}")


def one_at_a_time(wire: Wire, seconds: float) -> list[float]:
    """Call again and again with one in flight; gives each call's time in µs, sorted."""
    clock = time.perf_counter
    times: list[float] = []
    end = clock() + seconds
    now = clock()
    while now < end:
        begun = now
        wire.send(1)
        while wire.in_flight:
            wire.receive()
        now = clock()
        times.append((now - begun) * 1e6)
    times.sort()
    return times


def pipelined(wires: Sequence[Wire], window: int, seconds: float) -> float:
    """Keep `window` calls in flight on each connection; gives answers per second."""
    poll = select.poll()
    by_descriptor = {wire.read: wire for wire in wires}
    for wire in wires:
        poll.register(wire.read, select.POLLIN)
        wire.send(window)
    answered = 0
    begun = time.perf_counter()
    end = begun + seconds
    while time.perf_counter() < end:
        ready = poll.poll(PATIENCE * 1000)
        if not ready:
            raise RuntimeError(f"no answer for {PATIENCE:.0f} s")
        for descriptor, _event in ready:
            wire = by_descriptor[descriptor]
            before = wire.in_flight
            wire.receive()
            answered += before - wire.in_flight
            if wire.in_flight <= window // 2:
                wire.send(window - wire.in_flight)
    elapsed = time.perf_counter() - begun
    deadline = time.monotonic() + PATIENCE
    for wire in wires:
        while wire.in_flight:
            _wait([wire], deadline)
            wire.receive()
    return answered / elapsed


def _wait(wires: Sequence[Wire], deadline: float) -> None:
    ready, _, _ = select.select([wire.read for wire in wires], [], [], max(0.0, deadline - time.monotonic()))
    if not ready:
        raise RuntimeError("no answer in time")
