"""What one call costs in this process, step by step: no sockets, no second process, the best of many batches.

On a machine that others use as well, these figures hold still where requests per second do not.
"""

import time
from collections.abc import Callable
from struct import Struct
from typing import Any

from hpack import Encoder
from hyperframe.frame import DataFrame, SettingsFrame, WindowUpdateFrame
from msgspec import UNSET
from twisted.internet.testing import MemoryReactorClock, StringTransport

from benchmarks.lines import call
from benchmarks.report import table
from benchmarks.servers import PROVIDER
from benchmarks.web import HEADERS, request
from erlmcp import config
from erlmcp.interfaces import Peer
from erlmcp.jsonrpc import Codec, Limits
from erlmcp.protocol import Params, read_meta
from erlmcp.tap import assemble, backends_for
from erlmcp.transports.http._answers import PREFACE
from erlmcp.transports.http._shared import Second

_HEAD = Struct(">HBBBI")
BATCH = 500
BATCHES = 60


class _Sink:
    """An exchange that counts its answers."""

    streaming = True
    congested = False

    def __init__(self, peer: Any, headers: dict[bytes, bytes] | None) -> None:
        self.peer = peer
        self.headers = headers
        self.calls: dict[int | str, Any] = {}
        self.session: Any = None
        self.answer = b""

    def reply(
        self, message: bytes, _status: int = 200, _headers: tuple[tuple[bytes, bytes], ...] = ()
    ) -> None:
        self.answer = message


class _Wire(StringTransport):
    """A transport that forgets what is written, all but the last."""

    def write(self, data: bytes) -> None:
        self.last = data

    def writeSequence(self, data: Any) -> None:  # noqa: N802 - Twisted's name
        self.last = b"".join(data)

    def setTcpNoDelay(self, _enabled: bool) -> None:  # noqa: N802 - Twisted's name
        """Nothing to set."""

    setTcpKeepAlive = setTcpNoDelay  # noqa: N815 - Twisted's name


def best(step: Callable[[], object]) -> float:
    """µs of one step: the best batch of many."""
    step()
    lowest = float("inf")
    for _ in range(BATCHES):
        begun = time.perf_counter()
        for _one in range(BATCH):
            step()
        lowest = min(lowest, time.perf_counter() - begun)
    return lowest / BATCH * 1e6


def steps() -> None:
    """Print the table."""
    plugins = config.transports()
    listen = ("http:tcp:8765:interface=127.0.0.1", "tcp:tcp:8766:interface=127.0.0.1")
    settings = config.load(None, plugins, listen=listen, providers=(PROVIDER,))
    backends = backends_for(settings, config.providers())
    reactor = MemoryReactorClock()
    parts = assemble(settings, backends, reactor, transports=plugins, environ={})
    connections = []
    for frontend in parts.frontends:
        frontend.listener.bind()
        factory: Any = reactor.tcpServers.pop()[1]
        connection = factory.buildProtocol(None)
        wire = _Wire()  # type: ignore[no-untyped-call]
        connection.makeConnection(wire)
        connections.append((connection, wire))
    (web, web_wire), (line, line_wire) = connections

    line_message = call(1)
    message = line_message.strip()
    post = request(8765)
    codec = Codec(Params, Limits())
    params = codec.decode(message).params
    meta = UNSET if params is UNSET else params.meta
    channel: Any = parts.server.channel()
    peer = Peer(transport="bench", listener="bench")
    headers = dict(_fields(post))
    stream, http = _Sink(peer, None), _Sink(peer, headers)
    actions: dict[str, tuple[Callable[[], object], Callable[[], bytes]]] = {
        "decode the message (jsonrpc)": (lambda: codec.decode(message), lambda: message),
        "read its envelope (protocol)": (lambda: read_meta(meta), lambda: message),
        "channel: a message in, its answer out, as on a stream": (
            lambda: channel.received(message, stream),
            lambda: stream.answer,
        ),
        "channel: the same with HTTP's headers to check": (
            lambda: channel.received(message, http),
            lambda: http.answer,
        ),
        "tcp connection: a line in, a line out": (
            lambda: line.dataReceived(line_message),
            lambda: line_wire.last,
        ),
        "http connection: a POST in, a response out": (lambda: web.dataReceived(post), lambda: web_wire.last),
    }
    second, second_wire = _second(parts)
    actions["http/2 connection: a POST in, a response out"] = (second, lambda: second_wire.last)
    rows: list[tuple[str, ...]] = []
    for name, (step, answer) in actions.items():
        step()
        if b'"hi"' not in answer() or b'"error"' in answer():
            raise RuntimeError(f"{name}: this is no echo: {answer()[:500]!r}")
        rows.append((name, f"{best(step):.2f}"))
    print(table(("step", "µs"), rows))


def _second(parts: Any) -> tuple[Callable[[], object], _Wire]:
    """One connection of HTTP/2 to the first listener; a step sends the next request on it."""
    listener = parts.frontends[0].listener
    listener.shared.second = Second(h2c=True)
    connection = listener.factory.buildProtocol(None)
    wire = _Wire()  # type: ignore[no-untyped-call]
    connection.makeConnection(wire)
    window = WindowUpdateFrame(0, 2**31 - 2**16)
    connection.dataReceived(PREFACE + SettingsFrame(0).serialize() + window.serialize())
    fields = [(":method", "POST"), (":scheme", "http"), (":authority", "127.0.0.1:8765"), (":path", "/mcp")]
    fields += [(name.lower(), value) for name, _, value in (line.partition(": ") for line in HEADERS)]
    encoder = Encoder()
    body = call(1).strip()
    number = -1

    def step() -> None:
        nonlocal number
        number += 2
        data = DataFrame(number, body, flags=["END_STREAM"]).serialize()
        connection.dataReceived(_HEAD.pack(0, len(block), 1, 4, number) + block + data)

    block = encoder.encode(fields)
    step()
    block = encoder.encode(fields)
    return step, wire


def _fields(post: bytes) -> list[tuple[bytes, bytes]]:
    head = post.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    return [(name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in head)]
