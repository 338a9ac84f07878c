"""Listening to an upstream for all that is followed: one listen, replaced without a gap; what is missed is made up."""

from typing import Any, ClassVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.client import Backoff, Client
from erlmcp.gateway import _watching
from erlmcp.gateway._watching import Following, Watching
from erlmcp.protocol import McpError
from erlmcp.testing import StubServer

OFFERED = {"tools": {"listChanged": True}, "resources": {"subscribe": True}}


class Case(SynchronousTestCase):
    version = "2026-07-28"
    capabilities: ClassVar[dict[str, Any]] = OFFERED

    def setUp(self) -> None:
        self.clock = Clock()
        self.heard: list[str] = []
        self.stub = StubServer(self.version, self.capabilities, linked=True)
        self.stub.on("subscriptions/listen", None)
        self.stub.on("resources/subscribe", {})
        self.stub.on("resources/unsubscribe", {})
        self.client = Client(self.stub.target, self.clock, backoff=Backoff(jitter=0.0))
        self.watching = Watching(
            "files",
            self.clock,
            lambda change: self.heard.append(change.kind),
            self.heard.append,
            backoff=Backoff(first=4.0, jitter=0.0),
        )
        self.addCleanup(self.end)

    def end(self) -> None:
        self.watching.stop()
        self.successResultOf(self.client.close())
        self.clock.advance(0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def begin(self, client: Client | None = None) -> Deferred[None] | None:
        connection = (client or self.client)._connection
        return self.watching.listen_on(connection, self.successResultOf(connection.connected()))

    def round(self) -> None:
        """Let the time of a round pass."""
        self.clock.advance(0.2)


class ModernCase(Case):
    @property
    def listens(self) -> list[dict[str, Any]]:
        """The filters of all listens, in order."""
        return [params["notifications"] for params in self.stub.asked("subscriptions/listen")]

    @property
    def open(self) -> list[int]:
        """The ids of those that are open."""
        return [int(number) for number in self.stub.wire.open_requests]

    def say(self, number: int, method: str, **params: Any) -> None:
        params["_meta"] = {"io.modelcontextprotocol/subscriptionId": number}
        message = {"jsonrpc": "2.0", "method": f"notifications/{method}", "params": params}
        self.stub.wire.say(message, about=number)

    def acknowledge(self, number: int | None = None) -> int:
        """The last one, or another, is heard from now on."""
        number = self.open[-1] if number is None else number
        self.say(number, "subscriptions/acknowledged", notifications={})
        return number

    def updated(self, number: int, uri: str) -> None:
        self.say(number, "resources/updated", uri=uri)

    def listen(self, *uris: str) -> int:
        """Begin with these."""
        for uri in uris:
            self.watching.follow(uri)
        self.begin()
        number = self.acknowledge()
        self.assertEqual(self.heard, [])
        self.clock.advance(1)
        return number


class ListenTests(ModernCase):
    def test_lists_alone(self) -> None:
        """Who asks for lists waits until changes of them are heard."""
        waiter = self.begin()
        assert waiter is not None
        self.assertEqual(self.listens, [{"toolsListChanged": True}])
        self.assertNoResult(waiter)
        number = self.acknowledge()
        self.successResultOf(waiter)
        self.assertIsNone(self.begin())
        self.say(number, "tools/list_changed")
        self.say(number, "prompts/list_changed")
        self.assertEqual(self.heard, ["tools"])
        self.assertTrue(self.watching.hears("tools"))
        self.assertFalse(self.watching.hears("prompts"))
        self.assertEqual(len(self.listens), 1)

    def test_nothing(self) -> None:
        """An upstream that tells of nothing is not asked to."""
        self.stub.capabilities = {}
        self.stub.on("server/discover", self.stub._greeting())
        self.assertIsNone(self.begin())
        self.round()
        self.assertEqual(self.listens, [])

    def test_union(self) -> None:
        """All that is followed goes into one; it is replaced when that changes, the new one first."""
        first = self.listen("a:1")
        self.assertEqual(self.listens, [{"toolsListChanged": True, "resourceSubscriptions": ["a:1"]}])
        again = self.watching.follow("a:1")
        self.round()
        self.assertEqual(len(self.listens), 1)
        other = self.watching.follow("b:2")
        self.watching.follow("c:3")
        self.assertEqual(self.watching.followed, 3)
        self.round()
        self.assertEqual(self.listens[1]["resourceSubscriptions"], ["a:1", "b:2", "c:3"])
        self.assertEqual(len(self.open), 2)
        self.updated(first, "a:1")
        second = self.acknowledge()
        self.assertEqual(self.open, [second])
        self.clock.advance(1)
        self.updated(second, "b:2")
        self.updated(second, "d:4")
        self.assertEqual(self.heard, ["a:1", "b:2"])
        # References are counted; what nobody follows is left out.
        again.end()
        again.end()
        other.end()
        self.round()
        self.assertEqual(self.listens[2]["resourceSubscriptions"], ["a:1", "c:3"])
        self.updated(second, "b:2")
        self.assertEqual(self.heard, ["a:1", "b:2"])

    def test_rounds(self) -> None:
        """A thousand who come at once are one listen, and those who come all the time ten a second at most."""
        self.listen()
        for number in range(500):
            self.watching.follow(f"a:{number}")
        self.clock.advance(0)
        self.assertEqual(len(self.listens), 2)
        self.acknowledge()
        for number in range(100):
            self.watching.follow(f"b:{number}")
            self.clock.advance(0.01)
            if len(self.open) > 1:
                self.acknowledge()
        self.assertLessEqual(len(self.listens), 13)

    def test_changed_while_opening(self) -> None:
        """What comes meanwhile waits until it is acknowledged, and goes into another."""
        self.listen("a:1")
        self.watching.follow("b:2")
        self.round()
        following = self.watching.follow("c:3")
        self.round()
        self.assertEqual(len(self.listens), 2)
        waiter = following.ready()
        assert waiter is not None
        self.acknowledge()
        self.round()
        self.assertNoResult(waiter)
        self.assertEqual(self.listens[2]["resourceSubscriptions"], ["a:1", "b:2", "c:3"])
        self.acknowledge()
        self.successResultOf(waiter)
        self.assertEqual((self.heard, len(self.open)), ([], 1))

    def test_ready(self) -> None:
        following = self.watching.follow("a:1")
        self.assertIsNone(following.ready())  # nobody knows when: not connected
        self.begin()
        self.acknowledge()
        self.assertEqual(self.heard, ["a:1"])
        self.assertIsNone(following.ready())
        other = self.watching.follow("b:2")
        waiter, given_up = other.ready(), other.ready()
        assert waiter is not None
        assert given_up is not None
        self.round()
        given_up.cancel()
        self.failureResultOf(given_up)
        self.assertNoResult(waiter)
        self.acknowledge()
        self.successResultOf(waiter)
        self.assertEqual(self.heard, ["a:1"])
        self.assertIsNone(Following(None, "a:1").ready())
        other.end()
        self.assertIsNone(other.ready())

    def test_more_than_one_should_name(self) -> None:
        """Further ones carry what does not go into the first; they end with the last of theirs; there is a bound."""
        self.patch(_watching, "_MOST_URIS", 2)
        self.patch(_watching, "_MOST_STREAMS", 2)
        all_of_them = [self.watching.follow(f"a:{number}") for number in range(5)]
        self.assertEqual(self.watching.followed, 4)
        self.begin()
        self.assertEqual(
            [one["resourceSubscriptions"] for one in self.listens], [["a:0", "a:1"], ["a:2", "a:3"]]
        )
        self.assertNotIn("toolsListChanged", self.listens[1])
        for number in self.open:
            self.acknowledge(number)
        self.clock.advance(1)
        self.heard.clear()
        self.updated(self.open[1], "a:3")
        self.assertEqual(self.heard, ["a:3"])
        for one in all_of_them[2:]:
            one.end()
        self.round()
        self.assertEqual(len(self.open), 1)
        self.watching.follow("b:1")
        self.round()
        self.assertEqual(len(self.open), 2)

    def test_the_lists_come_later(self) -> None:
        """What the upstream declares may change with the connection."""
        self.listen()
        self.stub.capabilities = {**OFFERED, "prompts": {"listChanged": True}}
        self.stub.on("server/discover", self.stub._greeting())
        self.stub.wire.cut()
        self.clock.advance(0)
        self.acknowledge()
        self.assertEqual(self.heard, ["tools"])
        self.begin()
        self.assertEqual(self.listens[-1], {"toolsListChanged": True, "promptsListChanged": True})


class UpdateTests(ModernCase):
    def test_flood(self) -> None:
        """The first at once, then ten a second of one resource; none is forgotten; others are not held up."""
        number = self.listen("a:1", "b:2")
        for _ in range(100):
            self.updated(number, "a:1")
        self.updated(number, "b:2")
        self.assertEqual(self.heard, ["a:1", "b:2"])
        self.clock.advance(0.1)
        self.assertEqual(self.heard, ["a:1", "b:2", "a:1"])
        self.updated(number, "a:1")
        self.clock.advance(0.1)
        self.assertEqual(self.heard, ["a:1", "b:2", "a:1", "a:1"])
        self.clock.advance(1)
        self.updated(number, "a:1")
        self.assertEqual(len(self.heard), 5)

    def test_not_followed_any_more(self) -> None:
        number = self.listen()
        following = self.watching.follow("a:1")
        self.round()
        number = self.acknowledge()
        self.updated(number, "a:1")
        self.updated(number, "a:1")
        following.end()
        self.clock.advance(1)
        self.assertEqual(self.heard, ["a:1"])


class RefusalTests(ModernCase):
    def test_overdue(self) -> None:
        """Nobody waits for ever; when it is heard after all, what was not heard of until then counts as changed."""
        waiter = self.begin()
        assert waiter is not None
        following = self.watching.follow("a:1")
        asked = following.ready()
        assert asked is not None
        self.clock.advance(2)
        self.successResultOf(waiter)
        self.successResultOf(asked)
        # It was wanted meanwhile: asked for anew, in place of the one that does not come.
        self.round()
        self.assertEqual((len(self.listens), len(self.open)), (2, 1))
        self.acknowledge()
        self.assertEqual(self.heard, ["tools", "a:1"])

    def test_late(self) -> None:
        """It hears what the old one did not, as soon as it comes."""
        first = self.listen("a:1")
        self.watching.follow("b:2")
        self.round()
        self.clock.advance(2)
        self.assertIsNone(self.watching.ready("b:2"))
        self.updated(first, "a:1")
        self.acknowledge()
        self.assertEqual(self.heard, ["a:1", "b:2"])

    def test_refused(self) -> None:
        """The old one stays; it is asked again after pauses; then what was not heard of counts as changed."""
        first = self.listen("a:1")
        self.stub.on("subscriptions/listen", McpError(-32603, "too many"))
        events: list[Any] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        following = self.watching.follow("b:2")
        waiter = following.ready()
        assert waiter is not None
        self.round()
        self.successResultOf(waiter)
        self.assertIsNone(following.ready())
        self.assertEqual(self.open, [first])
        self.updated(first, "a:1")
        self.assertEqual(self.heard, ["a:1"])
        self.assertEqual(len(self.listens), 2)
        self.watching.follow("c:3")
        self.clock.advance(3)
        self.assertEqual(len(self.listens), 2)
        self.clock.advance(1.1)
        self.assertEqual(len(self.listens), 3)
        self.clock.advance(7)
        self.assertEqual(len(self.listens), 3)
        self.stub.on("subscriptions/listen", None)
        self.clock.advance(1.2)
        self.acknowledge()
        self.assertEqual(self.heard, ["a:1", "b:2", "c:3"])
        self.assertEqual(len(self.open), 1)
        told = [one for one in events if "does not tell" in str(one.get("log_format"))]
        self.assertEqual(len(told), 1)

    def test_refused_from_the_start(self) -> None:
        """One that has no such method: the lists are not waited with, and it is asked again now and then."""
        self.stub.on("subscriptions/listen")
        self.assertIsNone(self.begin())
        self.assertIsNone(self.begin())
        self.assertEqual(len(self.listens), 1)
        self.clock.advance(4)
        self.clock.advance(0.2)
        self.assertEqual(len(self.listens), 2)
        self.stub.on("subscriptions/listen", None)
        self.clock.advance(8.2)
        self.acknowledge()
        self.assertEqual(self.heard, ["tools"])

    def test_refused_after_a_gap(self) -> None:
        """It listened, and does not when it comes back: asked again, and all counts as changed then."""
        self.listen("a:1")
        self.stub.on("subscriptions/listen", McpError(-32603, "later"))
        self.stub.wire.cut()
        self.clock.advance(0.1)
        self.assertEqual((len(self.listens), self.open), (2, []))
        self.stub.on("subscriptions/listen", None)
        self.clock.advance(4.2)
        self.acknowledge()
        self.assertEqual(self.heard, ["tools", "a:1"])

    def test_both_refused_after_a_gap(self) -> None:
        """The old one and the new one: asked again once."""
        self.listen("a:1")
        self.watching.follow("b:2")
        self.round()
        self.stub.on("subscriptions/listen", McpError(-32603, "later"))
        self.stub.wire.cut()
        self.clock.advance(0.1)
        self.assertEqual(len(self.listens), 4)
        self.stub.on("subscriptions/listen", None)
        self.clock.advance(4.2)
        self.assertEqual(len(self.listens), 5)
        self.acknowledge()
        self.assertEqual(self.heard, ["tools", "a:1", "b:2"])


class LossTests(ModernCase):
    def test_lost(self) -> None:
        """Listened to again by itself; all that was listened to counts as changed."""
        self.listen("a:1")
        self.stub.wire.cut()
        self.assertIsNone(self.watching.follow("b:2").ready())
        self.clock.advance(0)
        for number in self.open:
            self.acknowledge(number)
        self.round()
        for number in self.open:
            self.acknowledge(number)
        self.assertEqual(self.heard[:2], ["tools", "a:1"])
        self.assertIn("b:2", self.heard)
        self.assertEqual(len(self.open), 1)

    def test_another_session(self) -> None:
        """Listened to on that one, and no more on the other; all counts as changed."""
        self.listen("a:1")
        other = Client(self.stub.target, self.clock)
        self.addCleanup(lambda: self.successResultOf(other.close()))
        waiter = self.begin(other)
        assert waiter is not None
        self.assertEqual([len(wire.open_requests) for wire in self.stub.wires], [0, 1])
        self.acknowledge()
        self.successResultOf(waiter)
        self.assertEqual(self.heard, ["tools", "a:1"])

    def test_another_session_after_a_refusal(self) -> None:
        """What one session was refused, the next is asked for at once."""
        self.stub.on("subscriptions/listen", McpError(-32603, "later"))
        self.assertIsNone(self.begin())
        self.stub.on("subscriptions/listen", None)
        other = Client(self.stub.target, self.clock)
        self.addCleanup(lambda: self.successResultOf(other.close()))
        waiter = self.begin(other)
        assert waiter is not None
        self.acknowledge()
        self.successResultOf(waiter)
        self.assertEqual(self.heard, ["tools"])

    def test_the_session_ends(self) -> None:
        """Before it was acknowledged: no refusal, and no reason to wait with the next one."""
        waiter = self.begin()
        assert waiter is not None
        self.successResultOf(self.client.close())
        self.successResultOf(waiter)
        other = Client(self.stub.target, self.clock)
        self.addCleanup(lambda: self.successResultOf(other.close()))
        self.begin(other)
        self.acknowledge()
        self.assertEqual(self.heard, ["tools"])

    def test_stop(self) -> None:
        """Nothing is left open, and nobody waits; it can be begun again."""
        self.listen("a:1")
        waiter = self.watching.follow("b:2").ready()
        assert waiter is not None
        self.updated(self.open[0], "a:1")
        self.watching.stop()
        self.successResultOf(waiter)
        self.assertEqual(self.open, [])
        self.begin()
        self.assertEqual(self.listens[-1]["resourceSubscriptions"], ["a:1", "b:2"])


class HandshakeTests(Case):
    version = "2025-11-25"

    def subscribed(self) -> list[tuple[str, str]]:
        return [
            (request["method"].partition("/")[2], request["params"]["uri"])
            for request in self.stub.requests
            if request["method"].startswith("resources/")
        ]

    def say(self, method: str, **params: Any) -> None:
        self.stub.wire.say({"jsonrpc": "2.0", "method": f"notifications/{method}", "params": params})

    def test_what_differs(self) -> None:
        """Subscribed to is what is new, unsubscribed from what nobody follows any more."""
        self.assertIsNone(self.begin())
        first, second = self.watching.follow("a:1"), self.watching.follow("a:1")
        self.round()
        third = self.watching.follow("b:2")
        self.round()
        self.assertEqual(self.subscribed(), [("subscribe", "a:1"), ("subscribe", "b:2")])
        self.say("resources/updated", uri="a:1")
        self.say("tools/list_changed")
        self.assertEqual(self.heard, ["a:1", "tools"])
        first.end()
        third.end()
        self.round()
        self.assertEqual(self.subscribed()[2:], [("unsubscribe", "b:2")])
        second.end()
        self.round()
        self.assertEqual(self.subscribed()[3:], [("unsubscribe", "a:1")])
        self.say("resources/updated", uri="a:1")
        self.assertEqual(len(self.heard), 2)

    def test_ready(self) -> None:
        """When it has said so; while two are open each update is told once."""
        self.begin()
        self.watching.follow("a:1")
        self.round()
        self.stub.on("resources/subscribe", None)
        waiter = self.watching.follow("b:2").ready()
        assert waiter is not None
        self.clock.advance(0.3)
        self.say("resources/updated", uri="a:1")
        self.say("resources/updated", uri="b:2")
        self.clock.advance(0.2)
        self.assertEqual(self.heard, ["a:1", "b:2"])
        self.assertNoResult(waiter)
        self.stub.wire.answer(self.stub.requests[-1]["id"], {})
        self.successResultOf(waiter)

    def test_lost(self) -> None:
        self.begin()
        self.watching.follow("a:1")
        self.round()
        self.stub.wire.cut()
        self.clock.advance(0)
        self.assertEqual(self.subscribed(), [("subscribe", "a:1"), ("subscribe", "a:1")])
        self.assertEqual(self.heard, ["tools", "a:1"])


class NoSubscriptionsTests(Case):
    """A server that lets nobody subscribe is not asked to, and nobody waits for it."""

    version = "2025-11-25"
    capabilities: ClassVar[dict[str, Any]] = {"tools": {}, "resources": {}}

    def test_nothing(self) -> None:
        self.assertIsNone(self.begin())
        following = self.watching.follow("a:1")
        self.round()
        self.assertIsNone(following.ready())
        self.stub.assert_methods("server/discover", "initialize")
