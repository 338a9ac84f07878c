"""How the client keeps hearing of changes: servers that die, refuse after a gap, or take their time to subscribe."""

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.client import Backoff, Client
from erlmcp.protocol import McpError
from erlmcp.testing import StubServer


def acknowledgement(stub: StubServer) -> dict[str, Any]:
    """Of the last request: it listens."""
    meta = {"io.modelcontextprotocol/subscriptionId": stub.requests[-1]["id"]}
    wanted = stub.requests[-1]["params"]["notifications"]
    return {
        "jsonrpc": "2.0",
        "method": "notifications/subscriptions/acknowledged",
        "params": {"_meta": meta, "notifications": wanted},
    }


class SubscriptionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()

    def test_a_server_that_dies_again_and_again(self) -> None:
        """Whoever listens calls it back: at once the first time, later after pauses; who waited long is forgiven."""
        stub, clock = StubServer(), self.clock
        stub.on("subscriptions/listen", None)
        client = Client(stub.target, clock, backoff=Backoff(jitter=0.0))
        self.addCleanup(lambda: self.successResultOf(client.close()))
        subscription = client.listen(lambda _: None, tools=True)
        clock.advance(0)
        lost: list[str] = []
        client._connection.on_lost = lambda error: lost.append(str(error))
        for pause in (0.0, 1.0, 2.0, 4.0):
            count = len(stub.wires)
            stub.wire.cut()
            clock.advance(pause - 0.1 if pause else 0)
            self.assertEqual(len(stub.wires), count + (not pause))
            clock.advance(0.2)
            self.assertEqual(len(stub.wires), count + 1)
        self.assertEqual(lost, ["the connection was cut"] * 4)
        clock.advance(31)
        stub.wire.cut()
        clock.advance(0)
        self.assertEqual(len(stub.wires), 6)
        subscription.close()

    def test_refused_after_a_gap(self) -> None:
        """A server that comes back and does not listen any more: who is told, and who is not, hears or logs it."""
        stub, clock = StubServer(), self.clock
        stub.on("subscriptions/listen", None)
        client = Client(stub.target, clock)
        self.addCleanup(lambda: self.successResultOf(client.close()))
        refusals: list[Any] = []
        for wanted in (None, refusals.append):
            one = client._connection.subscriptions.add(["tools"], [], lambda _: None, wanted)
            clock.advance(0)
            stub.wire.say(acknowledgement(stub))
            self.successResultOf(one.acknowledged)
        stub.on("subscriptions/listen", McpError(-32601, "no such method"))
        stub.wire.cut()
        clock.advance(0)
        [refusal] = refusals
        self.assertEqual(refusal.value.code, -32601)
        self.assertFalse(client._connection.subscriptions)

    def test_subscribed_when_the_server_says_so(self) -> None:
        """A session's subscription is acknowledged when all answers are there, and not twice after a call's opening."""
        stub, clock = StubServer("2025-11-25", {"resources": {"subscribe": True}}), self.clock
        stub.on("resources/subscribe", None)
        stub.on("ping", {})
        client = Client(stub.target, clock)
        self.addCleanup(lambda: self.successResultOf(client.close()))
        subscription = client.listen(lambda _: None, uris=["a:b", "c:d"])
        clock.advance(0)
        first, second = stub.wire.open_requests
        stub.wire.answer(first, {})
        self.assertNoResult(subscription.acknowledged)
        stub.wire.answer(second, error={"code": -32002, "message": "no such resource"})
        self.assertEqual(
            self.successResultOf(subscription.acknowledged), {"resourceSubscriptions": ["a:b", "c:d"]}
        )
        stub.wire.cut()
        client.ping()
        clock.advance(1)
        self.assertEqual(len(stub.asked("resources/subscribe")), 4)
        stub.wire.cut()
        subscription.close()
