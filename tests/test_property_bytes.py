"""Any bytes, in any chunks, through a whole stack (transport, server, demo): answers or a clean close, never a hang.

An unhandled error anywhere is logged, and trial takes that for a failure of the test.
"""

import gzip
import json
from functools import cache
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.examples.demo import provider
from tests.doubles import Stream
from tests.http_wire import parse
from tests.interaction.clients import PREFIX, World, encode, envelope, request_bytes

#: short limits of time, so that a few steps of the clock bring a connection to its end
WIRE = {
    "slow": 2.0,
    "lease": 4.0,
    "idle": 8.0,
    "message": 4096,
    "headers": 2048,
    "in_flight": 4,
    "write_buffer": 4096,
}
REACHES_ITS_END = 60.0


def message(method: str, params: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    meta = envelope({"elicitation": {}, "roots": {}}, progressToken=1, **{PREFIX + "logLevel": "debug"})
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**(params or {}), "_meta": meta}, **more}


def call(tool: str, **arguments: Any) -> dict[str, Any]:
    return message("tools/call", {"name": tool, "arguments": arguments})


SEEDS: list[Any] = [
    message("server/discover"),
    message("tools/list"),
    message("tools/list", {"cursor": "x"}),
    message("resources/read", {"uri": "config://settings"}),
    message("resources/read", {"uri": "greeting://a%20b"}),
    message("prompts/get", {"name": "review", "arguments": {"code": "x"}}),
    message(
        "completion/complete",
        {"ref": {"type": "ref/prompt", "name": "review"}, "argument": {"name": "language", "value": "p"}},
    ),
    message("subscriptions/listen", {"notifications": {"toolsListChanged": True}}, id="s"),
    call("echo", message="hello 🦊"),
    call("add", a=1, b=2.5),
    call("calculate", operation="divide", a=1, b=0),
    call("deploy", service="web"),
    call("swatch", red=1, green=2, blue=3),
    message(
        "tools/call",
        {"name": "deploy", "arguments": {"service": "web"}, "requestState": "AAAA", "inputResponses": {}},
    ),
    {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "s"}},
    {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": "2025-11-25"}},
    {"jsonrpc": "2.0", "id": 1, "result": {}},
    [message("tools/list")],
]
JUNK = [
    b"\n", b"\r\n", b"\r\n\r\n", b"{", b"}", b"[", b"]", b'"', b"\\", b"\x00", b"\xff", b"\xed\xa0\x80", b":", b",",
    b"null", b"1e999", b"-", b'"\\ud800"', b"{}" * 40, b"[" * 200, b"9" * 5000, b" " * 3000,
    b"GET / HTTP/1.1\r\n\r\n",
    b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n", b"5\r\nhello\r\n", b"Host: evil\r\n",
    b"Upgrade: h2c\r\nConnection: Upgrade\r\n", b"Expect: 100-continue\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00",
]  # fmt: skip


def spoiled(data: bytes, places: list[tuple[int, int, bytes]]) -> bytes:
    """The data with some places cut out and other bytes put in."""
    for place, length, piece in places:
        at = place % (len(data) + 1)
        data = data[:at] + piece + data[at + length :]
    return data


pieces = st.sampled_from(JUNK) | st.binary(max_size=6)
places = st.lists(st.tuples(st.integers(0, 4096), st.integers(0, 8), pieces), max_size=3)
bodies = st.sampled_from(SEEDS).map(encode)
some_body = st.builds(spoiled, bodies, places) | bodies


@st.composite
def chunked(draw: Any, data: bytes) -> list[bytes]:
    """The data cut anywhere."""
    cuts = sorted({cut % (len(data) + 1) for cut in draw(st.lists(st.integers(0, 10**5), max_size=6))})
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


@st.composite
def http_request(draw: Any) -> bytes:
    body = draw(some_body)
    fields: dict[str, str | None] = {"MCP-Protocol-Version": "2026-07-28"}
    try:
        parts = json.loads(body)
        fields["Mcp-Method"] = str(parts["method"]).encode("latin-1", "replace").decode("latin-1")
        params = parts["params"]
        fields["Mcp-Name"] = (
            str(params.get("name", params.get("uri", ""))).encode("ascii", "replace").decode()
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        fields["Mcp-Method"] = "tools/list"
    kind = draw(st.sampled_from(["plain", "plain", "plain", "gzip", "chunked", "length", "close"]))
    if kind == "gzip":
        body = gzip.compress(body)
        fields["Content-Encoding"] = "gzip"
    elif kind == "chunked":
        fields.update({"Content-Length": None, "Transfer-Encoding": "chunked"})
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
    elif kind == "length":
        fields["Content-Length"] = str(draw(st.integers(0, 5000)))
    elif kind == "close":
        fields["Connection"] = "close"
    if draw(st.booleans()):
        fields["Accept"] = draw(st.sampled_from(["application/json", "text/event-stream", "text/html", ""]))
    return request_bytes(
        body, {name: value and value.replace("\n", " ").replace("\r", " ") for name, value in fields.items()}
    )


lines = st.lists(some_body | st.binary(max_size=40), max_size=5).map(lambda found: b"\n".join([*found, b""]))
line_streams = lines | st.builds(spoiled, lines, places) | st.binary(max_size=200)
http = st.lists(http_request(), min_size=1, max_size=4).map(b"".join)
http_streams = http | st.builds(spoiled, http, places) | st.binary(max_size=200)


@cache
def world() -> World:
    """One server for all examples: what an example leaves behind is the next one's trouble."""
    return World(provider, wire=WIRE)


class Connection:
    """One connection to the whole stack, from its first byte to its end."""

    def __init__(self, transport: str) -> None:
        self.world = world()
        self.stream = Stream(self.world.reactor, self.world.factory(transport).buildProtocol(None))

    def feed(self, chunks: list[bytes]) -> None:
        """Send, as far as the server reads; the peer reads all it is sent."""
        for chunk in chunks:
            for _ in range(20):
                if self.stream.producerState == "producing" or self.ended:
                    break
                self.stream.take()
                self.world.turn(0.25)
            if self.stream.producerState != "producing" or self.ended:
                return
            self.stream.receive(chunk)
            self.world.turn()

    @property
    def ended(self) -> bool:
        return self.stream.lost or self.stream.disconnecting

    def end(self, *, hang_up: bool) -> bytes:
        """Let it end: because the peer closes its half, or because it says nothing more and time goes by.

        Returns:
            All that the server has written.
        """
        self.stream.take()
        self.world.turn()
        if hang_up and not self.ended:
            self.stream.protocol.readConnectionLost()
        for _ in range(int(REACHES_ITS_END)):
            if self.stream.lost:
                break
            self.stream.take()
            self.world.turn(1.0)
        if not self.stream.lost and self.world.house.server.in_flight:
            # What listens or waits may stay as long as its client does.
            self.stream.protocol.readConnectionLost()
            self.stream.take()
            self.world.turn(5.0)
        self.stream.take()
        self.world.turn()
        return self.stream.taken


class Stacks(SynchronousTestCase):
    def over(self, transport: str, chunks: list[bytes], *, hang_up: bool) -> bytes:
        connection = Connection(transport)
        connection.feed(chunks)
        written = connection.end(hang_up=hang_up)
        self.assertTrue(connection.stream.lost, "the connection neither ends nor serves")
        self.assertEqual(connection.world.house.server.in_flight, 0)
        self.assertEqual(connection.world.limits.here, [])
        self.assertEqual(connection.world.house.gates.admit.under_way, 0)  # type: ignore[attr-defined]
        self.assertEqual(len(connection.world.house.server.subscriptions), 0)
        connection.world.house.gates.record.outcomes.clear()  # type: ignore[attr-defined]
        return written

    @given(line_streams.flatmap(chunked), st.booleans())
    @settings(deadline=None, max_examples=400)
    def test_lines(self, chunks: list[bytes], hang_up: bool) -> None:
        written = self.over("tcp", chunks, hang_up=hang_up)
        *answers, rest = written.split(b"\n")
        self.assertEqual(rest, b"")
        responses = 0
        for answer in answers:
            found = json.loads(answer)
            self.assertEqual(found["jsonrpc"], "2.0")
            responses += "method" not in found
        self.assertLessEqual(responses, b"".join(chunks).count(b"\n"))

    @given(http_streams.flatmap(chunked), st.booleans())
    @settings(deadline=None, max_examples=400)
    def test_http(self, chunks: list[bytes], hang_up: bool) -> None:
        written = self.over("http", chunks, hang_up=hang_up)
        for answer in parse(written):
            self.assertTrue(100 <= answer.status < 600)
            if answer.fields.get("content-type") == "application/json":
                self.assertEqual(json.loads(answer.body)["jsonrpc"], "2.0")

    @given(st.lists(bodies, min_size=1, max_size=6), st.data())
    @settings(deadline=None, max_examples=60)
    def test_whole_messages_are_all_answered(self, whole: list[bytes], data: st.DataObject) -> None:
        """However they are cut: each request gets its one answer, on either transport."""
        requests = [body for body in whole if b'"s"' not in body]
        expected = sum(
            isinstance(found := json.loads(body), list) or ("id" in found and "method" in found)
            for body in requests
        )
        stream = b"".join(body + b"\n" for body in requests)
        written = self.over("tcp", data.draw(chunked(stream)), hang_up=False)
        found = [json.loads(line) for line in written.splitlines()]
        self.assertEqual(len([one for one in found if "method" not in one]), expected)

    def test_the_demo_still_serves(self) -> None:
        connection = Connection("tcp")
        connection.feed([encode(call("echo", message="alive")) + b"\n"])
        self.assertIn(b'"alive"', connection.end(hang_up=True))
