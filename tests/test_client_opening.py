"""How a client finds out which era a server is of (basic/versioning, "Backward Compatibility")."""

from typing import Any

from msgspec import Raw
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.client import (
    BadAnswer,
    Client,
    ClientError,
    Disconnected,
    NotOffered,
    ServerError,
    Target,
    TimedOut,
    WireError,
)
from erlmcp.client._backoff import Backoff
from erlmcp.client._probe import Verdict, judge
from erlmcp.protocol import McpError
from erlmcp.testing import StubServer
from erlmcp.testing._wires import StubWire

PEER = "there"


def refusal(code: int, data: Any = None, *, status: int = 0) -> ServerError:
    return ServerError(PEER, "server/discover", code, "no", data, answered_with=status)


def broken(status: int | None = None, *, unsent: bool = False) -> Disconnected:
    return Disconnected(PEER, WireError("broken", status=status, unsent=unsent))


class JudgeTests(SynchronousTestCase):
    """The decision alone."""

    def verdict(self, outcome: Raw | ClientError, *, linked: bool) -> Verdict:
        return judge(outcome, linked=linked, peer=PEER)[0]

    def test_discovered(self) -> None:
        body = b'{"supportedVersions":["2030-01-01","2026-07-28"],"capabilities":{"tools":{}}}'
        for linked in (True, False):
            verdict, found = judge(Raw(body), linked=linked, peer=PEER)
            self.assertEqual(verdict, Verdict.MODERN)
            assert found is not None
            self.assertTrue(found.server().offers("tools"))

    def test_a_discovery_that_names_old_versions(self) -> None:
        body = Raw(b'{"supportedVersions":["2025-11-25"],"capabilities":{}}')
        self.assertEqual(self.verdict(body, linked=True), Verdict.HANDSHAKE)

    def test_no_version_in_common(self) -> None:
        outcomes: list[Raw | ClientError] = [
            Raw(b'{"supportedVersions":["2030-01-01"],"capabilities":{}}'),
            refusal(-32022, {"supported": ["2030-01-01"]}),
        ]
        for outcome in outcomes:
            with self.assertRaisesRegex(
                NotOffered, "it speaks 2030-01-01; spoken here are 2026-07-28, 2025-11-25"
            ):
                self.verdict(outcome, linked=False)
        with self.assertRaisesRegex(NotOffered, "none that it names"):
            self.verdict(refusal(-32022), linked=False)

    def test_what_is_no_discovery(self) -> None:
        for body in (b"{}", b"[]", b'{"supportedVersions":3}', b'{"protocolVersion":"2025-11-25"}'):
            self.assertEqual(self.verdict(Raw(body), linked=True), Verdict.HANDSHAKE)

    def test_refusals(self) -> None:
        for code in (-32601, -32602, -32600, -32000, -32002, 7):
            for status in (0, 200, 400, 404, 405):
                self.assertEqual(self.verdict(refusal(code, status=status), linked=True), Verdict.HANDSHAKE)
                self.assertEqual(self.verdict(refusal(code), linked=False), Verdict.HANDSHAKE)

    def test_modern_refusals(self) -> None:
        old = refusal(-32022, {"supported": ["2025-06-18"]})
        self.assertEqual(self.verdict(old, linked=True), Verdict.HANDSHAKE)
        for code in (-32020, -32021):
            for linked in (True, False):
                with self.assertRaises(ServerError):
                    self.verdict(refusal(code), linked=linked)

    def test_http_statuses(self) -> None:
        for status in (400, 404, 405, 406, 415, 422):
            self.assertEqual(self.verdict(broken(status), linked=True), Verdict.HANDSHAKE)
        for status in (401, 403, 429, 500, 502, 503, None):
            with self.assertRaises(Disconnected):
                self.verdict(broken(status), linked=True)
        for status in (401, 403, 500, 503):
            with self.assertRaises(ServerError):
                self.verdict(refusal(-32603, status=status), linked=True)

    def test_silence(self) -> None:
        self.assertEqual(self.verdict(TimedOut(PEER, "silence"), linked=False), Verdict.HANDSHAKE)
        with self.assertRaises(TimedOut):
            self.verdict(TimedOut(PEER, "silence"), linked=True)

    def test_death(self) -> None:
        self.assertEqual(self.verdict(broken(), linked=False), Verdict.HANDSHAKE)
        self.assertEqual(self.verdict(BadAnswer(PEER, "garbage"), linked=False), Verdict.HANDSHAKE)
        with self.assertRaises(Disconnected):
            self.verdict(broken(unsent=True), linked=False)
        with self.assertRaises(NotOffered):
            self.verdict(NotOffered(PEER, "x"), linked=False)


class OpeningTests(SynchronousTestCase):
    """The decision carried out."""

    def client(self, stub: StubServer, **options: Any) -> Client:
        self.clock = Clock()
        client = Client(options.pop("target", stub.target), self.clock, **options)
        self.addCleanup(lambda: self.successResultOf(client.close()))
        return client

    def era(self, client: Client) -> str:
        return self.successResultOf(client.connect()).era

    def test_modern(self) -> None:
        stub = StubServer()
        self.assertEqual(self.era(self.client(stub)), "modern")
        stub.assert_methods("server/discover")

    def test_a_stream_of_old(self) -> None:
        """The handshake begins on a wire of its own."""
        stub = StubServer("2025-06-18")
        memory: dict[str, str] = {}
        client = self.client(stub, memory=memory)
        self.assertEqual(self.era(client), "handshake")
        stub.assert_methods("server/discover", "initialize")
        self.assertEqual(len(stub.wires), 2)
        self.assertIsNone(stub.wires[0].inbox)
        self.assertEqual(memory, {"stub": "handshake"})
        self.assertEqual([one["method"] for one in stub.notifications], ["notifications/initialized"])

    def test_http_of_old(self) -> None:
        stub = StubServer("2025-06-18", linked=True)
        self.assertEqual(self.era(self.client(stub)), "handshake")
        self.assertEqual(len(stub.wires), 1)

    def test_a_server_that_dies_of_the_question(self) -> None:
        stub = StubServer("2025-11-25")
        stub.on("server/discover", None)
        connecting = self.client(stub).connect()
        stub.wire.cut("exit code 1")
        self.assertEqual(self.successResultOf(connecting).era, "handshake")

    def test_a_server_that_says_nothing(self) -> None:
        stub = StubServer("2025-11-25")
        stub.on("server/discover", None)
        connecting = self.client(stub).connect()
        for _ in range(60):
            self.clock.advance(0.1)
        self.assertEqual(self.successResultOf(connecting).era, "handshake")

    def test_remembered(self) -> None:
        stub = StubServer("2025-11-25")
        self.assertEqual(self.era(self.client(stub, memory={"stub": "handshake"})), "handshake")
        stub.assert_methods("initialize")

    def test_a_wrong_memory_is_corrected(self) -> None:
        for linked in (True, False):
            stub = StubServer(linked=linked)
            memory = {"stub": "handshake"}
            self.assertEqual(self.era(self.client(stub, memory=memory)), "modern")
            stub.assert_methods("initialize", "server/discover")
            self.assertEqual(memory, {"stub": "modern"})

    def test_a_server_that_became_old(self) -> None:
        stub = StubServer(linked=True)
        memory: dict[str, str] = {}
        client = self.client(stub, memory=memory)
        self.assertEqual(self.era(client), "modern")
        old = StubServer("2025-11-25", linked=True)
        stub.on("server/discover", McpError(-32601, "unknown"))
        stub.on("prompts/get", WireError("400 Bad Request", status=400), {"messages": []})
        stub.on("initialize", {"protocolVersion": old.version, "capabilities": {}, "serverInfo": {}})
        self.successResultOf(client.get("x"))
        stub.assert_methods("server/discover", "prompts/get", "server/discover", "initialize", "prompts/get")
        self.assertEqual(memory, {"stub": "handshake"})

    def test_only_once(self) -> None:
        """A server that refuses all the same is not asked for ever."""
        stub = StubServer(linked=True)
        stub.on("prompts/get", McpError(-32600, "no"))
        self.failureResultOf(self.client(stub).get("x"), ServerError)
        self.assertEqual(len(stub.asked("prompts/get")), 2)

    def test_demanded(self) -> None:
        stub = StubServer("2025-11-25")
        error = self.failureResultOf(self.client(stub, era="modern").connect()).value
        self.assertIsInstance(error, ServerError)
        stub = StubServer()
        error = self.failureResultOf(self.client(stub, era="handshake").connect(), ServerError).value
        stub.assert_methods("initialize")
        stub = StubServer(linked=True)
        stub.on("server/discover", {"supportedVersions": ["2025-11-25"], "capabilities": {}})
        error = self.failureResultOf(self.client(stub, era="modern").connect(), NotOffered).value
        self.assertIn("does not speak the modern revision", str(error))

    def test_greetings_that_are_none(self) -> None:
        for greeting in ({}, {"protocolVersion": "2024-01-01", "capabilities": {}}):
            stub = StubServer("2025-11-25")
            stub.on("initialize", greeting)
            error = self.failureResultOf(self.client(stub, era="handshake").connect(), BadAnswer).value
            self.assertRegex(str(error), "^stub: initialize: ")
            self.assertIsNone(stub.wire.inbox)

    def test_waits_for_initialize_no_longer_than_it_may(self) -> None:
        stub = StubServer("2025-11-25")
        stub.on("initialize", None)
        connecting = self.client(stub, era="handshake", connect_timeout=3).connect()
        for _ in range(40):
            self.clock.advance(0.1)
        self.failureResultOf(connecting, TimedOut)
        self.assertEqual(stub.notifications, [], "initialize is never cancelled")

    def test_many_wait_for_one_opening(self) -> None:
        stub = StubServer()
        stub.on("server/discover", None)
        client = self.client(stub)
        first, second = client.connect(), client.connect()
        second.cancel()
        self.failureResultOf(second)
        stub.wire.answer(1, {"supportedVersions": ["2026-07-28"], "capabilities": {}})
        self.successResultOf(first)
        self.assertEqual(len(stub.wires), 1)

    def test_closed_while_opening(self) -> None:
        stub = StubServer()
        stub.on("server/discover", None)
        client = self.client(stub)
        connecting = client.connect()
        self.successResultOf(client.close())
        self.failureResultOf(connecting, Disconnected)
        self.assertIsNone(stub.wire.inbox)


class OldHttpTests(SynchronousTestCase):
    """HTTP+SSE of 2024-11-05, tried where a URL refuses ``initialize``."""

    def client(self, stub: StubServer, old: StubServer) -> Client:
        def old_wire() -> StubWire:
            wire = StubWire(old, linked=False, peer="stub")
            old.wires.append(wire)
            return wire

        target = Target("stub", stub.target.make_wire, old_wire)
        client = Client(target, Clock(), backoff=Backoff())
        self.addCleanup(lambda: self.successResultOf(client.close()))
        return client

    def test_taken(self) -> None:
        stub, old = StubServer("2025-11-25", linked=True), StubServer("2024-11-05")
        for method in ("server/discover", "initialize"):
            stub.on(method, WireError("405", status=405))
        self.assertEqual(self.successResultOf(self.client(stub, old).connect()).version, "2024-11-05")

    def test_not_there_either(self) -> None:
        stub, old = StubServer("2025-11-25", linked=True), StubServer("2024-11-05")
        for method in ("server/discover", "initialize"):
            stub.on(method, WireError("405", status=405))
        old.refusal = "no stream"
        error = self.failureResultOf(self.client(stub, old).connect(), Disconnected).value
        self.assertEqual(error.status, 405)
        old.refusal = None
        old.on("initialize", McpError(-32603, "broken"))
        self.failureResultOf(self.client(stub, old).connect(), ServerError)

    def test_not_tried(self) -> None:
        stub, old = StubServer("2025-11-25", linked=True), StubServer("2024-11-05")
        stub.on("server/discover", WireError("405", status=405))
        stub.on("initialize", WireError("500", status=500))
        self.failureResultOf(self.client(stub, old).connect(), Disconnected)
        self.assertEqual(old.wires, [])


class BackoffTests(SynchronousTestCase):
    """The pauses between attempts."""

    def test_doubles_up_to_a_bound(self) -> None:
        backoff = Backoff(first=1, longest=30)
        self.assertEqual([backoff.delay(n, lambda: 0.0) for n in range(8)], [0, 1, 2, 4, 8, 16, 30, 30])
        self.assertEqual(backoff.delay(3, lambda: 1.0), 2)
        self.assertEqual(backoff.delay(10_000, lambda: 0.0), 30)
