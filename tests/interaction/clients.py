"""One client for each transport, alike to a test: in memory, over lines, over HTTP; all on a clock that it turns.

Every message sent and received is validated by the published schema; see `tests.interaction.published`.
"""

import base64
import json
from collections.abc import Mapping
from typing import Any, ClassVar

from twisted.internet.address import IPv4Address
from twisted.internet.testing import MemoryReactorClock

from erlmcp.interfaces import IBackend
from erlmcp.testing import Harness, MemoryExchange
from erlmcp.transports import TcpTransport
from erlmcp.transports.http import HttpTransport
from tests.doubles import OpenLimits, Stream, context
from tests.http_wire import Answer, events, parse
from tests.interaction import published

VERSION = "2026-07-28"
PREFIX = "io.modelcontextprotocol/"
INFO = {"name": "interaction", "version": "1"}
NAMED = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}

Json = dict[str, Any]


def envelope(capabilities: Json | None = None, **more: Any) -> Json:
    """The `_meta` of a modern request."""
    return {
        PREFIX + "protocolVersion": VERSION,
        PREFIX + "clientInfo": INFO,
        PREFIX + "clientCapabilities": capabilities or {},
        **more,
    }


def encode(message: Any) -> bytes:
    """One message, without insignificant white space and without newlines."""
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()


def header_value(text: str) -> str:
    """The value of a header that mirrors a name or a parameter, as a client must write it ("Value Encoding")."""
    plain = all(" " <= one <= "~" or one == "\t" for one in text) and text == text.strip()
    if plain and not (text.startswith("=?base64?") and text.endswith("?=")):
        return text
    return f"=?base64?{base64.b64encode(text.encode()).decode()}?="


class Reactor(MemoryReactorClock):
    """A reactor in memory whose ports know the interface that they listen on (Twisted's say 0.0.0.0)."""

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:  # noqa: N802
        listening = super().listenTCP(port, factory, backlog, interface)
        listening._hostAddress = IPv4Address("TCP", interface, port)
        return listening


class World:
    """One server, and the clock and listeners that clients reach it by.

    Args:
        backends, options: as for `Harness`.
        http: options of the HTTP listener.
        wire: bounds of connections.
    """

    def __init__(
        self,
        *backends: IBackend,
        http: Mapping[str, Any] | None = None,
        wire: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self.house = Harness(*backends, **options)
        self.reactor = Reactor()
        self.limits = OpenLimits(**(wire or {}))
        self._options = http or {}
        self._factories: dict[str, Any] = {}
        self.clients: list[Client] = []

    def factory(self, name: str) -> Any:
        """The protocol factory of the `http` or `tcp` transport, from its own listener, bound to loopback."""
        if name not in self._factories:
            transport: Any = {"http": HttpTransport, "tcp": TcpTransport}[name]()
            place = f"tcp:{len(self._factories) + 8765}:interface=127.0.0.1"
            made = context(self.house.channel, self.limits, self.reactor, place)
            options = transport.options(**(self._options if name == "http" else {}))
            transport.listener(made, options).bind()
            self._factories[name] = self.reactor.tcpServers[-1][1]
        return self._factories[name]

    def turn(self, seconds: float = 0.0) -> None:
        """Let time go by on all clocks, in steps small enough for every wheel."""
        steps = max(1, int(seconds * 4))
        for _ in range(steps):
            self.house.clock.advance(seconds / steps)
            self.reactor.advance(seconds / steps)


class Sent:
    """What a client sent, and what has come back.

    Attributes:
        id: of the request, None for a notification.
        status, fields, body: of the HTTP answer; status is None elsewhere, and as long as there is none.
        gone: whether the connection that carried it has been closed by the server.
    """

    def __init__(self, client: "Client", id: int | str | None, method: str, start: int) -> None:  # noqa: A002
        self.id = id
        self.method = method
        self.client = client
        self.start = start
        self.answer_to_http: Answer | None = None
        self.own: list[Json] | None = None
        self.carrier: Any = None

    @property
    def messages(self) -> list[Json]:
        """All messages since, on this request's own stream or on the connection that many share."""
        self.client.pump()
        return list(self.client.inbox[self.start :] if self.own is None else self.own)

    @property
    def responses(self) -> list[Json]:
        """The responses with this id; without an id, those without one."""
        return [one for one in self.messages if "method" not in one and one.get("id") == self.id]

    @property
    def notifications(self) -> list[Json]:
        """The notifications that came before the response, or so far."""
        found = []
        for one in self.messages:
            if "method" in one:
                found.append(one)
            elif one.get("id") == self.id:
                break
        return found

    def noted(self, method: str) -> list[Json]:
        """The parameters of the notifications of one method, with the prefix ``notifications/`` left out."""
        return [one["params"] for one in self.notifications if one["method"] == f"notifications/{method}"]

    @property
    def answered(self) -> bool:
        return bool(self.responses)

    @property
    def response(self) -> Json:
        found = self.responses
        if len(found) != 1:
            raise AssertionError(f"{self.method} has {len(found)} answers: {self.messages}")
        return found[0]

    @property
    def result(self) -> Json:
        response = self.response
        if "result" not in response:
            raise AssertionError(f"{self.method} failed: {response}")
        result: Json = response["result"]
        return result

    @property
    def error(self) -> Json:
        response = self.response
        if "error" not in response:
            raise AssertionError(f"{self.method} succeeded: {response}")
        error: Json = response["error"]
        return error

    @property
    def code(self) -> int:
        code: int = self.error["code"]
        return code

    @property
    def text(self) -> str:
        """The text of the first content block of a tool's result."""
        text: str = self.result["content"][0]["text"]
        return text

    @property
    def http(self) -> Answer:
        """The HTTP answer so far."""
        self.client.pump()
        if self.answer_to_http is None:
            raise AssertionError("there is no HTTP answer")
        return self.answer_to_http


class Client:
    """A client of one server.

    Attributes:
        transport: what its connections are.
        on_http: whether statuses and header fields mean something.
        inbox: all messages that have come, in order.
    """

    transport: ClassVar[str]
    on_http: ClassVar[bool] = False

    def __init__(self, world: World) -> None:
        self.world = world
        self.inbox: list[Json] = []
        self._methods: dict[int | str | None, str] = {}
        self._ids = 0
        world.clients.append(self)

    def another(self) -> "Client":
        """A further client of the same server, over the same transport."""
        return type(self)(self.world)

    def request(
        self,
        method: str,
        params: Json | None = None,
        *,
        capabilities: Json | None = None,
        meta: Json | None = None,
        id: int | str | None = None,  # noqa: A002 - JSON-RPC's own name
        headers: Mapping[str, str | None] | None = None,
        valid: bool = True,
    ) -> Sent:
        """Send a request with its envelope.

        Args:
            meta: more for `_meta`; a value of None takes a key out.
            headers: HTTP header fields to set, or with None to leave out; elsewhere they mean nothing.
            valid: whether the schema must admit it.
        """
        if id is None:
            self._ids += 1
            id = self._ids  # noqa: A001
        whole = {key: one for key, one in envelope(capabilities, **(meta or {})).items() if one is not None}
        message = {"jsonrpc": "2.0", "id": id, "method": method, "params": {**(params or {}), "_meta": whole}}
        if valid and (problem := published.sent_problem(message)) is not None:
            raise AssertionError(f"the test sends what no client may: {problem}")
        return self.send(message, headers=headers)

    def call(self, tool: str, arguments: Json | None = None, **options: Any) -> Sent:
        """Call a tool; ``params`` adds parameters, the rest is as for `request`."""
        params = {"name": tool, "arguments": arguments or {}, **options.pop("params", {})}
        return self.request("tools/call", params, **options)

    def notify(self, method: str, params: Any = None, *, valid: bool = True) -> Sent:
        """Send a notification."""
        message: Json = {"jsonrpc": "2.0", "method": method}
        if params is not None:
            message["params"] = params
        if valid and (problem := published.sent_problem(message)) is not None:
            raise AssertionError(f"the test sends what no client may: {problem}")
        return self.send(message)

    def send(self, message: Any, *, headers: Mapping[str, str | None] | None = None) -> Sent:
        """Send anything that JSON can be, unchecked."""
        parts = message if isinstance(message, dict) else {}
        found = parts.get("id")
        key = found if isinstance(found, int | str) else None
        return self.raw(
            encode(message), id=key, method=str(parts.get("method", "")), fields=self.fields(parts, headers)
        )

    def fields(self, message: Json, headers: Mapping[str, str | None] | None) -> dict[str, str]:
        """The HTTP header fields that a message is sent with."""
        return {}

    def raw(
        self,
        data: bytes,
        *,
        id: int | str | None = None,  # noqa: A002
        method: str = "",
        fields: Mapping[str, str] | None = None,
    ) -> Sent:
        """Send bytes as one message."""
        sent = Sent(self, id, method, len(self.inbox))
        self._methods[id] = method
        self.transmit(data, sent, fields or {})
        self.world.turn()
        self.pump()
        return sent

    def check(self, message: Any) -> Json:
        """Validate a message that has come."""
        if not isinstance(message, dict):
            raise AssertionError(f"not one message: {message!r}")  # noqa: TRY004 - the server failed, not the caller
        problem = published.received_problem(message, self._methods.get(message.get("id")))
        if problem is not None:
            raise AssertionError(problem)
        self.inbox.append(message)
        return message

    def transmit(self, data: bytes, sent: Sent, fields: Mapping[str, str]) -> None:
        """Send."""
        raise NotImplementedError

    def pump(self) -> None:
        """Take in what has come."""

    def give_up(self, sent: Sent) -> None:
        """Cancel a request as this transport has it."""
        self.notify("notifications/cancelled", {"requestId": sent.id, "reason": "the test has seen enough"})

    def leave(self) -> None:
        """End all connections."""
        raise NotImplementedError


class _Exchange(MemoryExchange):
    """Hands each message to its client at once."""

    def __init__(self, client: Client) -> None:
        super().__init__()
        self._client = client

    def reply(self, message: bytes, status: int = 200, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        super().reply(message, status, headers)
        self._client.check(self.written[-1])

    def notify(self, message: bytes, event: str = "") -> None:
        super().notify(message, event)
        self._client.check(self.written[-1])


class InMemory(Client):
    """A connection that is an exchange and nothing else."""

    transport = "memory"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.exchange = _Exchange(self)

    def transmit(self, data: bytes, sent: Sent, fields: Mapping[str, str]) -> None:
        self.world.house.channel.received(data, self.exchange)

    def leave(self) -> None:
        self.world.house.channel.closed(self.exchange)


class OverLines(Client):
    """One connection of the tcp transport; stdio has the same framing."""

    transport = "lines"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        protocol = world.factory("tcp").buildProtocol(None)
        self.stream = Stream(world.reactor, protocol)
        self.lines: list[bytes] = []

    def transmit(self, data: bytes, sent: Sent, fields: Mapping[str, str]) -> None:
        self.stream.receive(data + b"\n")

    def pump(self) -> None:
        *lines, rest = self.stream.take().split(b"\n")
        self.stream.taken = b""
        if rest:
            raise AssertionError(f"a line without its end: {rest!r}")
        self.lines += lines
        for line in lines:
            self.check(json.loads(line))

    def leave(self) -> None:
        self.stream.protocol.readConnectionLost()
        self.world.turn()


class OverHttp(Client):
    """Streamable HTTP: a connection for each request, as many at once as there are requests."""

    transport = "http"
    on_http = True

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._open: list[Sent] = []

    def fields(self, message: Json, headers: Mapping[str, str | None] | None) -> dict[str, str]:
        method = str(message.get("method", ""))
        params = message.get("params")
        params = params if isinstance(params, dict) else {}
        meta = params.get("_meta")
        version = meta.get(PREFIX + "protocolVersion", VERSION) if isinstance(meta, dict) else VERSION
        found: dict[str, str | None] = {"MCP-Protocol-Version": str(version), "Mcp-Method": method}
        if method in NAMED:
            found["Mcp-Name"] = header_value(str(params.get(NAMED[method], "")))
        found.update(headers or {})
        return {name: value for name, value in found.items() if value is not None}

    def transmit(self, data: bytes, sent: Sent, fields: Mapping[str, str]) -> None:
        self.exchange_bytes(request_bytes(data, fields), sent)

    def exchange_bytes(self, data: bytes, sent: Sent | None = None) -> Sent:
        """Send bytes on a connection of their own."""
        if sent is None:
            sent = Sent(self, None, "", len(self.inbox))
            self._methods[None] = ""
        sent.carrier = Stream(self.world.reactor, self.world.factory("http").buildProtocol(None))
        sent.own = []
        self._open.append(sent)
        sent.carrier.receive(data)
        self.world.turn()
        self.pump()
        return sent

    def pump(self) -> None:
        for sent in list(self._open):
            sent.carrier.take()
            answers = parse(sent.carrier.taken)
            if not answers:
                continue
            sent.answer_to_http = answers[-1]
            for message in _messages(answers[-1])[len(sent.own or ()) :]:
                assert sent.own is not None
                sent.own.append(self.check(message))
            stream = answers[-1].fields.get("content-type") == "text/event-stream"
            if sent.carrier.lost or not stream or sent.carrier.taken.endswith(b"\r\n0\r\n\r\n"):
                self._finish(sent)

    def _finish(self, sent: Sent) -> None:
        """All has come: the connection is not used again."""
        self._open.remove(sent)
        if not sent.carrier.lost:
            sent.carrier.protocol.readConnectionLost()

    def give_up(self, sent: Sent) -> None:
        """The client closes the stream of the response: that is the cancellation."""
        sent.carrier.protocol.readConnectionLost()
        self.world.turn()

    def leave(self) -> None:
        for sent in self._open:
            if not sent.carrier.lost:
                self.give_up(sent)


def request_bytes(
    body: bytes, fields: Mapping[str, str | None], *, method: str = "POST", path: str = "/mcp"
) -> bytes:
    """An HTTP request with the fields that every client sends, unless `fields` says otherwise; None leaves one out."""
    usual = {
        "Host": "127.0.0.1:8765",
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "Content-Length": str(len(body)),
    }
    lines = [
        f"{name}: {value}".encode("latin-1")
        for name, value in {**usual, **fields}.items()
        if value is not None
    ]
    return b"\r\n".join([f"{method} {path} HTTP/1.1".encode(), *lines, b"", body])


def _messages(answer: Answer) -> list[Any]:
    kind = answer.fields.get("content-type", "")
    if kind == "text/event-stream":
        return [json.loads(event) for event in events(answer.body)]
    return [json.loads(answer.body)] if answer.body else []


TRANSPORTS: tuple[type[Client], ...] = (InMemory, OverLines, OverHttp)
