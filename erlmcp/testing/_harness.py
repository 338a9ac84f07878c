"""A whole server in memory, on a clock that the test turns."""

from collections.abc import Sequence
from typing import Any

import msgspec
from twisted.internet.task import Clock
from zope.interface import implementer

from erlmcp.catalog import Catalog
from erlmcp.engine import EmbeddedEngine
from erlmcp.interfaces import IBackend, ICounters, IEngine, IMiddleware, Request
from erlmcp.protocol import KeyRing
from erlmcp.server import Gates, Server
from erlmcp.testing._exchange import MemoryExchange
from erlmcp.testing._gates import permissive_gates


@implementer(ICounters)
class Counted:
    """Keeps what was counted."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        self.errors: list[tuple[str, int]] = []

    def request(self, request: Request, outcome: str, seconds: float) -> None:
        """See `ICounters`."""
        del seconds
        self.requests.append((request.method, outcome))

    def error(self, method: str, code: int) -> None:
        """See `ICounters`."""
        self.errors.append((method, code))


class Harness:
    """Serves backends to a test, through everything but a transport.

    Attributes:
        clock: the server's clock, for deadlines and limits.
        server: the server.
        channel: its channel, to hand raw messages to.
        gates, counters, catalog: what the pipeline was given.

    Args:
        backends: providers, or other backends.
        gates: instead of gates that let everything through.
        clock: the clock to run on; None for one of its own.
        middleware, options: passed on to `erlmcp.server.Server`.
    """

    def __init__(
        self,
        *backends: IBackend,
        gates: Gates | None = None,
        middleware: Sequence[IMiddleware] = (),
        key_ring: KeyRing | None = None,
        engine: IEngine | None = None,
        clock: Clock | None = None,
        **options: Any,
    ) -> None:
        self.clock = clock or Clock()
        self.catalog = Catalog(backends)
        self.gates = gates or permissive_gates(self.catalog, self.clock)
        self.counters = Counted()
        self.engine = engine or EmbeddedEngine(self.clock, wall=self.clock.seconds, steady=self.clock.seconds)
        self.server = Server(
            name="test",
            version="1.0",
            catalog=self.catalog,
            gates=self.gates,
            counters=self.counters,
            key_ring=key_ring or KeyRing([KeyRing.generate()]),
            engine=self.engine,
            clock=self.clock,
            middleware=middleware,
            wall_clock=self.clock.seconds,
            seconds=self.clock.seconds,
            **options,
        )
        self.channel = self.server.channel()
        self._ids = 0

    def send(
        self,
        method: str,
        params: dict[str, Any] | None = None,
        *,
        capabilities: dict[str, Any] | None = None,
        meta: dict[str, Any] | None = None,
        exchange: MemoryExchange | None = None,
        id: int | str | None = None,  # noqa: A002 - JSON-RPC's own name
    ) -> MemoryExchange:
        """Send one modern request, on an exchange of its own unless one is given; the answer is on the exchange."""
        if id is None:
            self._ids += 1
            id = self._ids  # noqa: A001
        envelope = {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": capabilities or {},
            **(meta or {}),
        }
        message = {
            "jsonrpc": "2.0",
            "id": id,
            "method": method,
            "params": {**(params or {}), "_meta": envelope},
        }
        exchange = exchange or MemoryExchange()
        self.channel.received(msgspec.json.encode(message), exchange)
        return exchange

    def call(self, tool: str, arguments: dict[str, Any] | None = None, **options: Any) -> MemoryExchange:
        """Call a tool; `options` are those of `send`, and ``params`` for further parameters."""
        params = {"name": tool, "arguments": arguments or {}, **options.pop("params", {})}
        return self.send("tools/call", params, **options)

    def legacy(
        self,
        method: str,
        params: dict[str, Any] | None = None,
        *,
        exchange: MemoryExchange,
        id: int | str | None = None,  # noqa: A002 - JSON-RPC's own name
    ) -> MemoryExchange:
        """Send one handshake request: on a stream that has sent `initialize`, or with headers that name a session."""
        if id is None:
            self._ids += 1
            id = self._ids  # noqa: A001
        message: dict[str, Any] = {"jsonrpc": "2.0", "id": id, "method": method}
        if params is not None:
            message["params"] = params
        self.channel.received(msgspec.json.encode(message), exchange)
        return exchange

    def initialize(
        self,
        version: str = "2025-11-25",
        capabilities: dict[str, Any] | None = None,
        *,
        exchange: MemoryExchange | None = None,
    ) -> MemoryExchange:
        """Open a handshake session: on a stream, or on HTTP, where the answer's headers have its id."""
        info = {"name": "test", "version": "1"}
        params = {"protocolVersion": version, "capabilities": capabilities or {}, "clientInfo": info}
        return self.legacy("initialize", params, exchange=exchange or MemoryExchange())
