"""Sessions and the streams of 2024-11-05 through the whole stack: HTTP's bytes in, the server behind, bytes out."""

import json
from functools import cache
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.examples.demo import provider
from tests.doubles import Stream
from tests.http_wire import Answer, dechunk, events, parse
from tests.interaction.clients import World, encode, request_bytes

WIRE = {"slow": 2.0, "lease": 4.0, "idle": 8.0, "message": 4096, "headers": 4096, "heartbeat": 3.0}


def request(method: str, params: dict[str, Any] | None = None, number: int = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params or {}}


def initialize(version: str) -> dict[str, Any]:
    return request(
        "initialize",
        {"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
        0,
    )


INITIALIZED = {"jsonrpc": "2.0", "method": "notifications/initialized"}
ECHO = request("tools/call", {"name": "echo", "arguments": {"message": "hello"}}, 7)
GET = {"Accept": "text/event-stream", "Content-Length": None, "Content-Type": None}


class Connection:
    """One connection to the HTTP listener."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.stream = Stream(world.reactor, world.factory("http").buildProtocol(None))

    def send(self, data: bytes) -> bytes:
        """Send, let time go on for a turn, and read all that is written."""
        if self.stream.lost or self.stream.disconnecting:
            return b""
        self.stream.receive(data)
        self.world.turn()
        return self.stream.take()

    def one(self, body: Any = None, method: str = "POST", path: str = "/mcp", **fields: str | None) -> Answer:
        """One request and its answer."""
        names = {name.replace("_", "-"): value for name, value in fields.items()}
        data = b"" if body is None else encode(body)
        [answer] = parse(self.send(request_bytes(data, names, method=method, path=path)))
        return answer

    def open(self, path: str = "/mcp", **fields: str | None) -> bytes:
        """A GET; what its stream has said so far."""
        names = {**GET, **{name.replace("_", "-"): value for name, value in fields.items()}}
        head, _, body = self.send(request_bytes(b"", names, method="GET", path=path)).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        return dechunk(body)[0]

    def heard(self) -> list[Any]:
        """The messages that its stream has carried since."""
        self.world.turn()
        return [json.loads(data) for data in events(dechunk(self.stream.take())[0])]

    def hang_up(self) -> None:
        self.stream.abortConnection()
        self.world.turn()


class Sessions(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = World(provider, wire=WIRE)

    def session(self, version: str) -> str:
        answer = Connection(self.world).one(initialize(version))
        self.assertEqual(answer.status, 200)
        found = answer.fields["mcp-session-id"]
        self.assertEqual(Connection(self.world).one(INITIALIZED, Mcp_Session_Id=found).status, 202)
        return found

    def test_its_life(self) -> None:
        for version in ("2025-03-26", "2025-06-18", "2025-11-25"):
            session = self.session(version)
            fields = {"Mcp_Session_Id": session, "MCP_Protocol_Version": version}
            one = Connection(self.world)
            one.open(**fields)
            other = Connection(self.world)
            answer = other.one(ECHO, **fields)
            self.assertIn(b"hello", answer.body)
            self.assertEqual(other.one(method="DELETE", **fields).status // 100, 2)
            self.assertEqual(other.one(ECHO, **fields).status, 404)
            self.assertEqual(other.one(method="DELETE", **fields).status, 404)
            self.assertEqual(other.one(method="GET", **{**GET, **fields}).status, 404)
            one.hang_up()

    def test_drain(self) -> None:
        """The server leaves the streams of sessions, so a listener that drains has nothing to wait for."""
        session = self.session("2025-11-25")
        one = Connection(self.world)
        one.open(Mcp_Session_Id=session)
        one.stream.protocol.drain()
        self.assertFalse(one.stream.disconnecting)
        self.successResultOf(self.world.house.server.drain())
        self.assertTrue(one.stream.take().endswith(b"0\r\n\r\n"))
        self.world.turn()
        self.assertTrue(one.stream.lost)

    def test_garbled(self) -> None:
        session = self.session("2025-11-25")
        for wrong in (session[:-2] + "AA", "x", "", session + session):
            for method in ("GET", "DELETE"):
                answer = Connection(self.world).one(method=method, Mcp_Session_Id=wrong, Content_Length=None)
                self.assertEqual(answer.status, 404, wrong[:20])

    def test_stream_beats(self) -> None:
        session = self.session("2025-06-18")
        one = Connection(self.world)
        self.assertEqual(one.open(Mcp_Session_Id=session), b"")
        self.world.turn(60.0)
        beats = dechunk(one.stream.take())[0]
        self.assertEqual((beats.replace(b":\n\n", b""), one.stream.lost), (b"", False))
        self.assertGreater(len(beats), 15 * 3)


class OldStreams(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = World(provider, http={"sse": "/sse"}, wire=WIRE)
        self.one = Connection(self.world)
        first = self.one.open("/sse").decode()
        self.assertTrue(first.startswith("event: endpoint\ndata: /messages?session="), first)
        self.endpoint = first.split("data: ")[1].strip()
        self.other = Connection(self.world)

    def say(self, message: Any) -> list[Any]:
        answer = self.other.one(message, path=self.endpoint)
        self.assertEqual((answer.status, answer.body), (202, b""))
        return self.one.heard()

    def test_its_life(self) -> None:
        [welcome] = self.say(initialize("2024-11-05"))
        self.assertEqual(welcome["result"]["protocolVersion"], "2024-11-05")
        self.assertEqual(self.say(INITIALIZED), [])
        [tools] = self.say(request("tools/list"))
        self.assertIn("echo", {tool["name"] for tool in tools["result"]["tools"]})
        [echoed] = self.say(ECHO)
        self.assertEqual((echoed["id"], echoed["result"]["content"][0]["text"]), (7, "hello"))
        [pong] = self.say(request("ping"))
        self.assertEqual(pong["result"], {})
        [wrong] = self.say(["batch"])
        self.assertEqual(wrong["error"]["code"], -32600)

    def test_going_cancels(self) -> None:
        self.say(initialize("2024-11-05"))
        self.say(INITIALIZED)
        self.say(request("tools/call", {"name": "deploy", "arguments": {"service": "web"}}, 3))
        self.one.hang_up()
        self.assertEqual(self.world.house.server.in_flight, 0)
        self.assertEqual(self.other.one(request("ping"), path=self.endpoint).status, 404)

    def test_sessions_beside_it(self) -> None:
        answer = self.other.one(initialize("2025-11-25"))
        self.assertIn("mcp-session-id", answer.fields)
        self.assertEqual(self.one.heard(), [])


@cache
def world() -> World:
    """One server for all examples: what an example leaves behind is the next one's trouble."""
    return World(provider, http={"sse": "/sse"}, wire=WIRE)


@cache
def session(version: str) -> str:
    connection = Connection(world())
    found = connection.one(initialize(version)).fields["mcp-session-id"]
    connection.hang_up()
    return found


ids = st.sampled_from(["2025-03-26", "2025-06-18", "2025-11-25"]).map(session) | st.text(
    st.characters(min_codepoint=33, max_codepoint=126), max_size=40
)
versions = st.sampled_from([None, "2024-11-05", "2025-06-18", "2025-11-25", "2026-07-28", "x"])
bodies = st.sampled_from(
    [ECHO, INITIALIZED, request("ping"), initialize("2025-11-25"), [], {}, [ECHO, INITIALIZED]]
)


@st.composite
def requests(draw: Any) -> bytes:
    """Requests of the handshake era, right and wrong."""
    method = draw(st.sampled_from(["GET", "DELETE", "POST", "POST"]))
    fields: dict[str, str | None] = {
        "Mcp-Session-Id": draw(st.none() | ids),
        "MCP-Protocol-Version": draw(versions),
        "Last-Event-ID": draw(st.none() | st.text("abc.-0123456789", max_size=20)),
        "Accept": draw(st.sampled_from(["text/event-stream", "application/json, text/event-stream", "*/*"])),
    }
    body = encode(draw(bodies)) if method == "POST" else b""
    path = draw(st.sampled_from(["/mcp", "/mcp", "/mcp", "/sse", "/messages", "/messages?session=x"]))
    return request_bytes(body, fields, method=method, path=path)


class AnyRequests(SynchronousTestCase):
    @settings(max_examples=150, deadline=None)
    @given(
        st.lists(requests(), min_size=1, max_size=5), st.lists(st.integers(1, 400), min_size=1, max_size=5)
    )
    def test_answers_or_streams(self, asked: list[bytes], sizes: list[int]) -> None:
        """In any chunks: each is answered or opens a stream, and nothing is left when the connection has gone."""
        one = Connection(world())
        data = b"".join(asked)
        written = b""
        place = turn = 0
        while place < len(data):
            size = sizes[turn % len(sizes)]
            written += one.send(data[place : place + size])
            place, turn = place + size, turn + 1
        for answer in parse(written):
            self.assertTrue(200 <= answer.status < 500, answer)
        self.assertTrue(parse(written))
        one.hang_up()
        self.assertEqual((world().limits.here, world().house.server.in_flight), ([], 0))
