"""Handshake clients of each revision over each transport, and the cases that multiply a test over both.

Every message, either way, is validated by the client's revision (`tests.interaction.dated`), those of the modern era by
theirs. Over HTTP a client keeps its session id as a real one does, opens streams with GET and ends with DELETE.
"""

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

from erlmcp.catalog._watchers import Watchers
from erlmcp.interfaces import IBackend
from tests import published_schemas
from tests.doubles import Stream
from tests.http_wire import Answer, parse
from tests.interaction import dated, published
from tests.interaction.cases import Interaction
from tests.interaction.clients import (
    INFO,
    Client,
    InMemory,
    OverHttp,
    OverLines,
    Sent,
    World,
    encode,
    request_bytes,
)
from tests.interaction.ornate import SERVER, Ornate
from tests.interaction.stage import Stage

REVISIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
#: what a client of any revision can do; each takes from it what it knows
ABLE: dict[str, Any] = {
    "elicitation": {"form": {}, "url": {}},
    "sampling": {"tools": {}, "context": {}},
    "roots": {"listChanged": True},
}
Json = dict[str, Any]
C = TypeVar("C", bound="type[Handshake]")


class Speaks(Client):
    """What a handshake client has, whatever carries its messages.

    Attributes:
        version: the revision that was agreed upon; None before.
        session: over HTTP, the session's id.
        batches: the arrays that came, in order; their parts are in the inbox too.
        questions: the server's requests, in order.
    """

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.version: str | None = None
        self.session: str | None = None
        self.batches: list[list[Json]] = []
        self.questions: list[Json] = []
        self._modern: set[int | str | None] = set()

    def greet(
        self, version: str, capabilities: Json | None = None, info: Json | None = None, *, valid: bool = True
    ) -> Sent:
        """``initialize``, and ``notifications/initialized`` after its answer."""
        params = {
            "protocolVersion": version,
            "capabilities": capabilities or {},
            "clientInfo": info or INFO,
        }
        self._agreed = version
        sent = self.ask("initialize", params, valid=valid and version in REVISIONS)
        if sent.answered and "result" in sent.response:
            self.version = sent.result["protocolVersion"]
            if self.on_http:
                self.session = sent.http.fields["mcp-session-id"]
            self.tell("notifications/initialized")
        return sent

    def ask(
        self,
        method: str,
        params: Json | None = None,
        *,
        id: int | str | None = None,  # noqa: A002 - JSON-RPC's own name
        headers: Mapping[str, str | None] | None = None,
        valid: bool = True,
    ) -> Sent:
        """Send a request of the client's revision."""
        if id is None:
            self._ids += 1
            id = self._ids  # noqa: A001
        message: Json = {"jsonrpc": "2.0", "id": id, "method": method}
        if params is not None:
            message["params"] = params
        if valid:
            self.admit(message)
        self._modern.discard(id)
        return self.send(message, headers=headers)

    def tool(
        self, name: str, arguments: Json | None = None, *, meta: Json | None = None, **options: Any
    ) -> Sent:
        """Call a tool."""
        params: Json = {"name": name, "arguments": arguments or {}}
        if meta is not None:
            params["_meta"] = meta
        return self.ask("tools/call", params, **options)

    def tell(
        self, method: str, params: Json | None = None, *, headers: Mapping[str, str | None] | None = None
    ) -> Sent:
        """Send a notification of the client's revision."""
        message: Json = {"jsonrpc": "2.0", "method": method}
        if params is not None:
            message["params"] = params
        self.admit(message)
        return self.send(message, headers=headers)

    def respond(
        self, question: Json, result: Json | None = None, error: Json | None = None, *, valid: bool = True
    ) -> Sent:
        """Answer a question."""
        if result is not None and valid:
            problem = dated.answer_problem(self.spoken, question["method"], result)
            if problem is not None:
                raise AssertionError(f"the test sends what no client may: {problem}")
        message = {
            "jsonrpc": "2.0",
            "id": question["id"],
            **({"result": result} if error is None else {"error": error}),
        }
        return self.send(message)

    def modern(self, method: str, params: Json | None = None, **options: Any) -> Sent:
        """Send a request of 2026-07-28, with its envelope."""
        self._ids += 1
        self._modern.add(self._ids)
        return self.request(method, params, id=self._ids, **options)

    @property
    def spoken(self) -> str:
        """The revision to validate by."""
        return self.version or self._agreed

    def admit(self, message: Json) -> None:
        """Fail if the client's revision does not have this message."""
        if (problem := dated.sent_problem(self.spoken, message)) is not None:
            raise AssertionError(f"the test sends what no client may: {problem}")

    def check(self, message: Any) -> Any:
        """Validate what came: one message, or for 2025-03-26 an array of responses."""
        if isinstance(message, list):
            if self.spoken != "2025-03-26":
                raise AssertionError(f"no batches in {self.spoken}: {message}")
            self.batches.append(message)
            for one in message:
                self.check_one(one)
        else:
            self.check_one(message)
        return message

    def check_one(self, message: Json) -> None:
        """Validate one message by its era."""
        number = message.get("id")
        if number in self._modern and "method" not in message:
            problem = published.received_problem(message, self._methods.get(number))
        else:
            version = self.spoken
            if "result" in message and self._methods.get(number) == "initialize":
                version = message["result"]["protocolVersion"]
            problem = dated.received_problem(version, message, self._methods.get(number))
            if problem is not None and self._modern and "id" not in message and "method" in message:
                problem = published.received_problem(message, None)
        if problem is not None:
            raise AssertionError(problem)
        self.inbox.append(message)
        if "method" in message and "id" in message:
            self.questions.append(message)

    def told(self, kind: str) -> list[Json]:
        """All notifications ``notifications/…`` that have come, whole."""
        self.pump()
        return [one for one in self.inbox if one.get("method") == f"notifications/{kind}"]

    def question(self) -> Json:
        """The newest request of the server."""
        self.pump()
        return self.questions[-1]


class OldInMemory(Speaks, InMemory):
    """A handshake client on a connection that is an exchange and nothing else."""


class OldOverLines(Speaks, OverLines):
    """A handshake client on lines."""


class OldOverHttp(Speaks, OverHttp):
    """A handshake client over Streamable HTTP.

    Attributes:
        events: of each exchange that is a stream, (id, milliseconds of ``retry:``, message); see `events_of`.
    """

    def fields(self, message: Json, headers: Mapping[str, str | None] | None) -> dict[str, str]:
        if message.get("id") in self._modern and "method" in message:
            return super().fields(message, headers)
        found: dict[str, str | None] = dict(self.own_fields())
        found.update(headers or {})
        return {name: value for name, value in found.items() if value is not None}

    def own_fields(self) -> dict[str, str]:
        """What every request after ``initialize`` carries: the session, from 2025-06-18 on the version."""
        found = {}
        if self.session is not None:
            found["Mcp-Session-Id"] = self.session
        if self.version is not None and self.version >= "2025-06-18":
            found["MCP-Protocol-Version"] = self.version
        return found

    def bare(self, method: str, headers: Mapping[str, str | None] | None = None) -> Sent:
        """A request without content."""
        fields = {"Content-Type": None, "Content-Length": None, **self.own_fields(), **(headers or {})}
        if method == "GET":
            fields = {"Accept": "text/event-stream", **fields}
        return self.exchange_bytes(request_bytes(b"", fields, method=method))

    def listen(self, last: str | None = None) -> Sent:
        """Open a stream with GET, or go on with one after its last event."""
        return self.bare("GET", {} if last is None else {"Last-Event-ID": last})

    def end(self) -> Sent:
        """End the session."""
        return self.bare("DELETE")

    def lose(self, sent: Sent) -> None:
        """The connection breaks."""
        self._open = [one for one in self._open if one is not sent]
        sent.carrier.protocol.readConnectionLost()
        self.world.turn()

    def give_up(self, sent: Sent) -> None:
        self.tell("notifications/cancelled", {"requestId": sent.id, "reason": "the test has seen enough"})

    def leave(self) -> None:
        for sent in list(self._open):
            self.lose(sent)

    def pump(self) -> None:
        for sent in list(self._open):
            sent.carrier.take()
            answers = parse(sent.carrier.taken)
            if not answers:
                continue
            sent.answer_to_http = answers[-1]
            found = messages(answers[-1])
            assert sent.own is not None
            taken = getattr(sent, "taken", 0)
            sent.taken = len(found)  # type: ignore[attr-defined]
            for message in found[taken:]:
                self.check(message)
                sent.own.extend(message if isinstance(message, list) else [message])
            stream = answers[-1].fields.get("content-type") == "text/event-stream"
            if sent.carrier.lost or not stream or sent.carrier.taken.endswith(b"0\r\n\r\n"):
                self._finish(sent)


class OldOverSse(Speaks):
    """A client of the transport of 2024-11-05: all that the server says comes on one stream, messages are posted."""

    transport = "sse"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        fields = {"Accept": "text/event-stream", "Content-Type": None, "Content-Length": None}
        self.stream = self._connection(request_bytes(b"", fields, method="GET", path="/sse"))
        self._taken = 0
        kind, self.endpoint = self._events()[0]
        if kind != "endpoint":
            raise AssertionError(f"the first event is no endpoint: {kind}")

    def transmit(self, data: bytes, sent: Sent, fields: Mapping[str, str]) -> None:
        posted = self._connection(request_bytes(data, fields, path=self.endpoint))
        posted.take()
        [answer] = parse(posted.taken)
        if (answer.status, answer.body) != (202, b""):
            raise AssertionError(f"not accepted: {answer}")
        posted.protocol.readConnectionLost()

    def pump(self) -> None:
        for kind, data in self._events()[self._taken + 1 :]:
            self._taken += 1
            if kind != "message":
                raise AssertionError(f"no message: {kind}")
            self.check(json.loads(data))

    def leave(self) -> None:
        self.stream.protocol.readConnectionLost()
        self.world.turn()

    def _connection(self, data: bytes) -> Stream:
        stream = Stream(self.world.reactor, self.world.factory("http").buildProtocol(None))
        stream.receive(data)
        self.world.turn()
        return stream

    def _events(self) -> list[tuple[str, str]]:
        self.stream.take()
        [answer] = parse(self.stream.taken)
        blocks = [one for one in answer.body.decode().split("\n\n") if one and not one.startswith(":")]
        parted = [dict(line.split(": ", 1) for line in block.split("\n")) for block in blocks]
        return [(one["event"], one["data"]) for one in parted]


def events_of(answer: Answer) -> list[tuple[str | None, int | None, Any]]:
    """The events of a stream: id, milliseconds of ``retry:``, and the message, None if it has no data."""
    found: list[tuple[str | None, int | None, Any]] = []
    for block in answer.body.decode().split("\n\n"):
        if not block or block.startswith(":"):
            continue
        parts: dict[str, str] = {}
        for line in block.split("\n"):
            name, _, value = line.partition(":")
            parts[name] = (parts[name] + "\n" if name in parts else "") + value.removeprefix(" ")
        data = parts.get("data", "")
        retry = int(parts["retry"]) if "retry" in parts else None
        found.append((parts.get("id"), retry, json.loads(data) if data else None))
    return found


def messages(answer: Answer) -> list[Any]:
    """The messages in an HTTP answer."""
    if answer.fields.get("content-type") == "text/event-stream":
        return [message for _, _, message in events_of(answer) if message is not None]
    return [json.loads(answer.body)] if answer.body else []


OLD_TRANSPORTS: tuple[type[Speaks], ...] = (OldInMemory, OldOverLines, OldOverHttp)
"""Those of every revision; 2024-11-05 has `OldOverSse` too."""


class Backstage:
    """The providers, from one test to the next: to make them takes longer than most tests do."""

    kept: ClassVar[list[tuple[Stage, Ornate]]] = []
    as_made: ClassVar[dict[str, Any]] = {}

    @classmethod
    def take(cls) -> tuple[Stage, Ornate]:
        """A pair of providers that nobody watches and nothing has happened to."""
        if cls.kept:
            return cls.kept.pop()
        stage, ornate = Stage(), Ornate()
        cls.as_made = {"stage": stage.provider.definitions(), "ornate": ornate.provider.definitions()}
        return stage, ornate

    @classmethod
    def put(cls, stage: Stage, ornate: Ornate) -> None:
        """Keep them for the next test, unless this one has changed what they offer."""
        for provider in (stage.provider, ornate.provider):
            if provider.definitions() is not cls.as_made[provider.name]:
                return
            provider._watchers = Watchers()
        stage.waits.clear()
        stage.seen.clear()
        stage.cancelled = 0
        cls.kept.append((stage, ornate))


class Handshake(Interaction):
    """A test with a handshake client that has said `initialize` in the case's revision."""

    revision: ClassVar[str] = REVISIONS[-1]
    able: ClassVar[Json] = ABLE
    client: Any

    def setUp(self) -> None:
        published_schemas.need_schemas()
        self.stage, self.ornate = Backstage.take()
        self.world = self.serve(self.ornate.provider, self.stage.provider, **SERVER)
        self.client = self.connect()

    def tearDown(self) -> None:
        super().tearDown()
        Backstage.put(self.stage, self.ornate)
        # The runner keeps each case: what it holds would make every collection of garbage longer.
        for name in ("world", "client", "stage", "ornate"):
            delattr(self, name)

    def serve(self, *backends: IBackend, **options: Any) -> World:
        """A server of these backends, which has the transport of 2024-11-05 too."""
        return super().serve(*backends, **{"http": {"sse": "/sse"}, **options})

    def connect(self, world: World | None = None) -> Any:
        client: Any = super().connect(world)
        client.greet(self.revision, known(self.able, self.revision))
        return client

    def since(self, revision: str) -> bool:
        """Whether the case's revision is this one or a later one."""
        return self.revision >= revision

    def refused_old(self, sent: Any, code: int, status: int = 200) -> Json:
        """The error of a refused request: in this era with HTTP 200, unless said otherwise."""
        return self.refused(sent, code, status)


def known(capabilities: Json, revision: str) -> Json:
    """Those of a client's capabilities that the revision has."""
    found = dict(capabilities)
    if revision < "2025-06-18":
        found.pop("elicitation", None)
    elif revision < "2025-11-25" and "elicitation" in found:
        found["elicitation"] = {}
    if revision < "2025-11-25" and "sampling" in found:
        found["sampling"] = {}
    return found


def each(*transports: type[Speaks], revisions: tuple[str, ...] = REVISIONS) -> Callable[[C], C]:
    """Run a case for each of these revisions over each of these transports (all, if none are named)."""

    def multiply(case: C) -> C:
        module = sys.modules[case.__module__]
        pairs = [
            (transport, revision) for revision in revisions for transport in transports or OLD_TRANSPORTS
        ]
        if not transports and REVISIONS[0] in revisions:
            pairs.append((OldOverSse, REVISIONS[0]))
        case.client_class, case.revision = pairs[0]
        for transport, revision in pairs[1:]:
            name = f"{case.__name__}{transport.__name__.removeprefix('Old')}{revision.replace('-', '')}"
            own = {"client_class": transport, "revision": revision, "__module__": case.__module__}
            setattr(module, name, type(name, (case,), own))
        return case

    return multiply


class Wire:
    """One HTTP connection that carries several requests in turn."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.stream = Stream(world.reactor, world.factory("http").buildProtocol(None))

    def post(self, message: Any, fields: Mapping[str, str | None]) -> Answer:
        """Send a message; gives the answer to it."""
        self.stream.taken = b""
        self.stream.receive(request_bytes(encode(message), fields))
        self.world.turn()
        self.stream.take()
        [answer] = parse(self.stream.taken)
        return answer
