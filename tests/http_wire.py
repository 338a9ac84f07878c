"""Doubles for the tests of `erlmcp.transports.http`: a channel that remembers, and one connection on a string."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import copy
from typing import Any

import msgspec
from twisted.internet.interfaces import IHalfCloseableDescriptor
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from zope.interface import implementer

from erlmcp.interfaces import IChannel, IConnectionLimits, Peer, WireLimits
from erlmcp.timing import Wheel
from erlmcp.transports.http._head import Rules
from erlmcp.transports.http._listener import HttpFactory
from erlmcp.transports.http._origin import Visitors
from erlmcp.transports.http._protocol import HttpConnection
from erlmcp.transports.http._shared import Second, Shared

ANSWER = b'{"jsonrpc":"2.0","id":1,"result":{}}'
BODY = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'


@implementer(IChannel)
class Recorder:
    """A channel that keeps what it gets, and answers if it is told how."""

    def __init__(
        self,
        answer: Callable[[bytes, Any], None] | None = None,
        *,
        on_open: Callable[[Any], None] | None = None,
        on_delete: Callable[[Any], None] | None = None,
    ) -> None:
        self.messages: list[bytes] = []
        self.exchanges: list[Any] = []
        self.gone: list[Any] = []
        self.open: list[Any] = []
        self.ended: list[Any] = []
        self.answer = answer
        self.on_open = on_open
        self.on_delete = on_delete

    def received(self, message: bytes, exchange: Any) -> None:
        self.messages.append(message)
        self.exchanges.append(exchange)
        if self.answer is not None:
            self.answer(message, exchange)

    def closed(self, exchange: Any) -> None:
        self.gone.append(exchange)

    def opened(self, exchange: Any) -> None:
        self.open.append(exchange)
        if self.on_open is not None:
            self.on_open(exchange)

    def deleted(self, exchange: Any) -> None:
        self.ended.append(exchange)
        if self.on_delete is not None:
            self.on_delete(exchange)


@implementer(IConnectionLimits)
class Admission:
    """Connection limits that count, and refuse if they are told why."""

    def __init__(self, wire: WireLimits, reason: str | None = None) -> None:
        self.wire = wire
        self.reason = reason
        self.here: list[Peer] = []
        self.asked: list[Peer] = []
        self.floods = 0

    def admit(self, peer: Peer) -> str | None:
        self.asked.append(peer)
        if self.reason is None:
            self.here.append(peer)
        return self.reason

    def flooded(self) -> int:
        self.floods += 1
        return self.floods

    def leave(self, peer: Peer) -> None:
        self.here.remove(peer)


@implementer(IHalfCloseableDescriptor)
class HalfCloseable(StringTransport):
    """A string transport that can close its writing half."""

    half_closed = False

    def loseWriteConnection(self) -> None:  # noqa: N802
        self.half_closed = True


class Answer(msgspec.Struct):
    """One answer, taken apart."""

    status: int
    fields: dict[str, str]
    body: bytes

    @property
    def error(self) -> Any:
        return json.loads(self.body)["error"]


class Wire:
    """One connection and everything around it."""

    def __init__(
        self,
        answer: Callable[[bytes, Any], None] | None = None,
        *,
        limits: WireLimits | None = None,
        origins: tuple[str, ...] = (),
        hosts: tuple[str, ...] = (),
        address: str | None = "127.0.0.1",
        reason: str | None = None,
        transport: StringTransport | None = None,
        on_open: Callable[[Any], None] | None = None,
        on_delete: Callable[[Any], None] | None = None,
        sse: bytes = b"",
        second: Second | None = None,
    ) -> None:
        self.clock = Clock()
        self.channel = Recorder(answer, on_open=on_open, on_delete=on_delete)
        self.admission = Admission(limits or WireLimits(), reason)
        visitors = Visitors(origins, hosts)
        visitors.listen_on(address)
        self.wheel = Wheel(self.clock)
        self.shared = Shared(
            name="web",
            channel=self.channel,
            limits=self.admission,
            rules=Rules(b"/mcp", visitors, self.admission.wire.message, sse),
            wheel=self.wheel,
            seconds=self.clock.seconds,
            wall=lambda: 784111777.0,
            second=second or Second(),
        )
        self.factory = HttpFactory(self.shared)
        self.connection: HttpConnection = self.factory.buildProtocol(None)
        self.transport = transport or StringTransport()
        self.connection.makeConnection(self.transport)

    def beside(self) -> Wire:
        """Another connection to the same listener."""
        other = copy(self)
        other.connection = self.factory.buildProtocol(None)
        other.transport = StringTransport()
        other.connection.makeConnection(other.transport)
        return other

    def send(self, *pieces: bytes) -> list[Answer]:
        """Send, and take apart what has been written since the last time."""
        for piece in pieces:
            self.connection.dataReceived(piece)
        return self.answers()

    def written(self) -> bytes:
        data: bytes = self.transport.value()
        self.transport.clear()
        return data

    def answers(self, *, bare: bool = False) -> list[Answer]:
        return parse(self.written(), bare=bare)

    def lose(self) -> None:
        self.connection.connectionLost(None)

    def after(self, seconds: float) -> None:
        """Let time go by in the steps of the wheel."""
        for _ in range(int(seconds / self.wheel.tick) + 1):
            self.clock.advance(self.wheel.tick)


def parse(data: bytes, *, bare: bool = False) -> list[Answer]:
    """Take HTTP answers apart, strictly: what is left over is an error."""
    answers = []
    while data:
        head, separator, data = data.partition(b"\r\n\r\n")
        assert separator, f"no end of the head: {head!r}"
        line, *lines = head.split(b"\r\n")
        version, status = line.split(b" ")[:2]
        assert version == b"HTTP/1.1", line
        fields: dict[str, str] = {}
        for field in lines:
            name, colon, value = field.partition(b": ")
            assert colon, field
            assert name.decode().lower() not in fields, f"{name!r} comes twice"
            fields[name.decode().lower()] = value.decode()
        if int(status) == 100:
            body = b""
        elif fields.get("transfer-encoding") == "chunked":
            body, data = dechunk(data)
        elif "content-length" in fields:
            length = 0 if bare else int(fields["content-length"])
            assert len(data) >= length, "the body is shorter than its length"
            body, data = data[:length], data[length:]
        elif int(status) == 204:
            body = b""
        else:
            body, data = data, b""
        answers.append(Answer(int(status), fields, body))
    return answers


def dechunk(data: bytes) -> tuple[bytes, bytes]:
    """The content of the chunks at the start of `data`, as far as they are there, and what follows the last one."""
    content = b""
    while data:
        size, _, rest = data.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            assert rest[:2] == b"\r\n"
            return content, rest[2:]
        content += rest[:length]
        assert rest[length : length + 2] == b"\r\n"
        data = rest[length + 2 :]
    return content, b""


def events(body: bytes) -> list[str]:
    """The data of each event."""
    return [
        "\n".join(line[6:] for line in block.split("\n") if line.startswith("data: "))
        for block in body.decode().split("\n\n")
        if block and not block.startswith(":")
    ]


def post(
    body: bytes = BODY,
    *,
    method: bytes = b"POST",
    target: bytes = b"/mcp",
    version: bytes = b"HTTP/1.1",
    length: bool = True,
    drop: tuple[str, ...] = (),
    **fields: str,
) -> bytes:
    """One request. Keywords are header fields: an underscore stands for a hyphen."""
    usual = {
        "host": "127.0.0.1:8765",
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
    }
    if length:
        usual["content-length"] = str(len(body))
    usual.update({name.replace("_", "-"): value for name, value in fields.items()})
    lines = [f"{name}: {value}".encode("latin-1") for name, value in usual.items() if name not in drop]
    return b"\r\n".join([b"%b %b %b" % (method, target, version), *lines, b"", body])


def chunked(*parts: bytes, trailers: bytes = b"") -> bytes:
    """A chunked body."""
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n" + trailers + b"\r\n"


def echo(message: bytes, exchange: Any) -> None:
    """Answer with the message itself."""
    exchange.reply(message)


def answer(message: bytes, exchange: Any) -> None:
    """Answer with a constant."""
    exchange.reply(ANSWER)
