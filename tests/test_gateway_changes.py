"""What clients hear through the gateway when something changes behind it, and what they see while it is away."""

from collections.abc import Iterator
from typing import Any

from msgspec import structs
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from erlmcp import Provider
from erlmcp.catalog import Catalog
from erlmcp.client import Change as Heard
from erlmcp.client import Client
from erlmcp.gateway import expose
from erlmcp.interfaces import Change, Definitions, IFollowing
from erlmcp.protocol import McpError
from erlmcp.server._directory import STALE
from erlmcp.tap._standing import Standing
from erlmcp.telemetry import Counters
from erlmcp.testing import Harness, MemoryExchange, StubServer
from tests.gateway_stage import Stage
from tests.scripted import Scripted, text

ERAS = ("modern", "2025-11-25")
TELLS = {"tools": {"listChanged": True}, "resources": {"listChanged": True, "subscribe": True}}


def far() -> Provider:
    provider = Provider("far")

    @provider.tool
    async def look() -> str:
        """Look."""
        return "well"

    @provider.resource("config://all")
    async def config() -> str:
        """The configuration."""
        return "{}"

    @provider.resource("note://{name}")
    async def note(name: str) -> str:
        """A note."""
        return name

    return provider


class CellTests(SynchronousTestCase):
    """Clients and upstreams of either era, over streams and over what is like HTTP."""

    def each(self) -> Iterator[tuple[str, Stage, Provider, Client]]:
        for client_era in ERAS:
            for era in ERAS:
                for linked in (False, True):
                    provider = far()
                    stage = Stage(provider, era=era, linked=linked)
                    stage.begin()
                    client = stage.client(client_era, linked=linked)
                    yield f"{client_era} {era} {linked}", stage, provider, client
                    stage.end(self.successResultOf)
                    assert stage.far is not None
                    self.successResultOf(stage.far.engine.close())
                    self.successResultOf(stage.near.engine.close())
                    self.assertEqual(stage.clock.getDelayedCalls(), [], f"{client_era} {era} {linked}")

    def test_updates(self) -> None:
        """The moment a subscription is acknowledged, updates are heard, under our names; and not those of others."""
        for name, stage, provider, client in self.each():
            heard: list[Heard] = []
            wanted = ["far+config://all", "far+note://a"]
            subscription = client.listen(heard.append, uris=wanted)
            for _ in range(20):
                if subscription.acknowledged.called:
                    break
                stage.clock.advance(0.1)
            self.successResultOf(subscription.acknowledged)
            self.assertEqual(stage.upstream.watching.followed, 2, name)
            provider.notify_updated("note://a")
            provider.notify_updated("note://b")
            self.assertEqual(heard, [Heard("resource", "far+note://a")], name)
            subscription.close()
            stage.clock.advance(1)
            self.assertEqual(stage.upstream.watching.followed, 0, name)
            assert stage.far is not None
            provider.notify_updated("note://a")
            self.assertEqual(len(heard), 1, name)

    def test_lost(self) -> None:
        """The upstream's connection is lost: lists and resources count as changed when it is back; a tool works."""
        for name, stage, _, client in self.each():
            heard: list[Heard] = []
            client.listen(heard.append, tools=True, uris=["far+config://all"])
            stage.clock.advance(1)
            for wire in list(stage.wires):
                wire.cut()
            stage.clock.advance(1)
            stage.clock.advance(1)
            self.assertIn(Heard("resource", "far+config://all"), heard, name)
            self.assertIsNone(stage.upstream.stale, name)
            calling = client.call("far.look", {})
            stage.clock.advance(1)
            self.assertEqual(self.successResultOf(calling).text, "well", name)


class StaleTests(SynchronousTestCase):
    """An upstream that goes away."""

    def setUp(self) -> None:
        self.stub = StubServer("2026-07-28", TELLS)
        self.stub.on("tools/list", self.tools("look"))
        self.stub.on(
            "resources/list",
            {"resultType": "complete", "resources": [], "ttlMs": 60_000, "cacheScope": "public"},
        )
        self.stub.on("subscriptions/listen", None)
        self.stage = Stage(stub=self.stub)
        self.addCleanup(self.stage.end, self.successResultOf)

    def tools(self, *names: str) -> dict[str, Any]:
        return {
            "resultType": "complete",
            "tools": [{"name": name, "inputSchema": {"type": "object"}} for name in names],
            "ttlMs": 60_000,
            "cacheScope": "public",
        }

    def acknowledge(self) -> None:
        for number in list(self.stub.wire.open_requests):
            params = {"_meta": {"io.modelcontextprotocol/subscriptionId": number}, "notifications": {}}
            method = "notifications/subscriptions/acknowledged"
            self.stub.wire.say({"jsonrpc": "2.0", "method": method, "params": params})

    def page(self, method: str = "tools/list") -> dict[str, Any]:
        result = self.stage.near.send(method).result
        assert isinstance(result, dict)
        return result

    def test_marked(self) -> None:
        """From the start until it has been heard; from the loss until it is back; with its name, and no reason."""
        self.assertNotIn(STALE, self.page()["_meta"])  # it has not been started
        self.stage.begin()
        early = self.stage.near.send("tools/list")
        self.assertEqual(early.replies, [], "it has just been started: it is waited for, a little")
        self.stage.upstream._started -= 5
        for method in ("tools/list", "resources/list", "resources/templates/list", "prompts/list"):
            self.assertEqual(self.page(method)["_meta"][STALE], ["far"], method)
        self.assertEqual(self.page()["ttlMs"], 0)
        self.acknowledge()
        page = self.page()
        self.assertNotIn(STALE, page["_meta"])
        assert isinstance(early.result, dict)
        self.assertEqual([one["name"] for one in early.result["tools"]], ["far.look"])
        self.assertEqual((page["ttlMs"], page["cacheScope"]), (60_000, "public"))
        self.stub.refusal = "10.1.2.3 refuses"
        self.stub.wire.cut("10.1.2.3 has gone")
        self.stage.clock.advance(1)
        page = self.page()
        self.assertEqual((page["_meta"][STALE], page["ttlMs"]), (["far"], 0))
        self.assertEqual([one["name"] for one in page["tools"]], ["far.look"])
        self.assertNotIn("10.1.2.3", str(page))
        self.assertIn("10.1.2.3", str(self.stage.upstream.detail()["stale"]))
        self.stub.refusal = None
        for _ in range(40):
            self.stage.clock.advance(1)
            self.acknowledge()
        self.assertNotIn(STALE, self.page()["_meta"])

    def test_handshake_clients(self) -> None:
        """They are told, too; what they have no word for is left out."""
        self.stage.begin()
        self.stage.upstream._started -= 5
        exchange = self.stage.near.initialize()
        answer = self.stage.near.legacy("tools/list", exchange=exchange).written[-1]["result"]
        self.assertEqual(answer, {"tools": [], "_meta": {STALE: ["far"]}})

    def test_the_breaker_opens(self) -> None:
        """Who is not asked any more may have become another."""
        self.stage.begin()
        self.acknowledge()
        self.assertIsNone(self.stage.upstream.stale)
        self.stub.on("tools/list", None)
        for _ in range(6):
            self.stage.upstream.breaker.connect_failed(self.stage.clock.seconds())
        self.assertIsNotNone(self.stage.upstream.stale)

    def test_undeclared_changes(self) -> None:
        """Some say that a list has changed and have not declared that they would."""
        self.stub.capabilities = {"tools": {}}
        self.stub.on("server/discover", self.stub._greeting())
        self.stage.begin()
        self.assertEqual(list(self.stage.upstream.definitions().tools), ["far.look"])
        self.stub.on("tools/list", self.tools("look", "listen"))
        self.stage.clock.advance(1)
        self.stub.wire.say({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
        self.assertEqual(list(self.stage.upstream.definitions().tools), ["far.look", "far.listen"])

    def test_what_clients_are_told(self) -> None:
        """A list that differs, and no other; other workers hear for themselves."""
        self.stage.begin()
        self.acknowledge()
        changes: list[Change] = []
        end = self.stage.upstream.watch(changes.append)
        self.stub.on("tools/list", self.tools("look", "listen"))
        self.successResultOf(self.stage.upstream.relist())
        self.assertEqual(changes, [Change("tools", everywhere=True)])
        end()

    def test_another_session(self) -> None:
        """The session that is listened on is worn out: another takes its place, and nobody has to wait for a change."""
        self.stage.begin()
        self.acknowledge()
        self.stage.clock.advance(1)
        leases = self.stage.upstream.leases
        [seat] = leases.seats()
        leases.give_back(leases.take(seat.whose), broken=True)  # type: ignore[arg-type]
        self.acknowledge()
        self.assertEqual(len(self.stub.wires), 2)
        self.assertEqual(leases.count, 1)
        self.assertEqual(len(self.stub.asked("tools/list")), 2)
        self.assertIsNone(self.stub.wires[0].inbox)

    def test_unknown_resources(self) -> None:
        """Nobody has to be asked for what is none of its own."""
        following = self.stage.upstream.follow("other+config://all")
        self.assertIsNone(following.ready())
        following.end()
        self.assertEqual(self.stage.upstream.watching.followed, 0)


class MetricTests(SynchronousTestCase):
    def test_values(self) -> None:
        stub = StubServer("2026-07-28", {"tools": {}})
        stub.on("tools/list", {"tools": [{"name": "look", "inputSchema": {"type": "object"}}]})
        outcomes = [
            {"resultType": "complete", "content": []},
            {"resultType": "input_required", "requestState": "x"},
            McpError(-32602, "no"),
            None,
        ]
        stub.on("tools/call", *outcomes)
        stage = Stage(stub=stub)
        counters = Counters()
        end = expose(counters, stage.upstream)

        def value(name: str, *labels: str) -> float:
            return counters.gauges[f"erlmcp_upstream_{name}"]["far", *labels]()

        stage.begin()
        self.assertEqual(
            [value(name) for name in ("stale", "open", "sessions", "waiting", "followed")], [0, 0, 1, 0, 0]
        )
        for _ in outcomes:
            exchange = stage.near.call("far.look")
        stage.near.channel.closed(exchange)
        stub.on("tools/call", {"resultType": "complete", "content": []})
        stage.upstream.follow("far+a:b")
        stub.refusal = "away"
        stub.wire.cut()
        stage.near.call("far.look")
        for _ in range(6):
            stage.upstream.breaker.connect_failed(stage.clock.seconds())
        stage.near.call("far.look")
        found = {labels[1]: read() for labels, read in counters.gauges["erlmcp_upstream_calls_total"].items()}
        expected = {"complete": 1, "input_required": 1, "error": 1, "cancelled": 1, "lost": 1, "refused": 1}
        self.assertEqual(found, expected)
        self.assertEqual([value(name) for name in ("stale", "open", "followed")], [1, 1, 1])
        end()
        end()
        self.assertFalse(any(counters.gauges.values()))
        stage.end(self.successResultOf)


class Follower(Scripted):
    """A backend that is told what is followed."""

    def __init__(self, name: str, *uris: str) -> None:
        super().__init__({}, name=name, resources={uri: lambda _: text("") for uri in uris})
        self._definitions = structs.replace(self._definitions, prompts={})
        self.followed: list[str] = []
        self.waiters: list[Deferred[None]] = []
        self.late = False

    def follow(self, uri: str) -> IFollowing:
        self.followed.append(uri)
        return _Following(self, uri)


class _Following:
    def __init__(self, backend: Follower, uri: str) -> None:
        self.backend = backend
        self.uri = uri

    def ready(self) -> Deferred[None] | None:
        if not self.backend.late:
            return None
        waiter: Deferred[None] = Deferred()
        self.backend.waiters.append(waiter)
        return waiter

    def end(self) -> None:
        self.backend.followed.remove(self.uri)


class HubTests(SynchronousTestCase):
    """The server tells backends what is followed, and acknowledges once they listen."""

    def setUp(self) -> None:
        self.backend = Follower("a", "a:1", "a:2")
        self.house = Harness(self.backend)

    def listen(self, *uris: str, exchange: MemoryExchange | None = None) -> MemoryExchange:
        wanted = {"resourceSubscriptions": list(uris)}
        return self.house.send("subscriptions/listen", {"notifications": wanted}, exchange=exchange)

    def test_followed(self) -> None:
        """Once, however many listen, until the last has gone."""
        first, second = self.listen("a:1"), self.listen("a:1", "a:2", "a:3")
        self.assertEqual(self.backend.followed, ["a:1", "a:2"])
        self.house.channel.closed(second)
        self.assertEqual(self.backend.followed, ["a:1"])
        self.house.channel.closed(first)
        self.assertEqual(self.backend.followed, [])

    def test_acknowledged_late(self) -> None:
        """What changes before is told after it; whoever has gone meanwhile is not told anything."""
        self.backend.late = True
        exchange, gone = self.listen("a:1", "a:2"), self.listen("a:2")
        self.assertEqual(exchange.written, [])
        self.backend.change(Change("updated", "a:1", everywhere=True))
        self.backend.change(Change("updated", "a:1"))
        self.house.channel.closed(gone)
        *first, last, _ = self.backend.waiters
        for waiter in first:
            waiter.callback(None)
        self.assertEqual(exchange.written, [])
        last.callback(None)
        methods = [message["method"].removeprefix("notifications/") for message in exchange.written]
        self.assertEqual(methods, ["subscriptions/acknowledged", "resources/updated"])
        self.assertEqual(gone.written, [])

    def test_ended_before(self) -> None:
        """A server that ends acknowledges first all the same."""
        self.backend.late = True
        exchange = self.listen("a:1")
        self.house.server.drain()
        self.assertEqual(exchange.written[0]["method"], "notifications/subscriptions/acknowledged")
        self.assertIn("result", exchange.written[-1])

    def test_handshake(self) -> None:
        """``resources/subscribe`` is answered once it is listened; who gives up waits no longer."""
        self.backend.late = True
        exchange = self.house.initialize()
        self.house.legacy("resources/subscribe", {"uri": "a:1"}, exchange=exchange, id="one")
        self.assertEqual(len(exchange.written), 1)
        self.backend.waiters.pop().callback(None)
        self.assertEqual(exchange.written[-1], {"jsonrpc": "2.0", "id": "one", "result": {}})
        self.house.legacy("resources/subscribe", {"uri": "a:2"}, exchange=exchange, id="two")
        self.house.channel.closed(exchange)
        self.assertEqual(self.backend.followed, [])

    def test_workers(self) -> None:
        """What every worker hears by itself is not passed on to them."""
        published: list[bytes] = []
        server = self.house.server
        self.patch(server, "_engine", _Engine(published))
        server._changed(Change("tools"))
        server._changed(Change("tools", everywhere=True))
        self.assertEqual(len(published), 1)


class _Engine:
    def __init__(self, published: list[bytes]) -> None:
        self._published = published

    def publish(self, topic: str, payload: bytes) -> None:
        del topic
        self._published.append(payload)


class CatalogTests(SynchronousTestCase):
    def test_backends_come(self) -> None:
        """Whoever answers a resource is told, also of what was followed before it came."""
        first, second, plain = Follower("a", "a:1"), Follower("b", "b:1"), Provider("c")
        catalog = Catalog([plain, first])
        following, other = catalog.follow("a:1"), catalog.follow("b:1")
        self.assertEqual((following.uri, first.followed, other.backend), ("a:1", ["a:1"], None))
        self.assertIsNone(other.ready())
        catalog.add_backend(second)
        self.assertEqual(second.followed, ["b:1"])
        following.end()
        other.end()
        self.assertEqual((first.followed, second.followed), ([], []))

    def test_replaced(self) -> None:
        """What stands for a backend tells the next one, too."""
        first, second = Follower("a", "a:1"), Follower("a", "a:1")
        standing = Standing(first, lambda: second)
        catalog = Catalog([standing])
        following = catalog.follow("a:1")
        standing.replace(None)
        self.assertEqual((first.followed, second.followed), ([], ["a:1"]))
        following.end()
        self.assertEqual(second.followed, [])

    def test_stale(self) -> None:
        """Named alone; and to whom nothing of it is shown, it is not."""

        class Old(Scripted):
            def definitions(self) -> Definitions:
                return structs.replace(super().definitions(), stale="10.1.2.3 is away")

        house = Harness(Old({"look": lambda _: text("")}, name="old"))
        self.assertEqual(list(house.catalog.stale), ["old"])
        self.assertEqual(house.catalog.ttl_ms, 0)
        result = house.send("tools/list").result
        self.assertEqual(result["_meta"][STALE], ["old"])
        authorize = house.gates.authorize
        self.patch(type(authorize), "everything", False)
        for shown, names in ((True, ["old"]), (False, [])):
            self.patch(type(authorize), "shows", lambda *_, shown=shown: shown)
            self.assertEqual(house.send("tools/list").result["_meta"][STALE], names)
